import type { Logger } from 'pino';
import { keyOf } from './raw-object.ts';

/**
 * Where a reflector puts what it sees. Calls never overlap, and every object has gone through `decode`, whether it
 * came from a list or a watch. A sink that throws makes the reflector list anew.
 */
export interface ReflectorSink<T> {
  /** Added or changed. */
  upsert(object: T): void;
  /** Deleted (its last state), or no longer wanted by `decode` (the state known before). */
  remove(object: T): void;
  /** The whole truth at one moment; what is not in it does not exist. */
  replace(objects: readonly T[]): void;
}

export interface SinkMirrorOptions<T, Raw> {
  readonly resource: string;
  /** `before` is the object as it was read last, of which parts may be kept. */
  readonly decode: (raw: Raw, before?: T) => T | undefined;
  readonly sink: ReflectorSink<T>;
  readonly log: Logger;
  readonly onDecodeError: () => void;
}

const warnedDecodeErrorsPerList = 10;

/**
 * Decodes objects into a sink and remembers what the sink holds: an object that was wanted once and that `decode`
 * then leaves out (a pod that succeeded) has to be taken from the sink, and no DELETED event says so.
 */
export class SinkMirror<T, Raw> {
  readonly #options: SinkMirrorOptions<T, Raw>;
  #known = new Map<string, T>();
  #decodeErrors = 0;

  constructor(options: SinkMirrorOptions<T, Raw>) {
    this.#options = options;
  }

  get size(): number {
    return this.#known.size;
  }

  /** Collects the objects of a list; nothing reaches the sink before `commit`. */
  beginList(): { add(raw: Raw): void; commit(): void } {
    const listed = new Map<string, T>();
    this.#decodeErrors = 0;
    return {
      add: raw => {
        const key = keyOf(raw);
        const object = this.#decode(raw, this.#known.get(key));
        if (object !== undefined) listed.set(key, object);
      },
      commit: () => {
        this.#known = listed;
        this.#options.sink.replace([...listed.values()]);
      },
    };
  }

  upsert(raw: Raw): void {
    const key = keyOf(raw);
    const object = this.#decode(raw, this.#known.get(key));
    if (object === undefined) {
      this.#remove(key, undefined);
      return;
    }
    this.#known.set(key, object);
    this.#options.sink.upsert(object);
  }

  /** `raw` is the last state of a deleted object. */
  remove(raw: Raw): void {
    this.#remove(keyOf(raw), this.#decode(raw, undefined));
  }

  #remove(key: string, last: T | undefined): void {
    const known = this.#known.get(key);
    if (known === undefined) return;
    this.#known.delete(key);
    this.#options.sink.remove(last ?? known);
  }

  #decode(raw: Raw, before: T | undefined): T | undefined {
    try {
      return this.#options.decode(raw, before);
    } catch (error) {
      this.#decodeErrors += 1;
      this.#options.onDecodeError();
      const level = this.#decodeErrors > warnedDecodeErrorsPerList ? 'debug' : 'warn';
      const facts = { resource: this.#options.resource, object: keyOf(raw), err: error };
      this.#options.log[level](facts, 'object could not be read and is left out');
      return undefined;
    }
  }
}
