import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { ApiClient } from './api-client.ts';
import { type ClusterState, destroyCluster, readState, startCluster } from './cluster.ts';
import { healthUrlOf, kubeconfigPathOf, type Layout, logPathOf, serverOf } from './components.ts';
import { cpuHosts, type Fleet, type FleetName, fleetNames, presetFleet } from './fleet-presets.ts';
import { createFleet } from './fleets.ts';
import { detachedStateFile } from './folders.ts';
import { BuildError } from './go-command.ts';
import { isHealthy } from './health.ts';
import { withLock } from './lock.ts';
import { ComponentFailure, runningPid } from './processes.ts';
import { readRun } from './run-folder.ts';

interface UpOptions {
  readonly name: string;
  readonly fleet?: FleetName;
  readonly cpuNodes: number;
  readonly nodes?: 'few' | 'many';
  readonly lws: boolean;
}

interface NameOption {
  readonly name: string;
}

const manyNodes = 500;
const defaultName = 'default';

const program = new Command('hack/cluster')
  .description(
    'A real control plane on this machine, without containers: etcd, kube-apiserver, kube-scheduler, ' +
      'kube-controller-manager, the LeaderWorkerSet controller, and KWOK in place of kubelets.',
  )
  .addHelpText(
    'after',
    `
Examples:
  $ hack/cluster up --fleet generic    start with 16 nodes of 8 GPUs in 4 racks
  $ hack/cluster status                components, ports, health
  $ hack/cluster down                  stop, and remove everything but the built programs

The first start builds the programs from their Go modules (Go 1.26 or newer; about 15 minutes on 2 cores).

Environment:
  BERTH_CACHE          where built programs are kept (default: $XDG_CACHE_HOME/berth, ~/.cache/berth)
  KUBEBUILDER_ASSETS   folder with etcd, kube-apiserver and kubectl (and, if there, kube-scheduler and
                       kube-controller-manager) to use instead of building them`,
  )
  .showHelpAfterError('(hack/cluster --help shows what there is)');

program
  .command('up')
  .description('start a cluster that goes on running, and print how to reach it')
  .addOption(nameOption())
  .addOption(new Option('--fleet <preset>', 'create the nodes of a fleet').choices(fleetNames))
  .option('--cpu-nodes <count>', 'nodes without accelerators to create besides', parseCount, 0)
  .addOption(
    new Option('--nodes <scale>', 'how patient to be with node heartbeats (default: by the fleet)').choices([
      'few',
      'many',
    ]),
  )
  .option('--no-lws', 'leave the LeaderWorkerSet controller out')
  .action(up);

program
  .command('status')
  .description('show components, ports and health')
  .addOption(nameOption())
  .action(status);

program
  .command('down')
  .description('stop a cluster and remove its folder')
  .addOption(nameOption())
  .action(down);

// Whoever reads us may have seen enough, as in `hack/cluster status | head -3`.
process.stdout.on('error', () => process.exit());

try {
  await program.parseAsync();
} catch (error) {
  const isExpected = error instanceof BuildError || error instanceof ComponentFailure;
  process.stderr.write(
    `berth: ${isExpected ? error.message : error instanceof Error ? error.stack : error}\n`,
  );
  process.exitCode = 1;
}

function up(options: UpOptions): Promise<void> {
  const lock = `${detachedStateFile(options.name)}.lock`;
  const tellWaiting = (pid: number) => {
    process.stderr.write(
      `berth: process ${pid} is starting cluster ${options.name} already; waiting for it\n`,
    );
  };
  return withLock(lock, tellWaiting, () => upAlone(options));
}

