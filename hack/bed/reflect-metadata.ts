/**
 * @peculiar/x509 registers its algorithms with a container that wants the metadata half of `Reflect`, a proposal that
 * JavaScript never took up. These are the three functions it calls. Import this file before @peculiar/x509.
 */

type Metadata = Map<unknown, unknown>;

const metadataOf = new WeakMap<object, Metadata>();

if (!('getMetadata' in Reflect)) {
  Object.assign(Reflect, { defineMetadata, getMetadata, getOwnMetadata });
}

function defineMetadata(key: unknown, value: unknown, target: object): void {
  const metadata = metadataOf.get(target) ?? new Map();
  metadataOf.set(target, metadata.set(key, value));
}

function getOwnMetadata(key: unknown, target: object): unknown {
  return metadataOf.get(target)?.get(key);
}

function getMetadata(key: unknown, target: object): unknown {
  for (let current: object | null = target; current !== null; current = Object.getPrototypeOf(current)) {
    if (metadataOf.get(current)?.has(key)) return getOwnMetadata(key, current);
  }
  return undefined;
}
