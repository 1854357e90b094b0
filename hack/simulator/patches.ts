import jsonPatch, { type Operation } from 'fast-json-patch';
import type { KubernetesObject } from '../../src/api/kubernetes.ts';
import { parseObject } from './object-store.ts';
import { conflict, Refusal } from './refusal.ts';

type Tree = Readonly<Record<string, unknown>>;

/** Keys by which strategic merge patches merge lists of objects, for the lists that Berth and kubelets patch. */
const mergeKeys: Readonly<Record<string, string>> = { conditions: 'type', containerStatuses: 'name' };

/**
 * Applies a patch of any kind that the API server takes from Berth.
 *
 * @throws Refusal 422 for a JSON Patch that does not apply, 409 for a UID or resourceVersion that is not the object's
 */
export function patched<T extends KubernetesObject>(object: T, contentType: string, body: unknown): T {
  switch (contentType.split(';')[0]) {
    case 'application/json-patch+json':
      return applyJsonPatch(object, body);
    case 'application/merge-patch+json':
      return applyMerge(object, body, {});
    case 'application/strategic-merge-patch+json':
      return applyMerge(object, body, mergeKeys);
    default:
      throw new Refusal(415, 'UnsupportedMediaType', `patches of type ${contentType} are not served`);
  }
}

/** Applies the operations of a JSON Patch, all or none. */
export function applyJsonPatch<T extends KubernetesObject>(object: T, body: unknown): T {
  if (!Array.isArray(body)) throw new Refusal(400, 'BadRequest', 'a JSON Patch is a list');
  let result: T = object;
  for (const operation of body) {
    if (isPassedTestOfAbsence(result, operation)) continue;
    try {
      result = jsonPatch.applyOperation(result, operation, true, false).newDocument;
    } catch (error) {
      const what = error instanceof Error ? error.message : String(error);
      throw new Refusal(422, 'Invalid', `the JSON Patch does not apply: ${what.split('\n')[0]}`);
    }
  }
  return result;
}

/** The API server's patch library (evanphx/json-patch) takes a `test` for null as passed where nothing is. */
function isPassedTestOfAbsence(object: KubernetesObject, operation: Operation): boolean {
  if (operation.op !== 'test' || operation.value !== null) return false;
  try {
    return jsonPatch.getValueByPointer(object, operation.path) === undefined;
  } catch {
    return true;
  }
}

function applyMerge<T extends KubernetesObject>(
  object: T,
  body: unknown,
  keys: Readonly<Record<string, string>>,
): T {
  if (!isTree(body)) throw new Refusal(400, 'BadRequest', 'a merge patch is an object');
  const result = parseObject<T>(
    JSON.stringify(merged(Object.fromEntries(Object.entries(object)), body, keys)),
  );
  const { uid, resourceVersion, name } = object.metadata;
  const { metadata } = result;
  if (metadata.uid !== uid || metadata.resourceVersion !== resourceVersion) throw conflict(name ?? '');
  return result;
}

/** RFC 7386, save that lists with a merge key are merged object by object. */
function merged(below: Tree, patch: Tree, keys: Readonly<Record<string, string>>): Tree {
  const result: Record<string, unknown> = { ...below };
  for (const [name, value] of Object.entries(patch)) {
    const beneath = result[name];
    const key = keys[name];
    if (value === null) delete result[name];
    else if (key !== undefined && Array.isArray(value)) {
      result[name] = mergedList(Array.isArray(beneath) ? beneath : [], value, key);
    } else if (isTree(value)) result[name] = merged(isTree(beneath) ? beneath : {}, value, keys);
    else result[name] = value;
  }
  return result;
}

function mergedList(below: readonly Tree[], patch: readonly Tree[], key: string): readonly Tree[] {
  const result = new Map(below.map(item => [item[key], item]));
  for (const item of patch) result.set(item[key], { ...result.get(item[key]), ...item });
  return [...result.values()];
}

function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
