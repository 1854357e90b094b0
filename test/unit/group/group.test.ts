import t from 'tap';
import type { ObjectMeta, PodSpec } from '../../../src/api/kubernetes.ts';
import { berth, k8s, lws } from '../../../src/api/names.ts';
import type { Resources } from '../../../src/cluster/resources.ts';
import { noClaims } from '../../../src/group/claims.ts';
import {
  addedAtAdmission,
  demandAlike,
  demandOfPod,
  demandOfTemplate,
  selectionAddedAtAdmission,
} from '../../../src/group/demand.ts';
import {
  buildGroupInfo,
  type GroupInfo,
  type GroupObstacle,
  type GroupSource,
  isObstacle,
} from '../../../src/group/group-info.ts';
import { groupKeyOf, isMembershipError, membershipOf } from '../../../src/group/membership.ts';
import {
  decodeLeaderWorkerSet,
  decodeNamespace,
  decodeStatefulSet,
  maxUnavailableOf,
} from '../../../src/group/owner.ts';
import type { PodInfo } from '../../../src/group/pod-info.ts';
import { readTopologyRequest } from '../../../src/group/topology-request.ts';
import { LwsGroup, type LwsParts } from '../../builders/lws-group.ts';
import { decode, labelledPod } from '../../builders/planning.ts';
import { gpuName, podOf, requiredDuringScheduling, templateOf } from '../../builders/pods.ts';

const levels = [
  { name: 'block', nodeLabel: 'example.com/block' },
  { name: 'rack', nodeLabel: 'example.com/rack' },
];

t.test('membership of LWS pods', async t => {
  const group = new LwsGroup({ size: 4, worker: { gpu: 8 } }, 7);
  const leader = group.leader().metadata;
  const worker = group.worker(3).metadata;
  const common = { kind: 'lws', namespace: 'serving', name: 'llm-7', owner: 'llm', size: 4, revision: 'r1' };
  t.same(membershipOf(leader, 'serving'), { ...common, rank: 0 });
  t.same(membershipOf(worker, 'serving'), { ...common, rank: 3 });

  const without = (metadata: ObjectMeta, ...keys: string[]): ObjectMeta => ({
    ...metadata,
    labels: Object.fromEntries(Object.entries(metadata.labels ?? {}).filter(([key]) => !keys.includes(key))),
    annotations: Object.fromEntries(
      Object.entries(metadata.annotations ?? {}).filter(([key]) => !keys.includes(key)),
    ),
  });
  t.match(membershipOf(without(worker, lws.workerIndex), 'serving'), { rank: 3 }, 'the pod index stands in');
  const { name: _, ...unnamed } = leader;
  t.match(membershipOf(unnamed, 'serving'), { rank: 0, name: '' }, 'a leader with only a generateName');
  t.match(
    membershipOf({ ...leader, labels: { ...leader.labels, [lws.groupIndex]: 'x7f3q' } }, 'serving'),
    { rank: 0 },
    'a hashed group index is not parsed',
  );
  t.match(membershipOf(without(leader, lws.templateRevisionHash), 'serving'), { revision: '' });

  const bad: readonly [string, ObjectMeta, string][] = [
    ['no size', without(worker, lws.size), `metadata.annotations[${lws.size}]`],
    [
      'no index at all',
      without(worker, lws.workerIndex, k8s.podIndex),
      `metadata.labels[${lws.workerIndex}]`,
    ],
    ['no leader name', without(worker, lws.leaderName), `metadata.annotations[${lws.leaderName}]`],
    [
      'an empty leader name',
      { ...worker, annotations: { ...worker.annotations, [lws.leaderName]: '' } },
      `metadata.annotations[${lws.leaderName}]`,
    ],
    [
      'an index beyond the size',
      { ...worker, labels: { ...worker.labels, [lws.workerIndex]: '4' } },
      `metadata.labels[${lws.workerIndex}]`,
    ],
  ];
  for (const [name, metadata, field] of bad) {
    const found = membershipOf(metadata, 'serving');
    t.ok(isMembershipError(found), name);
    t.match(found, { code: 'InvalidMembership', field });
  }
  for (const size of [
    '0',
    '-1',
    '+4',
    ' 4',
    '4.0',
    '04',
    '1e1',
    'four',
    '',
    '1000001',
    '99999999999999999999',
  ]) {
    const metadata = { ...worker, annotations: { ...worker.annotations, [lws.size]: size } };
    t.match(membershipOf(metadata, 'serving'), {
      code: 'InvalidMembership',
      message: `metadata.annotations[${lws.size}] must be a whole number of at least 1; got ${JSON.stringify(size)}`,
    });
  }
  t.match(
    membershipOf({ ...worker, annotations: { ...worker.annotations, [lws.size]: '1000000' } }, 'serving'),
    { size: 1_000_000 },
  );
});

