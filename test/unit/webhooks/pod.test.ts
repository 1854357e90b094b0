import fc from 'fast-check';
import t, { type Test } from 'tap';
import type { Container, EnvVar, NodeSelectorTerm, Pod } from '../../../src/api/kubernetes.ts';
import { berth, lws, ownedAnnotations } from '../../../src/api/names.ts';
import { pinnedNodes } from '../../../src/cluster/node-affinity.ts';
import { type PlacementVerdict, type PodReviewDeps, reviewPod } from '../../../webhooks/pod.ts';
import { admitByLws, corpusFolder, corpusSets, groupPods } from './lws-pods.ts';
import { admitted, buildPod, memberPod, namespace, patched, review, reviewDeps } from './pod-builders.ts';

const pinTo = (node: string): Partial<PodReviewDeps> => ({ placement: () => ({ kind: 'pin', node }) });
const gate = { name: berth.placementGate };

function containersOf({ spec }: Pod): readonly Container[] {
  return [...(spec.initContainers ?? []), ...spec.containers];
}

t.test('gates a member whose group has no plan, beside the gates of others', async t => {
  t.same(admitted(memberPod(0)).spec.schedulingGates, [gate]);
  const other = { name: 'example.com/quota' };
  const pod = memberPod(0, { spec: { schedulingGates: [other] } });
  t.same(admitted(pod).spec.schedulingGates, [other, gate]);
  t.match(review(pod), { kind: 'admitted', placement: 'gated' });
});

t.test('pins a member into every required term', async t => {
  const zone = { matchExpressions: [{ key: 'zone', operator: 'In', values: ['a'] }] };
  const arch = { matchExpressions: [{ key: 'arch', operator: 'Exists' }] };
  const nodeSelectorTerms = [zone, arch];
  const nodeAffinity = { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms } };
  for (const spec of [{}, { affinity: {} }, { affinity: { nodeAffinity } }]) {
    const verdict = review(memberPod(1, { spec }), pinTo('n7'));
    t.match(verdict, { kind: 'admitted', placement: 'pinned' });
    t.notOk(verdict.kind === 'admitted' && verdict.ops.some(({ op }) => op === 'test'));
    const pod = admitted(memberPod(1, { spec }), pinTo('n7'));
    t.same(pinnedNodes(pod.spec), ['n7']);
    t.equal(pod.spec.schedulingGates, undefined);
  }
});

t.test('does not pin what has been gated before: the gate is taken off by the write that pins', async t => {
  const gated = admitted(memberPod(1));
  t.match(review(gated, pinTo('n7')), { kind: 'admitted', placement: 'gated', ops: [] });
});

t.test('hands the pod and its membership to the decision, and follows it', async t => {
  const asked: unknown[] = [];
  const answer = (verdict: PlacementVerdict): Partial<PodReviewDeps> => ({
    placement: (pod, membership) => {
      asked.push([pod.metadata.name, membership?.name, membership?.rank]);
      return verdict;
    },
    gateSingles: () => true,
  });
  t.match(review(memberPod(2), answer({ kind: 'leave', reason: 'r' })), { placement: 'left' });
  t.match(review(buildPod(), answer({ kind: 'gate' })), { placement: 'gated' });
  t.same(review(memberPod(2), answer({ kind: 'refuse', field: 'f', message: 'm' })), {
    kind: 'denied',
    field: 'f',
    message: 'm',
  });
  t.same(asked, [
    ['g-2', 'g', 2],
    ['p', undefined, undefined],
    ['g-2', 'g', 2],
  ]);
});

t.test('leaves single pods where they are unless the namespace wants them placed', async t => {
  t.match(review(buildPod(), pinTo('n7')), { kind: 'admitted', ops: [], placement: 'left' });
  const placed = review(buildPod(), { ...pinTo('n7'), gateSingles: name => name === namespace });
  t.match(placed, { placement: 'pinned' });
});

t.test('gives a single pod its model, but no addresses', async t => {
  const pod = admitted(buildPod({ annotations: { [berth.model]: 'example.com/m:1' } }));
  t.match(pod.spec.volumes, [{ name: 'berth-model' }]);
  t.equal(pod.spec.containers[0]?.env, undefined);
});

t.test('in mode extender injects and does not place', async t => {
  const pod = memberPod(0, { annotations: { [berth.model]: 'example.com/m:1' }, spec: { subdomain: 's' } });
  const verdict = review(pod, { namespaceMode: () => 'extender' });
  t.match(verdict, { kind: 'admitted', placement: 'left' });
  const after = admitted(pod, { namespaceMode: () => 'extender' });
  t.equal(after.spec.schedulingGates, undefined);
  t.equal(after.spec.containers[0]?.env?.length, 7);
  t.match(after.spec.volumes, [{ name: 'berth-model' }]);
});

