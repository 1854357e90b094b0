import type { ServerResponse } from 'node:http';
import type { KubernetesObject } from '../../src/api/kubernetes.ts';
import type { ApiPath } from './api-paths.ts';
import { selectedBy } from './label-query.ts';
import { type Change, type ObjectStore, parseObject } from './object-store.ts';
import { Refusal, statusOf } from './refusal.ts';

/** The API server sends them every minute. */
const bookmarkEveryMs = 5_000;
const defaultTimeoutSeconds = 300;

/**
 * Streams what changes in a collection from a resourceVersion on, one JSON object per line, with bookmarks. Labels of
 * objects are taken to stay as they are: one that stops being selected is not told as DELETED.
 */
export function serveWatch(
  store: ObjectStore,
  path: ApiPath,
  query: URLSearchParams,
  response: ServerResponse,
): void {
  response.writeHead(200, { 'content-type': 'application/json' });
  const send = (type: string, object: object) => void response.write(`${JSON.stringify({ type, object })}\n`);
  const missed = store.changesAfter(Number(query.get('resourceVersion') ?? store.resourceVersion));
  if (missed === undefined) {
    send('ERROR', statusOf(new Refusal(410, 'Expired', 'too old resource version')));
    response.end();
    return;
  }
  const isSelected = selectedBy(query.get('labelSelector'));
  const tell = (change: Change) => {
    if (change.resource !== path.type.resource) return;
    const object = parseObject<KubernetesObject>(change.text);
    if (path.namespace !== undefined && object.metadata.namespace !== path.namespace) return;
    if (isSelected(object)) send(change.type, object);
  };
  for (const change of missed) tell(change);
  response.flushHeaders();
  const unsubscribe = store.subscribe(tell);
  const { apiVersion, kind } = path.type;
  const bookmark = setInterval(() => {
    const metadata = { resourceVersion: String(store.resourceVersion) };
    send('BOOKMARK', { apiVersion, kind, metadata });
  }, bookmarkEveryMs);
  const timeoutSeconds = Number(query.get('timeoutSeconds') ?? defaultTimeoutSeconds);
  const end = setTimeout(() => response.end(), timeoutSeconds * 1000);
  response.on('close', () => {
    unsubscribe();
    clearInterval(bookmark);
    clearTimeout(end);
  });
}
