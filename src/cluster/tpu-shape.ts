import { labelValue } from './labels.ts';
import type { NodeInfo } from './node-info.ts';
import type { TopologyLevel } from './topology.ts';

/** Counts chips. */
export const tpuResource = 'google.com/tpu';

/** What one TPU slice is, as its nodes tell. */
export interface TpuShape {
  /** Hosts that make the slice; undefined when the shape cannot be read or does not go with the chips. */
  readonly hosts: number | undefined;
  readonly chipsPerHost: number;
}

/** Index of the coarsest level whose domains are TPU slices; undefined when none is. */
export function tpuLevelOf(levels: readonly TopologyLevel[]): number | undefined {
  const level = levels.findIndex(hasShape);
  return level === -1 ? undefined : level;
}

export function hasShape(level: TopologyLevel | undefined): boolean {
  return level?.shape !== undefined || level?.shapeLabel !== undefined;
}

/**
 * The slice that the nodes of one domain make; undefined when they are none: no node says a shape or has chips. Chips
 * per host are the most that any node shows, for a node with a broken chip shows fewer.
 */
export function tpuShapeOf(
  level: TopologyLevel,
  nodes: Iterable<Pick<NodeInfo, 'record'>>,
): TpuShape | undefined {
  const shapes = new Set<string>();
  let chipsPerHost = 0;
  for (const { record } of nodes) {
    const shape = level.shape ?? labelValue(record.labels, level.shapeLabel ?? '');
    if (shape !== undefined) shapes.add(shape);
    chipsPerHost = Math.max(chipsPerHost, record.allocatable.get(tpuResource) ?? 0);
  }
  const [shape] = shapes;
  if (shape === undefined || chipsPerHost === 0) return undefined;
  return { hosts: shapes.size > 1 ? undefined : hostsOfShape(shape, chipsPerHost), chipsPerHost };
}

/**
 * Hosts of a shape such as `4x4` or `2x2x2`, whose sides multiply to chips. A shape smaller than a host, or one that
 * does not come out even, is no shape of such hosts: undefined.
 */
export function hostsOfShape(shape: string, chipsPerHost: number): number | undefined {
  if (!/^[1-9][0-9]{0,4}(x[1-9][0-9]{0,4}){1,2}$/.test(shape)) return undefined;
  const chips = shape.split('x').reduce((product, side) => product * Number(side), 1);
  const hosts = chips / chipsPerHost;
  return Number.isInteger(hosts) && hosts > 0 ? hosts : undefined;
}
