import t from 'tap';
import { berth } from '../../../src/api/names.ts';
import type { CacheChange } from '../../../src/cache/cache-changes.ts';
import { ClusterCache } from '../../../src/cache/cluster-cache.ts';
import { decodeNamespace } from '../../../src/group/owner.ts';
import { decode } from '../../builders/planning.ts';
import { type PodParts, podOf } from '../../builders/pods.ts';

function podWith(name: string, more: Partial<PodParts> = {}) {
  const owner = { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'web', uid: 'uid-web', controller: true };
  return decode(podOf({ name, gpu: 1, node: 'a', owner, ...more }));
}

t.test('pods outside groups that have devices are known by who makes them', async t => {
  const cache = new ClusterCache({ levels: [] });
  const changes: CacheChange[] = [];
  cache.subscribe(change => changes.push(change));
  const heard = () => {
    const keys = changes.flatMap(change => (change.kind === 'singles' ? [change.key] : []));
    changes.length = 0;
    return keys.sort();
  };
  const names = (key: string) => [...cache.singles(key)].map(({ name }) => name).sort();
  cache.pods.replace([podWith('x'), podWith('y'), decode(podOf({ name: 'bare', gpu: 1 }))]);
  t.same(heard(), ['serving/Pod/bare', 'serving/ReplicaSet/web'], 'each once');
  t.same(names('serving/ReplicaSet/web'), ['x', 'y']);
  t.same(names('serving/Pod/bare'), ['bare']);

  cache.pods.upsert(podWith('x', { terminating: true }));
  t.same(heard(), ['serving/ReplicaSet/web']);
  cache.pods.upsert(podWith('x', { phase: 'Failed' }));
  t.same(names('serving/ReplicaSet/web'), ['y'], 'who has ended has no devices');
  cache.pods.remove(podWith('y'));
  t.same([...cache.singleKeys()], ['serving/Pod/bare']);
  heard();

  const labels = { [berth.group]: 'g', [berth.groupSize]: '1', [berth.groupRank]: '0' };
  cache.pods.upsert(podWith('member', { labels }));
  cache.pods.upsert(podWith('cpu', { gpu: 0 }));
  cache.pods.upsert(podWith('queued', { labels: { 'kueue.x-k8s.io/queue-name': 'q' } }));
  t.same(heard(), [], 'members, pods without devices and those of others are not among them');
  cache.namespaces.upsert(
    decodeNamespace({ metadata: { name: 'serving', labels: { [berth.mode]: 'pin' } } }),
  );
  t.same(heard(), ['serving/Pod/bare'], 'they hear of their namespace');
});
