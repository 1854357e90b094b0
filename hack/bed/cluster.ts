import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { WatchListener } from './api-client.ts';
import { BedCluster } from './bed-cluster.ts';
import { type Binaries, ensureBinaries } from './build.ts';
import type { Component, Layout } from './components.ts';
import { installLws, registerLwsWebhooks } from './lws.ts';
import { killProcesses, type Launch } from './processes.ts';
import { prepareRun, readRun, removeRun } from './run-folder.ts';
import { Watchdog } from './watchdog.ts';

export interface ClusterOptions {
  /** A KubeSchedulerConfiguration; kubeconfig, client rate and leader election are filled in. Default: stock. */
  readonly schedulerConfig?: string;
  /** Flags to add to a component's own; a repeated flag wins. */
  readonly extraArgs?: Partial<Record<Component, readonly string[]>>;
  /** `many` from about 1,000 nodes on: leases are renewed more seldom and waited for longer. Default `few`. */
  readonly nodes?: 'few' | 'many';
  /** Whether to run the LeaderWorkerSet manager. Default true. */
  readonly lws?: boolean;
  /** Whether to run KWOK in place of kubelets. Default true. */
  readonly kwok?: boolean;
  /** Where logs and audit log go, and stay. Default: inside the run folder, which goes with `stop`. */
  readonly logDirectory?: string;
  /**
   * Lets the cluster outlive this process, until `destroyCluster`. Default false: it ends with its owner, however that
   * ends.
   */
  readonly detached?: boolean;
  /** Where else to write the state file for `attachCluster`; it is always at `stateFile` of the cluster. */
  readonly stateFile?: string;
  /** Told what is being waited for. */
  readonly onProgress?: (text: string) => void;
}

export interface StopOptions {
  /** Keeps the run folder for its logs and prints where it is. Default: when the process has set an exit code. */
  readonly keepLogs?: boolean;
}

/** A control plane on this machine, with its controllers and KWOK. */
export interface Cluster {
  readonly directory: string;
  /** The admin's. */
  readonly kubeconfigPath: string;
  readonly server: string;
  readonly caPath: string;
  readonly caPem: string;
  readonly auditLogPath: string;
  /** What `attachCluster` takes. */
  readonly stateFile: string;
  /** A request as admin; PATCH is a merge patch unless said otherwise. Throws ApiFailure for anything but 2xx. */
  request<T>(method: string, path: string, body?: unknown, contentType?: string): Promise<T>;
  /** Watches a collection as admin: ADDED for what is there, then what changes. Returns its end. */
  watch(path: string, onEvent: WatchListener): () => void;
  /** Server-side apply of all documents; after a Namespace it waits for the default service account. */
  applyYaml(text: string): Promise<void>;
  /** Runs kubectl as admin and returns its standard output. */
  kubectl(...args: string[]): Promise<string>;
  /** Writes a kubeconfig for an existing service account and returns its path. */
  serviceAccountKubeconfig(namespace: string, name: string): Promise<string>;
  /** Restarts kube-scheduler, with another configuration when one is given, and waits until it is healthy. */
  restartScheduler(configYaml?: string): Promise<void>;
  stopComponent(name: Component): Promise<void>;
  /** Starts a component that does not run and waits until it is ready. */
  startComponent(name: Component): Promise<void>;
  signal(name: Component, signal: NodeJS.Signals): void;
  /** Ends the cluster and removes its folder; of a detached or attached one it only ends our connections. */
  stop(options?: StopOptions): Promise<void>;
}

/** What another process must know to use or end a cluster. */
export interface ClusterState {
  readonly layout: Layout;
  readonly launches: readonly Launch[];
  readonly kubectl: string;
  /** Process that the cluster ends with; undefined when it is detached. */
  readonly ownerPid: number | undefined;
  readonly startedAt: string;
}

const pollMs = 50;

