import fc from 'fast-check';
import t from 'tap';
import { unitsOf } from '../../../src/cache/units.ts';
import type { NodeInfo } from '../../../src/cluster/node-info.ts';
import { keyOf } from '../../../src/cluster/resources.ts';
import type { ClusterSnapshot } from '../../../src/cluster/snapshot.ts';
import { FitMemo } from '../../../src/planner/fit.ts';
import type { PlanInput } from '../../../src/planner/plan.ts';
import { emptiedNode, release, returnedNode, type Unit } from '../../../src/planner/release.ts';
import { cacheOf, drawFleet } from '../../builders/fleet.ts';
import { type PodParts, podOf, requiredDuringScheduling } from '../../builders/pods.ts';

const fleet = drawFleet(`
  rack r0
    - a gpu=8
    - b gpu=8
  rack r1
    - c gpu=8 cordoned unready taint=repair=x:NoSchedule taint=soft:PreferNoSchedule
    - d cpu=8
`);

const away = {
  podAntiAffinity: {
    [requiredDuringScheduling]: [
      { labelSelector: { matchLabels: { app: 'x' } }, topologyKey: 'example.com/rack' },
    ],
  },
};

function inputOf(snapshot: ClusterSnapshot): PlanInput {
  return {
    demands: [],
    topology: { requiredLevel: undefined, preferredLevel: undefined, sameLabels: [] },
    snapshot,
    memo: new FitMemo(),
  };
}

/** All that planners see of a snapshot, in words. */
function seen(snapshot: ClusterSnapshot): unknown {
  const pods = (of: Iterable<unknown>) => [...of].map(pod => JSON.stringify(pod)).sort();
  return {
    nodes: [...snapshot.nodes].map(nodeWords),
    existing: pods(snapshot.existingPods()),
    repelling: pods(snapshot.repellingPods()),
  };
}

function nodeWords({ record, free, freeOfPods, hostPorts, untouched }: NodeInfo): unknown {
  const ports = hostPorts.map(port => JSON.stringify(port)).sort();
  return [record.name, keyOf(free), keyOf(freeOfPods), ports, untouched];
}

t.test('a snapshot without units equals one that has never seen their pods', async t => {
  const place = fc.record({
    at: fc.constantFrom('a', 'b', 'c', 'd'),
    bound: fc.boolean(),
    gpu: fc.constantFrom(undefined, 0, 1, 3),
    cpu: fc.constantFrom(undefined, 2),
    hostPort: fc.constantFrom(undefined, 80, 443),
    repels: fc.boolean(),
    labels: fc.constantFrom(undefined, { app: 'x' }),
  });
  const pods = fc.array(place, { maxLength: 12 });
  const gone = fc.array(fc.boolean(), { minLength: 12, maxLength: 12 });
  fc.assert(
    fc.property(pods, gone, (places, leaves) => {
      const made = places.map(({ at, bound, gpu, cpu, hostPort, repels, labels }, i) => {
        const parts: PodParts = {
          name: `p${i}`,
          ...(gpu !== undefined && { gpu }),
          ...(cpu !== undefined && { cpu }),
          ...(hostPort !== undefined && { hostPort }),
          ...(labels && { labels }),
          ...(bound ? { node: at } : { pinnedTo: at }),
          ...(repels && { affinity: bound ? away : { ...away } }),
        };
        return podOf(parts);
      });
      const cache = cacheOf(fleet, made);
      const leaving = new Set(made.flatMap((pod, i) => (leaves[i] ? [`serving/${pod.metadata.name}`] : [])));
      const units = unitsOf(cache).filter(({ key }) => leaving.has(key));
      t.equal(units.length, leaving.size);
      const after = release(inputOf(cache.snapshot()), { units, nodes: [] });
      const rest = made.filter((_, i) => !leaves[i]);
      t.same(seen(after.snapshot), seen(cacheOf(fleet, rest).snapshot()));
    }),
    { numRuns: 300 },
  );
});

t.test('only what is touched is made anew', async t => {
  const cache = cacheOf(fleet, [
    podOf({ name: 'p', gpu: 1, node: 'a' }),
    podOf({ name: 'q', gpu: 1, node: 'b' }),
  ]);
  const before = cache.snapshot();
  const units = unitsOf(cache).filter(({ key }) => key === 'serving/p');
  const { snapshot } = release(inputOf(before), { units, nodes: [] });
  t.same([...snapshot.nodes.differences(before.nodes)], [before.tree.indexByNodeName.get('a')]);
  t.equal(snapshot.tree, before.tree);
  t.equal(release(inputOf(before), { units: [], nodes: ['gone'] }).snapshot.nodes.at(0), before.nodes.at(0));
});

t.test('a node that returns', async t => {
  const input = {
    ...inputOf(cacheOf(fleet).snapshot()),
    excludedNodes: new Map([
      ['c', 'xid'],
      ['a', 'xid'],
    ]),
  };
  const after = release(input, { units: [], nodes: ['c'] });
  const node = after.snapshot.nodes.at(input.snapshot.tree.indexByNodeName.get('c') ?? -1);
  t.match(node?.record, { cordoned: false, ready: true, readyStatus: 'True' });
  t.same(
    node?.record.taints.map(({ key }) => key),
    ['soft'],
    'a taint that keeps nobody out stays',
  );
  t.same([...(after.excludedNodes ?? [])], [['a', 'xid']]);
});

t.test('neighbours go with their units', async t => {
  const neighbours = ['one', 'two'].map(name => ({
    key: `serving/${name}`,
    owner: 'serving/x',
    nodes: ['a'],
  }));
  const unit: Unit = {
    key: 'serving/one',
    kind: 'group',
    owner: 'serving/x',
    state: 'stays',
    whole: true,
    priority: 0,
    pods: 1,
    uses: [],
    existing: [],
    whyKept: undefined,
    budgetsForbid: undefined,
  };
  const input = { ...inputOf(cacheOf(fleet).snapshot()), neighbours };
  t.same(
    release(input, { units: [unit], nodes: [] }).neighbours?.map(({ key }) => key),
    ['serving/two'],
  );
  const leaving: Unit = { ...unit, state: 'going', whole: false };
  t.equal(
    release(input, { units: [leaving], nodes: [] }).neighbours?.length,
    2,
    'but not while some of it stays',
  );
});

t.test('an emptied node is what the node itself offers', async t => {
  const cache = cacheOf(fleet, [podOf({ name: 'p', gpu: 1, node: 'a', hostPort: 80 })]);
  const node = cache.nodeInfo('a');
  const empty = cacheOf(fleet).nodeInfo('a');
  if (node === undefined || empty === undefined) return t.fail('no node');
  t.same(nodeWords(emptiedNode(node)), nodeWords(empty));
  t.same(nodeWords(returnedNode(node)), nodeWords(node), 'one that is in order stays as it is');
});