t.test('membership of labelled pods', async t => {
  const labels = { [berth.group]: 'g', [berth.groupSize]: '4' };
  const of = (more: Record<string, string>) =>
    membershipOf({ name: 'p', labels: { ...labels, ...more } }, 'ns');
  t.same(of({ [berth.groupRank]: '2' }), {
    kind: 'labelled',
    namespace: 'ns',
    name: 'g',
    owner: 'g',
    size: 4,
    rank: 2,
    revision: '',
  });
  t.match(of({ [k8s.podIndex]: '1' }), { rank: 1 }, 'the index of a StatefulSet');
  t.match(of({ [k8s.jobCompletionIndex]: '3' }), { rank: 3 }, 'or of an indexed Job');
  t.match(of({ [berth.groupRank]: '2', [k8s.podIndex]: '1' }), { rank: 2 }, 'its own label comes first');
  const bad: readonly [Record<string, string>, string][] = [
    [{}, berth.groupRank],
    [{ [berth.groupRank]: '4' }, berth.groupRank],
    [{ [berth.groupRank]: 'x', [k8s.podIndex]: '1' }, berth.groupRank],
    [{ [berth.groupRank]: '1', [berth.groupSize]: '0' }, berth.groupSize],
    [{ [berth.groupRank]: '1', [berth.group]: '' }, berth.group],
  ];
  for (const [more, key] of bad)
    t.match(of(more), { code: 'InvalidMembership', field: `metadata.labels[${key}]` });
  t.equal(membershipOf({ name: 'p', labels: { app: 'x' } }, 'ns'), undefined);
  t.equal(membershipOf({ name: 'p' }, 'ns'), undefined);
  t.equal(groupKeyOf({ namespace: 'ns', name: 'g' }), 'ns/g');
});

