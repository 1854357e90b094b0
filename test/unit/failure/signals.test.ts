import t from 'tap';
import type { Pod, Taint, Toleration } from '../../../src/api/kubernetes.ts';
import { decodeNode } from '../../../src/cluster/node-info.ts';
import { defaultFailureSettings, leastMode, optsOut } from '../../../src/failure/settings.ts';
import { type MemberFacts, type Sighting, seeMember, seeNode } from '../../../src/failure/signals.ts';
import { nodeOf } from '../../builders/fleet.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { decode } from '../../builders/planning.ts';

const group = new LwsGroup({ size: 2, worker: { gpu: 8 } });
const noExecute = (key: string): Taint => ({ key, effect: 'NoExecute' });

function nodeWith(taints: readonly Taint[] = [], ready: 'True' | 'False' | 'Unknown' = 'True') {
  const node = nodeOf({ name: 'a', gpu: 8 });
  const status = { ...node.status, conditions: [{ type: 'Ready', status: ready }] };
  return decodeNode({ ...node, spec: { taints }, status });
}

interface Scene extends Partial<MemberFacts> {
  readonly status?: Pod['status'];
  readonly tolerations?: readonly Toleration[];
}

function see({ status, tolerations, ...more }: Scene): readonly Sighting[] {
  const worker = group.worker(1, { node: 'a', gated: false, ...(tolerations && { tolerations }) });
  const pod = decode({ ...worker, ...(status && { status }) });
  const facts: MemberFacts = {
    pod,
    nodeName: 'a',
    node: nodeWith(),
    leads: false,
    stays: true,
    othersLive: true,
    returnsAlone: false,
    ...more,
  };
  return seeMember(facts, defaultFailureSettings);
}

const healthOf = (health: string): Pod['status'] => ({
  containerStatuses: [
    {
      name: 'main',
      allocatedResourcesStatus: [{ name: 'nvidia.com/gpu', resources: [{ resourceID: 'GPU-3', health }] }],
    },
  ],
});
const disrupted = (reason: string, phase = 'Running'): Pod['status'] => ({
  phase,
  conditions: [{ type: 'DisruptionTarget', status: 'True', reason }],
});
const going = { stays: false } as const;
const goingPod = (reason: string) => {
  const pod = decode({
    ...group.worker(1, { node: 'a', gated: false, terminating: true }),
    status: disrupted(reason) ?? {},
  });
  return { ...going, pod };
};

