import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';

/** A mapping of a manifest. Fields that are not there read as undefined, as do those of anything but a mapping. */
export type Fields = Readonly<Record<string, unknown>>;

export interface Manifest {
  /** Path below deploy/. */
  readonly file: string;
  readonly kind: string;
  readonly name: string;
  readonly object: Fields;
}

export const deployFolder = join(import.meta.dirname, '../../../deploy');

export const yamlFiles: readonly string[] = globSync('**/*.yaml', { cwd: deployFolder }).sort();

/** Every Kubernetes object below deploy/; kustomizations and configurations of kube-scheduler are none. */
export function readManifests(): readonly Manifest[] {
  return yamlFiles
    .filter(file => !file.endsWith('kustomization.yaml') && !file.startsWith('scheduler/'))
    .flatMap(file =>
      documentsOf(file).map(object => ({
        file,
        kind: String(object['kind']),
        name: String(at(object, 'metadata', 'name')),
        object,
      })),
    );
}

/** @throws the parser's error, with its position, for anything that is no YAML */
export function documentsOf(file: string): readonly Fields[] {
  const documents = parseAllDocuments(readFileSync(join(deployFolder, file), 'utf8'), { uniqueKeys: true });
  return [...documents].map(document => {
    const [error] = document.errors;
    if (error !== undefined) throw error;
    return fieldsOf(document.toJS());
  });
}

/** What stands at a path; undefined when a part of the path is missing. */
export function at(value: unknown, ...path: readonly (string | number)[]): unknown {
  return path.reduce((inner, key) => {
    if (Array.isArray(inner)) return inner[Number(key)];
    return fieldsOf(inner)[key];
  }, value);
}

/** The mappings in a list; none where there is no list. */
export function listOf(value: unknown): readonly Fields[] {
  return Array.isArray(value) ? value.map(fieldsOf) : [];
}

export function stringsOf(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.map(String) : [];
}

export function fieldsOf(value: unknown): Fields {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}
