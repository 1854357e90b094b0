import t from 'tap';
import { tpuResource } from '../../../src/cluster/tpu-shape.ts';
import { demandOfPod } from '../../../src/group/demand.ts';
import type { TopologyRequest } from '../../../src/group/topology-request.ts';
import { barredTpuNodes } from '../../../src/planner/tpu-constraints.ts';
import { drawFleet, type Fleet, snapshotOf } from '../../builders/fleet.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { decode } from '../../builders/planning.ts';
import { gpuName } from '../../builders/pods.ts';

const shapeLabel = 'example.com/shape';
const pool = 1;

/** The builders speak of GPUs. */
function onTpus<T>(value: T): T {
  return JSON.parse(JSON.stringify(value).replaceAll(gpuName, tpuResource));
}

function tpuFleet(drawing: string): Fleet {
  const fleet = onTpus(drawFleet(drawing));
  const levels = fleet.levels.map(level => (level.name === 'pool' ? { ...level, shapeLabel } : level));
  return { ...fleet, levels };
}

const shape = (text: string) => `label=${shapeLabel}=${text}`;

const fleet = tpuFleet(`
  zone z
    pool two
      - t0 gpu=4 ${shape('2x4')}
      - t1 gpu=4 ${shape('2x4')}
    pool four
      - f0 gpu=4 ${shape('4x4')}
      - f1 gpu=4 ${shape('4x4')}
      - f2 gpu=4 ${shape('4x4')}
      - f3 gpu=4 ${shape('4x4')} usedCpu=8
    pool taken
      - u0 gpu=4 ${shape('2x4')}
      - u1 gpu=4 ${shape('2x4')} used=1
    pool single
      - s0 gpu=8 ${shape('2x4')}
      - s1 gpu=8 ${shape('2x4')} used=4
    pool half
      - h0 gpu=4 ${shape('2x4')}
    pool odd
      - o0 gpu=4 ${shape('4x4')}
      - o1 gpu=4 ${shape('2x4')}
    pool nonsense
      - n0 gpu=4 ${shape('large')}
    pool crowded
      - c0 gpu=4 ${shape('2x4')}
      - c1 gpu=4 ${shape('2x4')}
      - c2 gpu=4 ${shape('2x4')}
    pool gpus
      - g0
    - loose gpu=4
`);
const snapshot = snapshotOf(fleet);

const demands = (chips: readonly number[]) =>
  chips.map((gpu, rank) => {
    const group = new LwsGroup({ size: chips.length, worker: gpu === 0 ? { cpu: 1 } : { gpu } });
    return demandOfPod(decode(onTpus(rank === 0 ? group.leader() : group.worker(rank))));
  });

const byName = (a: { readonly name: string }, b: { readonly name: string }) => (a.name < b.name ? -1 : 1);

function barred(
  chips: readonly number[],
  { hosts, fixed = [] }: { readonly hosts?: readonly number[]; readonly fixed?: readonly string[] } = {},
) {
  const topology: TopologyRequest = {
    requiredLevel: undefined,
    preferredLevel: undefined,
    sameLabels: [],
    ...(hosts && { tpuSlices: { level: pool, hosts } }),
  };
  const kept = new Map(fixed.map((node, rank) => [rank, node]));
  const bars = barredTpuNodes({ demands: demands(chips), topology, snapshot, fixed: kept });
  const named = [...bars].map(([node, cause]) => ({ name: snapshot.tree.nodeNames[node] ?? '', cause }));
  const byCause = Map.groupBy(named.sort(byName), ({ cause }) => cause);
  return Object.fromEntries([...byCause].map(([cause, of]) => [cause, of.map(({ name }) => name).join(' ')]));
}

const unclear = { 'in a TPU slice of unclear shape': 'n0 o0 o1' };
const unclearOrCrowded = { 'in a TPU slice of unclear shape': 'c0 c1 c2 n0 o0 o1' };

t.test('members with TPUs fill a slice of their number of hosts', async t => {
  t.same(barred([4, 4], { hosts: [2] }), {
    ...unclearOrCrowded,
    'in a TPU slice of 1 host, not 2': 's0 s1',
    'in a TPU slice of 4 hosts, not 2': 'f0 f1 f2 f3',
    'in a TPU slice that lacks hosts': 'h0',
    'in a TPU slice that others use': 'u0 u1',
  });
  t.same(
    barred([0, 4, 4, 4, 4], { hosts: [4] }),
    {
      ...unclear,
      'in a TPU slice of 1 host, not 4': 's0 s1',
      'in a TPU slice of 2 hosts, not 4': 'c0 c1 c2 h0 t0 t1 u0 u1',
    },
    'CPUs in use are no TPUs in use, and a leader without TPUs does not count',
  );
  t.same(
    barred([4, 4, 4, 4, 4, 4], { hosts: [4, 2] })['in a TPU slice of 1 host, not 2 or 4'],
    's0 s1',
    'slices of two sizes',
  );
});

t.test('a host is not shared inside a slice of several', async t => {
  t.match(barred([2, 2], { hosts: [2] }), {
    'in a TPU slice with 4 chips per host, not 2': 't0 t1 u0 u1',
  });
  t.match(barred([4, 2], { hosts: [2] }), {
    'in a TPU slice with 4 chips per host, not 2 or 4': 't0 t1 u0 u1',
  });
});

t.test('a single host is shared like any other', async t => {
  const bars = barred([4], { hosts: [1] });
  t.notOk(Object.values(bars).some(nodes => nodes.includes('s0') || nodes.includes('s1')));
  t.match(bars, { 'in a TPU slice of 2 hosts, not 1': 'c0 c1 c2 h0 t0 t1 u0 u1' });
  t.same(barred([4]), bars, 'which is what a pod outside any group gets');
});

t.test('members that stay are no other use', async t => {
  const bars = barred([1, 4], { hosts: [2], fixed: ['u1'] });
  t.notOk('in a TPU slice that others use' in bars);
});

t.test('a slice of which any host says that it is not usable gets nobody', async t => {
  const saying = (state: string) => {
    const label = { 'cloud.google.com/gke-tpu-partition-4x4x4-state': state };
    const nodes = fleet.nodes.map(node =>
      node.metadata.name === 't1'
        ? { ...node, metadata: { ...node.metadata, labels: { ...node.metadata.labels, ...label } } }
        : node,
    );
    const topology = {
      requiredLevel: undefined,
      preferredLevel: undefined,
      sameLabels: [],
      tpuSlices: { level: pool, hosts: [2] },
    };
    const changed = snapshotOf({ ...fleet, nodes });
    const bars = barredTpuNodes({ demands: demands([4, 4]), topology, snapshot: changed });
    return ['t0', 't1'].map(name => bars.get(changed.tree.indexByNodeName.get(name) ?? -1));
  };
  for (const state of ['UNHEALTHY', 'INCOMPLETE', 'UNSET', 'ODD'])
    t.same(saying(state), Array(2).fill(`in a TPU slice that is ${state}`));
  for (const state of ['HEALTHY', 'DEGRADED']) t.same(saying(state), [undefined, undefined], state);
});

t.test('nothing is barred without TPUs or shapes', async t => {
  t.same(barred([0, 0]), {});
  const plain = snapshotOf({ ...fleet, levels: drawFleet('zone z\n pool p\n  - n').levels });
  const topology = { requiredLevel: undefined, preferredLevel: undefined, sameLabels: [] };
  t.equal(barredTpuNodes({ demands: demands([4, 4]), topology, snapshot: plain }).size, 0);
});
