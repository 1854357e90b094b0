import { nvidia } from '../api/names.ts';
import type { WantedClaim } from '../cluster/devices/claims.ts';
import { noDeviceUse } from '../cluster/devices/device.ts';
import { causeOf } from '../cluster/devices/device-choice.ts';
import { implicitClaim, isDelegatedToDra } from '../cluster/devices/extended-resources.ts';
import type { FitQuestion } from '../cluster/devices/members-that-fit.ts';
import {
  type DeviceCatalog,
  type NodeDeviceInfo,
  withoutTakers,
} from '../cluster/devices/node-device-info.ts';
import { reachesNode } from '../cluster/devices/reach.ts';
import { bodiesOf } from '../cluster/devices/request-selection.ts';
import { hopefulSelectors, type SelectorEngine } from '../cluster/devices/selectors.ts';
import { ShapeMemo } from '../cluster/devices/shape-memo.ts';
import { labelValue } from '../cluster/labels.ts';
import type { NodeInfo } from '../cluster/node-info.ts';
import { isAcceleratorResource, type Resources } from '../cluster/resources.ts';
import type { MemberDemand } from '../group/demand.ts';

/** What a member asks of one node: the same resource may come by device plugin on one node and by DRA on another. */
export interface NodeDemand {
  /** What is counted against the node's allocatable. */
  readonly requests: Resources;
  /** What is to be allocated there. */
  readonly claims: readonly WantedClaim[];
  /** Berth may have a say in which devices the claims get. */
  readonly steerable: boolean;
}

/** By catalog, by demand, by the resources that a node has by DRA: nearly all nodes of a fleet are of one or two sorts. */
const known = new WeakMap<DeviceCatalog, WeakMap<MemberDemand, Map<string, NodeDemand>>>();

export function demandOn(node: NodeInfo, demand: MemberDemand): NodeDemand {
  const { devices } = node;
  const { requests, devices: asked } = demand;
  if (devices === undefined || devices.catalog.extended.size === 0) return plainDemand(demand);
  const delegated: string[] = [];
  for (const [name, amount] of requests) {
    if (amount > 0 && isAcceleratorResource(name) && isDelegated(node, devices, name)) delegated.push(name);
  }
  if (delegated.length === 0) return plainDemand(demand);
  const byDemand = known.get(devices.catalog) ?? new WeakMap<MemberDemand, Map<string, NodeDemand>>();
  known.set(devices.catalog, byDemand);
  const byNames = byDemand.get(demand) ?? new Map<string, NodeDemand>();
  byDemand.set(demand, byNames);
  const key = delegated.join();
  const before = byNames.get(key);
  if (before !== undefined) return before;
  const implicit = implicitClaim(demand.spec, devices.catalog.extended, name => delegated.includes(name));
  const made: NodeDemand = {
    requests: new Map([...requests].filter(([name]) => !delegated.includes(name))),
    claims: [...(asked?.own ?? []), ...(implicit === undefined ? [] : [implicit])],
    // kube-scheduler makes the implicit claim when it has chosen its devices already.
    steerable: false,
  };
  byNames.set(key, made);
  return made;
}

const plain = new WeakMap<MemberDemand, NodeDemand>();

function plainDemand(demand: MemberDemand): NodeDemand {
  const before = plain.get(demand);
  if (before !== undefined) return before;
  const { requests, devices } = demand;
  const made = { requests, claims: devices?.own ?? [], steerable: devices?.steerable ?? false };
  plain.set(demand, made);
  return made;
}

function isDelegated({ record }: NodeInfo, { catalog }: NodeDeviceInfo, name: string): boolean {
  return isDelegatedToDra(record.allocatable, name, catalog.extended);
}

/** What is free of a resource; no bound where the node has it by DRA, which is counted by devices. */
export function freeOf(node: NodeInfo, name: string): number {
  const { devices, free } = node;
  const byDra = devices !== undefined && isAcceleratorResource(name) && isDelegated(node, devices, name);
  return byDra ? Number.POSITIVE_INFINITY : (free.get(name) ?? 0);
}

/** Why claims and alignment keep a member off a node, whatever is free there; empty where they do not. */
export function whyDevicesForbid(node: NodeInfo, demand: MemberDemand): string {
  const { devices: asked } = demand;
  if (asked === undefined) return '';
  const { name, labels } = node.record;
  if (!asked.reach.every(selector => reachesNode({ kind: 'selector', selector }, { name, labels })))
    return 'its claim is allocated elsewhere';
  const domain = labelValue(labels, nvidia.computeDomain) ?? '';
  if (asked.computeDomain !== undefined && domain !== '' && domain !== asked.computeDomain)
    return 'in another ComputeDomain';
  if (asked.minRung === undefined) return '';
  // With a device plugin it is the kubelet that chooses, and nobody can ask for an alignment.
  const { requests } = demandOn(node, demand);
  for (const [resource, amount] of requests)
    if (amount > 0 && isAcceleratorResource(resource)) return `alignment of ${resource} cannot be told`;
  return '';
}