t.test('topology requests', async t => {
  const kueueRequired = 'kueue.x-k8s.io/podset-required-topology';
  const kueuePreferred = 'kueue.x-k8s.io/podset-preferred-topology';
  const none = { requiredLevel: undefined, preferredLevel: undefined, sameLabels: [] };
  const cases: readonly [string, readonly (Record<string, string> | undefined)[], object][] = [
    ['nothing', [undefined, {}], none],
    ['a level by name', [{ [berth.requiredTopology]: 'rack' }], { ...none, requiredLevel: 1 }],
    ['a level by label', [{ [berth.requiredTopology]: 'example.com/block' }], { ...none, requiredLevel: 0 }],
    ['the host', [{ [berth.requiredTopology]: 'host' }], { ...none, requiredLevel: 2 }],
    ['the host by its label', [{ [kueueRequired]: k8s.hostname }], { ...none, requiredLevel: 2 }],
    ["Kueue's words", [{ [kueueRequired]: 'example.com/rack' }], { ...none, requiredLevel: 1 }],
    ['preferred', [{ [berth.preferredTopology]: 'block' }], { ...none, preferredLevel: 0 }],
    ['preferred by Kueue', [{ [kueuePreferred]: 'example.com/rack' }], { ...none, preferredLevel: 1 }],
    [
      "Berth's word before Kueue's",
      [{ [berth.requiredTopology]: 'block', [kueueRequired]: 'example.com/rack' }],
      { ...none, requiredLevel: 0 },
    ],
    [
      'the pod before its owner',
      [{ [berth.requiredTopology]: 'rack' }, { [berth.requiredTopology]: 'block' }],
      { ...none, requiredLevel: 1 },
    ],
    [
      'exclusive over a level',
      [{ [lws.exclusiveTopology]: 'example.com/rack' }],
      { ...none, requiredLevel: 1 },
    ],
    [
      'the finer of required and exclusive',
      [{ [lws.exclusiveTopology]: 'example.com/block', [berth.requiredTopology]: 'rack' }],
      { ...none, requiredLevel: 1 },
    ],
    [
      'exclusive over another label',
      [{ [berth.requiredTopology]: 'block' }, { [lws.exclusiveTopology]: 'pool' }],
      { ...none, requiredLevel: 0, sameLabels: ['pool'] },
    ],
    ['exclusive over nothing', [{ [lws.exclusiveTopology]: '' }], none],
  ];
  const group = { namespace: 'serving', owner: 'llm', size: 4 };
  for (const [name, sources, expected] of cases)
    t.same(readTopologyRequest(sources, levels, group), expected, name);
  t.same(readTopologyRequest([{ [berth.requiredTopology]: 'Rack' }], levels, group), {
    code: 'InvalidTopology',
    field: `metadata.annotations[${berth.requiredTopology}]`,
    message: `metadata.annotations[${berth.requiredTopology}] names the unknown topology level "Rack"; known levels are block, rack, host`,
    permanent: false,
  });
  t.match(readTopologyRequest([{ [kueuePreferred]: 'x' }], levels, group), {
    code: 'InvalidTopology',
    field: `metadata.annotations[${kueuePreferred}]`,
  });
});

t.test('the demand of a pod', async t => {
  const tolerations = [{ key: 'a', operator: 'Exists' }, { key: 'b' }];
  const ask = { gpu: 8, cpu: 4, nodeSelector: { x: '1', y: '2' }, tolerations, hostPort: 80 };
  const one = demandOfPod(decode(podOf({ name: 'p', gated: true, ...ask, labels: labelsOf('p') })));
  const same = podOf({
    name: 'q',
    gated: true,
    ...ask,
    nodeSelector: { y: '2', x: '1' },
    tolerations: [...tolerations].reverse(),
    labels: labelsOf('q'),
  });
  t.equal(demandOfPod(decode(same)).key, one.key, 'the order of selectors and tolerations does not matter');
  t.match(one, { namespace: 'serving', hostPorts: [{ port: 80 }], spec: { nodeSelector: { x: '1' } } });
  t.same(amounts(one.requests), { cpu: 4000, [gpuName]: 8, pods: 1 });
  const others = [
    { ...ask, gpu: 4 },
    { ...ask, nodeSelector: { x: '1' } },
    { ...ask, tolerations: [] },
    { ...ask, tolerations: [{ key: 'a', operator: 'Exists', effect: 'NoExecute' }, { key: 'b' }] },
    { ...ask, hostPort: 81 },
    { ...ask, affinity: { podAntiAffinity: requiredTerm } },
    { ...ask, affinity: { podAffinity: requiredTerm } },
    { ...ask, affinity: { nodeAffinity: { [requiredDuringScheduling]: { nodeSelectorTerms: [] } } } },
  ].map(other => demandOfPod(decode(podOf({ name: 'p', gated: true, ...other }))).key);
  t.equal(
    new Set([one.key, ...others]).size,
    others.length + 1,
    'whatever decides where it may go makes a difference',
  );
  const withTerm = (name: string, labels: Record<string, string>) =>
    demandOfPod(decode(podOf({ name, gated: true, affinity: { podAffinity: requiredTerm }, labels }))).key;
  t.not(withTerm('p', { app: 'a' }), withTerm('p', { app: 'b' }), 'labels count where terms may see them');
  t.equal(withTerm('p', labelsOf('p')), withTerm('q', labelsOf('q')), 'but not those that count pods');
});

