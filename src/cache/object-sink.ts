/** Receives decoded objects of one resource; the reflector's counterpart. */
export interface ObjectSink<T> {
  upsert(object: T): void;
  remove(object: T): void;
  /** The complete list: whatever is not in it is gone. */
  replace(objects: readonly T[]): void;
}

/** How the cache takes in objects of one resource. */
export interface ObjectReducer<T> {
  /** Both answer `false` when nothing has changed. */
  readonly upsert: (object: T) => unknown;
  readonly remove: (object: T) => unknown;
  readonly known: () => ReadonlyMap<string, T>;
  readonly keyOf: (object: T) => string;
}

/** @param settle ends a change, be it one object or a whole list */
export function objectSink<T>(
  { upsert, remove, known, keyOf }: ObjectReducer<T>,
  settle: () => void,
): ObjectSink<T> {
  return {
    upsert: object => {
      if (upsert(object) !== false) settle();
    },
    remove: object => {
      if (remove(object) !== false) settle();
    },
    replace: objects => {
      const listed = new Set(objects.map(keyOf));
      for (const [key, object] of [...known()]) if (!listed.has(key)) remove(object);
      for (const object of objects) upsert(object);
      settle();
    },
  };
}
