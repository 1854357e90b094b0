import type { NodeInfo } from './node-info.ts';

/** Nodes per chunk: small enough to copy for every change, large enough to skip what is the same in few steps. */
const chunkSize = 64;

/**
 * The nodes of one snapshot by the index that the tree gives them. Immutable: a changed list shares all chunks that it
 * has not changed, so a change costs O(nodes / chunk + chunk) and two lists are compared without looking at every node.
 */
export class NodeList implements Iterable<NodeInfo> {
  readonly length: number;
  readonly #chunks: readonly (readonly NodeInfo[])[];

  private constructor(chunks: readonly (readonly NodeInfo[])[], length: number) {
    this.#chunks = chunks;
    this.length = length;
  }

  static of(nodes: readonly NodeInfo[]): NodeList {
    const chunks: NodeInfo[][] = [];
    for (let at = 0; at < nodes.length; at += chunkSize) chunks.push(nodes.slice(at, at + chunkSize));
    return new NodeList(chunks, nodes.length);
  }

  at(index: number): NodeInfo | undefined {
    return this.#chunks[Math.floor(index / chunkSize)]?.[index % chunkSize];
  }

  /** The list with some nodes replaced; indices beyond the list are ignored. */
  with(changes: ReadonlyMap<number, NodeInfo>): NodeList {
    const copies = new Map<number, NodeInfo[]>();
    for (const [index, node] of changes) {
      const position = Math.floor(index / chunkSize);
      const copy = copies.get(position) ?? [...(this.#chunks[position] ?? [])];
      copies.set(position, copy);
      if (index % chunkSize < copy.length) copy[index % chunkSize] = node;
    }
    const chunks = [...this.#chunks];
    for (const [position, copy] of copies) if (copy.length > 0) chunks[position] = copy;
    return new NodeList(chunks, this.length);
  }

  /** Indices at which two lists hold different objects; all of them when they are not equally long. */
  *differences(other: NodeList): Iterable<number> {
    const chunks = Math.max(this.#chunks.length, other.#chunks.length);
    for (let position = 0; position < chunks; position++) {
      const [ours, theirs] = [this.#chunks[position] ?? [], other.#chunks[position] ?? []];
      if (ours === theirs) continue;
      const length = Math.max(ours.length, theirs.length);
      for (let at = 0; at < length; at++) if (ours[at] !== theirs[at]) yield position * chunkSize + at;
    }
  }

  *[Symbol.iterator](): Iterator<NodeInfo> {
    for (const chunk of this.#chunks) yield* chunk;
  }
}
