import { compareText } from '../cluster/topology.ts';

/** A device or node that went bad under a group. */
export interface Blame {
  /** `namespace/name` of the group: its owner and index. */
  readonly group: string;
  /** UID of the leader then. */
  readonly incarnation: string;
  readonly kind: 'device' | 'node';
  /** Key of the device, or name of the node. */
  readonly thing: string;
  readonly atMs: number;
}

export interface PoisonLimits {
  readonly poisonDevices: number;
  readonly poisonNodes: number;
}

/** A group that breaks hardware wherever it goes: software, most likely. */
export interface Poisonous {
  readonly devices: number;
  readonly nodes: number;
  /** Those of the last incarnation that counts, which stay excluded. */
  readonly kept: ReadonlySet<string>;
}

const dayMs = 86_400_000;

/**
 * Groups of which more incarnations had devices or nodes go bad within 24 h than a run of bad luck explains. What goes bad
 * under one incarnation is one incident, however much it is: a host has many devices, and a rack many hosts.
 */
export function poisonousGroups(
  blames: Iterable<Blame>,
  { poisonDevices, poisonNodes }: PoisonLimits,
  nowMs: number,
): ReadonlyMap<string, Poisonous> {
  const byGroup = Map.groupBy(
    [...blames].filter(({ atMs }) => nowMs - atMs < dayMs),
    ({ group }) => group,
  );
  const poisonous = new Map<string, Poisonous>();
  for (const [group, all] of byGroup) {
    const devices = incidents(all, 'device');
    const nodes = incidents(all, 'node');
    if (devices.length <= poisonDevices && nodes.length <= poisonNodes) continue;
    poisonous.set(group, {
      devices: countOf(devices),
      nodes: countOf(nodes),
      kept: new Set([...lastOf(devices, poisonDevices), ...lastOf(nodes, poisonNodes)]),
    });
  }
  return poisonous;
}

/** What went bad under each incarnation, in turn; what had gone bad under an earlier one counts there. */
function incidents(blames: readonly Blame[], kind: Blame['kind']): readonly (readonly string[])[] {
  const ofKind = blames.filter(blame => blame.kind === kind);
  ofKind.sort((a, b) => a.atMs - b.atMs || compareText(a.thing, b.thing));
  const first = new Map<string, string>();
  for (const { thing, incarnation } of ofKind) if (!first.has(thing)) first.set(thing, incarnation);
  return [...Map.groupBy(first.keys(), thing => first.get(thing)).values()];
}

function lastOf(all: readonly (readonly string[])[], limit: number): readonly string[] {
  return all[Math.min(limit, all.length - 1)] ?? [];
}

function countOf(all: readonly (readonly string[])[]): number {
  return all.reduce((count, things) => count + things.length, 0);
}
