import { setTimeout as delay } from 'node:timers/promises';
import { parse } from 'yaml';
import { type ApiClient, ApiFailure } from './api-client.ts';

/** One document of a manifest: what it is, and its own text as the API server shall read it. */
export interface ManifestDocument {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly namespace: string | undefined;
  readonly text: string;
}

interface ResourceList {
  readonly resources: readonly {
    readonly name: string;
    readonly kind: string;
    readonly namespaced: boolean;
  }[];
}

const fieldManager = 'berth-bed';
const defaultNamespace = 'default';
/** A CRD of the same manifest is served a moment after it was applied, and so is a new namespace's service account. */
const settleTimeoutMs = 15_000;
const pollMs = 100;

/**
 * Server-side apply of all documents of a manifest, in order.
 *
 * @param awaitNamespaces whether to wait, after a Namespace, for its default service account, without which pods are
 *   refused there; kube-controller-manager makes it
 * @throws ApiFailure
 */
export async function applyManifest(client: ApiClient, text: string, awaitNamespaces = true): Promise<void> {
  for (const document of splitManifest(text)) {
    const path = await settled(() => resourcePathOf(client, document));
    await client.request(
      'PATCH',
      `${path}?fieldManager=${fieldManager}&force=true`,
      document.text,
      'application/apply-patch+yaml',
    );
    if (document.kind === 'Namespace' && awaitNamespaces) {
      await settled(() => client.request('GET', `${path}/serviceaccounts/default`));
    }
  }
}

/** Splits at `---` lines, as kubectl does, and resolves List objects; empty documents are left out. */
export function splitManifest(text: string): ManifestDocument[] {
  return text.split(/^---(?:[ \t].*)?$/m).flatMap(part => {
    const content: unknown = parse(part);
    if (content === null || content === undefined) return [];
    return documentsOf(content, part);
  });
}

function documentsOf(content: unknown, text: string): ManifestDocument[] {
  const { apiVersion, kind, metadata, items } = fieldsOf(content);
  if (typeof apiVersion !== 'string' || typeof kind !== 'string') {
    throw new Error(`a document of the manifest has no apiVersion or kind:\n${text.trim().slice(0, 200)}`);
  }
  if (kind === 'List' && Array.isArray(items))
    return items.flatMap(item => documentsOf(item, JSON.stringify(item)));
  const { name, namespace } = fieldsOf(metadata);
  if (typeof name !== 'string')
    throw new Error(`${kind} in the manifest has no metadata.name, which apply needs`);
  return [{ apiVersion, kind, name, namespace: typeof namespace === 'string' ? namespace : undefined, text }];
}

/**
 * Path of the object that a document describes, found by discovery.
 *
 * @throws ApiFailure 404 when the server does not know the kind (yet)
 */
async function resourcePathOf(client: ApiClient, document: ManifestDocument): Promise<string> {
  const { apiVersion, kind, name } = document;
  const group = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const { resources } = await client.request<ResourceList>('GET', group);
  const resource = resources.find(candidate => candidate.kind === kind && !candidate.name.includes('/'));
  if (resource === undefined) {
    throw new ApiFailure('GET', group, 404, { message: `the server does not know ${kind} in ${apiVersion}` });
  }
  const scope = resource.namespaced ? `/namespaces/${document.namespace ?? defaultNamespace}` : '';
  return `${group}${scope}/${resource.name}/${name}`;
}

async function settled<T>(attempt: () => Promise<T>): Promise<T> {
  const deadlineMs = Date.now() + settleTimeoutMs;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      const isAbsent = error instanceof ApiFailure && error.status === 404;
      if (!isAbsent || Date.now() > deadlineMs) throw error;
      await delay(pollMs);
    }
  }
}

function fieldsOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}
