import fastJsonPatch from 'fast-json-patch';
import type { Node, Pod } from '../../../src/api/kubernetes.ts';
import { labelValue } from '../../../src/cluster/labels.ts';
import { matchesNoNode, pinOps } from '../../../src/cluster/node-affinity.ts';
import type { MemberDemand } from '../../../src/group/demand.ts';
import { decodeLeaderWorkerSet, decodeNamespace } from '../../../src/group/owner.ts';
import type { FitMemo } from '../../../src/planner/fit.ts';
import { type PlanInput, planGroup } from '../../../src/planner/plan.ts';
import { cacheOf } from '../../builders/fleet.ts';
import { groupInfoOf, inputOf, type Verdict } from '../../builders/planning.ts';
import { createdAt } from '../../builders/pods.ts';
import { type FleetCase, ordinalLabels } from './fleets.ts';
import { namespaces } from './manifests.ts';

type NodeFit = ReturnType<FitMemo['fit']>;

/** A case whose pods the API server has made. */
export interface Fleet {
  readonly case: FleetCase;
  readonly nodes: readonly Node[];
  /** Pods that have their node, as kube-scheduler knows them. */
  readonly strangers: readonly Pod[];
  /** Pods that have ended there. */
  readonly ended: readonly Pod[];
  /** By rank. */
  readonly members: readonly Pod[];
}

/** What Berth says about a fleet. */
export interface Opinion {
  readonly verdict: Verdict;
  /** By kind and node name. */
  readonly fits: readonly ReadonlyMap<string, NodeFit>[];
}

/** Members of a group that are alike to all filters. */
export interface Kind {
  readonly pod: Pod;
  readonly ranks: readonly number[];
}

/** What main.go says about a fleet. */
export interface StockOpinion {
  readonly copies: readonly (readonly { readonly count: number; readonly then: Refusal }[])[];
  /** Of the members as they were created, and as they are pinned. */
  readonly written?: Replay;
  readonly pinned?: Replay;
  /** Pods whose pin leaves them other nodes. */
  readonly loose?: readonly string[] | null;
  readonly domains: readonly {
    readonly verdict: 'fits' | 'full' | 'unknown';
    readonly nodes: readonly (readonly string[])[] | null;
    readonly calls: number;
  }[];
}

/** What came of giving the members their nodes one after the other. */
interface Replay {
  /** From the first to the last, and back; those that wait for others are asked again. */
  readonly forward: boolean;
  readonly backward: boolean;
  /** In any order at all. */
  readonly any: boolean;
  readonly refusals: readonly string[] | null;
}

interface Refusal {
  readonly plugin: string;
  readonly reasons: readonly string[];
}

/** What Berth is kept from seeing, to find out whether anybody notices. */
export type Blindness = (fleet: Fleet) => Fleet;

/** Filter calls of one search for a placement, about a tenth of a second. */
const searchLimit = 6000;

/** The fleet with the pods that the API server stores for its manifests; undefined when it refuses a member. */
export function createdFleet(fleet: FleetCase, stored: readonly (Pod | undefined)[]): Fleet | undefined {
  const [strangers, ended]: [Pod[], Pod[]] = [[], []];
  fleet.strangers.forEach((stranger, index) => {
    const pod = stored[index];
    if (pod === undefined) return;
    const existing = existingPod(pod, stranger.node, stranger.terminating);
    if (stranger.terminal) ended.push({ ...existing, status: { phase: 'Succeeded' } });
    else strangers.push(existing);
  });
  const members: Pod[] = [];
  for (const [rank, pod] of stored.slice(fleet.strangers.length).entries()) {
    if (pod === undefined) return undefined;
    const node = fleet.fixed.get(rank);
    members.push(node === undefined ? withUid(pod) : existingPod(pod, node, false));
  }
  return { case: fleet, nodes: fleet.nodes, strangers, ended, members };
}

export function opinionOf(fleet: Fleet, blindness: Blindness = whole => whole): Opinion {
  const input = inputFor(blindness(fleet));
  const fits = kindsOf(fleet).map(({ ranks }) => fitsOf(input, input.demands[ranks[0] ?? 0]));
  return { verdict: planGroup(input), fits };
}