t.test('the demand of a member that does not exist', async t => {
  const spec: PodSpec = {
    containers: [
      { name: 'a', resources: { limits: { cpu: '2', memory: '1Gi', [gpuName]: 8 } } },
      { name: 'b', resources: { requests: { cpu: '500m' } } },
    ],
    initContainers: [{ name: 'i', restartPolicy: 'Always', resources: { requests: { cpu: '1' } } }],
  };
  const absent = {
    namespace: 'ns',
    template: { metadata: { labels: { app: 'x' } }, spec },
    labels: { extra: 'y' },
  };
  const base = demandOfTemplate({ ...absent, seen: undefined, addedAtAdmission: undefined });
  const gib = 1024 ** 3;
  t.same(
    amounts(base.requests),
    { cpu: 3500, memory: gib, [gpuName]: 8, pods: 1 },
    'limits stand in for requests',
  );
  t.same(base.labels, { app: 'x', extra: 'y' });

  const seen = new Map([
    ['cpu', 3000],
    ['memory', 3 * gib],
    ['pods', 1],
  ]);
  const larger = demandOfTemplate({ ...absent, seen, addedAtAdmission: new Map([['cpu', 9000]]) });
  t.same(
    amounts(larger.requests),
    { cpu: 3500, memory: 3 * gib, [gpuName]: 8, pods: 1 },
    'the largest seen counts',
  );

  const live = new Map([
    ...base.requests,
    ['cpu', 4000],
    ['memory', gib],
    [gpuName, 9],
    ['ephemeral-storage', 5],
  ]);
  const added = addedAtAdmission(live as Resources, spec);
  t.same(amounts(added), { cpu: 500, 'ephemeral-storage': 5 }, 'what an injector has added, no devices');
  t.same(amounts(addedAtAdmission(new Map(), spec)), {}, 'never less than nothing');
  const grown = demandOfTemplate({ ...absent, seen: undefined, addedAtAdmission: added });
  t.same(amounts(grown.requests), { cpu: 4000, memory: gib, 'ephemeral-storage': 5, [gpuName]: 8, pods: 1 });
});

t.test('what admission lets the leader tolerate and select holds for its workers', async t => {
  const template: PodSpec = {
    containers: [],
    nodeSelector: { a: '1' },
    tolerations: [{ key: 'x', operator: 'Exists' }],
  };
  const gpuTaint = { key: gpuName, operator: 'Exists', effect: 'NoSchedule' };
  const live: PodSpec = {
    containers: [],
    nodeSelector: { a: '1', class: 'gpu' },
    tolerations: [{ key: 'x', operator: 'Exists' }, gpuTaint],
  };
  t.same(selectionAddedAtAdmission(live, template), {
    nodeSelector: { class: 'gpu' },
    tolerations: [gpuTaint],
  });

  const worker = { gpu: 8, tolerations: [{ key: 'mine', operator: 'Exists' }] };
  const alike = new LwsGroup({ size: 2, worker });
  const admitted = { tolerations: [...worker.tolerations, gpuTaint], nodeSelector: { class: 'gpu' } };
  const info = infoOf(alike, { leader: admitted });
  t.equal(info.demands[1]?.key, info.demands[0]?.key, 'leader and absent worker of one template are alike');
  t.match(info.demands[1]?.spec, { nodeSelector: { class: 'gpu' } });

  const apart = new LwsGroup({ size: 2, worker, leader: { cpu: 1 } });
  const [, other] = infoOf(apart, {
    leader: { tolerations: [gpuTaint], nodeSelector: { class: 'cpu' } },
  }).demands;
  t.equal(other?.spec.nodeSelector?.['class'], undefined, "another template's node selector is not guessed");
  t.ok(other?.spec.tolerations?.some(({ key }) => key === gpuName));

  const existing = decode(alike.worker(1, admitted));
  const [, present] = infoOf(alike, { leader: admitted, members: [existing] }).demands;
  t.equal(present?.key, info.demands[1]?.key, 'and an absent worker like one that exists');
});

