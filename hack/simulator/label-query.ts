import type { KubernetesObject } from '../../src/api/kubernetes.ts';

/** Reads a `labelSelector` parameter of the forms `key`, `!key`, `key=value`, joined by commas. */
export function selectedBy(query: string | null): (object: KubernetesObject) => boolean {
  const requirements = (query ?? '').split(',').filter(part => part !== '');
  return ({ metadata }) => requirements.every(requirement => isMet(requirement, metadata.labels ?? {}));
}

function isMet(requirement: string, labels: Readonly<Record<string, string>>): boolean {
  if (requirement.startsWith('!')) return labels[requirement.slice(1)] === undefined;
  const [key = '', value] = requirement.split('=');
  return value === undefined ? labels[key] !== undefined : labels[key] === value;
}
