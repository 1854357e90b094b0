import type { NodeInfo } from '../cluster/node-info.ts';
import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import type { MemberDemand } from '../group/demand.ts';
import { demandOn, freeOf } from './device-fit.ts';
import type { FitMemo } from './fit.ts';
import { type HostClass, hostPrice, type MemberKind, wholeHostPrice } from './mixed-packing.ts';
import { hasAntiAffinity, type Roster, type Variant } from './mixed-roster.ts';
import { portsClash } from './node-fit.ts';

export interface HostQuestions {
  readonly snapshot: ClusterSnapshot;
  readonly memo: FitMemo;
  /** Whether the node takes the member as far as room is not concerned. */
  readonly admits: (demand: MemberDemand, node: number) => boolean;
  /**
   * Whether two members, or two like the one, may not stand on one node. Asked only where one of them has required
   * anti-affinity.
   */
  readonly apart: (a: MemberDemand, b: MemberDemand, node: number) => boolean;
  /** Nodes where members stand that stay: to use them opens no host. */
  readonly keptNodes?: ReadonlySet<number>;
  /** Whether members can stand on a node together as far as it is not counted here. */
  readonly together?: ((node: NodeInfo, demands: readonly MemberDemand[]) => boolean) | undefined;
}

/** Kinds of members, and what each host takes of them. */
export interface MixedHosts {
  readonly kinds: readonly MemberKind[];
  /** The hosts among some nodes, those that are alike together. */
  readonly classesAmong: (nodes: readonly number[]) => readonly HostClass[];
}

/** A variant with its answers from the hosts, by their position in the domain. */
interface Surveyed {
  readonly variant: Variant;
  readonly slots: readonly number[];
}

/** Asks every host about every variant. O(hosts x variants), and hosts x variants x variants where some repel others. */
export function surveyMixedHosts(
  questions: HostQuestions,
  roster: Roster,
  nodes: readonly number[],
): MixedHosts {
  const surveyed = roster.variants.map(variant => ({
    variant,
    slots: nodes.map(node => slotsOn(questions, variant.demand, node)),
  }));
  const merged = mergeAlike(questions, surveyed, nodes);
  const resources = [...roster.need].filter(([, amount]) => amount > 0).map(([name]) => name);
  const kinds = merged.map(({ variant }) => ({
    ranks: variant.ranks,
    amounts: resources.map(name => variant.demand.requests.get(name) ?? 0),
  }));
  const apartOn = separations(questions, merged);
  const positions = new Map(nodes.map((node, position) => [node, position]));

  function hostAt(node: number): HostClass | undefined {
    const position = positions.get(node) ?? -1;
    const info = questions.snapshot.nodes.at(node);
    if (info === undefined || merged.every(({ slots }) => (slots[position] ?? 0) === 0)) return undefined;
    const { apart, single } = apartOn(node);
    const most = merged.map(({ variant, slots }, kind) =>
      Math.min(slots[position] ?? 0, single.has(kind) ? 1 : variant.ranks.length),
    );
    // What nobody needs does not make hosts differ.
    const free = resources.map(name => Math.max(0, Math.min(freeOf(info, name), roster.need.get(name) ?? 0)));
    const price = questions.keptNodes?.has(node) ? 0 : info.untouched ? wholeHostPrice : hostPrice;
    return { nodes: [node], price, free, most, apart, together: togetherOn(info, most) };
  }

  function togetherOn(info: NodeInfo, most: readonly number[]): HostClass['together'] {
    const { together } = questions;
    const demands = merged.map(({ variant }) => variant.demand);
    const claiming = demands.filter(
      (demand, kind) => (most[kind] ?? 0) > 0 && demandOn(info, demand).claims.length > 0,
    );
    if (together === undefined || claiming.length < 2) return undefined;
    return take => {
      const members = demands.flatMap((demand, kind) =>
        Array.from({ length: take[kind] ?? 0 }, () => demand),
      );
      return together(info, members);
    };
  }

  return { kinds, classesAmong: among => classesOf(among.flatMap(node => hostAt(node) ?? [])) };
}

