import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type ApiClient, ApiFailure } from './api-client.ts';
import { applyManifest } from './apply.ts';
import { clusterAddress, kubeconfigPathOf, type Layout, serverOf } from './components.ts';
import { kubeconfig } from './kubeconfig.ts';
import { lwsAccess, lwsNamespace, lwsServiceAccount, lwsWebhookConfigurations } from './lws-manifests.ts';

/** The API server takes any lifetime; a year outlives every test. */
const tokenLifetimeSeconds = 365 * 24 * 3600;

interface CustomResourceDefinition {
  readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] };
}

interface CustomResourceDefinitionList {
  readonly items: readonly CustomResourceDefinition[];
}

/** Brings what the LWS manager needs before it starts: its kinds, its rights and a kubeconfig. */
export async function installLws(
  client: ApiClient,
  layout: Layout,
  manifests: string,
  caPem: string,
): Promise<void> {
  const access = applyManifest(
    client,
    lwsAccess(await readFile(join(manifests, 'rbac/role.yaml'), 'utf8')),
    false,
  );
  await Promise.all([access, applyCrds(client, join(manifests, 'crd/bases'))]);
  const token = await requestToken(client, lwsNamespace, lwsServiceAccount);
  const text = kubeconfig(serverOf(layout), caPem, { kind: 'token', token }, lwsNamespace);
  await writeFile(kubeconfigPathOf(layout, 'lws'), text, { mode: 0o600 });
}

/** Lets the API server call the manager's webhooks, by URL. */
export async function registerLwsWebhooks(
  client: ApiClient,
  layout: Layout,
  manifests: string,
  caPem: string,
): Promise<void> {
  const read = (file: string) => readFile(join(manifests, 'webhook', file), 'utf8');
  const sources = {
    manifests: await read('manifests.yaml'),
    mutatingPatch: await read('mutating-patch.yaml'),
    validatingPatch: await read('validating-patch.yaml'),
  };
  const baseUrl = `https://${clusterAddress}:${layout.ports['lws-webhook']}`;
  await applyManifest(client, lwsWebhookConfigurations(sources, baseUrl, caPem));
}

/**
 * Whether a LeaderWorkerSet could be created now, defaults of the webhook included. The API server learns of webhook
 * configurations a moment after they are written, so only a trial shows it.
 */
export async function lwsWebhookAnswers(client: ApiClient): Promise<boolean> {
  const trial = {
    apiVersion: 'leaderworkerset.x-k8s.io/v1',
    kind: 'LeaderWorkerSet',
    metadata: { name: 'bed-trial' },
    spec: {
      leaderWorkerTemplate: {
        size: 1,
        workerTemplate: { spec: { containers: [{ name: 'c', image: 'c' }] } },
      },
    },
  };
  const path = '/apis/leaderworkerset.x-k8s.io/v1/namespaces/default/leaderworkersets?dryRun=All';
  try {
    const made = await client.request<{
      spec: { rolloutStrategy?: { rollingUpdateConfiguration?: unknown } };
    }>('POST', path, trial);
    return made.spec.rolloutStrategy?.rollingUpdateConfiguration !== undefined;
  } catch (error) {
    if (error instanceof ApiFailure) return false;
    throw error;
  }
}

/** A token of a service account, as a pod would get it mounted. */
export async function requestToken(client: ApiClient, namespace: string, name: string): Promise<string> {
  const answer = await client.request<{ status: { token: string } }>(
    'POST',
    `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`,
    {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: { expirationSeconds: tokenLifetimeSeconds },
    },
  );
  return answer.status.token;
}

/** A manager that starts before its kinds are served waits 10 s before it looks again. */
async function applyCrds(client: ApiClient, folder: string): Promise<void> {
  const files = await readdir(folder);
  await Promise.all(
    files.map(async file => applyManifest(client, await readFile(join(folder, file), 'utf8'))),
  );
  while (!(await areEstablished(client, files.length))) await new Promise(resolve => setTimeout(resolve, 50));
}

async function areEstablished(client: ApiClient, count: number): Promise<boolean> {
  const path = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
  const { items } = await client.request<CustomResourceDefinitionList>('GET', path);
  const established = items.filter(({ status }) =>
    status?.conditions?.some(condition => condition.type === 'Established' && condition.status === 'True'),
  );
  return established.length >= count;
}
