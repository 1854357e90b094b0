import type { KubernetesObject, Node, Pod, ResourceList } from '../../src/api/kubernetes.ts';

/** One event of a watch, as it came. Type is ADDED, MODIFIED or DELETED. */
export type WatchedChange = { readonly type: string } & (
  | { readonly resource: 'nodes'; readonly object: Node }
  | { readonly resource: 'pods'; readonly object: Pod }
  | { readonly resource: 'statefulsets'; readonly object: KubernetesObject }
);

/** What a history has against Berth's promises; every list is empty when they were kept. */
export interface HistoryFindings {
  /** Where bound pods and the seats that live plans keep for others exceed a node, each as it was first seen. */
  readonly overcommitted: readonly string[];
  /** Pinned pods that kube-scheduler could not bind. */
  readonly unschedulable: readonly string[];
  /** Members bound elsewhere than their live leader's plan says. */
  readonly misplaced: readonly string[];
  /** Groups, by incarnation, with bound members in more than one domain. */
  readonly split: readonly string[];
  readonly changes: number;
  /** The most seats that live plans kept for unbound members at any one moment: without any, little was proved. */
  readonly mostSeatsKept: number;
}

export interface HistoryRules {
  /** A group must be within one value of this node label. */
  readonly domainLabel: string;
}

/** The resources that are added up; cpu in thousandths. */
const counted = ['cpu', 'nvidia.com/gpu'] as const;
type Amounts = Readonly<Record<(typeof counted)[number], number>>;

interface Plan {
  readonly leaderUID: string;
  readonly nodes: readonly string[];
  readonly requests: readonly ResourceList[];
  readonly requestOf: readonly number[];
}

interface Seat {
  readonly node: string;
  readonly amounts: Amounts;
  readonly rank: number;
  readonly leader: Pod;
}

/** The cluster at one moment of a history. */
interface Moment {
  readonly nodes: Map<string, Node>;
  readonly pods: Map<string, Pod>;
}

/**
 * Replays what watches have told and looks at every moment at what must never be. It reads the API objects itself and
 * takes nothing from Berth, so that a mistake of Berth's is not made here once more. It knows groups of LeaderWorkerSet.
 */
export function checkHistory(changes: readonly WatchedChange[], rules: HistoryRules): HistoryFindings {
  const leaderUidOfSet = setOwners(changes);
  const moment: Moment = { nodes: new Map(), pods: new Map() };
  const overcommitted = new Map<string, string>();
  const unschedulable = new Set<string>();
  const misplaced = new Set<string>();
  const split = new Set<string>();
  let mostSeatsKept = 0;
  for (const change of inOrder(changes)) {
    const before = apply(moment, change);
    const incarnations = sortIncarnations(moment, leaderUidOfSet);
    const seats = [...incarnations.values()].flatMap(seatsKept);
    mostSeatsKept = Math.max(mostSeatsKept, seats.length);
    const at = `at ${change.object.metadata.resourceVersion}`;
    for (const text of findOvercommitted(moment, seats)) {
      if (!overcommitted.has(text)) overcommitted.set(text, at);
    }
    if (change.resource !== 'pods' || change.type === 'DELETED') continue;
    const pod = change.object;
    if (isStranded(pod)) unschedulable.add(`${nameOf(pod)} pinned to ${pinOf(pod)}, ${at}`);
    if (pod.spec.nodeName === undefined || before?.spec.nodeName !== undefined) continue;
    const incarnation = incarnations.get(leaderUidOf(pod, leaderUidOfSet) ?? '');
    if (incarnation === undefined) continue;
    const seat = incarnation.plan?.nodes[rankOf(pod)];
    if (incarnation.plan !== undefined && seat !== pod.spec.nodeName) {
      misplaced.add(`${nameOf(pod)} is on ${pod.spec.nodeName}, its plan says ${seat}`);
    }
    const domains = domainsOf(incarnation, moment, rules.domainLabel);
    if (domains.size > 1) split.add(`${nameOf(pod)}'s group is in ${[...domains].sort().join(', ')}`);
  }
  return {
    overcommitted: [...overcommitted].map(([text, at]) => `${text}, ${at}`),
    unschedulable: [...unschedulable],
    misplaced: [...misplaced],
    split: [...split],
    changes: changes.length,
    mostSeatsKept,
  };
}