t.test('group info of LWS groups', async t => {
  const parts: LwsParts = { size: 3, worker: { gpu: 8 }, leader: { cpu: 2 } };
  const group = new LwsGroup(parts);
  const info = infoOf(group, {});
  t.match(info, { key: 'serving/llm-0', size: 3, priority: 0, createdAtMs: Date.UTC(2026, 0, 1) });
  t.same(
    info.demands.map(({ requests }) => amounts(requests)),
    [
      { cpu: 2000, pods: 1 },
      { [gpuName]: 8, pods: 1 },
      { [gpuName]: 8, pods: 1 },
    ],
  );
  t.equal(info.demands[1]?.key, info.demands[2]?.key);
  t.equal(info.demands[1]?.labels[lws.groupKey], group.groupKey, 'absent workers bear the group key');
  t.equal(infoOf(group, { leader: { priority: 7 } }).priority, 7);

  const worker = decode(group.worker(2, { gpu: 4 }));
  const seenWorker = new Map([[gpuName, 4]]);
  t.same(
    infoOf(group, { members: [worker], seenWorker }).demands.map(({ requests }) => requests.get(gpuName)),
    [undefined, 8, 4],
    'a member that exists is taken as it is',
  );
  t.match(sourceInfo(group, { owner: undefined }), { code: 'OwnerMissing' });
  t.equal(
    isObstacle(
      sourceInfo(group, { owner: undefined, members: [1, 2].map(rank => decode(group.worker(rank))) }),
    ),
    false,
  );
  t.equal(isObstacle(sourceInfo(new LwsGroup({ ...parts, size: 1 }), { owner: undefined })), false);

  const annotated = (worker: string | undefined, owner: string | undefined) =>
    infoOf(
      new LwsGroup({
        ...parts,
        worker: { gpu: 8, ...(worker && { annotations: { [berth.requiredTopology]: worker } }) },
        ...(owner && { annotations: { [berth.requiredTopology]: owner } }),
      }),
      {},
    ).topology.requiredLevel;
  t.equal(annotated(undefined, 'block'), 0, 'the owner asks for topology');
  t.equal(annotated('rack', 'block'), 1, 'the worker template too, though there is a leader template');
  t.match(sourceInfo(new LwsGroup({ ...parts, annotations: { [berth.requiredTopology]: 'row' } }), {}), {
    code: 'InvalidTopology',
    field: `metadata.annotations[${berth.requiredTopology}]`,
  });
  const broken = group.owner();
  const spec = {
    ...templateOf({}).spec,
    containers: [{ name: 'm', resources: { requests: { cpu: '2x' } } }],
  };
  const owner = {
    ...broken,
    spec: { leaderWorkerTemplate: { ...broken.spec.leaderWorkerTemplate, workerTemplate: { spec } } },
  };
  t.match(sourceInfo(group, { owner: decodeLeaderWorkerSet(owner) }), {
    code: 'InvalidQuantity',
    message: /LeaderWorkerSet llm: spec.containers\[0\].resources.requests\[cpu\]: "2x"/,
  });
});

t.test('group info of labelled groups', async t => {
  const member = (rank: number, more: object = {}) =>
    decode(labelledPod(3, rank, { gpu: 1 + rank, ...more }));
  const all = [0, 1, 2].map(rank => member(rank));
  t.same(labelledInfo(all, false), [1, 2, 3], 'each member as it is');
  t.match(labelledInfo(all.slice(0, 2), false), {
    code: 'MembersMissing',
    message: '2 of 3 members have been created',
  });
  t.same(labelledInfo(all.slice(0, 2), true), [1, 2, 2], 'late ones are taken to be like the last');
  const resized = decode(labelledPod(4, 1, { gpu: 1 }));
  t.match(labelledInfo([member(0), resized], true), {
    code: 'SizeChanged',
    field: `metadata.labels[${berth.groupSize}]`,
  });
});

