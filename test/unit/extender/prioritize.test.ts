import t from 'tap';
import type { Pod } from '../../../src/api/kubernetes.ts';
import { berth } from '../../../src/api/names.ts';
import { NodeNames } from '../../../src/extender/node-names.ts';
import { isScored, prioritizeAnswer } from '../../../src/extender/prioritize.ts';
import { decodeNamespace } from '../../../src/group/owner.ts';
import { cacheOf, drawFleet, type Fleet, nodeOf } from '../../builders/fleet.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { decode } from '../../builders/planning.ts';
import { controlledBy, podOf } from '../../builders/pods.ts';
import { worldIn } from './world.ts';

function scores(fleet: Fleet, names: readonly string[], pods: readonly Pod[] = []) {
  const answer = prioritizeAnswer(cacheOf(fleet, pods).snapshot(), NodeNames.fromList(names)).toString();
  const entries: readonly { Host: string; Score: number }[] = JSON.parse(answer);
  return Object.fromEntries(entries.map(({ Host, Score }) => [Host, Score]));
}

const blocks = drawFleet(`
  block b0
    rack r0
      - a gpu=8 used=3
      - b gpu=8
    rack r1
      - c gpu=8
      - d gpu=8 usedCpu=4
  block b1
    rack r2
      - e gpu=8
      - f gpu=8
`);
const all = ['a', 'b', 'c', 'd', 'e', 'f'];

t.test('the more of the topology is whole around a node, the lower its score', async t => {
  // Three levels with the host: nothing, the host, the host and its rack, or everything is whole.
  t.same(scores(blocks, all), { a: 10, b: 7, c: 3, d: 3 });
});

t.test('a place held for a pod breaks a domain like the pod itself', async t => {
  const pinned = podOf({ name: 'p', gpu: 8, pinnedTo: 'f' });
  t.same(scores(blocks, all, [pinned]), { a: 10, b: 7, c: 3, d: 3, e: 7, f: 10 });
});

t.test('only names of the request are scored, in its order', async t => {
  t.same(Object.entries(scores(blocks, ['d', 'x', 'a', 'e'])), [
    ['d', 3],
    ['a', 10],
  ]);
  t.same(scores(blocks, []), {});
  t.same(scores(blocks, ['x']), {});
});

t.test('without levels only hosts are told apart', async t => {
  const flat: Fleet = { ...blocks, levels: [] };
  t.same(scores(flat, all), { a: 10 });
});

t.test('a node without a level’s label is in no domain of that level', async t => {
  const bare = nodeOf({ name: 'g', gpu: 8 });
  const fleet: Fleet = { ...blocks, nodes: [...blocks.nodes, bare] };
  t.same(scores(fleet, ['g', 'e']), { g: 7 });
});

t.test('scores follow the cluster', async t => {
  const cache = cacheOf(blocks);
  const answer = () => prioritizeAnswer(cache.snapshot(), NodeNames.fromList(['e', 'f'])).toString();
  t.equal(answer(), '[]');
  const pod = decode(podOf({ name: 'p', gpu: 1, node: 'f' }));
  cache.pods.upsert(pod);
  t.equal(answer(), '[{"Host":"e","Score":7},{"Host":"f","Score":10}]');
  t.equal(answer(), '[{"Host":"e","Score":7},{"Host":"f","Score":10}]');
  cache.pods.remove(pod);
  t.equal(answer(), '[]');
});

t.test('singles with accelerators are scored where the extender is wanted', async t => {
  const single = podOf({ name: 's', gpu: 1 });
  const group = new LwsGroup({ size: 2, worker: { gpu: 8 } });
  const asked = (mode: Parameters<typeof worldIn>[0], pod: Pod) => isScored(worldIn(mode), decode(pod));
  t.same(
    (['extender', 'pin-extender', 'pin', 'observe', undefined] as const).map(mode => asked(mode, single)),
    [true, true, false, false, false],
  );
  t.equal(asked('extender', podOf({ name: 's', cpu: 1 })), false, 'a pod without accelerators');
  t.equal(asked('extender', group.leader()), false, 'a member of a group');
  t.equal(asked('extender', podOf({ name: 's', gpu: 1, labels: { [berth.group]: '' } })), false);
  t.equal(asked('extender', podOf({ name: 's', gpu: 1, annotations: { [berth.mode]: 'observe' } })), false);
  const daemon = podOf({ name: 's', gpu: 1, owner: controlledBy('DaemonSet', 'ds', 'u') });
  t.equal(asked('extender', daemon), false, 'a pod that belongs to its node');
  const cache = worldIn('extender');
  cache.namespaces.remove(decodeNamespace({ metadata: { name: 'serving' } }));
  t.equal(isScored(cache, decode(single)), false, 'a namespace that is not known');
});
