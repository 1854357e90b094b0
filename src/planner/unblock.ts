import type { NodeInfo } from '../cluster/node-info.ts';
import { untoleratedTaint } from '../cluster/taints.ts';
import { compareText, levelName, type TopologyDomain, type TopologyLevel } from '../cluster/topology.ts';
import { type PlanInput, planGroup } from './plan.ts';
import { describeRejection, type Rejection } from './rejection.ts';
import { type ReleaseCandidate, release, type Unit } from './release.ts';
import { smallestRelease } from './release-search.ts';

export interface UnblockQuestion {
  /** A group that was refused. */
  readonly input: PlanInput;
  /** Its own key: that it ends itself is no answer. */
  readonly key: string;
  /** All units of the moment of the snapshot. */
  readonly units: readonly Unit[];
  /** How often the planner may be asked for each kind of answer. */
  readonly maxPlans?: number;
}

/** What would make a refused group fit. Plain data, fit for JSON. */
export type Unblock =
  /** Each way does by itself; the smallest first, at most one of groups, one of nodes, or one of both. */
  | { readonly kind: 'ways'; readonly ways: readonly UnblockWay[] }
  /** Its room comes free without anybody's doing. */
  | { readonly kind: 'going'; readonly units: readonly UnblockUnit[] }
  /** Not even the end of everything and the return of every node would help. */
  | { readonly kind: 'none'; readonly rejection: Rejection }
  /** The search ended before it could tell. */
  | { readonly kind: 'unknown' };

export interface UnblockWay {
  /** Units that must end, by name. */
  readonly units: readonly UnblockUnit[];
  /** Nodes that must come back, by name. */
  readonly nodes: readonly UnblockNode[];
  /** The smallest domain that contains these nodes; undefined for the whole cluster and for a single host. */
  readonly domain: { readonly level: number; readonly path: readonly string[] } | undefined;
  /** No smaller set of its kind would do. */
  readonly exact: boolean;
}

export interface UnblockUnit {
  readonly key: string;
  readonly kind: Unit['kind'];
  readonly priority: number;
  readonly pods: number;
}

export interface UnblockNode {
  readonly name: string;
  /** What keeps the group off it now. */
  readonly state: NodeState;
}

export type NodeState = 'cordoned' | 'not ready' | 'excluded' | 'tainted';

const defaultMaxPlans = 500;
const lowestPriority = -(2 ** 31);
/** What somebody has set aside for a while comes first; taints often mean that nodes are for others. */
const effortToReturn: Readonly<Record<NodeState, number>> = {
  cordoned: 0,
  'not ready': 1,
  excluded: 2,
  tainted: 3,
};
/** More names than so many are counted. */
const namesTold = 4;

/** Looks for the smallest sets of units, of whatever priority, and of nodes whose release makes a refused group fit. */
export function findUnblock(question: UnblockQuestion): Unblock {
  const { input, key } = question;
  const units = question.units.filter(unit => unit.key !== key || unit.kind !== 'group');
  const [going, staying] = [units.filter(isGoing), units.filter(unit => !isGoing(unit))];
  const base = release(input, { units: going, nodes: [] });
  if (going.length > 0 && planGroup(base).kind === 'plan')
    return { kind: 'going', units: neededOf(question, going) };
  const states = nodeStates(base);
  const everything = release(base, { units: staying, nodes: [...states.keys()] });
  const atMost = planGroup({ ...everything, affinityAssumed: true });
  if (atMost.kind === 'rejection') return { kind: 'none', rejection: atMost };

  const ofUnits = staying.filter(unit => unit.uses.length > 0).map(unitCandidate);
  const ofNodes = [...states.keys()].map(nodeCandidate);
  const find = (candidates: readonly ReleaseCandidate[]) => wayOf(question, base, candidates, states);
  const single = [find(ofUnits), find(ofNodes)].flatMap(way => way ?? []);
  const ways = single.length > 0 ? single : [find([...ofUnits, ...ofNodes])].flatMap(way => way ?? []);
  if (ways.length === 0) return { kind: 'unknown' };
  return { kind: 'ways', ways: ways.sort((a, b) => sizeOf(a) - sizeOf(b)) };
}

/** One sentence for people, the same for the same value. */
export function describeUnblock(unblock: Unblock, levels: readonly TopologyLevel[]): string {
  switch (unblock.kind) {
    case 'ways':
      return `fits if ${unblock.ways.map(way => describeWay(way, levels)).join(', or if ')}`;
    case 'going':
      return `fits once what is terminating is gone: ${listed(unblock.units.map(unitName), ', ')}`;
    case 'none':
      return `no release would help: ${whyNone(unblock.rejection, levels)}`;
    case 'unknown':
      return 'what would make it fit was not found within the bounds of the search';
  }
}

/** Of what is going, that which the group waits for. */
function neededOf(
  { input, maxPlans = defaultMaxPlans }: UnblockQuestion,
  going: readonly Unit[],
): readonly UnblockUnit[] {
  const candidates = going.map(unitCandidate);
  const costOf = (part: readonly ReleaseCandidate[]) => effortOf(part, new Map());
  const leastCost = (_: readonly ReleaseCandidate[], size: number) => [size, 0, 0, lowestPriority, 0];
  const { set } = smallestRelease({ input, candidates, costOf, leastCost, rankOf: () => [], maxPlans });
  const units = set?.flatMap(candidate => candidate.release.units) ?? going;
  return units.map(told).sort((a, b) => compareText(a.key, b.key) || compareText(a.kind, b.kind));
}