export function questionFor(fleet: Fleet, { verdict }: Opinion): unknown {
  const kinds = kindsOf(fleet);
  const fixed = fleet.members.filter((_, rank) => fleet.case.fixed.has(rank));
  return {
    kind: 'fleet',
    fleet: {
      nodes: fleet.nodes,
      pods: [...fleet.strangers, ...fixed],
      namespaces,
      kinds: kinds.map(({ pod }) => pod),
      counts: kinds.map(({ ranks }) => ranks.length),
      ...(verdict.kind === 'plan' && {
        members: fleet.members.filter((_, rank) => !fleet.case.fixed.has(rank)).map(ungated),
        pinned: pinnedMembers(fleet, verdict.nodes),
        seats: verdict.nodes.filter((_, rank) => !fleet.case.fixed.has(rank)),
      }),
      domains: verdict.kind === 'plan' ? [] : domainsOf(fleet),
      limit: searchLimit,
    },
  };
}

/** Members without a node, those that are alike together. */
export function kindsOf({ members, case: { fixed } }: Fleet): readonly Kind[] {
  const kinds = new Map<string, { pod: Pod; ranks: number[] }>();
  for (const [rank, pod] of members.entries()) {
    if (fixed.has(rank)) continue;
    const labels = Object.entries(pod.metadata.labels ?? {}).filter(([key]) => !ordinalLabels.includes(key));
    const key = JSON.stringify([pod.spec, labels.sort()]);
    const kind = kinds.get(key);
    if (kind === undefined) kinds.set(key, { pod: ungated(pod), ranks: [rank] });
    else kind.ranks.push(rank);
  }
  return [...kinds.values()];
}

/**
 * Names of the nodes of each domain that the group may use: of the level that must hold it, cut by the label on which
 * its nodes must agree, with all members that have their node. Berth never uses a node that is not ready, which
 * kube-scheduler leaves to taints.
 */
export function domainsOf({ nodes, case: fleet }: Fleet): readonly (readonly string[])[] {
  const { required, sameLabel, levels, fixed } = fleet;
  const keyOf = ({ metadata: { name = '', labels = {} } }: Node): string | undefined => {
    const path = levels
      .slice(0, (required ?? -1) + 1)
      .map(level => labelValue(labels, level.nodeLabel) ?? '');
    if (required !== undefined && required < levels.length && path[required] === '') return undefined;
    const value = sameLabel === undefined ? '' : labelValue(labels, sameLabel);
    if (value === undefined) return undefined;
    return JSON.stringify([path, value, required === levels.length ? name : '']);
  };
  const domains = Map.groupBy(nodes, keyOf);
  const nameOf = (node: Node) => node.metadata.name ?? '';
  return [...domains]
    .filter(([key, inside]) => {
      const names = inside.map(nameOf);
      return key !== undefined && [...fixed.values()].every(node => names.includes(node));
    })
    .map(([, inside]) => inside.filter(isReady).map(nameOf));
}

function isReady(node: Node): boolean {
  return node.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;
}

function inputFor({ case: fleet, nodes, strangers, ended, members }: Fleet): PlanInput {
  const { owner, levels, groupKey, fixed } = fleet;
  const own = owner === undefined ? members : members.slice(0, 1);
  const cache = cacheOf({ levels, nodes, pods: [...strangers, ...ended] }, own);
  cache.namespaces.replace(namespaces.map(decodeNamespace));
  if (owner !== undefined) cache.leaderWorkerSets.upsert(decodeLeaderWorkerSet(owner));
  return inputOf(cache, groupInfoOf(cache, groupKey), { fixed: Object.fromEntries(fixed) });
}

function fitsOf(
  { snapshot, memo }: PlanInput,
  demand: MemberDemand | undefined,
): ReadonlyMap<string, NodeFit> {
  if (demand === undefined) return new Map();
  return new Map([...snapshot.nodes].map(node => [node.record.name, memo.fit(node, demand)]));
}

/** As Berth's PATCH leaves them. */
function pinnedMembers({ members, case: { fixed } }: Fleet, nodes: readonly string[]): readonly Pod[] {
  return members.flatMap((pod, rank) => (fixed.has(rank) ? [] : [ungated(pinned(pod, nodes[rank] ?? ''))]));
}

/** A pod that cannot be pinned stays as it is: no node takes it. */
function pinned(pod: Pod, node: string): Pod {
  if (matchesNoNode(pod.spec)) return pod;
  const operations = pinOps(pod.spec, node).filter(({ op }) => op !== 'test');
  return fastJsonPatch.applyPatch(structuredClone(pod), structuredClone(operations) as never).newDocument;
}

