import { addToHash, emptyHash, NameTable } from './name-table.ts';

const quote = 0x22;
const comma = 0x2c;
const open = 0x5b;
const close = 0x5d;

/** Bytes of which names of nodes are made, and a few more: none of them means anything to JSON inside a string. */
const isNameByte = new Uint8Array(256);
for (const byte of Buffer.from('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._')) {
  isNameByte[byte] = 1;
}

/** Where plain names stand in their bytes, and their hashes: found in the one pass that every list needs anyhow. */
interface PlainNames {
  readonly count: number;
  /** Where each name ends; the next one begins three bytes behind it, the first at byte 2. */
  readonly ends: Int32Array;
  readonly hashes: Int32Array;
}

/**
 * The names of nodes in a request, in the order of the request. Thousands of them come with every call and most calls
 * look at one or at none, so they stay the bytes that they came as until somebody wants them all.
 */
export class NodeNames {
  readonly count: number;
  #bytes: Buffer | undefined;
  #list: readonly string[] | undefined;
  /** In plain bytes every quote and comma stands between names. */
  readonly #plain: PlainNames | undefined;

  private constructor(
    count: number,
    bytes: Buffer | undefined,
    list: readonly string[] | undefined,
    plain?: PlainNames,
  ) {
    this.count = count;
    this.#bytes = bytes;
    this.#list = list;
    this.#plain = plain;
  }

  static fromList(names: readonly string[]): NodeNames {
    return new NodeNames(names.length, undefined, names);
  }

  /**
   * Takes the bytes of a JSON array as they are. Undefined when they are not exactly a list of plain names without
   * whitespace, as Go writes it: then a JSON parser has to look at them.
   */
  static fromBytes(json: Buffer): NodeNames | undefined {
    const plain = scanPlainNames(json);
    return plain === undefined ? undefined : new NodeNames(plain.count, json, undefined, plain);
  }

  /** The list as a JSON array. */
  get json(): Buffer {
    this.#bytes ??= Buffer.from(JSON.stringify(this.#list ?? []));
    return this.#bytes;
  }

  get list(): readonly string[] {
    this.#list ??= JSON.parse(this.json.toString('latin1')) as readonly string[];
    return this.#list;
  }

  has(name: string): boolean {
    if (this.#plain === undefined) return this.list.includes(name);
    return isPlainName(name) && this.json.includes(`"${name}"`, 0, 'latin1');
  }

  /** The first `limit` names. */
  first(limit: number): readonly string[] {
    if (this.#list !== undefined || this.count <= limit) return this.list.slice(0, limit);
    if (limit <= 0) return [];
    let end = 0;
    for (let found = 0; found < limit; found++) end = this.json.indexOf(comma, end + 1);
    return JSON.parse(`${this.json.toString('latin1', 0, end)}]`) as readonly string[];
  }

  /** The names without some, and the first `limit` of those that were taken out. */
  without(unwanted: ReadonlySet<string>, limit: number): { kept: NodeNames; removed: readonly string[] } {
    const removed: string[] = [];
    const plain = this.#plain;
    if (plain === undefined) {
      const kept: string[] = [];
      for (const name of this.list) {
        if (!unwanted.has(name)) kept.push(name);
        else if (removed.length < limit) removed.push(name);
      }
      return { kept: kept.length === this.count ? this : NodeNames.fromList(kept), removed };
    }
    const { json } = this;
    const table = new NameTable(unwanted);
    const kept = Buffer.allocUnsafe(json.length);
    let length = 0;
    let count = 0;
    // What stays is copied in runs, each with the bracket or comma before it.
    let runStart = 0;
    const endRun = (end: number) => {
      if (end > runStart) length += json.copy(kept, length, runStart, end);
    };
    let start = firstName;
    for (let at = 0; at < plain.count; at++) {
      const end = plain.ends[at] ?? start;
      if (table.indexOfRange(plain.hashes[at] ?? 0, json, start, end) === -1) count++;
      else {
        endRun(start - 2);
        runStart = end + 1;
        if (removed.length < limit) removed.push(json.toString('latin1', start, end));
      }
      start = end + toNextName;
    }
    if (count === this.count) return { kept: this, removed };
    if (count === 0) return { kept: NodeNames.fromList([]), removed };
    endRun(json.length);
    kept[0] = open;
    return { kept: new NodeNames(count, kept.subarray(0, length), undefined), removed };
  }

  /** For each name its index in a table, or -1. */
  indicesIn(table: NameTable): Int32Array {
    const indices = new Int32Array(this.count);
    const plain = this.#plain;
    if (plain === undefined) {
      for (const [at, name] of this.list.entries()) indices[at] = table.indexOf(Buffer.from(name));
      return indices;
    }
    const { json } = this;
    let start = firstName;
    for (let at = 0; at < plain.count; at++) {
      const end = plain.ends[at] ?? start;
      indices[at] = table.indexOfRange(plain.hashes[at] ?? 0, json, start, end);
      start = end + toNextName;
    }
    return indices;
  }
}

/** A bracket and a quote stand before the first name. */
const firstName = 2;
/** Quote, comma, quote. */
const toNextName = 3;
/** As many as most clusters have nodes. */
const firstCapacity = 1024;

function scanPlainNames(json: Buffer): PlainNames | undefined {
  const last = json.length - 1;
  if (last < 1 || json[0] !== open || json[last] !== close) return undefined;
  let ends = new Int32Array(firstCapacity);
  let hashes = new Int32Array(firstCapacity);
  if (last === 1) return { count: 0, ends, hashes };
  let count = 0;
  let at = 0;
  do {
    if (json[++at] !== quote) return undefined;
    let hash = emptyHash;
    let byte = json[++at] ?? 0;
    while (isNameByte[byte] === 1) {
      hash = addToHash(hash, byte);
      byte = json[++at] ?? 0;
    }
    if (byte !== quote) return undefined;
    if (count === ends.length) {
      ends = grown(ends);
      hashes = grown(hashes);
    }
    ends[count] = at;
    hashes[count] = hash;
    count++;
    at++;
  } while (json[at] === comma);
  return at === last ? { count, ends, hashes } : undefined;
}

function grown(list: Int32Array): Int32Array<ArrayBuffer> {
  const longer = new Int32Array(list.length * 2);
  longer.set(list);
  return longer;
}

function isPlainName(name: string): boolean {
  return /^[-._A-Za-z0-9]*$/.test(name);
}
