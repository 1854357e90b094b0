import type { ClusterCache } from '../cache/cluster-cache.ts';
import type { Rung } from '../cluster/devices/alignment.ts';
import { labelValue } from '../cluster/labels.ts';
import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import { levelName, type TopologyLevel } from '../cluster/topology.ts';
import { interPodKeyOf, type MemberDemand } from '../group/demand.ts';
import { describeUnblock, type Unblock } from '../planner/unblock.ts';
import { alignmentCounts, type DeviceReport, devicesReport } from './device-report.ts';
import { type FreeRoom, freeRoom } from './free-room.ts';
import type { Request } from './requests.ts';
import {
  describeWaiting,
  planWaitingGroup,
  planWaitingSingle,
  type Question,
  questionOfSingle,
  unblockOf,
  type Verdict,
  type WhatIf,
} from './what-if.ts';

export interface RankReport {
  readonly rank: number;
  readonly node: string;
  /** Domain by level name, configured levels alone; without those whose label the node lacks. */
  readonly domains: Readonly<Record<string, string>>;
  /**
   * How near its devices are to each other: `host` is all that is known of those that come by device plugin. Absent where
   * no device has a place to speak of.
   */
  readonly alignment?: Rung;
  /** Absent without claims to be met; empty where kube-scheduler's choice cannot be told beforehand. */
  readonly devices?: readonly DeviceReport[];
}

export interface RequestReport {
  readonly name: string;
  readonly kind: Request['kind'];
  readonly priority: number;
  readonly outcome: Verdict['kind'];
  readonly size?: number;
  /** Smallest domain that holds all of it; `cluster` when none does. */
  readonly level?: string;
  readonly domain?: readonly string[];
  readonly hosts?: number;
  readonly ranks?: readonly RankReport[];
  /** Members by the alignment that the devices of their claims reach; absent where no claim has any. */
  readonly alignment?: Readonly<Partial<Record<Rung, number>>>;
  /** What is left once it has its place. */
  readonly leaves?: FreeRoom;
  /** Why it has got no place: a stable code, the planner's sentence, and the field where a mistake is. */
  readonly reason?: { readonly code: string; readonly message: string; readonly field?: string };
  /** What would make a refused one fit, in one sentence and as data; levels are indices into the report's. */
  readonly unblock?: { readonly message: string; readonly detail: Unblock };
}

export interface PlanReport {
  readonly version: 1;
  readonly levels: readonly TopologyLevel[];
  readonly requests: readonly RequestReport[];
  readonly before: FreeRoom;
  readonly after: FreeRoom;
  readonly notes: readonly string[];
}

/** Plans everything in the line in its order, each seeing those before, and tells what came of it. */
export function planAll(whatIf: WhatIf, line: readonly Request[], notes: readonly string[]): PlanReport {
  const { cache } = whatIf;
  const before = freeRoom(cache.snapshot());
  const unblocks = new RecentUnblock(whatIf);
  const reports = new Map<string, RequestReport>();
  const lonely = new Map<string, Request[]>();
  const queue = [...line];
  // The line grows while it is walked: who looks for another owner's groups asks again once these have come.
  for (const request of queue) {
    const report = planOne(whatIf, request, unblocks);
    reports.set(request.key, report);
    const { owner, partner } = tiesOf(whatIf, request);
    if (report.outcome === 'fits') {
      queue.push(...(lonely.get(owner) ?? []));
      lonely.delete(owner);
    } else if (report.outcome === 'refused' && partner !== undefined) {
      lonely.set(partner, [...(lonely.get(partner) ?? []), request]);
    }
  }
  const requests = line.flatMap(({ key }) => reports.get(key) ?? []);
  return { version: 1, levels: cache.levels, requests, before, after: freeRoom(cache.snapshot()), notes };
}

export function everythingFits({ requests }: PlanReport): boolean {
  return requests.every(({ outcome }) => outcome === 'fits');
}

