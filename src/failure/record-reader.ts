const keyPattern = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\/[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$/;
const namePattern = /^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$/;
const uidPattern = /^[-A-Za-z0-9._:]{1,128}$/;
const timePattern = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z$/;

/** A field that is not what it must be. */
export interface RecordFault {
  readonly field: string;
  readonly rule: string;
}

/**
 * Reads fields of one JSON object and remembers those that are not what they must be. Somebody may have edited it, and
 * names in it become paths of requests.
 */
export class RecordReader {
  readonly faults: RecordFault[];
  readonly #path: string;
  readonly #record: Readonly<Record<string, unknown>>;

  constructor(value: unknown, path = '', faults: RecordFault[] = []) {
    this.faults = faults;
    this.#path = path;
    this.#record = isRecord(value) ? value : {};
    if (!isRecord(value)) this.#fault('', 'must be an object');
  }

  field(name: string): unknown {
    return Object.hasOwn(this.#record, name) ? this.#record[name] : undefined;
  }

  part(name: string): RecordReader {
    return new RecordReader(this.field(name), `${this.#path}${name}.`, this.faults);
  }

  list(name: string): readonly RecordReader[] {
    const value = this.field(name);
    if (!Array.isArray(value)) {
      this.#fault(name, 'must be a list');
      return [];
    }
    return value.map(
      (item: unknown, at) => new RecordReader(item, `${this.#path}${name}[${at}].`, this.faults),
    );
  }

  /** A list of node names or null. */
  names(name: string): readonly string[] | undefined {
    const value = this.field(name);
    if (value === null) return undefined;
    const isNames =
      Array.isArray(value) && value.every(item => typeof item === 'string' && namePattern.test(item));
    if (!isNames) this.#fault(name, 'must be a list of node names or null');
    return isNames ? value : undefined;
  }

  /** A list of texts that match. */
  matches(name: string, pattern: RegExp): readonly string[] {
    const value = this.field(name);
    const isList =
      Array.isArray(value) && value.every(item => typeof item === 'string' && pattern.test(item));
    if (!isList) this.#fault(name, `must be a list of texts that match ${pattern.source}`);
    return isList ? value : [];
  }

  text(name: string): string {
    const value = this.field(name);
    if (typeof value !== 'string') this.#fault(name, 'must be a text');
    return typeof value === 'string' ? value : '';
  }

  match(name: string, pattern: RegExp): string {
    const value = this.text(name);
    if (!pattern.test(value)) this.#fault(name, `must match ${pattern.source}`);
    return value;
  }

  /** `namespace/name` */
  key(name: string): string {
    return this.match(name, keyPattern);
  }

  name(name: string): string {
    return this.match(name, namePattern);
  }

  nameOrNone(name: string): string {
    return this.field(name) === '' ? '' : this.name(name);
  }

  uid(name: string): string {
    return this.match(name, uidPattern);
  }

  uidOrNone(name: string): string {
    return this.field(name) === '' ? '' : this.uid(name);
  }

  count(name: string): number {
    const value = this.field(name);
    const isCount = typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
    if (!isCount) this.#fault(name, 'must be a whole number of at least 0');
    return isCount ? value : 0;
  }

  /** A whole number between -limit and limit. */
  number(name: string, limit: number): number {
    const value = this.field(name);
    const isOne = typeof value === 'number' && Number.isSafeInteger(value) && Math.abs(value) <= limit;
    if (!isOne) this.#fault(name, `must be a whole number between -${limit} and ${limit}`);
    return isOne ? value : 0;
  }

  flag(name: string): boolean {
    const value = this.field(name);
    if (typeof value !== 'boolean') this.#fault(name, 'must be true or false');
    return value === true;
  }

  oneOf<T extends string>(name: string, words: readonly T[]): T {
    const value = this.field(name);
    const word = words.find(known => known === value);
    if (word === undefined) this.#fault(name, `must be one of ${words.join(', ')}`);
    return word ?? (words[0] as T);
  }

  time(name: string): number {
    const text = this.match(name, timePattern);
    const ms = Date.parse(text);
    if (Number.isNaN(ms)) this.#fault(name, 'must be a time');
    return Number.isNaN(ms) ? 0 : ms;
  }

  timeOrNone(name: string): number | undefined {
    return this.field(name) === null ? undefined : this.time(name);
  }

  #fault(name: string, rule: string): void {
    this.faults.push({ field: `${this.#path}${name}`.replace(/\.$/, ''), rule });
  }
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
