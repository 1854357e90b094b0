/** Questions to objects whose type nobody has checked: what an API server, or a proxy in its place, sent. */

/** `namespace/name`, or the name of an object without namespace: unique within one resource at a time. */
export function keyOf(raw: unknown): string {
  const { namespace, name } = metadataOf(raw);
  return typeof namespace === 'string' ? `${namespace}/${name}` : `${name}`;
}

export function resourceVersionOf(raw: unknown): string | undefined {
  const { resourceVersion } = metadataOf(raw);
  return typeof resourceVersion === 'string' && resourceVersion !== '' ? resourceVersion : undefined;
}

function metadataOf(raw: unknown): Readonly<Record<string, unknown>> {
  const metadata = isRecord(raw) ? raw['metadata'] : undefined;
  return isRecord(metadata) ? metadata : {};
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
