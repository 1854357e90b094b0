import { compareText } from '../cluster/topology.ts';

/** A device or node that went bad under a group, over all incarnations of it. */
export interface Blame {
  /** `namespace/name` of the group: its owner and index. */
  readonly group: string;
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
  /** The one of each kind that stays excluded. */
  readonly keptDevice: string | undefined;
  readonly keptNode: string | undefined;
}

const dayMs = 86_400_000;

/** Groups under which more devices or nodes went bad within 24 h than a run of bad luck explains. */
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
    const devices = inTurn(all, 'device');
    const nodes = inTurn(all, 'node');
    if (devices.length <= poisonDevices && nodes.length <= poisonNodes) continue;
    poisonous.set(group, {
      devices: devices.length,
      nodes: nodes.length,
      keptDevice: devices[Math.min(poisonDevices, devices.length - 1)],
      keptNode: nodes[Math.min(poisonNodes, nodes.length - 1)],
    });
  }
  return poisonous;
}

/** Each thing of a kind once, in the order in which they went bad. */
function inTurn(blames: readonly Blame[], kind: Blame['kind']): readonly string[] {
  const ofKind = blames.filter(blame => blame.kind === kind);
  ofKind.sort((a, b) => a.atMs - b.atMs || compareText(a.thing, b.thing));
  return [...new Set(ofKind.map(({ thing }) => thing))];
}
