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

/**
 * The names of nodes in a request, in the order of the request. Thousands of them come with every call and most calls
 * look at one or at none, so they stay the bytes that they came as until somebody wants them all.
 */
export class NodeNames {
  readonly count: number;
  #bytes: Buffer | undefined;
  #list: readonly string[] | undefined;
  /** In plain bytes every quote and comma stands between names. */
  readonly #isPlain: boolean;

  private constructor(count: number, bytes: Buffer | undefined, list: readonly string[] | undefined) {
    this.count = count;
    this.#bytes = bytes;
    this.#list = list;
    this.#isPlain = bytes !== undefined;
  }

  static fromList(names: readonly string[]): NodeNames {
    return new NodeNames(names.length, undefined, names);
  }

  /**
   * Takes the bytes of a JSON array as they are. Undefined when they are not exactly a list of plain names without
   * whitespace, as Go writes it: then a JSON parser has to look at them.
   */
  static fromBytes(json: Buffer): NodeNames | undefined {
    const count = countPlainNames(json);
    return count === undefined ? undefined : new NodeNames(count, json, undefined);
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
    if (!this.#isPlain) return this.list.includes(name);
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
    if (!this.#isPlain) {
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
    this.#eachPlain((hash, start, end) => {
      if (table.indexOfRange(hash, json, start, end) === -1) {
        count++;
        return;
      }
      endRun(start - 2);
      runStart = end + 1;
      if (removed.length < limit) removed.push(json.toString('latin1', start, end));
    });
    if (count === this.count) return { kept: this, removed };
    if (count === 0) return { kept: NodeNames.fromList([]), removed };
    endRun(json.length);
    kept[0] = open;
    return { kept: new NodeNames(count, kept.subarray(0, length), undefined), removed };
  }

  /** For each name its index in a table, or -1. */
  indicesIn(table: NameTable): Int32Array {
    const indices = new Int32Array(this.count);
    let at = 0;
    if (this.#isPlain) {
      const { json } = this;
      this.#eachPlain((hash, start, end) => {
        indices[at++] = table.indexOfRange(hash, json, start, end);
      });
    } else {
      for (const name of this.list) indices[at++] = table.indexOf(Buffer.from(name));
    }
    return indices;
  }

  /** Tells the hash of each name, and where it begins and ends. */
  #eachPlain(visit: (hash: number, start: number, end: number) => void): void {
    const { json } = this;
    let end = -1;
    for (let visited = 0; visited < this.count; visited++) {
      // A bracket and a quote stand before the first name, and three bytes between any two: quote, comma, quote.
      const start = end + 3;
      end = start;
      let hash = emptyHash;
      for (let byte = json[end] ?? quote; byte !== quote; byte = json[++end] ?? quote) {
        hash = addToHash(hash, byte);
      }
      visit(hash, start, end);
    }
  }
}

function countPlainNames(json: Buffer): number | undefined {
  const last = json.length - 1;
  if (last < 1 || json[0] !== open || json[last] !== close) return undefined;
  if (last === 1) return 0;
  let count = 0;
  let at = 0;
  do {
    if (json[++at] !== quote) return undefined;
    while (isNameByte[json[++at] ?? 0] === 1);
    if (json[at] !== quote) return undefined;
    count++;
    at++;
  } while (json[at] === comma);
  return at === last ? count : undefined;
}

function isPlainName(name: string): boolean {
  return /^[-._A-Za-z0-9]*$/.test(name);
}
