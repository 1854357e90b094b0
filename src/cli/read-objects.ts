import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isMap, isNode, isSeq, LineCounter, parseAllDocuments } from 'yaml';
import { firstLineOf, InputError } from './input-error.ts';

export type FieldPath = readonly (string | number)[];

/** One Kubernetes object as it stood in a file. */
export interface SourceObject {
  readonly kind: string;
  readonly value: Readonly<Record<string, unknown>>;
  /** `file:line` of a field, or of the nearest parent that is there. */
  readonly placeOf: (path: FieldPath) => string;
}

const extensions = ['.yaml', '.yml', '.json', '.jsonl'];
/** Beyond this a JSON text is not read a second time just to name a line. */
const largestTextForLines = 8_000_000;

/**
 * Reads every object of some files, of the manifests that lie directly in some folders, or of standard input (`-`):
 * YAML documents, JSON, or one JSON object per line, lists of any kind included.
 * @throws InputError that names file and line
 */
export async function readObjects(
  sources: readonly string[],
  readStdin: () => Promise<string>,
): Promise<readonly SourceObject[]> {
  const objects: SourceObject[] = [];
  for (const source of sources) {
    for (const file of await filesOf(source)) {
      const text = file === '-' ? await readStdin() : await textOf(file);
      objects.push(...parseObjects(text, file === '-' ? '<stdin>' : file));
    }
  }
  return objects;
}

/** @throws InputError that names the line */
export function parseObjects(text: string, file: string): readonly SourceObject[] {
  const documents = parseJson(text, file) ?? parseYaml(text, file);
  return documents.flatMap(({ value, placeOf }) => expand(value, [], placeOf));
}

async function filesOf(source: string): Promise<readonly string[]> {
  if (source === '-') return ['-'];
  const isFolder = await stat(source).then(
    found => found.isDirectory(),
    () => false,
  );
  if (!isFolder) return [source];
  const names = (await readdir(source)).filter(name => extensions.some(end => name.endsWith(end))).sort();
  if (names.length === 0) throw new InputError([`${source}: the folder holds no ${extensions.join(', ')}`]);
  return names.map(name => join(source, name));
}

async function textOf(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new InputError([`${file} cannot be read: ${firstLineOf(error)}`]);
  }
}

interface Document {
  readonly value: unknown;
  readonly placeOf: (path: FieldPath) => string;
}

/** Undefined for a text that is no JSON from its beginning on: as YAML it may still be right, or say where it is not. */
function parseJson(text: string, file: string): readonly Document[] | undefined {
  if (!/^\s*[{[]/.test(text)) return undefined;
  const whole = jsonOf(text);
  if (whole !== undefined) return [{ value: whole.value, placeOf: placesInJson(text, file) }];
  return parseJsonLines(text, file);
}

function parseJsonLines(text: string, file: string): readonly Document[] | undefined {
  const documents: Document[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    const place = `${file}:${index + 1}`;
    const parsed = jsonOf(line);
    if (parsed !== undefined) documents.push({ value: parsed.value, placeOf: () => place });
    else if (documents.length === 0) return undefined;
    else throw new InputError([`${place}: the line is no JSON, though those before it are`]);
  }
  return documents;
}

function jsonOf(text: string): { readonly value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) };
  } catch {
    return undefined;
  }
}

function parseYaml(text: string, file: string): readonly Document[] {
  const lines = new LineCounter();
  const parsed = parseAllDocuments(text, { lineCounter: lines, merge: true, uniqueKeys: true });
  const documents = Array.isArray(parsed) ? parsed : [];
  const placeAt = (offset: number) => `${file}:${lines.linePos(offset).line}`;
  const problems = documents.flatMap(({ errors }) =>
    errors.map(error => `${placeAt(error.pos[0])}: ${firstLineOf(error)}`),
  );
  if (problems.length > 0) throw new InputError(problems);
  return documents.map(document => ({
    value: yamlValue(() => document.toJS(), `${placeAt(document.range[0])}`),
    placeOf: path => placeAt(offsetOf(document.contents, path)),
  }));
}

/** Too many aliases, or one without anchor, show only here. */
function yamlValue(read: () => unknown, place: string): unknown {
  try {
    return read();
  } catch (error) {
    throw new InputError([`${place}: ${firstLineOf(error)}`]);
  }
}

/** JSON is YAML, whose parser knows where things stand; it is slow, so it is asked only when there is something to tell. */
function placesInJson(text: string, file: string): Document['placeOf'] {
  let placeOf: Document['placeOf'] | undefined;
  return path => {
    if (text.length > largestTextForLines) return file;
    placeOf ??= parseYaml(text, file)[0]?.placeOf;
    return placeOf?.(path) ?? file;
  };
}

function offsetOf(contents: unknown, path: FieldPath): number {
  let node = contents;
  let offset = isNode(node) ? (node.range?.[0] ?? 0) : 0;
  for (const part of path) {
    const pair = isMap(node)
      ? node.items.find(({ key }) => isNode(key) && String(key) === String(part))
      : undefined;
    if (pair !== undefined && isNode(pair.key)) offset = pair.key.range?.[0] ?? offset;
    node = isSeq(node) ? node.items[Number(part)] : pair?.value;
    if (!isNode(node)) return offset;
    if (pair === undefined) offset = node.range?.[0] ?? offset;
  }
  return offset;
}

function expand(value: unknown, at: FieldPath, placeOf: Document['placeOf']): readonly SourceObject[] {
  // Between two `---` there may be nothing.
  if (value === null || value === undefined) return [];
  if (Array.isArray(value)) return value.flatMap((item, i) => expand(item, [...at, i], placeOf));
  const kind = isRecord(value) ? value['kind'] : undefined;
  if (!isRecord(value) || typeof kind !== 'string' || kind === '')
    throw new InputError([`${placeOf(at)}: is no Kubernetes object, for it has no kind`]);
  const items = value['items'];
  if (kind.endsWith('List') && Array.isArray(items)) {
    // The API server leaves the kind out of the items of a list.
    const itemKind = kind.slice(0, -'List'.length);
    return items.flatMap((item, i) =>
      expand(
        isRecord(item) && itemKind !== '' ? { kind: itemKind, ...item } : item,
        [...at, 'items', i],
        placeOf,
      ),
    );
  }
  return [{ kind, value, placeOf: path => placeOf([...at, ...path]) }];
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
