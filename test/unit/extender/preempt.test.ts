import t from 'tap';
import type { Pod } from '../../../src/api/kubernetes.ts';
import type { ClusterCache } from '../../../src/cache/cluster-cache.ts';
import { worthwhileVictims } from '../../../src/extender/preempt.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { decode, labelledPod } from '../../builders/planning.ts';
import { podOf } from '../../builders/pods.ts';
import { addOwner, planned, worldIn } from './world.ts';

const free = { gated: false };
const group = new LwsGroup({ size: 2, worker: { gpu: 8 } });
const alone = new LwsGroup({ size: 1, worker: { gpu: 8 }, name: 'solo' });

/** Nodes on which victims may be killed, of candidates given as UIDs by node. */
function kept(cache: ClusterCache, pod: Pod, byNode: Readonly<Record<string, readonly string[]>>) {
  const victimsByNode = new Map(
    Object.entries(byNode).map(([node, uids]) => [node, { uids, numPdbViolations: 0 }] as const),
  );
  return [...worthwhileVictims(cache, { pod: decode(pod), victimsByNode }).keys()];
}

const uidOf = (pod: Pod) => pod.metadata.uid ?? '';

t.test('nobody dies for a node that filter would refuse', async t => {
  const leader = group.leader({ ...free, annotations: planned(group.leaderUid(), ['a', 'b']) });
  const small = ['a', 'c'].map(node => podOf({ name: `s-${node}`, namespace: 'others', gpu: 1, node }));
  const cache = worldIn('pin-extender', [leader, ...small]);
  addOwner(cache, group);
  const byNode = { a: small.slice(0, 1).map(uidOf), c: small.slice(1).map(uidOf) };
  t.same(kept(cache, podOf({ name: 'p', gpu: 8 }), byNode), ['c'], 'a is held');
  t.same(kept(cache, podOf({ name: 'p', cpu: 8 }), byNode), ['a', 'c'], 'not for pods without devices');
  cache.setExcludedNodes(new Map([['c', 'its devices fail']]));
  t.same(kept(cache, podOf({ name: 'p', gpu: 8 }), byNode), []);
});

t.test('members preempt on their planned node only, and not before there is a plan', async t => {
  const small = ['a', 'c'].map(node => podOf({ name: `s-${node}`, namespace: 'others', gpu: 1, node }));
  const byNode = { a: small.slice(0, 1).map(uidOf), c: small.slice(1).map(uidOf) };
  const waiting = group.leader(free);
  const cache = worldIn('extender', [waiting, ...small]);
  addOwner(cache, group);
  t.same(kept(cache, waiting, byNode), []);
  const leader = group.leader({ ...free, annotations: planned(group.leaderUid(), ['c', 'b']) });
  cache.pods.upsert(decode(leader));
  t.same(kept(cache, leader, byNode), ['c']);
});

t.test('no group is broken for the sake of a pod of no group', async t => {
  const bound = (rank: number, node: string) => group.worker(rank, { ...free, node });
  const worker = bound(1, 'a');
  const single = podOf({ name: 's', gpu: 1, node: 'b' });
  const labelled = { ...labelledPod(2, 1, { gpu: 8 }) };
  const cpu = podOf({ name: 'p', cpu: 8 });
  for (const mode of ['pin', 'extender', 'observe', undefined] as const) {
    const cache = worldIn(mode, [worker, single, labelled]);
    addOwner(cache, group);
    const byNode = {
      a: [uidOf(worker)],
      b: [uidOf(single)],
      c: [uidOf(single), uidOf(worker)],
      d: [uidOf(labelled)],
    };
    t.same(kept(cache, cpu, byNode), ['b'], `${mode}`);
  }
});

t.test('a group of one counts as a group where Berth places it', async t => {
  const leader = alone.leader({ ...free, node: 'a' });
  for (const [mode, want] of [
    ['pin', []],
    ['extender', []],
    ['observe', ['a']],
    [undefined, ['a']],
  ] as const) {
    const cache = worldIn(mode, [leader]);
    addOwner(cache, alone);
    t.same(kept(cache, podOf({ name: 'p', cpu: 8 }), { a: [uidOf(leader)] }), want, `${mode}`);
  }
});

t.test('members may preempt members', async t => {
  const other = new LwsGroup({ size: 2, worker: { gpu: 8 }, name: 'other' });
  const victim = other.worker(1, { ...free, node: 'c' });
  const leader = group.leader({ ...free, annotations: planned(group.leaderUid(), ['c', 'b']) });
  const cache = worldIn('extender', [leader, victim]);
  addOwner(cache, group);
  addOwner(cache, other);
  t.same(kept(cache, leader, { c: [uidOf(victim)] }), ['c']);
});

t.test('victims that are not known, or have ended, belong to no group', async t => {
  const ended = group.worker(1, { ...free, node: 'a', phase: 'Failed' });
  const cache = worldIn('pin', [ended]);
  t.same(kept(cache, podOf({ name: 'p', cpu: 8 }), { a: [uidOf(ended)], b: ['unknown'] }), ['a', 'b']);
});

t.test('a candidate without victims is dropped', async t => {
  t.same(kept(worldIn('pin'), podOf({ name: 'p', cpu: 8 }), { a: [], b: ['u'] }), ['b']);
});