function planOne(whatIf: WhatIf, request: Request, unblocks: RecentUnblock): RequestReport {
  const { name, kind, priority } = request;
  const pod = whatIf.cache.pod(request.key);
  const question = request.verdict === undefined ? questionOf(whatIf, request) : undefined;
  const plan = () =>
    pod === undefined ? planWaitingGroup(whatIf, request.key) : planWaitingSingle(whatIf, pod);
  const verdict = request.verdict ?? plan();
  const size = question?.demands.length;
  const told = { name, kind, priority, outcome: verdict.kind, ...(size !== undefined && { size }) };
  if (verdict.kind === 'fits')
    return { ...told, ...placeReport(whatIf.cache, verdict, question?.demands ?? []) };
  const unblock =
    verdict.kind === 'refused' && question !== undefined ? unblocks.find(question, name) : undefined;
  return {
    ...told,
    reason: reasonOf(verdict),
    ...(unblock && {
      unblock: { message: describeUnblock(unblock, whatIf.cache.levels), detail: unblock },
    }),
  };
}

/** `namespace/name` of a group's owner, and of the one whose groups it wants to be near to. */
function tiesOf(
  whatIf: WhatIf,
  { key }: Request,
): { readonly owner: string; readonly partner: string | undefined } {
  const membership = whatIf.cache.group(key)?.membership;
  if (membership === undefined) return { owner: '', partner: undefined };
  const group = describeWaiting(whatIf, key);
  const partner = 'kind' in group ? undefined : group.topology.sameDomainAs?.owner;
  return { owner: `${membership.namespace}/${membership.owner}`, partner };
}

/** Of replicas that are alike and are refused one after the other, only the first is searched for. */
class RecentUnblock {
  readonly #whatIf: WhatIf;
  #recent:
    | { readonly asked: string; readonly snapshot: ClusterSnapshot; readonly unblock: Unblock }
    | undefined;

  constructor(whatIf: WhatIf) {
    this.#whatIf = whatIf;
  }

  find(question: Question, name: string): Unblock {
    const snapshot = this.#whatIf.cache.snapshot();
    const { demands, topology } = question;
    const asked = JSON.stringify([demands.map(interPodKeyOf), topology]);
    const recent = this.#recent;
    if (recent?.asked === asked && recent.snapshot === snapshot) return recent.unblock;
    const unblock = unblockOf(this.#whatIf, question, name);
    this.#recent = { asked, snapshot, unblock };
    return unblock;
  }
}

function questionOf(whatIf: WhatIf, { key }: Request): Question | undefined {
  const pod = whatIf.cache.pod(key);
  if (pod !== undefined) return questionOfSingle(pod);
  const group = describeWaiting(whatIf, key);
  return 'kind' in group ? undefined : { ...group, group: key };
}

function placeReport(
  cache: ClusterCache,
  { nodes, plan }: Extract<Verdict, { kind: 'fits' }>,
  demands: readonly MemberDemand[],
) {
  const ranks = nodes.map((node, rank): RankReport => {
    const where = { rank, node, domains: domainsOf(cache, node) };
    const demand = demands[rank];
    return { ...where, ...(demand && devicesReport(cache.nodeInfo(node), demand, plan.devices?.[rank])) };
  });
  const alignment = alignmentCounts(ranks);
  return {
    level: levelName(cache.levels, plan.level),
    domain: plan.domain,
    hosts: new Set(nodes).size,
    ranks,
    ...(alignment && { alignment }),
    leaves: freeRoom(cache.snapshot()),
  };
}

function domainsOf(cache: ClusterCache, node: string): Readonly<Record<string, string>> {
  const labels = cache.node(node)?.labels ?? {};
  return Object.fromEntries(
    cache.levels.flatMap(({ name, nodeLabel }) => {
      const value = labelValue(labels, nodeLabel);
      return value === undefined ? [] : [[name, value] as const];
    }),
  );
}

function reasonOf(verdict: Exclude<Verdict, { kind: 'fits' }>): NonNullable<RequestReport['reason']> {
  switch (verdict.kind) {
    case 'refused':
      return { code: verdict.rejection.code, message: verdict.message };
    case 'undecided':
      return { code: 'Undecided', message: verdict.message };
    case 'invalid': {
      const { code, message, field } = verdict;
      return { code, message, ...(field !== undefined && { field }) };
    }
    case 'left':
      return { code: verdict.code, message: verdict.message };
  }
}