async function upAlone(options: UpOptions): Promise<void> {
  const stateFile = detachedStateFile(options.name);
  if (existsSync(stateFile)) {
    const state = await readState(stateFile);
    if (runningPid(state.layout, 'kube-apiserver') !== undefined) {
      process.stdout.write(
        `Cluster ${options.name} is up already.\n${nextSteps(state.layout, options.name)}`,
      );
      return;
    }
    await destroyCluster(state);
  }
  const startedMs = Date.now();
  const { cpuNodes } = options;
  const fleet: Fleet =
    options.fleet === undefined
      ? { name: options.name, nodes: cpuHosts(cpuNodes) }
      : presetFleet(options.fleet, { cpuNodes });
  const { nodes, slices = [] } = fleet;
  const tell = (text: string) => process.stderr.write(`berth: ${text}\n`);
  const cluster = await startCluster({
    detached: true,
    stateFile,
    lws: options.lws,
    nodes: options.nodes ?? (nodes.length >= manyNodes ? 'many' : 'few'),
    onProgress: tell,
  });
  if (nodes.length > 0) {
    const besides = slices.length > 0 ? ` and ${slices.length} slices of devices` : '';
    tell(`creating ${nodes.length} nodes${besides}`);
    await createFleet(cluster, fleet);
  }
  await cluster.stop();
  const seconds = ((Date.now() - startedMs) / 1000).toFixed(1);
  const { layout } = await readState(stateFile);
  process.stdout.write(
    `Cluster ${options.name} is up after ${seconds} s.\n${nextSteps(layout, options.name)}`,
  );
}

async function status({ name }: NameOption): Promise<void> {
  const state = await stateOf(name);
  if (state === undefined) return;
  const { layout, launches } = state;
  const { caPem, admin } = await readRun(layout);
  const client = new ApiClient(serverOf(layout), caPem, admin);
  const rows = await Promise.all(
    launches.map(async ({ component }) => {
      const pid = runningPid(layout, component);
      const health =
        pid === undefined ? 'not running' : (await isHealthy(layout, component, client)) ? 'ok' : 'unhealthy';
      return [component, String(pid ?? '-'), healthUrlOf(component, layout) ?? '-', health];
    }),
  );
  client.close();
  const broken = launches.filter((_, index) => rows[index]?.[3] !== 'ok').map(({ component }) => component);
  process.stdout.write(table([['COMPONENT', 'PID', 'HEALTH ADDRESS', 'HEALTH'], ...rows]));
  process.stdout.write(
    `\nStarted ${state.startedAt}, server ${serverOf(layout)}, folder ${layout.directory}\n`,
  );
  if (broken.length === 0) {
    process.stdout.write(nextSteps(layout, name));
    return;
  }
  const logs = broken.map(component => `  ${logPathOf(layout, component)}`).join('\n');
  process.stderr.write(
    `berth: not all is well; see\n${logs}\nand start anew with hack/cluster down and up\n`,
  );
  process.exitCode = 1;
}

async function down({ name }: NameOption): Promise<void> {
  const state = await stateOf(name);
  if (state === undefined) return;
  await destroyCluster(state);
  await rm(detachedStateFile(name), { force: true });
  process.stdout.write(`Cluster ${name} is stopped and its folder is removed.\n`);
}

async function stateOf(name: string): Promise<ClusterState | undefined> {
  const stateFile = detachedStateFile(name);
  if (existsSync(stateFile)) return readState(stateFile);
  process.stderr.write(
    `berth: there is no cluster ${name}; start one with hack/cluster up${nameFlag(name)}\n`,
  );
  process.exitCode = 1;
  return undefined;
}

function nextSteps(layout: Layout, name: string): string {
  return `
  export KUBECONFIG=${kubeconfigPathOf(layout, 'admin')}
  export PATH=${join(layout.directory, 'bin')}:$PATH

Try: kubectl get nodes
     kubectl apply -f <file with a LeaderWorkerSet>, then kubectl get pods -o wide
     hack/cluster status${nameFlag(name)}
     hack/cluster down${nameFlag(name)}
`;
}

function nameFlag(name: string): string {
  return name === defaultName ? '' : ` --name ${name}`;
}

function nameOption(): Option {
  return new Option('--name <name>', 'which cluster, to have several')
    .default(defaultName)
    .argParser(parseName);
}

function parseName(value: string): string {
  if (/^[a-z0-9-]+$/.test(value)) return value;
  throw new InvalidArgumentError('Use lower-case letters, digits and dashes.');
}

function parseCount(value: string): number {
  if (/^\d+$/.test(value)) return Number(value);
  throw new InvalidArgumentError('Use a whole number, 0 or more.');
}

function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map(row => row[column]?.length ?? 0)));
  const lines = rows.map(row =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
  return `${lines.join('\n')}\n`;
}
