import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import { offerOf, type Shape } from './host-offer.ts';
import { SlotIndex } from './slot-index.ts';

/**
 * One slot index for each shape that groups ask for, the least lately used dropped. A fleet sees few shapes: those of its
 * templates. Dropping one costs its next group O(hosts) once.
 */
export class SlotIndexes {
  readonly #limit: number;
  /** The least lately used first. */
  readonly #byShape = new Map<string, SlotIndex>();

  /** @param limit shapes at most; each takes some 2 bytes per host and 32 per inner domain */
  constructor(limit = 128) {
    this.#limit = limit;
  }

  /** The index of a shape, brought to the snapshot. */
  of(shape: Shape, snapshot: ClusterSnapshot): SlotIndex {
    const key = `${shape.leader?.key ?? ''}\n${shape.worker?.key ?? ''}`;
    const index = this.#byShape.get(key) ?? new SlotIndex(node => offerOf(node, shape));
    this.#byShape.delete(key);
    this.#byShape.set(key, index);
    if (this.#byShape.size > this.#limit)
      for (const [oldest] of this.#byShape) {
        this.#byShape.delete(oldest);
        break;
      }
    index.follow(snapshot);
    return index;
  }

  get size(): number {
    return this.#byShape.size;
  }

  /** Bytes held by the arrays of all of them. */
  get bytes(): number {
    let bytes = 0;
    for (const index of this.#byShape.values()) bytes += index.bytes;
    return bytes;
  }
}
