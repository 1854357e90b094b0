/**
 * Names to be looked up by their UTF-8 bytes, so that names that come as bytes need not become strings first. An open
 * hash table: `slots` hold an index plus one, or zero.
 */
export class NameTable {
  readonly #names: readonly Buffer[];
  readonly #slots: Int32Array;

  constructor(names: Iterable<string>) {
    this.#names = Array.from(names, name => Buffer.from(name));
    this.#slots = new Int32Array(2 ** Math.ceil(Math.log2(this.#names.length * 2 + 1)));
    for (const [index, name] of this.#names.entries()) {
      this.#slots[this.#slotOf(hashOf(name), name, 0, name.length)] = index + 1;
    }
  }

  /** Position of a name among those of the table, or -1. */
  indexOf(name: Buffer): number {
    return this.indexOfRange(hashOf(name), name, 0, name.length);
  }

  /** The same for a name inside other bytes, of which the caller has made the hash with `addToHash`. */
  indexOfRange(hash: number, bytes: Buffer, start: number, end: number): number {
    return (this.#slots[this.#slotOf(hash, bytes, start, end)] ?? 0) - 1;
  }

  /** The slot that holds the name, or the free one where it would go. */
  #slotOf(hash: number, bytes: Buffer, start: number, end: number): number {
    const mask = this.#slots.length - 1;
    // The low bits alone would mix too little of the last bytes, where names of nodes differ.
    let slot = (hash ^ (hash >>> 15)) & mask;
    for (;;) {
      const name = this.#names[(this.#slots[slot] ?? 0) - 1];
      if (name === undefined || isSame(name, bytes, start, end)) return slot;
      slot = (slot + 1) & mask;
    }
  }
}

/** FNV-1a of nothing. */
export const emptyHash = -2_128_831_035;

export function addToHash(hash: number, byte: number): number {
  return Math.imul(hash ^ byte, 16_777_619);
}

function hashOf(name: Buffer): number {
  return name.reduce(addToHash, emptyHash);
}

function isSame(name: Buffer, bytes: Buffer, start: number, end: number): boolean {
  if (name.length !== end - start) return false;
  for (let i = name.length - 1; i >= 0; i--) if (name[i] !== bytes[start + i]) return false;
  return true;
}