t.test('each signal is seen where it should be, and only there', async t => {
  const cases: readonly (readonly [string, Scene, readonly (readonly [string, string, number])[]])[] = [
    ['a healthy member', {}, []],
    ['an unhealthy device', { status: healthOf('Unhealthy') }, [['DeviceUnhealthy', 'certain', 60_000]]],
    ['a device of unknown health', { status: healthOf('Unknown') }, []],
    ['a NoExecute taint', { node: nodeWith([noExecute('x')]) }, [['NodeNoExecute', 'certain', 0]]],
    ['a NoSchedule taint', { node: nodeWith([{ key: 'x', effect: 'NoSchedule' }]) }, []],
    [
      'a tolerated NoExecute taint',
      { node: nodeWith([noExecute('x')]), tolerations: [{ key: 'x', operator: 'Exists' }] },
      [],
    ],
    [
      'one that is tolerated for a while',
      {
        node: nodeWith([noExecute('x')]),
        tolerations: [{ key: 'x', operator: 'Exists', tolerationSeconds: 90 }],
      },
      [['NodeNoExecute', 'certain', 90_000]],
    ],
    [
      'of two taints the one that ends the pod soonest',
      {
        node: nodeWith([noExecute('x'), noExecute('y')]),
        tolerations: [
          { key: 'x', operator: 'Exists', tolerationSeconds: 90 },
          { key: 'y', operator: 'Exists', tolerationSeconds: 30 },
        ],
      },
      [['NodeNoExecute', 'certain', 30_000]],
    ],
    [
      'the taints that mirror the Ready condition',
      {
        node: nodeWith([
          noExecute('node.kubernetes.io/unreachable'),
          noExecute('node.kubernetes.io/not-ready'),
        ]),
      },
      [],
    ],
    ['no node', { node: undefined }, [['NodeGone', 'certain', 10_000]]],
    ['a silent node', { node: nodeWith([], 'Unknown') }, [['NodeNotReady', 'suspect', 60_000]]],
    ['a node that is not ready', { node: nodeWith([], 'False') }, [['NodeNotReady', 'suspect', 120_000]]],
    ['a member that others delete', goingPod('DeletionByTaintManager'), [['Foreign', 'certain', 0]]],
    ['one that is evicted', goingPod('EvictionByEvictionAPI'), [['Foreign', 'certain', 0]]],
    [
      'a member that failed',
      { ...going, status: disrupted('TerminationByKubelet', 'Failed') },
      [['Foreign', 'certain', 0]],
    ],
    ['the last member of a group', { ...goingPod('DeletionByTaintManager'), othersLive: false }, []],
    ['a worker that returns alone', { ...goingPod('DeletionByTaintManager'), returnsAlone: true }, []],
    [
      'the leader of workers that return alone',
      { ...goingPod('DeletionByTaintManager'), returnsAlone: true, leads: true },
      [['Foreign', 'certain', 0]],
    ],
    [
      'a member that is deleted in an ordinary way, on a bad node',
      { ...going, pod: decode(group.worker(1, { node: 'a', terminating: true })), node: undefined },
      [],
    ],
    ['a condition on a member that stays', { status: disrupted('EvictionByEvictionAPI') }, []],
    [
      'the leader of a group whose place another needs',
      { leads: true, claim: { cause: 'preempted' } },
      [['Preempted', 'certain', 0]],
    ],
    ['a worker of such a group', { claim: { cause: 'preempted' } }, []],
    ['such a leader that goes', { ...going, leads: true, claim: { cause: 'preempted' } }, []],
  ];
  for (const [name, scene, wanted] of cases)
    t.same(
      see(scene).map(({ signal, class: signalClass, debounceMs }) => [signal, signalClass, debounceMs]),
      wanted,
      name,
    );
});

t.test('a drain does not blame the node, a taint manager does', async t => {
  t.equal(see(goingPod('EvictionByEvictionAPI'))[0]?.blamesNode, false);
  t.equal(see(goingPod('PreemptionByScheduler'))[0]?.blamesNode, false);
  t.equal(see(goingPod('DeletionByDeviceTaintManager'))[0]?.blamesNode, true);
});

t.test('a node without members shows its own faults only', async t => {
  t.same(seeNode(nodeWith([noExecute('x')]), defaultFailureSettings), []);
  t.same(
    seeNode(nodeWith([], 'Unknown'), defaultFailureSettings).map(({ signal, entity }) => [signal, entity]),
    [['NodeNotReady', 'uid-a']],
  );
});

t.test('causes are the same sentence for the same fault', async t => {
  const scene = { status: healthOf('Unhealthy') };
  t.equal(see(scene)[0]?.cause, see(scene)[0]?.cause);
  t.match(see(scene)[0]?.cause, /GPU-3 \(nvidia\.com\/gpu\) of llm-0-1 on a is unhealthy/);
});

t.test('the least of all modes counts, and a misspelt one is no licence', async t => {
  t.equal(leastMode('evict', [undefined, undefined]), 'evict');
  t.equal(leastMode('evict', ['cordon', 'evict']), 'cordon');
  t.equal(leastMode('observe', ['evict']), 'observe');
  t.equal(leastMode('evict', ['off', 'evict']), 'off');
  t.equal(leastMode('evict', ['evcit']), 'observe');
});

t.test('who opts out is left alone, and who misspells it is, too', async t => {
  const cases: readonly (readonly [readonly (string | undefined)[], boolean])[] = [
    [[undefined, undefined], false],
    [['observe', 'evict'], false],
    [['evict', 'off'], true],
    [[undefined, 'of'], true],
  ];
  for (const [wishes, wanted] of cases) t.equal(optsOut(wishes), wanted, `${wishes}`);
});
