import type { NodeInfo } from '../cluster/node-info.ts';
import { compareText, type TopologyDomain } from '../cluster/topology.ts';
import type { MemberDemand } from '../group/demand.ts';
import type { PlanInput } from './plan.ts';
import { type ReleaseCandidate, releasedNode, returnedNode, type Unit } from './release.ts';
import { barringCandidates, barsOf, withinDomain } from './release-rules.ts';

/** A refused group, and where the candidates are. */
export interface ReleaseScene {
  readonly input: PlanInput;
  /** What has no node yet, alike members together. */
  readonly kinds: readonly DemandKind[];
  readonly byNode: ReadonlyMap<number, readonly ReleaseCandidate[]>;
  /** Those that may keep the group out of domains in which they take nothing. */
  readonly barring: readonly ReleaseCandidate[];
}

/** The slots of one domain. */
interface SlotView {
  readonly scene: ReleaseScene;
  /** By kind, the slots of nodes that no candidate changes. */
  readonly steadySlots: readonly number[];
  readonly touched: readonly TouchedNode[];
}

/** One domain by itself, with the candidates that matter there. */
export interface DomainView extends SlotView {
  readonly domain: TopologyDomain;
  /** The question with no other nodes to use; made when it is first asked for. */
  readonly question: () => PlanInput;
  readonly candidates: readonly ReleaseCandidate[];
  /** No smaller set has room enough in numbers. */
  readonly minSize: number;
  /** A candidate's share of what comes free, in members, and the first node on which something comes free. */
  readonly gainOf: (candidate: ReleaseCandidate) => { readonly gain: number; readonly firstNode: number };
}

interface DemandKind {
  readonly demand: MemberDemand;
  readonly count: number;
}

interface TouchedNode {
  readonly index: number;
  readonly node: NodeInfo;
  readonly here: readonly ReleaseCandidate[];
  /** Slots by kind, by the candidates that are gone. */
  readonly known: Map<number, readonly number[]>;
}

/** Beyond so many candidates on one node their sets are not numbered exactly any more. */
const mostNumbered = 50;
const nobody: ReadonlySet<ReleaseCandidate> = new Set();

export function sceneOf(input: PlanInput, candidates: readonly ReleaseCandidate[]): ReleaseScene {
  const { demands, fixed, snapshot } = input;
  const open = demands.filter((_, rank) => !fixed?.has(rank));
  const kinds = [...Map.groupBy(open, demand => demand.key).values()].flatMap(alike =>
    alike[0] === undefined ? [] : [{ demand: alike[0], count: alike.length }],
  );
  const byNode = new Map<number, ReleaseCandidate[]>();
  for (const candidate of candidates) {
    for (const name of nodesOf(candidate)) {
      const index = snapshot.tree.indexByNodeName.get(name);
      if (index === undefined) continue;
      const here = byNode.get(index);
      if (here === undefined) byNode.set(index, [candidate]);
      else here.push(candidate);
    }
  }
  return { input, kinds, byNode, barring: barringCandidates(input, candidates) };
}

/** The domains of the required level that may take the group: those that contain all members that stay. */
export function startDomains({ snapshot: { tree }, topology }: PlanInput): readonly TopologyDomain[] {
  const level = topology.requiredLevel ?? -1;
  return level < 0 ? [tree.root] : (tree.domainsByLevel[level] ?? []);
}

/** Undefined where no release helps: room is short in numbers whatever goes, or nobody's going changes anything. */
export function viewOf(scene: ReleaseScene, domain: TopologyDomain): DomainView | undefined {
  const { input, kinds, byNode } = scene;
  if (!hasMembersThatStay(input, domain)) return undefined;
  const steadySlots = kinds.map(() => 0);
  const touched: TouchedNode[] = [];
  for (const index of domain.nodes) {
    const node = input.snapshot.nodes.at(index);
    if (node === undefined) continue;
    const here = byNode.get(index) ?? [];
    if (here.length > 0 && couldHelp(scene, node, here))
      touched.push({ index, node, here, known: new Map() });
    else addTo(steadySlots, slotsOf(scene, node, []));
  }
  const relevant = new Set(touched.flatMap(({ here }) => here));
  if (scene.barring.length > 0) {
    const bars = barsOf(input, domain);
    for (const candidate of scene.barring) if (bars(candidate)) relevant.add(candidate);
  }
  const inside = [...relevant].sort((a, b) => compareText(a.key, b.key));
  if (inside.length === 0) return undefined;
  const slots = { scene, steadySlots, touched };
  if (!mayFit(slots, relevant)) return undefined;
  const minSize = Math.max(1, ...kinds.map((_, kind) => leastSize(slots, kind)));
  const gainOf = sharesOf(scene, touched);
  let within: PlanInput | undefined;
  const question = () => {
    within ??= withinDomain(input, domain);
    return within;
  };
  return { ...slots, domain, question, candidates: inside, minSize, gainOf };
}

/**
 * Whether the domain has as many slots for each kind of member as it needs once some candidates are gone. Rules between
 * pods and members that share a host may still forbid it; where this says no, it is no.
 */
