import type { ApiClient, Query } from './api-client.ts';
import { ApiGarbled } from './api-errors.ts';
import { isRecord } from './raw-object.ts';

export interface PagedList<Raw> {
  readonly client: ApiClient;
  readonly path: string;
  readonly query?: Query | undefined;
  readonly pageSize: number;
  /** Limit for one page. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** Called for every object, in the server's order; `apiVersion` and `kind` are there as in watch events. */
  readonly onObject: (raw: Raw) => void;
}

interface ListPage<Raw> {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata?: { readonly resourceVersion?: string; readonly continue?: string };
  readonly items?: readonly Raw[] | null;
}

/**
 * Reads a list to its end and returns its resourceVersion. Without a resourceVersion parameter it is a quorum read,
 * consistent as of its beginning however many pages follow. A page is handed out before the next is asked for, so
 * only one page of full objects is in memory, and other work gets its turn in between.
 * Throws as `ApiClient.request`; an expired continue token is an ApiError of kind `expired`.
 */
export async function readPagedList<Raw>(list: PagedList<Raw>): Promise<string> {
  let token: string | undefined;
  for (;;) {
    const page = await list.client.request<ListPage<Raw>>({
      method: 'GET',
      path: list.path,
      query: { ...list.query, limit: list.pageSize, continue: token },
      timeoutMs: list.timeoutMs,
      signal: list.signal,
    });
    // `{}` from something between us and the API server must not pass for "nothing exists".
    const resourceVersion = page?.metadata?.resourceVersion;
    if (!resourceVersion || page.items === undefined)
      throw new ApiGarbled(`${list.path}: the answer is not a list`);
    handOut(page, list.onObject);
    token = page.metadata?.continue;
    if (token === undefined || token === '') return resourceVersion;
    await nextTurn();
  }
}

function handOut<Raw>(page: ListPage<Raw>, onObject: (raw: Raw) => void): void {
  const kind = page.kind?.replace(/List$/, '');
  for (const raw of page.items ?? []) {
    // Items of a list of a built-in resource come without the two fields that objects of a watch have.
    if (isRecord(raw)) nameType(raw, page.apiVersion, kind);
    onObject(raw);
  }
}

function nameType(
  raw: Record<string, unknown>,
  apiVersion: string | undefined,
  kind: string | undefined,
): void {
  raw['apiVersion'] ??= apiVersion;
  raw['kind'] ??= kind;
}

function nextTurn(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve));
}