function ungated(pod: Pod): Pod {
  const { schedulingGates: _gates, ...spec } = pod.spec;
  return { ...pod, spec };
}

function existingPod(pod: Pod, node: string, terminating: boolean): Pod {
  const { metadata, ...rest } = withUid(pod);
  const deleted = terminating ? { deletionTimestamp: createdAt } : {};
  return { ...rest, metadata: { ...metadata, ...deleted }, spec: { ...pod.spec, nodeName: node } };
}

function withUid(pod: Pod): Pod {
  const { namespace, name } = pod.metadata;
  return {
    ...pod,
    metadata: { ...pod.metadata, uid: `uid-${namespace}-${name}`, creationTimestamp: createdAt },
  };
}

/** One thing that is wrong with an opinion of Berth. */
export interface Fault {
  /**
   * `fit`: another number of places on a node or another cause than stock's; `plan`: stock refuses a member where it was
   * planned; `pin`: the pin is refused, or none; `refusal`: stock places a group that Berth refused.
   */
  readonly about: 'fit' | 'plan' | 'pin' | 'refusal';
  readonly message: string;
}

export function faultsOf(fleet: Fleet, { verdict, fits }: Opinion, stock: StockOpinion): readonly Fault[] {
  const faults = fitFaults(fleet, fits, stock);
  const add = (about: Fault['about'], message: string) => faults.push({ about, message });
  if (verdict.kind === 'plan') {
    const { written, pinned, loose } = stock;
    if (written?.any !== true) add('plan', `refused as planned: ${written?.refusals?.join('; ')}`);
    if (pinned?.any !== true) add('pin', `refused as pinned: ${pinned?.refusals?.join('; ')}`);
    if (loose != null) add('pin', `may go elsewhere: ${loose.join()}`);
  }
  if (verdict.kind === 'rejection') {
    const found = stock.domains.find(domain => domain.verdict === 'fits');
    if (found !== undefined) add('refusal', `refused, yet it fits: ${JSON.stringify(found.nodes)}`);
  }
  return faults;
}

function fitFaults(fleet: Fleet, fits: Opinion['fits'], { copies }: StockOpinion): Fault[] {
  return kindsOf(fleet).flatMap((kind, index) =>
    fleet.nodes.flatMap((node, at): readonly Fault[] => {
      const name = node.metadata.name ?? '';
      const theirs = copies[index]?.[at];
      if (theirs === undefined) throw new Error(`no answer about node ${name}`);
      const fault = fitFault(fits[index]?.get(name), theirs, isReady(node));
      const message = `${kind.pod.metadata.name} on ${name}: ${fault}`;
      return fault === undefined ? [] : [{ about: 'fit', message }];
    }),
  );
}

function fitFault(
  ours: NodeFit | undefined,
  theirs: { readonly count: number; readonly then: Refusal },
  ready: boolean,
): string | undefined {
  if (ours === undefined) return 'no fit';
  if (!ready && ours.slots === 0) return undefined;
  if (ours.slots !== theirs.count)
    return `${ours.slots} slots (${ours.cause}), stock takes ${theirs.count} (${JSON.stringify(theirs.then)})`;
  if (theirs.count > 0) return ours.cause === '' ? undefined : `slots with cause ${ours.cause}`;
  return isSameCause(ours.cause, theirs.then)
    ? undefined
    : `${ours.cause} instead of ${JSON.stringify(theirs.then)}`;
}

/** Stock tells about contradicting node names before it looks at any node. */
const early = 'pod affinity terms conflict';

function isSameCause(cause: string, { plugin, reasons }: Refusal): boolean {
  const contradicting = reasons.includes(early);
  if (cause === 'cordoned') return plugin === 'NodeUnschedulable' || contradicting;
  if (cause.startsWith('taint ')) return plugin === 'TaintToleration' || contradicting;
  if (cause === 'node selector or affinity') return plugin === 'NodeAffinity';
  if (cause === 'host port taken') return plugin === 'NodePorts';
  if (!cause.startsWith('insufficient ') || plugin !== 'NodeResourcesFit') return false;
  const lacking = cause.slice('insufficient '.length);
  return reasons.includes(lacking === 'pods' ? 'Too many pods' : `Insufficient ${lacking}`);
}