/** The node that required node affinity leaves as the only one; '' for a pod that is not pinned. */
export function pinOf(pod: Pod): string {
  const terms =
    pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  return terms?.[0]?.matchFields?.find(field => field.key === 'metadata.name')?.values?.[0] ?? '';
}

/** The nodes by rank of the plan that a pod carries for itself; undefined where it carries none. */
export function plannedNodes(pod: Pod): readonly string[] | undefined {
  return planOf(pod)?.nodes;
}

/** Resource versions of one etcd are one sequence over all resources, so separate watches can be put in order. */
function inOrder(changes: readonly WatchedChange[]): readonly WatchedChange[] {
  return [...changes].sort((a, b) => versionOf(a) - versionOf(b));
}

function versionOf({ object }: WatchedChange): number {
  return Number(object.metadata.resourceVersion);
}

/** Who owns a StatefulSet never changes, so it does not matter when its watch told it. */
function setOwners(changes: readonly WatchedChange[]): ReadonlyMap<string, string> {
  const owners = new Map<string, string>();
  for (const { resource, object } of changes) {
    const owner = object.metadata.ownerReferences?.find(reference => reference.controller === true);
    if (resource === 'statefulsets' && owner !== undefined) owners.set(object.metadata.uid ?? '', owner.uid);
  }
  return owners;
}

/** The pod as it was before. */
function apply({ nodes, pods }: Moment, change: WatchedChange): Pod | undefined {
  const { name = '', uid = '' } = change.object.metadata;
  const before = pods.get(uid);
  if (change.resource === 'nodes') {
    if (change.type === 'DELETED') nodes.delete(name);
    else nodes.set(name, change.object);
  } else if (change.resource === 'pods') {
    if (change.type === 'DELETED') pods.delete(uid);
    else pods.set(uid, change.object);
  }
  return before;
}

/** One leader and what its StatefulSet has made. */
interface Incarnation {
  readonly leader: Pod;
  readonly plan: Plan | undefined;
  readonly members: readonly Pod[];
}

/** Incarnations with a live leader, by its UID. */
function sortIncarnations(
  { pods }: Moment,
  leaderUidOfSet: ReadonlyMap<string, string>,
): ReadonlyMap<string, Incarnation> {
  const members = new Map<string, Pod[]>();
  for (const pod of pods.values()) {
    const leaderUid = leaderUidOf(pod, leaderUidOfSet);
    if (leaderUid === undefined) continue;
    members.set(leaderUid, [...(members.get(leaderUid) ?? []), pod]);
  }
  const incarnations = new Map<string, Incarnation>();
  for (const [uid, own] of members) {
    const leader = pods.get(uid);
    if (leader === undefined || isGoing(leader) || isOver(leader)) continue;
    incarnations.set(uid, { leader, plan: planOf(leader), members: own });
  }
  return incarnations;
}

/** A leader's own UID for itself; undefined for pods of no group and workers whose StatefulSet nobody has seen. */
function leaderUidOf(pod: Pod, leaderUidOfSet: ReadonlyMap<string, string>): string | undefined {
  const rank = rankOf(pod);
  if (Number.isNaN(rank)) return undefined;
  if (rank === 0) return pod.metadata.uid;
  const owner = pod.metadata.ownerReferences?.find(reference => reference.controller === true);
  return leaderUidOfSet.get(owner?.uid ?? '');
}

/** Seats of the plan on which no member of the incarnation is bound. One that is going still fills its own. */
function seatsKept({ leader, plan, members }: Incarnation): readonly Seat[] {
  return (plan?.nodes ?? []).flatMap((node, rank) => {
    const filled = members.some(
      pod =>
        rankOf(pod) === rank &&
        !isOver(pod) &&
        pod.spec.nodeName !== undefined &&
        (!isGoing(pod) || pod.spec.nodeName === node),
    );
    if (node === '' || filled) return [];
    const amounts = amountsOf(plan?.requests[plan.requestOf[rank] ?? -1]);
    return [{ node, rank, amounts, leader }];
  });
}

