import type { ApiClient } from './api-client.ts';

/** Release of the API server, e.g. 1.37. */
export interface ServerVersion {
  readonly major: number;
  readonly minor: number;
}

/** What the API server says it is; undefined when it says nothing that can be read. Vendors put a `+` behind the minor. */
export async function readServerVersion(client: ApiClient): Promise<ServerVersion | undefined> {
  const { major, minor } = await client.request<{ major?: unknown; minor?: unknown }>({
    method: 'GET',
    path: '/version',
  });
  const numbers = [major, minor].map(text =>
    typeof text === 'string' && /^\d+\+?$/.test(text) ? Number.parseInt(text, 10) : undefined,
  );
  const [majorNumber, minorNumber] = numbers;
  if (majorNumber === undefined || minorNumber === undefined) return undefined;
  return { major: majorNumber, minor: minorNumber };
}

/**
 * Whether kube-controller-manager makes a claim again that was deleted under a pod. Up to 1.36 it goes on believing in a
 * claim that it has made itself for an hour after that is gone (pkg/controller/resourceclaim controller.go: MutationCache),
 * and the pod waits for so long.
 */
export function remakesDeletedClaims({ major, minor }: ServerVersion): boolean {
  return major > 1 || (major === 1 && minor >= 37);
}