t.test('a missing member is like one that runs already', async t => {
  const ask = { gpu: 8, nodeSelector: { pool: 'x' }, tolerations: [{ key: 'gpu', operator: 'Exists' }] };
  const waiting = demandOfPod(decode(labelledPod(2, 0, ask)));
  const running = decode({
    ...labelledPod(2, 0, ask),
    ...ungated(podOf({ name: 'g-0', ...ask, pinnedTo: 'n1', node: 'n1' })),
  });
  t.equal(demandAlike(running).key, waiting.key, 'less its pin');
  const expressions = [{ key: 'zone', operator: 'In', values: ['a'] }];
  const fields = [{ key: 'metadata.name', operator: 'In', values: ['n1'] }];
  const affine = (term: object) => ({
    nodeAffinity: { [requiredDuringScheduling]: { nodeSelectorTerms: [term] } },
  });
  const own = demandOfPod(
    decode(labelledPod(2, 0, { ...ask, affinity: affine({ matchExpressions: expressions }) })),
  );
  const both = labelledPod(2, 0, {
    ...ask,
    affinity: affine({ matchExpressions: expressions, matchFields: fields }),
  });
  const alike = demandAlike(decode({ ...both, spec: { ...both.spec, schedulingGates: [], nodeName: 'n1' } }));
  t.same(
    alike.spec.affinity?.nodeAffinity?.[requiredDuringScheduling]?.nodeSelectorTerms[0]?.matchExpressions,
    own.spec.affinity?.nodeAffinity?.[requiredDuringScheduling]?.nodeSelectorTerms[0]?.matchExpressions,
    'what the user asked for stays',
  );
  t.same(
    alike.spec.affinity?.nodeAffinity?.[requiredDuringScheduling]?.nodeSelectorTerms[0]?.matchFields,
    [],
  );
});

t.test('namespaces and StatefulSets', async t => {
  const namespaceWith = (labels?: Record<string, string>) =>
    decodeNamespace({ metadata: { name: 'ns', ...(labels && { labels }) } });
  t.match(namespaceWith(), { name: 'ns', mode: 'observe', invalidMode: undefined, pinsSingles: false });
  for (const mode of ['observe', 'pin', 'pin-extender', 'extender'] as const)
    t.match(namespaceWith({ [berth.mode]: mode }), { mode, invalidMode: undefined });
  t.match(
    namespaceWith({ [berth.mode]: 'Pin' }),
    { mode: 'observe', invalidMode: 'Pin' },
    'a typo only observes',
  );
  t.match(namespaceWith({ [berth.singles]: 'pin' }), { pinsSingles: true });
  t.same(decodeStatefulSet(new LwsGroup({ size: 2, worker: {} }).workerSet(2)), {
    uid: 'uid-workers-llm-0-2',
    namespace: 'serving',
    name: 'llm-0',
    controllerUid: 'uid-llm-0-2',
  });
  t.equal(decodeStatefulSet({ metadata: { name: 's' } }).controllerUid, '');
});

const requiredTerm = { [requiredDuringScheduling]: [{ topologyKey: 'k', labelSelector: {} }] };

function labelsOf(name: string): Record<string, string> {
  return {
    app: 'x',
    'statefulset.kubernetes.io/pod-name': name,
    [k8s.podIndex]: name,
    [lws.workerIndex]: name,
  };
}

function amounts(resources: Resources): Record<string, number> {
  return Object.fromEntries(resources);
}

function ungated(pod: ReturnType<typeof podOf>) {
  return { spec: pod.spec };
}

interface SourceParts {
  readonly leader?: Parameters<LwsGroup['leader']>[0];
  readonly members?: readonly PodInfo[];
  readonly seenWorker?: Resources;
  readonly owner?: GroupSource['owner'];
}