function findOvercommitted({ nodes, pods }: Moment, seats: readonly Seat[]): readonly string[] {
  const takers = new Map<string, { readonly who: string; readonly amounts: Amounts }[]>();
  const take = (node: string, who: string, amounts: Amounts) =>
    takers.set(node, [...(takers.get(node) ?? []), { who, amounts }]);
  for (const pod of pods.values()) {
    if (pod.spec.nodeName !== undefined && !isOver(pod))
      take(pod.spec.nodeName, nameOf(pod), requestsOf(pod));
  }
  for (const { node, rank, leader, amounts } of seats) {
    take(node, `seat of rank ${rank} of ${nameOf(leader)}`, amounts);
  }
  const problems: string[] = [];
  for (const [name, taken] of takers) {
    const node = nodes.get(name);
    if (node === undefined) continue;
    const has = amountsOf(node.status?.allocatable);
    for (const resource of counted) {
      const sum = taken.reduce((total, { amounts }) => total + amounts[resource], 0);
      if (sum <= has[resource]) continue;
      problems.push(
        `${name} has ${has[resource]} ${resource} and is to give ${sum} to ${taken.map(({ who }) => who).join(', ')}`,
      );
    }
  }
  return problems;
}

function isStranded(pod: Pod): boolean {
  const scheduled = pod.status?.conditions?.find(condition => condition.type === 'PodScheduled');
  return (
    pinOf(pod) !== '' &&
    pod.spec.nodeName === undefined &&
    scheduled?.status === 'False' &&
    scheduled.reason === 'Unschedulable'
  );
}

function domainsOf({ members }: Incarnation, { nodes }: Moment, label: string): ReadonlySet<string> {
  const bound = members.filter(pod => pod.spec.nodeName !== undefined && !isGoing(pod) && !isOver(pod));
  return new Set(bound.map(pod => nodes.get(pod.spec.nodeName ?? '')?.metadata.labels?.[label] ?? '(none)'));
}

function planOf(pod: Pod): Plan | undefined {
  const text = pod.metadata.annotations?.['berth.dev/plan'];
  if (text === undefined || rankOf(pod) !== 0) return undefined;
  const plan: Plan = JSON.parse(text);
  return plan.leaderUID === pod.metadata.uid ? plan : undefined;
}

function rankOf(pod: Pod): number {
  return Number(pod.metadata.labels?.['leaderworkerset.sigs.k8s.io/worker-index'] ?? Number.NaN);
}

function isGoing(pod: Pod): boolean {
  return pod.metadata.deletionTimestamp !== undefined;
}

function isOver(pod: Pod): boolean {
  return pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';
}

/** Containers only: the tests that use this have no init containers and no overhead. */
function requestsOf(pod: Pod): Amounts {
  const all = pod.spec.containers.map(container => amountsOf(container.resources?.requests));
  return {
    cpu: all.reduce((sum, amounts) => sum + amounts.cpu, 0),
    'nvidia.com/gpu': all.reduce((sum, amounts) => sum + amounts['nvidia.com/gpu'], 0),
  };
}

function amountsOf(list: ResourceList | undefined): Amounts {
  return { cpu: milli(list?.['cpu']), 'nvidia.com/gpu': milli(list?.['nvidia.com/gpu']) / 1000 };
}

/** Whole numbers and thousandths are all that is written for the resources counted here. */
function milli(quantity: string | number | undefined): number {
  if (quantity === undefined) return 0;
  const match = /^(\d+)(m?)$/.exec(String(quantity));
  if (match === null) throw new Error(`quantity ${quantity} is not understood`);
  return Number(match[1]) * (match[2] === 'm' ? 1 : 1000);
}

function nameOf(pod: Pod): string {
  return `${pod.metadata.namespace}/${pod.metadata.name}`;
}
