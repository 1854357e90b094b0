import { labelValue } from '../cluster/labels.ts';
import type { NodeInfo } from '../cluster/node-info.ts';
import { type AffinityCheck, affinityAdmits } from '../cluster/pod-affinity.ts';
import { compareText, domainAround, levelName, type TopologyDomain } from '../cluster/topology.ts';
import type { MemberDemand } from '../group/demand.ts';
import type { Explanation, LevelExplanation } from './explanation.ts';
import type { PlanInput } from './plan.ts';
import { emptiedNode, type Unit } from './release.ts';

interface Kind {
  readonly demand: MemberDemand;
  readonly count: number;
  readonly check: AffinityCheck | undefined;
}

/** A host as the group sees it. */
interface HostView {
  /** Slots by kind, each at most the number asked for. */
  readonly slots: readonly number[];
  /** Fewer slots of the second kind once one of the first stands here; Infinity where the first kind may not. */
  readonly loss: number;
  /** Why no member may stand here; empty where one may. */
  readonly cause: string;
  /** It takes none even when empty. */
  readonly barred: boolean;
  readonly held: boolean;
  /** Values of the labels on which all members must agree. */
  readonly part: string;
}

interface Scene {
  readonly input: PlanInput;
  readonly kinds: readonly Kind[];
  readonly hosts: readonly HostView[];
  readonly hostEach: boolean;
  readonly holders: ReadonlyMap<number, readonly string[]>;
}

/**
 * Counts causes for a group that was refused. It looks at every node and is asked for when a refusal is told, not while
 * planning.
 */
export function explainRefusal(input: PlanInput, units: readonly Unit[]): Explanation {
  const { tree } = input.snapshot;
  const scene = sceneOf(input, units);
  const required = input.topology.requiredLevel ?? -1;
  const levels: LevelExplanation[] = [];
  for (let level = required; level <= tree.levels.length; level++) levels.push(explainLevel(scene, level));
  return { levels };
}

function sceneOf(input: PlanInput, units: readonly Unit[]): Scene {
  const { demands, fixed, snapshot } = input;
  const open = demands.filter((_, rank) => !fixed?.has(rank));
  const kinds = [...Map.groupBy(open, demand => demand.key).values()].flatMap(alike =>
    alike[0] === undefined
      ? []
      : [{ demand: alike[0], count: alike.length, check: antiAffinity(input, alike[0]) }],
  );
  // The leader is told apart by being alone; where there is no such kind, any order does.
  kinds.sort((a, b) => a.count - b.count);
  const hosts = [...snapshot.nodes].map(node => seeHost(input, kinds, node));
  const sizes = [...snapshot.nodes].map(node =>
    kinds.length === 1 && kinds[0] !== undefined
      ? input.memo.fit(emptiedNode(node), kinds[0].demand).slots
      : 0,
  );
  return { input, kinds, hosts, hostEach: Math.max(0, ...sizes) === 1, holders: holdersOf(input, units) };
}

/** Terms by which members want to be near others are left out: their own group may meet them. */
function antiAffinity({ snapshot }: PlanInput, demand: MemberDemand): AffinityCheck | undefined {
  const terms = demand.affinity?.antiAffinity ?? [];
  const existing = terms.length === 0 ? [...snapshot.repellingPods()] : snapshot.existingPods();
  if (terms.length === 0 && Array.isArray(existing) && existing.length === 0) return undefined;
  return affinityAdmits({
    terms: { affinity: [], antiAffinity: terms },
    pod: demand,
    existing,
    namespaceLabels: name => snapshot.namespaceLabels(name),
  });
}

function seeHost(input: PlanInput, kinds: readonly Kind[], node: NodeInfo): HostView {
  const { topology, excludedNodes, memo } = input;
  const { name, labels } = node.record;
  const values = topology.sameLabels.map(label => labelValue(labels, label));
  const unlabelled = topology.sameLabels[values.indexOf(undefined)];
  const out = excludedNodes?.get(name) ?? (unlabelled && `without node label ${unlabelled}`);
  const part = JSON.stringify(values);
  if (out !== undefined)
    return {
      slots: kinds.map(() => 0),
      loss: Number.POSITIVE_INFINITY,
      cause: out,
      barred: true,
      held: false,
      part,
    };
  const fits = kinds.map(kind => fitOf(input, kind, node));
  const slots = fits.map((fit, at) => Math.min(fit.slots, kinds[at]?.count ?? 0));
  const takesNone = slots.every(count => count === 0);
  const cause = takesNone ? (fits.at(-1)?.cause ?? '') : '';
  const empty = emptiedNode(node);
  const unheld = { ...node, free: node.freeOfPods };
  const takes = (info: NodeInfo) => kinds.some(kind => fitOf(input, kind, info).slots > 0);
  const [first, second] = kinds;
  const beside =
    first === undefined || second === undefined || slots[0] === 0
      ? -1
      : memo.slotsBeside(node, first.demand, second.demand);
  const loss =
    beside < 0
      ? Number.POSITIVE_INFINITY
      : (slots[1] ?? 0) - Math.min(beside, second?.count ?? 0, slots[1] ?? 0);
  return { slots, loss, cause, barred: takesNone && !takes(empty), held: takesNone && takes(unheld), part };
}

function fitOf(
  { memo }: PlanInput,
  { demand, check }: Kind,
  node: NodeInfo,
): { readonly slots: number; readonly cause: string } {
  const verdict = check?.admits(node.record.labels) ?? true;
  if (verdict !== true) {
    const cause = verdict.code === 'PodAntiAffinity' ? 'pod anti-affinity' : 'anti-affinity of other pods';
    return { slots: 0, cause };
  }
  return memo.fit(node, demand);
}

