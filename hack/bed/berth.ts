import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parse } from 'yaml';
import type { KubernetesObject, Pod } from '../../src/api/kubernetes.ts';
import { berth } from '../../src/api/names.ts';
import { mutatePodsPath } from '../../webhooks/plugin.ts';
import { type BerthProcess, type PartialConfig, startBerthProcess } from './berth-process.ts';
import type { Cluster } from './cluster.ts';
import { freePorts } from './ports.ts';

export type { BerthProcess } from './berth-process.ts';

export interface BerthOnClusterOptions {
  /** Any part of Berth's configuration; the rest is set for the bed. */
  readonly config?: PartialConfig;
  /**
   * Whether to install rights and webhooks first, and to wait until the API server calls this replica. Default true;
   * further replicas of the same cluster say false.
   */
  readonly install?: boolean;
  /** Default: a free one. A replica that takes over from a dead one takes its port, for the API server calls that. */
  readonly webhookPort?: number;
  /** Name of its files, to tell several replicas apart. Default `berth`. */
  readonly name?: string;
  /** Default: that of the service account `berth-system/berth`. */
  readonly kubeconfigPath?: string;
}

export interface InstallOptions {
  /** What the API server calls: `https://127.0.0.1:<port>/mutate-pods`. */
  readonly webhookUrl: string;
}

export interface WebhookConfiguration extends KubernetesObject {
  readonly webhooks: readonly { readonly clientConfig: unknown }[];
}

/** What a trial needs of a cluster, be it real or simulated. */
type Requests = Pick<Cluster, 'request'>;

/** Namespace in which nothing ever is: a trial there shows whether the API server calls Berth. */
export const trialNamespace = 'berth-trial';
export const serviceAccount = { namespace: 'berth-system', name: 'berth' } as const;

const deployFolder = join(import.meta.dirname, '../../deploy');
/** Everything of the overlay `pin` but what makes a pod of Berth. */
const manifests = [
  'base/namespace.yaml',
  'base/service-account.yaml',
  'base/rbac-read.yaml',
  'base/rbac-own-namespace.yaml',
  'components/placement/rbac-place.yaml',
  'components/placement/rbac-replan.yaml',
  'components/placement/owned-keys-policy.yaml',
];
const webhookManifest = 'components/placement/mutating-webhook-configuration.yaml';
const trialTimeoutMs = 30_000;
const pollMs = 50;

/**
 * Runs Berth on a cluster as a child of this process, under its own service account, and waits until it is ready; when
 * it installs, also until the API server has its pods reviewed.
 *
 * @throws BerthNotReady, ApiFailure
 */
export async function startBerthOn(
  cluster: Cluster,
  options: BerthOnClusterOptions = {},
): Promise<BerthProcess> {
  const installs = options.install ?? true;
  const [freePort = 0, adminPort = 0] = await freePorts(2);
  const webhookPort = options.webhookPort ?? freePort;
  // Before it starts, since it publishes its authority in the webhook configuration when it starts.
  if (installs) await installBerth(cluster, { webhookUrl: webhookUrlOf(webhookPort) });
  const { namespace, name } = serviceAccount;
  const running = await startBerthProcess({
    kubeconfigPath: options.kubeconfigPath ?? (await cluster.serviceAccountKubeconfig(namespace, name)),
    directory: join(cluster.directory, 'berth'),
    webhookPort,
    adminPort,
    ...(options.config && { config: options.config }),
    ...(options.name !== undefined && { name: options.name }),
  });
  if (!installs) return running;
  try {
    await awaitAdmission(cluster, trialNamespace);
  } catch (error) {
    await running.stop();
    throw error;
  }
  return running;
}

/** Applies rights, policies and webhooks from deploy/, the webhooks by URL: here Berth is a process, not a Service. */
export async function installBerth(cluster: Cluster, { webhookUrl }: InstallOptions): Promise<void> {
  for (const file of manifests) await cluster.applyYaml(await readDeploy(file));
  await cluster.applyYaml(JSON.stringify(await webhookConfiguration(webhookUrl)));
  const metadata = { name: trialNamespace, labels: { [berth.mode]: 'pin' } };
  await cluster.applyYaml(JSON.stringify({ apiVersion: 'v1', kind: 'Namespace', metadata }));
}

/** The webhook configuration of deploy/, with a URL in place of the Service. */
export async function webhookConfiguration(webhookUrl: string): Promise<WebhookConfiguration> {
  const configuration: WebhookConfiguration = parse(await readDeploy(webhookManifest));
  const webhooks = configuration.webhooks.map(webhook => ({ ...webhook, clientConfig: { url: webhookUrl } }));
  return { ...configuration, webhooks };
}

/**
 * Waits until a member of a group would be gated in a namespace. The API server learns of a webhook configuration a
 * moment after it was written, and Berth of a namespace.
 */
export async function awaitAdmission(cluster: Requests, namespace: string): Promise<void> {
  const deadlineMs = Date.now() + trialTimeoutMs;
  let last: unknown;
  while (Date.now() < deadlineMs) {
    try {
      const path = `/api/v1/namespaces/${namespace}/pods?dryRun=All`;
      const pod = await cluster.request<Pod>('POST', path, trialPod());
      if (pod.spec.schedulingGates?.some(gate => gate.name === berth.placementGate)) return;
      last = 'the pod was admitted without a gate';
    } catch (error) {
      last = error;
    }
    await delay(pollMs);
  }
  throw new Error(`the API server did not have a pod reviewed within ${trialTimeoutMs / 1000} s`, {
    cause: last,
  });
}

export function webhookUrlOf(port: number): string {
  return `https://127.0.0.1:${port}${mutatePodsPath}`;
}

function readDeploy(file: string): Promise<string> {
  return readFile(join(deployFolder, file), 'utf8');
}

function trialPod(): Pod {
  const labels = { [berth.group]: 'trial', [berth.groupSize]: '1', [berth.groupRank]: '0' };
  const resources = { limits: { 'nvidia.com/gpu': '1' }, requests: { 'nvidia.com/gpu': '1' } };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'trial', labels },
    spec: { containers: [{ name: 'trial', image: 'trial', resources }] },
  };
}