function slotsOn({ snapshot, memo, admits }: HostQuestions, demand: MemberDemand, node: number): number {
  const info = snapshot.nodes.at(node);
  if (info === undefined) return 0;
  const { slots } = memo.fit(info, demand);
  return slots > 0 && admits(demand, node) ? slots : 0;
}

/** Variants of one demand differ by labels only. They are one kind if no host and no other member cares. */
function mergeAlike(
  questions: HostQuestions,
  surveyed: readonly Surveyed[],
  nodes: readonly number[],
): readonly Surveyed[] {
  const wary = surveyed.filter(({ variant }) => hasAntiAffinity(variant.demand));
  const answersOf = ({ variant: { demand }, slots }: Surveyed): string => {
    const apart = wary.flatMap(other =>
      nodes.map(node => (questions.apart(demand, other.variant.demand, node) ? 1 : 0)),
    );
    return `${demand.key}\n${slots.join()}\n${apart.join('')}`;
  };
  const perDemand = Map.groupBy(surveyed, ({ variant }) => variant.demand.key);
  const alone = (one: Surveyed) => perDemand.get(one.variant.demand.key)?.length === 1;
  const kinds = Map.groupBy(surveyed, one => (alone(one) ? one.variant.demand.key : answersOf(one)));
  return [...kinds.values()].flatMap(alike => {
    const [first] = alike;
    if (first === undefined || alike.length === 1) return alike;
    const ranks = alike.flatMap(({ variant }) => variant.ranks).sort((a, b) => a - b);
    return [{ variant: { ...first.variant, ranks }, slots: first.slots }];
  });
}

interface Separation {
  /** By kind, the other kinds that it may not stand beside. */
  readonly apart: readonly (readonly number[])[];
  /** Kinds of which a node takes but one. */
  readonly single: ReadonlySet<number>;
}

/** Which kinds keep off each other on a node: by host ports everywhere, by anti-affinity as the node is labelled. */
function separations(
  { apart: repel }: HostQuestions,
  merged: readonly Surveyed[],
): (node: number) => Separation {
  const demands = merged.map(({ variant }) => variant.demand);
  const everywhere: [number, number][] = [];
  const asked: [number, number][] = [];
  const withPorts = demands.flatMap((demand, kind) => (demand.hostPorts.length > 0 ? [kind] : []));
  const wary = new Set(demands.flatMap((demand, kind) => (hasAntiAffinity(demand) ? [kind] : [])));
  for (const a of withPorts)
    for (const b of withPorts)
      if (a <= b && portsClash(demands[a]?.hostPorts ?? [], demands[b]?.hostPorts ?? []))
        everywhere.push([a, b]);
  for (const a of wary) for (const b of demands.keys()) if (!(wary.has(b) && b < a)) asked.push([a, b]);

  const known = new Map<string, Separation>();
  return node => {
    const onNode = asked.filter(([a, b]) => {
      const [one, other] = [demands[a], demands[b]];
      return one !== undefined && other !== undefined && repel(one, other, node);
    });
    const key = onNode.join(' ');
    const separation = known.get(key) ?? separationOf(demands.length, [...everywhere, ...onNode]);
    known.set(key, separation);
    return separation;
  };
}

function separationOf(kinds: number, pairs: readonly (readonly [number, number])[]): Separation {
  const apart = Array.from({ length: kinds }, () => new Set<number>());
  const single = new Set<number>();
  for (const [a, b] of pairs) {
    if (a === b) single.add(a);
    else {
      apart[a]?.add(b);
      apart[b]?.add(a);
    }
  }
  return { apart: apart.map(others => [...others].sort((a, b) => a - b)), single };
}

function classesOf(hosts: readonly HostClass[]): readonly HostClass[] {
  const alike = Map.groupBy(
    hosts,
    ({ price, free, most, apart, nodes, together }) =>
      `${price};${free};${most};${apart.join('/')};${together === undefined ? '' : nodes}`,
  );
  return [...alike.values()].flatMap(([first, ...others]) =>
    first === undefined ? [] : [{ ...first, nodes: [first, ...others].flatMap(({ nodes }) => nodes) }],
  );
}
