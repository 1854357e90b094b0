import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { stringify } from 'yaml';

/** Any part of a configuration; keys as in `berth config-reference`. */
export interface PartialConfig {
  readonly [key: string]: unknown;
}

export interface BerthLaunch {
  readonly kubeconfigPath: string;
  /** Configuration and log are written here. */
  readonly directory: string;
  readonly webhookPort: number;
  readonly extenderPort: number;
  readonly adminPort: number;
  /** Laid over what this file sets itself. */
  readonly config?: PartialConfig;
  /** Name of its files, to tell several replicas apart. Default `berth`. */
  readonly name?: string;
}

/** A Berth that runs as a child of this process, and ends with it however that ends. */
export interface BerthProcess {
  /** Where /healthz, /readyz and /metrics are. */
  readonly adminUrl: string;
  readonly webhookPort: number;
  /** Where filter, prioritize and preempt are, over TLS with a client certificate. */
  readonly extenderPort: number;
  readonly pid: number;
  /** Standard output and error: JSON lines. */
  readonly logPath: string;
  /** Resolves when the process has ended, however it did. */
  readonly ended: Promise<void>;
  metrics(): Promise<string>;
  kill(signal: NodeJS.Signals): void;
  /** Drains, and resolves when the process is gone. */
  stop(): Promise<void>;
}

/** Berth ended at its start, or was not ready in time. */
export class BerthNotReady extends Error {
  readonly code = 'BerthNotReady';
  readonly logPath: string;

  constructor(what: string, logPath: string, logTail: string) {
    super(`berth ${what}. The end of its log, ${logPath}:\n${logTail}`);
    this.name = 'BerthNotReady';
    this.logPath = logPath;
  }
}

const host = '127.0.0.1';
const program = join(import.meta.dirname, '../../src/main.ts');
const readyTimeoutMs = 60_000;
const drainTimeoutMs = 15_000;
const pollMs = 50;
const tailLines = 15;

/** The labels of the fleets `generic` and `thousand`. */
const genericLevels = [
  { name: 'zone', nodeLabel: 'topology.kubernetes.io/zone' },
  { name: 'block', nodeLabel: 'example.com/block' },
  { name: 'rack', nodeLabel: 'example.com/rack' },
];

/**
 * Waits for the end of its input, which comes when its owner ends in whatever way, kill -9 included. Process ids are
 * reused, so it looks whether the one it is to kill is still the same command. Arguments: process id, configuration.
 */
const watchdogScript = `
trap '' HUP INT TERM
read -r word && [ "$word" = release ] && exit 0
case "$(ps -o args= -p "$1")" in *"$2"*) kill -KILL "$1" ;; esac
`;

/**
 * Starts `berth serve` and waits until it is ready: all caches are filled and the webhook listens.
 *
 * @throws BerthNotReady; nothing is left running then
 */
export async function startBerthProcess(launch: BerthLaunch): Promise<BerthProcess> {
  const { directory, name = 'berth', webhookPort, extenderPort, adminPort } = launch;
  await mkdir(directory, { recursive: true });
  const configPath = join(directory, `${name}.yaml`);
  const logPath = join(directory, `${name}.log`);
  await writeFile(configPath, configText(launch));
  const child = spawnServer(configPath, launch.kubeconfigPath, logPath);
  const { pid } = child;
  if (pid === undefined) throw new BerthNotReady('could not be started', logPath, '');
  const ended = new Promise<void>(resolve => child.once('exit', () => resolve()));
  const watchdog = watch(pid, configPath);
  void ended.then(() => watchdog.stdin?.end('release\n'));
  child.unref();

  const adminUrl = `http://${host}:${adminPort}`;
  const kill = (signal: NodeJS.Signals) => void child.kill(signal);
  const running: BerthProcess = {
    adminUrl,
    webhookPort,
    extenderPort,
    pid,
    logPath,
    ended,
    metrics: () => textOf(`${adminUrl}/metrics`),
    kill,
    async stop() {
      child.ref();
      kill('SIGTERM');
      await Promise.race([ended, delay(drainTimeoutMs, undefined, { ref: false })]);
      kill('SIGKILL');
      await ended;
    },
  };
  await awaitReady(running, child);
  return running;
}

/** The configuration of a Berth on this machine, as text. */
function configText({ webhookPort, extenderPort, adminPort, config = {} }: BerthLaunch): string {
  const { topology } = config;
  return stringify(
    merged(
      {
        ...(topology === undefined && { topology: { levels: genericLevels } }),
        webhook: { host, port: webhookPort, ipAddresses: [host] },
        extender: { host, port: extenderPort },
        admin: { host, port: adminPort },
        // Nothing balances over replicas here, so nobody has to hear first that this one goes.
        shutdownDelaySeconds: 0,
      },
      config,
    ),
  );
}

/** Objects are merged key by key; everything else, lists too, is replaced. */
export function merged(below: PartialConfig, above: PartialConfig): PartialConfig {
  const result: Record<string, unknown> = { ...below };
  for (const [key, value] of Object.entries(above)) {
    const beneath = result[key];
    result[key] = isSection(beneath) && isSection(value) ? merged(beneath, value) : value;
  }
  return result;
}

function isSection(value: unknown): value is PartialConfig {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** In a process group of its own: a Ctrl-C in the terminal is for the owner, who stops it in order. */
function spawnServer(configPath: string, kubeconfigPath: string, logPath: string): ChildProcess {
  const log = openSync(logPath, 'a');
  try {
    const command = [program, 'serve', '--config', configPath, '--kubeconfig', kubeconfigPath];
    return spawn(process.execPath, command, { detached: true, stdio: ['ignore', log, log] });
  } finally {
    closeSync(log);
  }
}

function watch(pid: number, configPath: string): ChildProcess {
  const watchdog = spawn('sh', ['-c', watchdogScript, 'berth-watchdog', String(pid), configPath], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  watchdog.unref();
  // The pipe must not keep the owner running; it is there to break when the owner ends.
  if (watchdog.stdin !== null && 'unref' in watchdog.stdin && typeof watchdog.stdin.unref === 'function') {
    watchdog.stdin.unref();
  }
  watchdog.stdin?.on('error', () => undefined);
  return watchdog;
}

async function awaitReady(berth: BerthProcess, child: ChildProcess): Promise<void> {
  const deadlineMs = Date.now() + readyTimeoutMs;
  while (!(await isReady(berth.adminUrl))) {
    const isOver = Date.now() > deadlineMs;
    if (child.exitCode === null && child.signalCode === null && !isOver) {
      await delay(pollMs);
      continue;
    }
    child.ref();
    const what = isOver ? `was not ready after ${readyTimeoutMs / 1000} s` : 'ended';
    berth.kill('SIGKILL');
    await berth.ended;
    throw new BerthNotReady(what, berth.logPath, await tailOf(berth.logPath));
  }
}

async function isReady(adminUrl: string): Promise<boolean> {
  return fetch(`${adminUrl}/readyz`).then(
    ({ ok }) => ok,
    () => false,
  );
}

async function textOf(url: string): Promise<string> {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}`);
  return answer.text();
}

async function tailOf(path: string): Promise<string> {
  const text = await readFile(path, 'utf8');
  return text.trimEnd().split('\n').slice(-tailLines).join('\n');
}
