/**
 * Names to be looked up by their UTF-8 bytes, so that names that come as bytes need not become strings first. An open
 * hash table: `slots` hold an index plus one, or zero.
 */
export class NameTable {
  readonly #names: readonly Buffer[];
  readonly #hashes: Int32Array;
  readonly #slots: Int32Array;

  constructor(names: Iterable<string>) {
    this.#names = Array.from(names, name => Buffer.from(name));
    this.#hashes = Int32Array.from(this.#names, hashOf);
    // Four slots for a name: most names that are looked up are not in the table, and should meet an empty slot at once.
    this.#slots = new Int32Array(2 ** Math.ceil(Math.log2(this.#names.length * 4 + 1)));
    const mask = this.#slots.length - 1;
    for (const [index, hash] of this.#hashes.entries()) {
      let slot = slotOf(hash) & mask;
      while (this.#slots[slot] !== 0) slot = (slot + 1) & mask;
      this.#slots[slot] = index + 1;
    }
  }

  /** Position of a name among those of the table, or -1. */
  indexOf(name: Buffer): number {
    return this.indexOfRange(hashOf(name), name, 0, name.length);
  }

  /** The same for a name inside other bytes, of which the caller has made the hash with `addToHash`. */
  indexOfRange(hash: number, bytes: Buffer, start: number, end: number): number {
    const slots = this.#slots;
    const mask = slots.length - 1;
    for (let slot = slotOf(hash) & mask; ; slot = (slot + 1) & mask) {
      const index = (slots[slot] ?? 0) - 1;
      if (index === -1) return -1;
      if (this.#hashes[index] !== hash) continue;
      const name = this.#names[index];
      if (name !== undefined && isSame(name, bytes, start, end)) return index;
    }
  }
}

/** The low bits alone would mix too little of the last bytes, where names of nodes differ. */
function slotOf(hash: number): number {
  return hash ^ (hash >>> 15);
}

/** FNV-1a of nothing. */
export const emptyHash = -2_128_831_035;

export function addToHash(hash: number, byte: number): number {
  return Math.imul(hash ^ byte, 16_777_619);
}

function hashOf(name: Buffer): number {
  let hash = emptyHash;
  for (const byte of name) hash = addToHash(hash, byte);
  return hash;
}

function isSame(name: Buffer, bytes: Buffer, start: number, end: number): boolean {
  if (name.length !== end - start) return false;
  for (let i = name.length - 1; i >= 0; i--) if (name[i] !== bytes[start + i]) return false;
  return true;
}
