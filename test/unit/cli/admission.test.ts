import t from 'tap';
import type { Pod, PodSpec } from '../../../src/api/kubernetes.ts';
import { berth } from '../../../src/api/names.ts';
import { admitPod, withDefaultRequests } from '../../../src/cli/admission.ts';
import { podRequests } from '../../../src/cluster/pod-requests.ts';

const admission = { namespace: 'serving', uid: 'u', createdAtMs: 1000, priorityClasses: [] };

function podWith(spec: Partial<PodSpec>): Pod {
  return { kind: 'Pod', metadata: { name: 'p' }, spec: { containers: [], ...spec } };
}

t.test(
  'limits stand in for absent requests, of containers and of the pod, and change nothing else',
  async t => {
    const requestsOf = (spec: Partial<PodSpec>) =>
      Object.fromEntries(podRequests(withDefaultRequests(podWith(spec))));
    const limits = { cpu: '2', 'nvidia.com/gpu': 8 };
    t.same(requestsOf({ containers: [{ name: 'c', resources: { limits, requests: { cpu: '1' } } }] }), {
      cpu: 1000,
      'nvidia.com/gpu': 8,
    });
    t.same(requestsOf({ initContainers: [{ name: 'i', resources: { limits: { cpu: 3 } } }] }), { cpu: 3000 });
    t.same(requestsOf({ resources: { limits: { cpu: '4' } } }), { cpu: 4000 });
    const both = {
      containers: [{ name: 'c', resources: { requests: { cpu: '1' } } }],
      resources: { limits: { cpu: 4 } },
    };
    t.same(requestsOf(both), { cpu: 1000 }, 'what containers request counts before the limit of the pod');
    const complete = podWith({
      containers: [{ name: 'c', resources: { requests: { cpu: 1 }, limits: { cpu: 1 } } }],
    });
    t.equal(withDefaultRequests(complete), complete);
  },
);

t.test('a manifest waits for Berth as if the webhook had seen it', async t => {
  const { metadata, spec } = admitPod(podWith({ schedulingGates: [{ name: 'other' }] }), admission);
  t.match(metadata, { namespace: 'serving', uid: 'u', creationTimestamp: '1970-01-01T00:00:01.000Z' });
  t.same(spec.schedulingGates, [{ name: 'other' }, { name: berth.placementGate }]);
  t.same(admitPod({ ...podWith({}), spec }, admission).spec.schedulingGates, spec.schedulingGates, 'once');
  t.same(
    spec.tolerations?.map(({ key }) => key),
    ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'],
  );
  const tolerant = admitPod(podWith({ tolerations: [{ operator: 'Exists' }] }), admission);
  t.equal(tolerant.spec.tolerations?.length, 1);
});

t.test('a priority comes from the class, the default class, or is 0', async t => {
  const classes = [
    { metadata: { name: 'high' }, value: 10 },
    { metadata: { name: 'standard' }, value: 3, globalDefault: true },
  ];
  const priorityOf = (spec: Partial<PodSpec>, priorityClasses = classes) =>
    admitPod(podWith(spec), { ...admission, priorityClasses }).spec.priority;
  t.equal(priorityOf({ priorityClassName: 'high' }), 10);
  t.equal(priorityOf({}), 3);
  t.equal(priorityOf({}, []), 0);
  t.equal(priorityOf({ priorityClassName: 'unknown' }), 0);
  t.equal(
    priorityOf({ priorityClassName: 'high', priority: 4 }),
    4,
    'what admission has written already stands',
  );
  t.equal(priorityOf({ priorityClassName: 'system-node-critical' }), 2_000_001_000);
});
