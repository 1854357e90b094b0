import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ApiClient, type WatchListener } from './api-client.ts';
import { applyManifest } from './apply.ts';
import type { Cluster, ClusterState, StopOptions } from './cluster.ts';
import { auditLogPathOf, type Component, kubeconfigPathOf, pkiFolderOf, serverOf } from './components.ts';
import { isHealthy } from './health.ts';
import { kubeconfig } from './kubeconfig.ts';
import { lwsWebhookAnswers, requestToken } from './lws.ts';
import {
  killProcesses,
  runningPid,
  signalProcess,
  startProcess,
  stopProcess,
  waitForComponent,
} from './processes.ts';
import { type Run, removeRun, writeSchedulerConfiguration } from './run-folder.ts';
import type { Watchdog } from './watchdog.ts';

const readyTimeoutMs = 120_000;
const maxKubectlOutputBytes = 64 * 1024 * 1024;

/** A cluster of this process, or, without a watchdog, one of another process. */
export class BedCluster implements Cluster {
  readonly state: ClusterState;
  readonly client: ApiClient;
  readonly directory: string;
  readonly kubeconfigPath: string;
  readonly server: string;
  readonly caPath: string;
  readonly caPem: string;
  readonly auditLogPath: string;
  readonly stateFile: string;
  readonly #watchdog: Watchdog | undefined;
  readonly #tellLogs = () => {
    process.stderr.write(`berth: logs of the test bed are kept in ${this.state.layout.logDirectory}\n`);
  };

  constructor(state: ClusterState, run: Run, watchdog: Watchdog | undefined) {
    const { layout } = state;
    this.state = state;
    this.#watchdog = watchdog;
    this.directory = layout.directory;
    this.kubeconfigPath = kubeconfigPathOf(layout, 'admin');
    this.server = serverOf(layout);
    this.caPath = join(pkiFolderOf(layout), 'ca.crt');
    this.caPem = run.caPem;
    this.auditLogPath = auditLogPathOf(layout);
    this.stateFile = join(layout.directory, 'state.json');
    this.client = new ApiClient(this.server, run.caPem, run.admin);
    // An owner that ends without `stop` has failed; the watchdog leaves the logs for it.
    if (watchdog !== undefined) process.once('exit', this.#tellLogs);
  }

  request<T>(method: string, path: string, body?: unknown, contentType?: string): Promise<T> {
    return this.client.request(method, path, body, contentType);
  }

  watch(path: string, onEvent: WatchListener): () => void {
    return this.client.watch(path, onEvent);
  }

  applyYaml(text: string): Promise<void> {
    return applyManifest(this.client, text);
  }

  async kubectl(...args: string[]): Promise<string> {
    const common = [`--kubeconfig=${this.kubeconfigPath}`, `--cache-dir=${join(this.directory, 'kubectl')}`];
    const options = { maxBuffer: maxKubectlOutputBytes };
    const { stdout } = await promisify(execFile)(this.state.kubectl, [...common, ...args], options);
    return stdout;
  }

  async serviceAccountKubeconfig(namespace: string, name: string): Promise<string> {
    const token = await requestToken(this.client, namespace, name);
    const path = join(this.directory, 'kubeconfig', `${namespace}.${name}.yaml`);
    await writeFile(path, kubeconfig(this.server, this.caPem, { kind: 'token', token }, namespace), {
      mode: 0o600,
    });
    return path;
  }

  async restartScheduler(configYaml?: string): Promise<void> {
    if (configYaml !== undefined) await writeSchedulerConfiguration(this.state.layout, configYaml);
    await this.stopComponent('kube-scheduler');
    await this.startComponent('kube-scheduler');
  }

  stopComponent(name: Component): Promise<void> {
    return stopProcess(this.state.layout, name);
  }

  async startComponent(name: Component): Promise<void> {
    if (runningPid(this.state.layout, name) !== undefined)
      throw new Error(`${name} runs already; stop it first`);
    this.launch(name);
    await this.waitUntilReady(name);
  }

  signal(name: Component, signal: NodeJS.Signals): void {
    signalProcess(this.state.layout, name, signal);
  }

  async stop(options: StopOptions = {}): Promise<void> {
    this.client.close();
    if (this.#watchdog === undefined) return;
    const { layout, launches } = this.state;
    await killProcesses(
      layout,
      launches.map(launch => launch.component),
    );
    const keepLogs = options.keepLogs ?? Boolean(process.exitCode);
    await removeRun(layout, keepLogs);
    this.release();
    if (keepLogs) this.#tellLogs();
  }

  /** Lets the cluster go on without this process. */
  release(): void {
    this.#watchdog?.release();
    process.off('exit', this.#tellLogs);
  }

  launch(name: Component): void {
    const launch = this.state.launches.find(candidate => candidate.component === name);
    if (launch === undefined) throw new Error(`this cluster was started without ${name}`);
    startProcess(this.state.layout, launch);
  }

  waitUntilReady(name: Component): Promise<void> {
    const { layout } = this.state;
    const probe =
      name === 'lws' ? () => lwsWebhookAnswers(this.client) : () => isHealthy(layout, name, this.client);
    return waitForComponent(layout, name, readyTimeoutMs, probe);
  }
}
