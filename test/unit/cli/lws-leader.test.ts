import t from 'tap';
import type { LeaderWorkerSet, PodAffinityTerm } from '../../../src/api/kubernetes.ts';
import { berth, k8s, lws } from '../../../src/api/names.ts';
import { lwsLeaderPod } from '../../../src/cli/lws-leader.ts';
import { membershipOf } from '../../../src/group/membership.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { requiredDuringScheduling } from '../../builders/pods.ts';
import { admitByLws, corpusFolder, corpusSets, groupPods } from '../webhooks/lws-pods.ts';

const rack = 'example.com/rack';
const group = new LwsGroup(
  { size: 3, worker: { gpu: 8 }, leader: { cpu: 4, labels: { role: 'leader' } } },
  1,
);

function leaderOf(set: LeaderWorkerSet, ordinal = 1) {
  return lwsLeaderPod(set, 'serving', ordinal);
}

t.test(
  'a leader has the labels and annotations that the LWS controllers and its webhook give it',
  async t => {
    const { metadata, spec } = leaderOf(group.owner());
    const want = group.leader().metadata;
    const revision = { [lws.templateRevisionHash]: metadata.labels?.[lws.templateRevisionHash] };
    t.same(metadata.labels, { ...want.labels, ...revision });
    t.same(metadata.annotations, want.annotations);
    t.equal(metadata.name, 'llm-1');
    t.equal(spec.containers[0]?.resources?.requests?.['cpu'], '4', 'from the leader template');
    t.match(membershipOf(metadata, 'serving'), { kind: 'lws', owner: 'llm', size: 3, rank: 0 });
  },
);

t.test(
  'without a leader template the leader is made like a worker, and the size is 1 unless it is said',
  async t => {
    const owner = new LwsGroup({ size: 2, worker: { gpu: 4 } }).owner();
    const { size: _size, ...template } = owner.spec.leaderWorkerTemplate;
    const { metadata, spec } = leaderOf({ ...owner, spec: { leaderWorkerTemplate: template } }, 0);
    t.same(spec.containers, template.workerTemplate.spec.containers);
    t.equal(metadata.annotations?.[lws.size], '1');
  },
);

t.test('equal templates have equal revisions, others have others', async t => {
  const revision = (parts: { gpu: number; name?: string }) => {
    const { gpu, ...more } = parts;
    return leaderOf(new LwsGroup({ size: 2, worker: { gpu }, ...more }).owner()).metadata.labels?.[
      lws.templateRevisionHash
    ];
  };
  t.equal(revision({ gpu: 8 }), revision({ gpu: 8, name: 'other' }));
  t.not(revision({ gpu: 8 }), revision({ gpu: 4 }));
});

t.test(
  'exclusive placement makes the terms that LWS makes, and not where both kinds of terms are there',
  async t => {
    const exclusive = new LwsGroup({ size: 2, worker: { gpu: 8 }, exclusive: rack }, 1);
    const { metadata, spec } = leaderOf(exclusive.owner());
    t.same(spec.affinity, exclusive.leader().spec.affinity);
    t.equal(metadata.annotations?.[lws.exclusiveTopology], rack);

    const own: PodAffinityTerm = { topologyKey: rack, labelSelector: { matchLabels: { app: 'a' } } };
    const both = {
      podAffinity: { [requiredDuringScheduling]: [own] },
      podAntiAffinity: { [requiredDuringScheduling]: [own] },
    };
    const guarded = new LwsGroup({ size: 2, worker: { gpu: 8, affinity: both }, exclusive: rack });
    t.same(leaderOf(guarded.owner()).spec.affinity, both);
    const near = { podAffinity: { [requiredDuringScheduling]: [own] } };
    const added = new LwsGroup({ size: 2, worker: { gpu: 8, affinity: near }, exclusive: rack });
    const terms = leaderOf(added.owner()).spec.affinity;
    t.equal(terms?.podAffinity?.[requiredDuringScheduling]?.length, 2);
    t.equal(terms?.podAntiAffinity?.[requiredDuringScheduling]?.length, 1);

    const owner = group.owner();
    const empty = { ...owner, metadata: { ...owner.metadata, annotations: { [lws.exclusiveTopology]: '' } } };
    t.equal(leaderOf(empty).spec.affinity, undefined, 'an empty value is none');
  },
);

t.test('a subGroupPolicy is carried by annotations, and its exclusive level only with one', async t => {
  const owner = group.owner();
  const annotations = { [lws.subgroupExclusiveTopology]: rack, [berth.requiredTopology]: 'block' };
  const withPolicy = (policy: object | undefined): LeaderWorkerSet => {
    const leaderWorkerTemplate = { ...owner.spec.leaderWorkerTemplate, ...policy };
    return { ...owner, metadata: { ...owner.metadata, annotations }, spec: { leaderWorkerTemplate } };
  };
  const excluded = { subGroupPolicy: { subGroupSize: 2, subGroupPolicyType: 'LeaderExcluded' } };
  t.match(leaderOf(withPolicy(excluded)).metadata.annotations, {
    [lws.subgroupSize]: '2',
    [lws.subgroupPolicyType]: 'LeaderExcluded',
    [lws.subgroupExclusiveTopology]: rack,
  });
  const standard = leaderOf(withPolicy({ subGroupPolicy: { subGroupSize: 3 } })).metadata.annotations;
  t.equal(standard?.[lws.subgroupPolicyType], 'LeaderWorker');
  const none = leaderOf(withPolicy(undefined)).metadata.annotations ?? {};
  t.notOk(lws.subgroupSize in none || lws.subgroupExclusiveTopology in none);
});

t.test('leaders of real manifests are those that the webhook tests know', async t => {
  if (corpusSets('C1') === undefined) {
    t.comment(`NOT CHECKED against real manifests: there is no corpus at ${corpusFolder} (set BERTH_CORPUS)`);
    return;
  }
  for (const entry of ['C1', 'C3', 'C5', 'C14', 'C18', 'C24', 'C29', 'C47', 'C50']) {
    const sets = corpusSets(entry) ?? [];
    t.ok(sets.length > 0, entry);
    for (const set of sets) {
      const [raw] = groupPods(set, { namespace: 'serving', group: 2 });
      if (raw === undefined) throw new Error(`${entry} has no leader`);
      const known = admitByLws(raw);
      const made = lwsLeaderPod(set, 'serving', 2);
      t.match(made.metadata.labels, known.metadata.labels ?? {}, entry);
      t.match(made.metadata.annotations, known.metadata.annotations ?? {}, entry);
      t.equal(made.metadata.labels?.[k8s.podIndex], '2');
      t.same(made.spec.nodeSelector, known.spec.nodeSelector);
      t.equal(made.spec.hostname, known.spec.hostname);
    }
  }
});