function wayOf(
  { maxPlans = defaultMaxPlans }: UnblockQuestion,
  input: PlanInput,
  candidates: readonly ReleaseCandidate[],
  states: ReadonlyMap<string, NodeState>,
): UnblockWay | undefined {
  if (candidates.length === 0) return undefined;
  const { set, exact } = smallestRelease({
    input,
    candidates,
    costOf: part => effortOf(part, states),
    leastCost: (_, size) => [size, 0, 0, lowestPriority, 0],
    rankOf: () => [],
    maxPlans,
  });
  if (set === undefined) return undefined;
  const names = set.flatMap(candidate => candidate.release.nodes).sort(compareText);
  return {
    units: set.flatMap(candidate => candidate.release.units.map(told)),
    nodes: names.flatMap(name => {
      const state = states.get(name);
      return state === undefined ? [] : [{ name, state }];
    }),
    domain: commonDomain(input, names),
    exact,
  };
}

/** Few things first; then what Berth's users have in hand rather than what it must not touch, few pods, low priority. */
function effortOf(
  set: readonly ReleaseCandidate[],
  states: ReadonlyMap<string, NodeState>,
): readonly number[] {
  const units = set.flatMap(candidate => candidate.release.units);
  const nodes = set.flatMap(candidate => candidate.release.nodes);
  return [
    set.length,
    units.filter(unit => unit.whyKept !== undefined).length,
    units.reduce((sum, unit) => sum + unit.pods, 0),
    Math.max(lowestPriority, ...units.map(unit => unit.priority)),
    nodes.reduce((sum, name) => sum + effortToReturn[states.get(name) ?? 'cordoned'], 0),
  ];
}

/** Nodes that the group may not use for a reason that can pass without a change of the group, with that reason. */
function nodeStates(input: PlanInput): ReadonlyMap<string, NodeState> {
  const states = new Map<string, NodeState>();
  for (const node of input.snapshot.nodes) {
    const state = stateOf(input, node);
    if (state !== undefined) states.set(node.record.name, state);
  }
  return states;
}

function stateOf({ demands, excludedNodes }: PlanInput, { record }: NodeInfo): NodeState | undefined {
  const { name, cordoned, ready, taints } = record;
  if (excludedNodes?.has(name)) return 'excluded';
  if (cordoned) return 'cordoned';
  if (!ready) return 'not ready';
  const keepsOut = demands.some(({ spec }) => untoleratedTaint(taints, spec.tolerations) !== undefined);
  return keepsOut ? 'tainted' : undefined;
}

function commonDomain(
  { snapshot: { tree } }: PlanInput,
  names: readonly string[],
): UnblockWay['domain'] | undefined {
  const indices = names.flatMap(name => tree.indexByNodeName.get(name) ?? []);
  const [first] = indices;
  if (first === undefined) return undefined;
  const holdsAll = ({ nodes }: TopologyDomain) =>
    indices.every(index => index >= (nodes[0] ?? 0) && index <= (nodes.at(-1) ?? -1));
  for (let level = tree.levels.length - 1; level >= 0; level--) {
    const domain = tree.domainsByLevel[level]?.find(holdsAll);
    if (domain !== undefined) return { level, path: domain.path };
  }
  return undefined;
}

function describeWay({ units, nodes, domain }: UnblockWay, levels: readonly TopologyLevel[]): string {
  const parts: string[] = [];
  if (units.length > 0) parts.push(`${listed(units.map(unitName))} ${units.length === 1 ? 'ends' : 'end'}`);
  if (nodes.length > 0) parts.push(describeNodes(nodes, domain, levels));
  return parts.join(' and ');
}

function describeNodes(
  nodes: readonly UnblockNode[],
  domain: UnblockWay['domain'],
  levels: readonly TopologyLevel[],
): string {
  const states = new Set(nodes.map(({ state }) => state));
  const [state] = states;
  const alike = states.size === 1;
  const where = domain === undefined ? '' : ` of ${levelName(levels, domain.level)} ${domain.path.at(-1)}`;
  const what = `${nodes.length} ${alike ? `${state} ` : ''}node${nodes.length === 1 ? '' : 's'}${where}`;
  const names = nodes.map(node => (alike ? node.name : `${node.name} (${node.state})`));
  return `${what} ${nodes.length === 1 ? 'returns' : 'return'}: ${listed(names, ', ')}`;
}

function whyNone(rejection: Rejection, levels: readonly TopologyLevel[]): string {
  const { level, domains, kept } = rejection;
  const label = level < 0 ? undefined : levels[level]?.nodeLabel;
  if (domains === 0 && kept === 0 && label !== undefined) return `no node has label ${label}`;
  return `even with everything ended and every node back, ${describeRejection(rejection, levels)}`;
}

/** The first names; the rest is counted. */
function listed(names: readonly string[], last = ' and '): string {
  const more = names.length - namesTold;
  if (more > 0) return `${names.slice(0, namesTold).join(', ')} and ${more} more`;
  return [names.slice(0, -1).join(', '), names.at(-1) ?? ''].filter(part => part !== '').join(last);
}

function unitName({ kind, key }: UnblockUnit): string {
  return kind === 'pod' ? `pod ${key}` : key;
}

function told({ key, kind, priority, pods }: Unit): UnblockUnit {
  return { key, kind, priority, pods };
}

function unitCandidate(unit: Unit): ReleaseCandidate {
  return { key: `${unit.key} ${unit.kind}`, release: { units: [unit], nodes: [] } };
}

function nodeCandidate(name: string): ReleaseCandidate {
  return { key: name, release: { units: [], nodes: [name] } };
}

function isGoing(unit: Unit): boolean {
  return unit.state === 'going';
}

function sizeOf({ units, nodes }: UnblockWay): number {
  return units.length + nodes.length;
}
