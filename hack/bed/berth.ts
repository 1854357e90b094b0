import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parse, stringify } from 'yaml';
import type { KubernetesObject, Pod } from '../../src/api/kubernetes.ts';
import { berth } from '../../src/api/names.ts';
import { mutatePodsPath } from '../../webhooks/plugin.ts';
import { type BerthProcess, merged, type PartialConfig, startBerthProcess } from './berth-process.ts';
import type { Cluster } from './cluster.ts';
import { awaitFreePort, freePorts } from './ports.ts';

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
  /** Default: a free one. Likewise, for kube-scheduler calls that. */
  readonly extenderPort?: number;
  /** Name of its files, to tell several replicas apart. Default `berth`. */
  readonly name?: string;
  /** Default: that of the service account `berth-system/berth`. */
  readonly kubeconfigPath?: string;
}

export interface InstallOptions {
  /** What the API server calls for pods: `https://127.0.0.1:<port>/mutate-pods`. For claims only the path differs. */
  readonly webhookUrl: string;
}

export interface WebhookConfiguration extends KubernetesObject {
  readonly webhooks: readonly {
    readonly clientConfig: { readonly service?: { readonly path?: string }; readonly url?: string };
  }[];
}

/** Placement modes for which deploy/ has a configuration of kube-scheduler. */
export type SchedulerMode = 'pin-extender' | 'extender';

export interface SchedulerOverrides {
  /** Laid over the configuration of the one extender. */
  readonly extender?: PartialConfig;
  /** Laid over the rest of the KubeSchedulerConfiguration. */
  readonly configuration?: PartialConfig;
}

interface SchedulerConfiguration {
  readonly [key: string]: unknown;
  readonly extenders: readonly PartialConfig[];
}

/** What a trial needs of a cluster, be it real or simulated. */
type Requests = Pick<Cluster, 'request'>;

/** Namespace in which nothing ever is: a trial there shows whether the API server calls Berth. */
export const trialNamespace = 'berth-trial';
export const serviceAccount = { namespace: 'berth-system', name: 'berth' } as const;

const deployFolder = join(import.meta.dirname, '../../deploy');
/**
 * Everything of the overlay `pin` and of the component `failure` but what makes a pod of Berth. The ConfigMap is here to
 * be annotated: this Berth reads its configuration from a file.
 */
const manifests = [
  'base/namespace.yaml',
  'base/service-account.yaml',
  'base/rbac-read.yaml',
  'base/rbac-own-namespace.yaml',
  'base/config.yaml',
  'components/plan/rbac-place.yaml',
  'components/plan/owned-keys-policy.yaml',
  'components/webhooks/rbac-webhooks.yaml',
  'components/replan/rbac-replan.yaml',
  'components/steering/rbac-steer.yaml',
  'components/failure/rbac-drain.yaml',
  'components/failure/rbac-evict.yaml',
  'components/failure/rbac-exclude.yaml',
  'components/failure/rbac-records.yaml',
];
const webhookManifest = 'components/webhooks/mutating-webhook-configuration.yaml';
/** Keys of the Secret, and the files that the shipped configurations name. */
const clientFiles = {
  caFile: { key: 'ca.crt', file: 'ca.crt' },
  certFile: { key: 'extender-client.crt', file: 'client.crt' },
  keyFile: { key: 'extender-client.key', file: 'client.key' },
} as const;
const certificateSecret = 'berth-tls';
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
  const [freeWebhookPort = 0, freeExtenderPort = 0, adminPort = 0] = await freePorts(3);
  const webhookPort = options.webhookPort ?? freeWebhookPort;
  const extenderPort = options.extenderPort ?? freeExtenderPort;
  for (const port of [options.webhookPort, options.extenderPort])
    if (port !== undefined) await awaitFreePort(port);
  // Before it starts, since it publishes its authority in the webhook configuration when it starts.
  if (installs) await installBerth(cluster, { webhookUrl: webhookUrlOf(webhookPort) });
  const { namespace, name } = serviceAccount;
  const running = await startBerthProcess({
    kubeconfigPath: options.kubeconfigPath ?? (await cluster.serviceAccountKubeconfig(namespace, name)),
    directory: join(cluster.directory, 'berth'),
    webhookPort,
    extenderPort,
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

/** The webhook configuration of deploy/, with a URL in place of the Service, the path kept. */
export async function webhookConfiguration(webhookUrl: string): Promise<WebhookConfiguration> {
  const configuration: WebhookConfiguration = parse(await readDeploy(webhookManifest));
  const webhooks = configuration.webhooks.map(webhook => {
    const { href } = new URL(webhook.clientConfig.service?.path ?? '', webhookUrl);
    return { ...webhook, clientConfig: { url: href } };
  });
  return { ...configuration, webhooks };
}

/**
 * The configuration of kube-scheduler that deploy/ ships for a mode, with the address of this Berth and the client
 * certificate of its cluster, for `Cluster.restartScheduler`. The bed sets kubeconfig and leader election itself.
 *
 * @throws when Berth has not yet made its certificates: start it first
 */
export async function schedulerConfigFor(
  cluster: Pick<Cluster, 'request' | 'directory'>,
  mode: SchedulerMode,
  berth: Pick<BerthProcess, 'extenderPort'>,
  overrides: SchedulerOverrides = {},
): Promise<string> {
  const { extenders, ...shipped }: SchedulerConfiguration = parse(await readDeploy(`scheduler/${mode}.yaml`));
  const { clientConnection: _, leaderElection: __, ...rest } = shipped;
  const here = {
    urlPrefix: `https://127.0.0.1:${berth.extenderPort}/`,
    tlsConfig: await writeClientFiles(cluster),
  };
  const ready = extenders.map(extender => merged(merged(extender, here), overrides.extender ?? {}));
  return stringify(merged({ ...rest, extenders: ready }, overrides.configuration ?? {}));
}

/** Files, as on a control plane, for kube-scheduler reads those again when the certificate is renewed. */
async function writeClientFiles(
  cluster: Pick<Cluster, 'request' | 'directory'>,
): Promise<Record<keyof typeof clientFiles, string>> {
  const { namespace } = serviceAccount;
  const path = `/api/v1/namespaces/${namespace}/secrets/${certificateSecret}`;
  const { data = {} } = await cluster.request<{ data?: Readonly<Record<string, string>> }>('GET', path);
  const folder = join(cluster.directory, 'berth', 'extender-client');
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const write = async ({ key, file }: { readonly key: string; readonly file: string }) => {
    const value = data[key];
    if (value === undefined) throw new Error(`Secret ${namespace}/${certificateSecret} has no ${key}`);
    const target = join(folder, file);
    await writeFile(target, Buffer.from(value, 'base64'), { mode: 0o600 });
    return target;
  };
  return {
    caFile: await write(clientFiles.caFile),
    certFile: await write(clientFiles.certFile),
    keyFile: await write(clientFiles.keyFile),
  };
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
