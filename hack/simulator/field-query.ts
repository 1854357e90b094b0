import type { KubernetesObject } from '../../src/api/kubernetes.ts';

/** Reads a `fieldSelector` parameter of the form `path=value`, joined by commas; a field that is not there is empty. */
export function fieldsSelectedBy(query: string | null): (object: KubernetesObject) => boolean {
  const requirements = (query ?? '').split(',').filter(part => part !== '');
  return object =>
    requirements.every(requirement => {
      const [path = '', value = ''] = requirement.split('=');
      return (fieldAt(object, path) ?? '') === value;
    });
}

function fieldAt(object: unknown, path: string): unknown {
  return path
    .split('.')
    .reduce<unknown>(
      (at, name) =>
        typeof at === 'object' && at !== null && Object.hasOwn(at, name)
          ? at[name as keyof typeof at]
          : undefined,
      object,
    );
}
