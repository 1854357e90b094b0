import type { WantedClaim } from '../cluster/devices/claims.ts';
import type { ShapeMemory } from '../cluster/devices/hardware-shapes.ts';
import { type FleetNode, type NeverFits, whyNeverFits } from '../cluster/devices/never-fits.ts';
import type { DeviceCatalog } from '../cluster/devices/node-device-info.ts';
import type { NodePools } from '../cluster/devices/pools.ts';
import type { NodeInfo } from '../cluster/node-info.ts';
import type { MemberDemand } from '../group/demand.ts';
import { demandOn, type NodeDemand } from './device-fit.ts';

const noPools: NodePools = { pools: [], candidates: [], problem: undefined };

/**
 * Why no node of a fleet could give a member its devices, even if all were empty; undefined where one could, or where that
 * cannot be told. Devices that a node has by device plugin are not asked about: what the kubelet will offer, nobody knows
 * before. Only devices count; room, taints and topology are the planner's.
 * @param memoryOf what earlier questions with these claims, this rung and this catalog have left; it only saves time
 */
export function whyDemandNeverFits(
  demand: MemberDemand,
  nodes: Iterable<NodeInfo>,
  { classes, selectors }: DeviceCatalog,
  memoryOf?: (claims: readonly WantedClaim[]) => ShapeMemory,
): NeverFits | undefined {
  const kinds = new Map<NodeDemand, FleetNode[]>();
  for (const node of nodes) {
    const asked = demandOn(node, demand);
    if (asked.claims.length === 0) return undefined;
    const alike = kinds.get(asked) ?? [];
    kinds.set(asked, alike);
    const { name, labels } = node.record;
    alike.push({ node: { name, labels }, pools: node.devices?.pools ?? noPools });
  }
  const minRung = demand.devices?.minRung;
  let most: { readonly never: NeverFits; readonly nodes: number } | undefined;
  for (const [{ claims }, fleet] of kinds) {
    const question = { demand: claims, minRung, fleet, classes, selectors };
    const never = whyNeverFits(question, memoryOf?.(claims));
    if (never === undefined) return undefined;
    if (most === undefined || fleet.length > most.nodes) most = { never, nodes: fleet.length };
  }
  return most?.never;
}