function sourceInfo(group: LwsGroup, parts: SourceParts): GroupInfo | GroupObstacle {
  const leader = decode(group.leader(parts.leader));
  const { membership } = leader;
  if (membership === undefined || isMembershipError(membership)) throw new Error('no membership');
  const members = new Map([[0, leader]]);
  for (const member of parts.members ?? []) {
    if (member.membership !== undefined && !isMembershipError(member.membership))
      members.set(member.membership.rank, member);
  }
  return buildGroupInfo({
    membership,
    leader,
    members,
    owner: 'owner' in parts ? parts.owner : decodeLeaderWorkerSet(group.owner()),
    seenWorker: parts.seenWorker,
    claims: noClaims,
    levels,
    assumeMissingAlike: false,
  });
}

function infoOf(group: LwsGroup, parts: SourceParts): GroupInfo {
  const info = sourceInfo(group, parts);
  if (isObstacle(info)) throw new Error(info.message);
  return info;
}

/** GPUs by rank, or the obstacle. */
function labelledInfo(
  pods: readonly PodInfo[],
  assumeMissingAlike: boolean,
): readonly (number | undefined)[] | GroupObstacle {
  const [leader] = pods;
  const membership = leader?.membership;
  if (leader === undefined || membership === undefined || isMembershipError(membership))
    throw new Error('no membership');
  const members = new Map(pods.map((pod, rank) => [rank, pod]));
  const info = buildGroupInfo({
    membership,
    leader,
    members,
    owner: undefined,
    seenWorker: undefined,
    claims: noClaims,
    levels,
    assumeMissingAlike,
  });
  return isObstacle(info) ? info : info.demands.map(({ requests }) => requests.get(gpuName));
}

t.test('an owner that is being deleted is known as such', async t => {
  const owner = new LwsGroup({ size: 2, worker: { gpu: 1 } }).owner();
  const deletionTimestamp = '2026-01-01T00:00:00Z';
  const going = decodeLeaderWorkerSet({ ...owner, metadata: { ...owner.metadata, deletionTimestamp } });
  t.equal(going.metadata.deletionTimestamp, deletionTimestamp);
});

t.test('what a pod says of its own end and of its devices', async t => {
  const resources = [
    { resourceID: 'gpu-0', health: 'Healthy' },
    { resourceID: 'gpu-1', health: 'Unhealthy', message: 'fell off the bus' },
    { resourceID: 'gpu-2', health: 'Unknown' },
  ];
  const pod = podOf({ name: 'p', gpu: 3, node: 'a' });
  const containerStatuses = [{ name: 'main', allocatedResourcesStatus: [{ name: gpuName, resources }] }];
  const conditions = [{ type: 'DisruptionTarget', status: 'True', reason: 'DeletionByTaintManager' }];
  const info = decode({ ...pod, status: { containerStatuses, conditions } });
  t.same(info.unhealthyDevices, [{ resource: gpuName, resourceID: 'gpu-1', message: 'fell off the bus' }]);
  t.equal(info.disruptionReason, 'DeletionByTaintManager');
  t.same(
    info.tolerations.map(({ key }) => key),
    ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'],
  );
  t.match(decode(podOf({ name: 'cpu', cpu: 1 })), {
    unhealthyDevices: [],
    disruptionReason: undefined,
    tolerations: [],
  });
});

t.test('a LeaderWorkerSet can do without as many groups as it says', async t => {
  const spares = (maxUnavailable?: number | string, replicas = 10) => {
    const owner = new LwsGroup({ size: 2, worker: { gpu: 1 } }).owner();
    const rolloutStrategy = {
      rollingUpdateConfiguration: maxUnavailable === undefined ? {} : { maxUnavailable },
    };
    return maxUnavailableOf(
      decodeLeaderWorkerSet({ ...owner, spec: { ...owner.spec, replicas, rolloutStrategy } }),
    );
  };
  t.equal(spares(), 1);
  t.equal(spares(3), 3);
  t.equal(spares('25%'), 2, 'rounded down');
  t.equal(spares('5%'), 1, 'at least one');
  t.equal(spares(0), 1);
  t.equal(spares('many'), 1, 'nonsense');
  t.equal(spares('-1'), 1);
});