/** By node index the units that hold places there. */
function holdersOf({ snapshot }: PlanInput, units: readonly Unit[]): ReadonlyMap<number, readonly string[]> {
  const holders = new Map<number, Set<string>>();
  for (const { key, uses } of units) {
    for (const { node, bound } of uses) {
      const index = snapshot.tree.indexByNodeName.get(node);
      if (bound || index === undefined) continue;
      holders.set(index, (holders.get(index) ?? new Set()).add(key));
    }
  }
  return new Map([...holders].map(([index, keys]) => [index, [...keys]]));
}

function explainLevel(scene: Scene, level: number): LevelExplanation {
  const { input, hostEach } = scene;
  const { tree } = input.snapshot;
  const required = input.topology.requiredLevel ?? -1;
  const wanted = wantedOn(scene, level);
  const onlyHosts = level === tree.levels.length && level > required;
  const missing = new Map<number, number>();
  const barred = new Map<string, number>();
  let ruledOut = 0;
  const domains = domainsOf(scene, level);
  for (const domain of domains) {
    const why = onlyHosts ? scene.hosts[domain.nodes[0] ?? 0]?.cause : whyBarred(scene, domain);
    const short = wanted - roomOf(scene, domain);
    if (why !== undefined && why !== '') count(barred, why);
    else if (short > 0) count(missing, short);
    else if (level === required) ruledOut++;
  }
  return {
    level,
    name: levelName(tree.levels, level),
    wanted,
    domains: domains.length,
    lacking: [...missing]
      .map(([short, n]) => ({ missing: short, domains: n }))
      .sort((a, b) => a.missing - b.missing),
    hostEach,
    barred: [...barred]
      .map(([cause, n]) => ({ cause, domains: n }))
      .sort((a, b) => b.domains - a.domains || compareText(a.cause, b.cause)),
    ruledOut,
    held: level === required ? heldIn(scene, domains) : [],
  };
}

/** The whole group on the required level, a slice on its own level; of others, that they take anybody at all. */
function wantedOn({ input, kinds }: Scene, level: number): number {
  const { topology } = input;
  const open = kinds.reduce((sum, kind) => sum + kind.count, 0);
  if (level === (topology.requiredLevel ?? -1)) return open;
  const { slices } = topology;
  if (slices?.level !== level) return 1;
  return Math.max(1, ...slices.ranks.map(ranks => ranks.filter(rank => !input.fixed?.has(rank)).length));
}

/** Domains of the level that contain the members that stay, as far as the level asks for that. */
function domainsOf({ input }: Scene, level: number): readonly TopologyDomain[] {
  const { snapshot, topology, fixed } = input;
  const { tree } = snapshot;
  const required = topology.requiredLevel ?? -1;
  const domains = level < 0 ? [tree.root] : (tree.domainsByLevel[level] ?? []);
  const kept = [...(fixed?.values() ?? [])].map(name => tree.indexByNodeName.get(name) ?? -1);
  return domains.filter(domain => {
    const outer = domainAround(domain, required);
    if (required >= 0 && domain.path[required] === '') return false;
    return kept.every(node => node >= (outer.nodes[0] ?? 0) && node <= (outer.nodes.at(-1) ?? -1));
  });
}

/** The commonest cause among hosts, where not one of them takes a member even when empty. */
function whyBarred({ hosts }: Scene, { nodes }: TopologyDomain): string | undefined {
  const causes = new Map<string, number>();
  for (const node of nodes) {
    const host = hosts[node];
    if (host === undefined || !host.barred) return undefined;
    count(causes, host.cause);
  }
  return [...causes].sort(([a, n], [b, m]) => m - n || compareText(a, b))[0]?.[0];
}

/**
 * Members that the domain takes at once. Exact for two kinds of members, one of which is a single leader; with more kinds
 * each is counted by itself, which is never too few.
 */
function roomOf({ hosts, kinds }: Scene, { nodes }: TopologyDomain): number {
  const parts = Map.groupBy(
    nodes.flatMap(node => hosts[node] ?? []),
    host => host.part,
  );
  return Math.max(0, ...[...parts.values()].map(part => roomOfPart(part, kinds)));
}

function roomOfPart(hosts: readonly HostView[], kinds: readonly Kind[]): number {
  const rooms = kinds.map((_, at) => hosts.reduce((sum, host) => sum + (host.slots[at] ?? 0), 0));
  const [first, second] = kinds;
  if (kinds.length === 2 && first?.count === 1 && second !== undefined) {
    const loss = Math.min(Number.POSITIVE_INFINITY, ...hosts.map(host => host.loss));
    const workers = Math.min(rooms[1] ?? 0, second.count);
    return loss === Number.POSITIVE_INFINITY ? workers : 1 + Math.min((rooms[1] ?? 0) - loss, second.count);
  }
  return kinds.reduce((sum, kind, at) => sum + Math.min(rooms[at] ?? 0, kind.count), 0);
}

function heldIn({ hosts, holders }: Scene, domains: readonly TopologyDomain[]): LevelExplanation['held'] {
  const counts = new Map<string, number>();
  for (const node of domains.flatMap(domain => domain.nodes)) {
    if (hosts[node]?.held !== true) continue;
    for (const key of holders.get(node) ?? ['another group']) count(counts, key);
  }
  return [...counts]
    .map(([key, n]) => ({ key, hosts: n }))
    .sort((a, b) => b.hosts - a.hosts || compareText(a.key, b.key));
}

function count<K>(counts: Map<K, number>, key: K): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}
