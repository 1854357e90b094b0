import t from 'tap';
import type { Affinity, PodAffinityTerm } from '../../../src/api/kubernetes.ts';
import { k8s, lws } from '../../../src/api/names.ts';
import { decodeLeaderWorkerSet, decodeStatefulSet } from '../../../src/group/owner.ts';
import { cacheOf, drawFleet, labelOf } from '../../builders/fleet.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { decode, groupInfoOf } from '../../builders/planning.ts';
import { requiredDuringScheduling } from '../../builders/pods.ts';

const fleet = drawFleet('rack r0\n  - a gpu=8');
const rackLabel = labelOf('rack');

/** What LWS's pod webhook adds to each member of a subgroup. */
function lwsTerms(topologyKey: string, key: string): Affinity {
  const own = { key: lws.subgroupKey, operator: 'In', values: [key] };
  const any = { key: lws.subgroupKey, operator: 'Exists' };
  const foreign = { key: lws.subgroupKey, operator: 'NotIn', values: [key] };
  const near: PodAffinityTerm = { topologyKey, labelSelector: { matchExpressions: [own] } };
  const away: PodAffinityTerm = { topologyKey, labelSelector: { matchExpressions: [any, foreign] } };
  return {
    podAffinity: { [requiredDuringScheduling]: [near] },
    podAntiAffinity: { [requiredDuringScheduling]: [away] },
  };
}

/** Demands of a group of 4 in subgroups of 2, of which some members exist. */
function demandsOf(
  members: number,
  options: { readonly exclusive?: string; readonly own?: PodAffinityTerm } = {},
) {
  const { exclusive = '', own } = options;
  const annotations = { [lws.subgroupSize]: '2', [lws.subgroupExclusiveTopology]: exclusive };
  const group = new LwsGroup({ size: 4, worker: { gpu: 8, annotations } });
  const cache = cacheOf(fleet);
  cache.leaderWorkerSets.upsert(decodeLeaderWorkerSet(group.owner()));
  cache.statefulSets.upsert(decodeStatefulSet(group.workerSet()));
  for (let rank = 0; rank < members; rank++) {
    const key = `key-${Math.floor(rank / 2)}`;
    const { podAffinity, podAntiAffinity } = lwsTerms(exclusive === '' ? rackLabel : exclusive, key);
    const terms = [...(podAffinity?.[requiredDuringScheduling] ?? []), ...(own ? [own] : [])];
    const affinity = {
      podAffinity: { [requiredDuringScheduling]: terms },
      ...(podAntiAffinity && { podAntiAffinity }),
    };
    const parts = { labels: { [lws.subgroupKey]: key }, affinity };
    cache.pods.upsert(decode(rank === 0 ? group.leader(parts) : group.worker(rank, parts)));
  }
  return groupInfoOf(cache, group.key).demands;
}

const kindsOf = (...args: Parameters<typeof demandsOf>) =>
  new Set(demandsOf(...args).map(({ key }) => key)).size;

t.test('members of all subgroups are alike, whether they exist or not', async t => {
  for (const members of [1, 2, 3, 4])
    t.equal(kindsOf(members, { exclusive: rackLabel }), 1, `${members} exist`);
  t.equal(kindsOf(4, { exclusive: k8s.hostname }), 1, 'subgroups on hosts too');
  t.ok(demandsOf(4, { exclusive: rackLabel }).every(({ affinity }) => affinity === undefined));
});

t.test('terms that the request does not cover stay', async t => {
  t.equal(kindsOf(4), 2, 'those of subgroups for which no place was asked');
  const own: PodAffinityTerm = { topologyKey: rackLabel, labelSelector: { matchLabels: { app: 'cache' } } };
  const demands = demandsOf(4, { exclusive: rackLabel, own });
  for (const { affinity, spec } of demands) {
    t.match(affinity, { affinity: [{ topologyKey: rackLabel }], antiAffinity: [] });
    t.same(spec.affinity, { podAffinity: { [requiredDuringScheduling]: [own] } });
  }
  for (const term of [
    {
      ...own,
      labelSelector: {
        matchExpressions: [{ key: lws.subgroupKey, operator: 'Exists' }],
        matchLabels: { a: 'b' },
      },
    },
    {
      topologyKey: 'zone',
      labelSelector: { matchExpressions: [{ key: lws.subgroupKey, operator: 'Exists' }] },
    },
    {
      topologyKey: rackLabel,
      namespaces: ['x'],
      labelSelector: { matchExpressions: [{ key: lws.subgroupKey, operator: 'Exists' }] },
    },
    { topologyKey: rackLabel, labelSelector: {} },
  ])
    t.equal(demandsOf(4, { exclusive: rackLabel, own: term })[0]?.affinity?.affinity.length, 1);
});