t.test('touches nothing out of scope', async t => {
  const forged = { [berth.plan]: '{}' };
  t.same(review(memberPod(0, { annotations: forged }), { namespaceMode: () => undefined }), {
    kind: 'untouched',
    reason: 'namespace-observed',
  });
  t.same(review(memberPod(0, { spec: { nodeName: 'n1' } })), { kind: 'untouched', reason: 'bound' });
  for (const operation of ['UPDATE', 'DELETE', 'CONNECT'] as const) {
    const verdict = reviewPod({ pod: memberPod(0), namespace, operation, dryRun: false }, reviewDeps());
    t.same(verdict, { kind: 'untouched', reason: 'not-created' });
  }
});

t.test('drops what only Berth may write, and says so', async t => {
  const annotations = { ...Object.fromEntries(ownedAnnotations.map(key => [key, 'forged'])), keep: 'me' };
  const verdict = review(memberPod(0, { annotations, spec: { subdomain: 's' } }));
  t.same(admitted(memberPod(0, { annotations })).metadata.annotations, { keep: 'me' });
  t.match(verdict, { warnings: [/berth\.dev\/plan.*dropped/] });
});

t.test('denies what cannot be read, with the field', async t => {
  const cases: [string, Pod][] = [
    [`metadata.labels[${berth.groupRank}]`, memberPod(4)],
    [`metadata.labels[${berth.groupSize}]`, buildPod({ labels: { [berth.group]: 'g' } })],
    [`metadata.annotations[${lws.size}]`, buildPod({ labels: { [lws.name]: 'x' } })],
    [`metadata.annotations[${berth.masterPort}]`, memberPod(0, { annotations: { [berth.masterPort]: 'x' } })],
    [`metadata.annotations[${berth.model}]`, buildPod({ annotations: { [berth.model]: '://' } })],
  ];
  for (const [field, pod] of cases) {
    t.match(review(pod), { kind: 'denied', field });
    t.match(review(pod, { namespaceMode: () => 'extender' }), { kind: 'denied', field });
  }
});

t.test('denies a member that no node can take, and leaves such a single alone', async t => {
  const field = 'spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms';
  const terms = { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [{}, {}] } };
  const spec = { affinity: { nodeAffinity: terms } };
  t.match(review(memberPod(1, { spec })), { kind: 'denied', field });
  const single = review(buildPod({ spec }), { gateSingles: () => true });
  t.match(single, { kind: 'admitted', placement: 'left' });
});

t.test('asks for the live leader of labelled groups only', async t => {
  const leaderOf = () => ({ name: 'head', subdomain: 's' });
  const address = { name: 'MASTER_ADDR', value: 'head.s.serving' };
  t.match(admitted(memberPod(1), { leaderOf }).spec.containers[0]?.env, { 3: address });
});

/** Everything but what a review may add: environment, volumes, mounts, gates and affinity. */
function untouchedPart(pod: Pod): unknown {
  const stripped = (containers: readonly Container[] = []) =>
    containers.map(container => ({ ...container, env: undefined, volumeMounts: undefined }));
  const { spec, ...rest } = pod;
  const { initContainers, containers, volumes, schedulingGates, affinity, ...others } = spec;
  return { ...rest, spec: { ...others, containers: [stripped(initContainers), stripped(containers)] } };
}

function hasUserEnv(before: readonly EnvVar[] = [], after: readonly EnvVar[] = []): boolean {
  const names = new Set(before.map(({ name }) => name));
  const kept = after.filter(({ name }) => names.has(name));
  return JSON.stringify(kept) === JSON.stringify(before);
}

t.test('admits real LeaderWorkerSets on either side of LWS’s own webhook', async t => {
  if (corpusSets('C1') === undefined) {
    t.comment(`NOT CHECKED against real manifests: there is no corpus at ${corpusFolder} (set BERTH_CORPUS)`);
    return;
  }
  for (const entry of ['C1', 'C3', 'C14', 'C16', 'C27', 'C38']) {
    const sets = corpusSets(entry) ?? [];
    t.ok(sets.length > 0, `${entry} has a LeaderWorkerSet`);
    for (const pod of sets.flatMap(set => groupPods(set, { namespace }))) {
      for (const deps of [{}, pinTo('n7')]) checkComposition(t, pod, deps);
    }
  }
});

