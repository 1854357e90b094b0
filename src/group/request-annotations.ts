/** Annotations that may hold a request, most specific first: the leader pod's, the worker template's, the owner's. */
export type AnnotationSources = readonly (Readonly<Record<string, string>> | undefined)[];

export interface TopologyRequestError {
  readonly code: 'InvalidTopology';
  readonly field: string;
  readonly message: string;
  /** Wrong under any configuration of levels, so that the pod may be refused as it comes. */
  readonly permanent: boolean;
}

/** The value of the first of some keys that any source has, the first key in all sources first. */
export function firstAnnotation(
  sources: AnnotationSources,
  keys: readonly string[],
): { readonly key: string; readonly value: string } | undefined {
  for (const key of keys) {
    const value = sources.find(source => source?.[key] !== undefined)?.[key];
    if (value !== undefined) return { key, value };
  }
  return undefined;
}

/** `rule` goes on the sentence that starts with the field. */
export function invalidTopology(
  key: string,
  rule: string,
  { permanent }: { readonly permanent: boolean },
): TopologyRequestError {
  const field = `metadata.annotations[${key}]`;
  return { code: 'InvalidTopology', field, message: `${field} ${rule}`, permanent };
}

export function isRequestError(value: object | undefined): value is TopologyRequestError {
  return value !== undefined && 'code' in value && value.code === 'InvalidTopology';
}