export function mayFit(view: SlotView, gone: ReadonlySet<ReleaseCandidate>): boolean {
  const { scene, steadySlots, touched } = view;
  const slots = [...steadySlots];
  for (const at of touched) addTo(slots, touchedSlots(scene, at, gone));
  return scene.kinds.every(({ count }, kind) => (slots[kind] ?? 0) >= count);
}

/** How many candidates must go at least for one kind: even together, each brings no more than all the nodes it touches. */
function leastSize({ scene, steadySlots, touched }: SlotView, kind: number): number {
  let missing = (scene.kinds[kind]?.count ?? 0) - (steadySlots[kind] ?? 0);
  const most = new Map<ReleaseCandidate, number>();
  for (const at of touched) {
    const before = touchedSlots(scene, at, nobody)[kind] ?? 0;
    const gain = (touchedSlots(scene, at, new Set(at.here))[kind] ?? 0) - before;
    missing -= before;
    for (const candidate of at.here) most.set(candidate, (most.get(candidate) ?? 0) + gain);
  }
  let size = 0;
  for (const gain of [...most.values()].sort((a, b) => b - a)) {
    if (missing <= 0) return size;
    missing -= gain;
    size++;
  }
  return size;
}

/** What comes free on a node when all go is shared equally by those that must go for it. */
function sharesOf(scene: ReleaseScene, touched: readonly TouchedNode[]): DomainView['gainOf'] {
  const shares = new Map<ReleaseCandidate, { gain: number; firstNode: number }>();
  for (const at of touched) {
    const before = touchedSlots(scene, at, nobody);
    const after = touchedSlots(scene, at, new Set(at.here));
    const gain = after.reduce((sum, slots, kind) => sum + slots - (before[kind] ?? 0), 0) / at.here.length;
    for (const candidate of at.here) {
      const known = shares.get(candidate) ?? { gain: 0, firstNode: at.index };
      shares.set(candidate, { gain: known.gain + gain, firstNode: known.firstNode });
    }
  }
  return candidate => shares.get(candidate) ?? { gain: 0, firstNode: Number.POSITIVE_INFINITY };
}

function touchedSlots(
  scene: ReleaseScene,
  { node, here, known }: TouchedNode,
  gone: ReadonlySet<ReleaseCandidate>,
): readonly number[] {
  const leaving = () => here.filter(candidate => gone.has(candidate));
  if (here.length > mostNumbered) return slotsOf(scene, node, leaving());
  const key = here.reduce((sum, candidate, bit) => sum + (gone.has(candidate) ? 2 ** bit : 0), 0);
  const slots = known.get(key) ?? slotsOf(scene, node, leaving());
  known.set(key, slots);
  return slots;
}

/** By kind, how many members the node takes, each counted with at most the number asked for. */
function slotsOf(
  { input, kinds }: ReleaseScene,
  node: NodeInfo,
  gone: readonly ReleaseCandidate[],
): readonly number[] {
  const { name } = node.record;
  const back = gone.some(candidate => candidate.release.nodes.includes(name));
  if (!back && input.excludedNodes?.has(name)) return kinds.map(() => 0);
  const uses = gone.flatMap(({ release }) => release.units.flatMap(unit => usesOn(unit, name)));
  const released = releasedNode(node, uses);
  const info = back ? returnedNode(released) : released;
  return kinds.map(({ demand, count }) => Math.min(count, input.memo.fit(info, demand).slots));
}

/** With one kind of member a node that takes all of them, or as many as ever, is left alone. */
function couldHelp(scene: ReleaseScene, node: NodeInfo, here: readonly ReleaseCandidate[]): boolean {
  const after = slotsOf(scene, node, here);
  if (scene.kinds.length > 1) return after.some(slots => slots > 0);
  const before = slotsOf(scene, node, []);
  return after.some((slots, kind) => slots > (before[kind] ?? 0));
}

function hasMembersThatStay({ fixed, snapshot }: PlanInput, { nodes }: TopologyDomain): boolean {
  const [first = 0, last = -1] = [nodes[0], nodes.at(-1)];
  return [...(fixed?.values() ?? [])].every(name => {
    const index = snapshot.tree.indexByNodeName.get(name) ?? -1;
    return index >= first && index <= last;
  });
}

function nodesOf({ release }: ReleaseCandidate): ReadonlySet<string> {
  return new Set([...release.units.flatMap(unit => unit.uses.map(({ node }) => node)), ...release.nodes]);
}

/** A group of hundreds of pods is asked for its share of one node again and again. */
const usesByUnit = new WeakMap<Unit, ReadonlyMap<string, Unit['uses']>>();

function usesOn(unit: Unit, node: string): Unit['uses'] {
  const byNode = usesByUnit.get(unit) ?? Map.groupBy(unit.uses, use => use.node);
  usesByUnit.set(unit, byNode);
  return byNode.get(node) ?? [];
}

function addTo(sums: number[], more: readonly number[]): void {
  more.forEach((amount, at) => {
    sums[at] = (sums[at] ?? 0) + amount;
  });
}