function checkComposition(t: Test, pod: Pod, deps: Partial<PodReviewDeps>): void {
  const name = pod.metadata.name ?? '';
  const byLws = admitByLws(pod);
  const after = admitted(byLws, deps);
  t.same(untouchedPart(after), untouchedPart(byLws), `${name}: changed by additions only`);
  for (const [index, container] of containersOf(byLws).entries()) {
    t.ok(
      hasUserEnv(container.env, containersOf(after)[index]?.env),
      `${name}: entries of LWS and user as they were`,
    );
  }
  const around = admitByLws(admitted(pod, deps));
  t.same(containersOf(around), containersOf(after), `${name}: the order of the webhooks does not matter`);
  for (const [round, twice] of [after, around].entries()) {
    const verdict = review(twice, deps);
    t.ok(
      verdict.kind === 'untouched' || (verdict.kind === 'admitted' && verdict.ops.length === 0),
      `${name}: second review ${round}`,
    );
  }
  for (const { env = [] } of containersOf(after)) {
    const names = env.map(entry => entry.name);
    t.equal(new Set(names).size, names.length, `${name}: every name once`);
    const value = (wanted: string) => env.find(entry => entry.name === wanted)?.value;
    t.type(value('MASTER_ADDR'), 'string');
    t.equal(value('MASTER_ADDR'), value(lws.envLeaderAddress));
    t.equal(value('NNODES'), value(lws.envGroupSize));
    t.equal(value('NODE_RANK'), value(lws.envWorkerIndex));
  }
}

t.test(
  'warns of the two references in the field that stay empty, while LWS has not replaced them',
  async t => {
    const [set] = corpusSets('C38') ?? [];
    if (set === undefined) {
      t.comment(`NOT CHECKED against real manifests: there is no C38 in ${corpusFolder} (set BERTH_CORPUS)`);
      return;
    }
    const [leader] = groupPods(set, { namespace });
    if (leader === undefined) throw new Error('no pods');
    t.match(review(leader), { warnings: [/leader-address/, /group-size/] });
    t.match(review(admitByLws(leader)), { warnings: [] });
  },
);

t.test('changes nothing the second time, whatever the pod and the decision', async t => {
  const verdicts: PlacementVerdict[] = [
    { kind: 'gate' },
    { kind: 'pin', node: 'n7' },
    { kind: 'leave', reason: 'r' },
  ];
  const term = fc.constantFrom<NodeSelectorTerm>(
    {},
    { matchExpressions: [{ key: 'zone', operator: 'Exists' }] },
    { matchFields: [{ key: 'metadata.name', operator: 'NotIn', values: ['n1'] }] },
    { matchFields: [{ key: 'metadata.name', operator: 'In', values: ['n7'] }] },
  );
  const container = fc.record(
    {
      name: fc.constantFrom('a', 'b'),
      env: fc.subarray(['MASTER_ADDR', 'NNODES', 'X'].map(name => ({ name, value: 'v' }))),
      volumeMounts: fc.subarray(
        ['/models', '/models/x', '/data'].map(mountPath => ({ name: 'v', mountPath })),
      ),
      resources: fc.constant({ limits: { 'nvidia.com/gpu': 8 } }),
    },
    { requiredKeys: ['name'] },
  );
  const spec = fc.record(
    {
      containers: fc.array(container, { minLength: 1, maxLength: 3 }),
      initContainers: fc.array(container, { maxLength: 2 }),
      volumes: fc.subarray([
        { name: 'v', emptyDir: {} },
        { name: 'own', image: { reference: 'm:1' } },
      ]),
      schedulingGates: fc.subarray([{ name: 'example.com/g' }, gate]),
      affinity: fc.array(term, { maxLength: 3 }).map(nodeSelectorTerms => ({
        nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms } },
      })),
      subdomain: fc.constantFrom('', 's'),
    },
    { requiredKeys: ['containers'] },
  );
  const annotations = fc.record(
    {
      [berth.model]: fc.constant('m:1'),
      [berth.plan]: fc.constant('{}'),
      [berth.modelContainers]: fc.constantFrom('a', 'b', 'a,b'),
      [berth.injectEnv]: fc.constantFrom('true', 'false'),
    },
    { requiredKeys: [] },
  );
  const outcomes = new Set<string>();
  fc.assert(
    fc.property(
      spec,
      annotations,
      fc.constantFrom(...verdicts),
      fc.nat(4),
      (spec, annotations, placement, rank) => {
        const deps = { placement: () => placement, gateSingles: () => true };
        const pod = rank === 4 ? buildPod({ spec, annotations }) : memberPod(rank, { spec, annotations });
        const first = review(pod, deps);
        outcomes.add(first.kind);
        if (first.kind !== 'admitted') return true;
        outcomes.add(first.placement);
        const second = review(patched(pod, first.ops), deps);
        return second.kind === 'untouched' || (second.kind === 'admitted' && second.ops.length === 0);
      },
    ),
    { numRuns: 500 },
  );
  t.same(
    [...outcomes].sort(),
    ['admitted', 'denied', 'gated', 'left', 'pinned', 'untouched'],
    'every outcome was met',
  );
});
