import type { ClusterCache } from '../../cache/cluster-cache.ts';
import type { ShapeKind } from '../../failure/intent.ts';
import { isSingleKey } from '../../group/single.ts';
import { labelledShape } from './labelled-shape.ts';
import { lwsShape } from './lws-shape.ts';
import type { GroupShape } from './shape.ts';
import { singleShape } from './single-shape.ts';

/** All kinds of groups that can be evicted. A new one is a new row. */
export const shapes: Readonly<Record<ShapeKind, GroupShape>> = {
  lws: lwsShape,
  labelled: labelledShape,
  single: singleShape,
};

/** The shape of what stands under a key. */
export function shapeOf(cache: ClusterCache, key: string): GroupShape {
  if (isSingleKey(key)) return singleShape;
  return shapes[cache.group(key)?.membership.kind ?? 'lws'];
}