/**
 * Builds what is missing, starts a control plane and waits until LWS answers and the default service account exists.
 *
 * @throws BuildError, ComponentFailure; nothing is left running then, logs stay
 */
export async function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  const binaries = await ensureBinaries();
  const run = await prepareRun({
    nodes: options.nodes ?? 'few',
    schedulerConfig: options.schedulerConfig,
    logDirectory: options.logDirectory,
  });
  const { layout } = run;
  const watchdog = new Watchdog(layout);
  const state: ClusterState = {
    layout,
    launches: launchesOf(options, binaries),
    kubectl: binaries.pathOf('kubectl'),
    ownerPid: options.detached ? undefined : process.pid,
    startedAt: new Date().toISOString(),
  };
  const cluster = new BedCluster(state, run, watchdog);
  try {
    await bringUp(cluster, binaries, options.onProgress ?? (() => undefined));
    await writeState(state, cluster.stateFile, options.stateFile);
  } catch (error) {
    await cluster.stop({ keepLogs: true });
    throw error;
  }
  if (!options.detached) return cluster;
  cluster.release();
  cluster.client.close();
  return attachCluster(cluster.stateFile);
}

/**
 * Uses a cluster that another process has started. Its `stop` leaves the cluster running.
 *
 * @param stateFile as `hack/cluster up` or `Cluster.stateFile` names it
 */
export async function attachCluster(stateFile: string): Promise<Cluster> {
  const state = await readState(stateFile);
  return new BedCluster(state, await readRun(state.layout), undefined);
}

export async function readState(stateFile: string): Promise<ClusterState> {
  const state: ClusterState = JSON.parse(await readFile(stateFile, 'utf8'));
  return state;
}

/** Ends a cluster of whatever owner and removes its folders. */
export async function destroyCluster(state: ClusterState): Promise<void> {
  await killProcesses(
    state.layout,
    state.launches.map(launch => launch.component),
  );
  await removeRun(state.layout, false);
}

function launchesOf(options: ClusterOptions, binaries: Binaries): Launch[] {
  const components: Component[] = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler'];
  if (options.lws !== false) components.push('lws');
  if (options.kwok !== false) components.push('kwok');
  return components.map(component => ({
    component,
    program: binaries.pathOf(component),
    extraArguments: options.extraArgs?.[component] ?? [],
  }));
}

/** Everything is started as early as it can make use of its time: on two cores the start is bound by the processor. */
async function bringUp(cluster: BedCluster, binaries: Binaries, tell: (text: string) => void): Promise<void> {
  const { layout, launches } = cluster.state;
  const has = (component: Component) => launches.some(launch => launch.component === component);
  await linkKubectl(cluster.state);
  tell('starting etcd and kube-apiserver');
  cluster.launch('etcd');
  cluster.launch('kube-apiserver');
  await cluster.waitUntilReady('kube-apiserver');
  tell('starting controllers');
  cluster.launch('kube-controller-manager');
  cluster.launch('kube-scheduler');
  if (has('kwok')) cluster.launch('kwok');
  if (has('lws')) {
    await installLws(cluster.client, layout, binaries.lwsManifests, cluster.caPem);
    cluster.launch('lws');
    await registerLwsWebhooks(cluster.client, layout, binaries.lwsManifests, cluster.caPem);
  }
  await Promise.all(launches.map(({ component }) => cluster.waitUntilReady(component)));
  while (!(await cluster.client.answers('/api/v1/namespaces/default/serviceaccounts/default')))
    await delay(pollMs);
}

async function writeState(state: ClusterState, ...paths: (string | undefined)[]): Promise<void> {
  for (const path of paths) {
    if (path === undefined) continue;
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, JSON.stringify(state, undefined, 2));
  }
}

/** Under its own name, so that the folder can be put on PATH. */
async function linkKubectl(state: ClusterState): Promise<void> {
  const folder = join(state.layout.directory, 'bin');
  await mkdir(folder, { recursive: true });
  await symlink(state.kubectl, join(folder, 'kubectl'));
}
