import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { argumentsOf, type Component, type Layout, logPathOf } from './components.ts';
import { commandLineOf, isAlive } from './process-facts.ts';

/** How to start a component of one cluster. */
export interface Launch {
  readonly component: Component;
  readonly program: string;
  /** Come after our own, so that a repeated flag wins over ours. */
  readonly extraArguments: readonly string[];
}

/** A component ended when it should run, or did not become ready in time. */
export class ComponentFailure extends Error {
  readonly code: 'ComponentFailed';
  readonly component: Component;
  readonly logPath: string;

  constructor(component: Component, logPath: string, what: string, logTail: string) {
    super(`${component} ${what}. The end of its log, ${logPath}:\n${logTail}`);
    this.name = 'ComponentFailure';
    this.code = 'ComponentFailed';
    this.component = component;
    this.logPath = logPath;
  }
}

/** kube-apiserver would wait a minute for its watches to end. */
const termGraceMs = 3_000;
const killGraceMs = 5_000;
const pollMs = 25;
const tailLines = 15;

/** Starts a component in a session of its own (a Ctrl-C in the terminal is for its owner) and notes its process id. */
export function startProcess(layout: Layout, launch: Launch): number {
  const log = openSync(logPathOf(layout, launch.component), 'a');
  try {
    const child = spawn(
      launch.program,
      [...argumentsOf(launch.component, layout), ...launch.extraArguments],
      {
        cwd: layout.dataDirectory,
        detached: true,
        stdio: ['ignore', log, log],
        env: childEnvironment(layout),
      },
    );
    if (child.pid === undefined) throw new Error(`${launch.program} could not be started`);
    mkdirSync(pidFolderOf(layout), { recursive: true });
    writeFileSync(pidPathOf(layout, launch.component), String(child.pid));
    child.unref();
    return child.pid;
  } finally {
    closeSync(log);
  }
}

/** The process id of a component of this cluster; undefined when it does not run. */
export function runningPid(layout: Layout, component: Component): number | undefined {
  const pid = readPid(pidPathOf(layout, component));
  if (pid === undefined || !isAlive(pid)) return undefined;
  // Process ids are reused; every component names the run folder in its arguments.
  return commandLineOf(pid).includes(basename(layout.directory)) ? pid : undefined;
}

/** Ends a component and waits until it is gone: SIGTERM first, SIGKILL for one that does not listen. */
export async function stopProcess(layout: Layout, component: Component): Promise<void> {
  const pid = runningPid(layout, component);
  if (pid !== undefined) {
    signalPid(pid, 'SIGTERM');
    if (!(await isGone(pid, termGraceMs))) {
      signalPid(pid, 'SIGKILL');
      await isGone(pid, killGraceMs);
    }
  }
  rmSync(pidPathOf(layout, component), { force: true });
}

/** Ends all components at once, the quick way: nothing of theirs is kept. */
export async function killProcesses(layout: Layout, components: readonly Component[]): Promise<void> {
  const pids = components.map(component => runningPid(layout, component)).filter(pid => pid !== undefined);
  for (const pid of pids) signalPid(pid, 'SIGKILL');
  await Promise.all(pids.map(pid => isGone(pid, killGraceMs)));
}

export function signalProcess(layout: Layout, component: Component, signal: NodeJS.Signals): void {
  const pid = runningPid(layout, component);
  if (pid === undefined) throw new Error(`${component} does not run, so it cannot be sent ${signal}`);
  signalPid(pid, signal);
}

/**
 * Waits until `probe` says true.
 *
 * @throws ComponentFailure when the component ends or the time is over
 */
export async function waitForComponent(
  layout: Layout,
  component: Component,
  timeoutMs: number,
  probe: () => Promise<boolean>,
): Promise<void> {
  const deadlineMs = Date.now() + timeoutMs;
  while (!(await probe())) {
    if (runningPid(layout, component) === undefined) throw await failureOf(layout, component, 'ended');
    if (Date.now() > deadlineMs)
      throw await failureOf(layout, component, `was not ready after ${timeoutMs / 1000} s`);
    await delay(2 * pollMs);
  }
}

export function pidFolderOf(layout: Layout): string {
  return join(layout.directory, 'pids');
}

async function failureOf(layout: Layout, component: Component, what: string): Promise<ComponentFailure> {
  const path = logPathOf(layout, component);
  const log = await readFile(path, 'utf8').catch(() => '');
  return new ComponentFailure(component, path, what, log.trimEnd().split('\n').slice(-tailLines).join('\n'));
}

function pidPathOf(layout: Layout, component: Component): string {
  return join(pidFolderOf(layout), component);
}

function readPid(path: string): number | undefined {
  try {
    return Number(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}

function signalPid(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    const isGoneAlready = error instanceof Error && 'code' in error && error.code === 'ESRCH';
    if (!isGoneAlready) throw error;
  }
}

async function isGone(pid: number, timeoutMs: number): Promise<boolean> {
  const deadlineMs = Date.now() + timeoutMs;
  while (isAlive(pid)) {
    if (Date.now() > deadlineMs) return false;
    await delay(pollMs);
  }
  return true;
}

/** A short list: proxies, ETCD_* and KUBE* variables of the user would change what the components do. */
function childEnvironment(layout: Layout): NodeJS.ProcessEnv {
  return { PATH: process.env['PATH'], HOME: layout.dataDirectory, TMPDIR: layout.dataDirectory };
}