export interface DeviceFit {
  /** Members that find devices; undefined when the leader they are to stand beside finds none. */
  readonly members: number | undefined;
  /** Why no member does; empty where one does. */
  readonly cause: string;
}

/**
 * How many members of a demand find devices on a node, up to `most`, and beside a leader where there is one. What cannot be
 * told is taken to fit: kube-scheduler has the last word, and a refusal that is wrong would hold the group for ever.
 */
export function fitDevices(
  node: NodeInfo,
  demand: MemberDemand,
  most: number,
  leader?: MemberDemand,
): DeviceFit {
  const { claims, steerable } = demandOn(node, demand);
  const beside = leader === undefined ? undefined : demandOn(node, leader);
  const besideClaims = beside?.claims ?? [];
  if (claims.length === 0 && besideClaims.length === 0) return { members: most, cause: '' };
  const minRung = demand.devices?.minRung ?? leader?.devices?.minRung;
  const { devices } = node;
  if (devices === undefined) return { members: 0, cause: noDevices };
  const question = {
    ...questionOn(node, devices),
    demand: claims,
    beside: besideClaims.length === 0 ? undefined : besideClaims,
    most,
    minRung,
    steerable:
      (claims.length === 0 || steerable) && (besideClaims.length === 0 || beside?.steerable === true),
  };
  const count = countOf(question);
  if (typeof count === 'string') return { members: 0, cause: count };
  if (count !== undefined && count > 0) return { members: count, cause: '' };
  return { members: count, cause: whyNone(question, devices) };
}

const noDevices = 'no matching devices';

/** Everything about a node that its devices depend on. */
export function questionOn({ record }: NodeInfo, { catalog, pools, used }: NodeDeviceInfo) {
  const { name, labels } = record;
  return { node: { name, labels }, pools, used, classes: catalog.classes, selectors: catalog.selectors };
}

type Classes = FitQuestion['classes'];

/** A class that changes comes with a new lookup, and takes what was remembered with it. */
const memos = new WeakMap<Classes, WeakMap<SelectorEngine, ShapeMemo>>();

/** What is remembered of nodes that are alike, under the same classes. */
export function memoOf({ classes, selectors }: Pick<FitQuestion, 'classes' | 'selectors'>): ShapeMemo {
  const byEngine = memos.get(classes) ?? new WeakMap<SelectorEngine, ShapeMemo>();
  memos.set(classes, byEngine);
  const memo = byEngine.get(selectors) ?? new ShapeMemo();
  byEngine.set(selectors, memo);
  return memo;
}

/** A number, undefined where the leader finds none, or why kube-scheduler will fail there. */
function countOf(question: FitQuestion): number | string | undefined {
  const count = memoOf(question).count(question);
  if (count.kind === 'count') return count.members;
  // The same words for all nodes, whatever their devices are called.
  if (count.kind === 'error')
    return `claims cannot be allocated (${count.message.replace(/ on device [^ ]+:/, ':')})`;
  if (asksForAll(question)) return question.most;
  // An upper bound is still one: what does not fit even if every selector in doubt lets every device through never fits.
  const hoping = { ...question, selectors: hopefulSelectors(question.selectors) };
  const hopeful = memoOf(hoping).count(hoping);
  return hopeful.kind === 'count' ? hopeful.members : question.most;
}

function asksForAll({ demand, beside = [] }: FitQuestion): boolean {
  return [...demand, ...beside].some(({ spec }) =>
    (spec.devices?.requests ?? []).some(request =>
      bodiesOf(request).some(({ allocationMode }) => allocationMode === 'All'),
    ),
  );
}

/** Tells what is held for others from what is used, and both from what is not there at all. */
function whyNone(question: FitQuestion, devices: NodeDeviceInfo): string {
  const one = { ...question, most: 1, beside: undefined };
  const wouldFit = (used: FitQuestion['used']) => Number(countOf({ ...one, used }) ?? 0) >= 1;
  if (devices.taken.length === 0 || !wouldFit(noDeviceUse))
    return question.minRung === undefined ? noDevices : causeOf(question.minRung);
  if (wouldFit(withoutTakers(devices, ({ held }) => held).used)) return 'held for another group';
  return question.minRung === undefined ? 'devices in use' : causeOf(question.minRung);
}
