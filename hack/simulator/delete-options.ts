/** Conditions under which an object may be deleted, and how. */
export interface DeleteOptions {
  readonly uid?: string | undefined;
  readonly resourceVersion?: string | undefined;
  /** `Foreground`: dependents first. Anything else means background here. */
  readonly propagationPolicy?: string | undefined;
  /** For bound pods; default is what their kubelet grants them. */
  readonly gracePeriodSeconds?: number | undefined;
  readonly isDryRun?: boolean;
}

/** Reads a DeleteOptions object; what is not there, or not of its type, is left out. */
export function readDeleteOptions(body: unknown): DeleteOptions {
  const preconditions = fieldOf(body, 'preconditions');
  const gracePeriodSeconds = fieldOf(body, 'gracePeriodSeconds');
  const dryRun = fieldOf(body, 'dryRun');
  return {
    uid: textOf(fieldOf(preconditions, 'uid')),
    resourceVersion: textOf(fieldOf(preconditions, 'resourceVersion')),
    propagationPolicy: textOf(fieldOf(body, 'propagationPolicy')),
    ...(typeof gracePeriodSeconds === 'number' && { gracePeriodSeconds }),
    isDryRun: Array.isArray(dryRun) && dryRun.includes('All'),
  };
}

/** The options inside a policy/v1 Eviction. */
export function readEviction(body: unknown): DeleteOptions {
  return readDeleteOptions(fieldOf(body, 'deleteOptions'));
}

function fieldOf(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  return Object.entries(value).find(([key]) => key === name)?.[1];
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}
