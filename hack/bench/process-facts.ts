import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Cluster, readState } from '../bed/cluster.ts';
import { runningPid } from '../bed/processes.ts';

/** What a process takes, in bytes. */
export interface Memory {
  readonly residentBytes: number;
  /** The most that was ever resident. */
  readonly peakBytes: number;
}

/** Linux counts processor time in hundredths of a second for programs (USER_HZ), whatever the kernel's own clock. */
const ticksPerSecond = 100;

/** @throws when the process is gone */
export function memoryOf(pid: number): Memory {
  const status = readProc(pid, 'status');
  const bytesOf = (field: string) => {
    const match = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status);
    if (match === null) throw new Error(`/proc/${pid}/status has no ${field}`);
    return Number(match[1]) * 1024;
  };
  return { residentBytes: bytesOf('VmRSS'), peakBytes: bytesOf('VmHWM') };
}

/**
 * Processor seconds that each process of a cluster has used since it started, by component; Berth among them while it
 * runs.
 */
export async function cpuSeconds(
  cluster: Cluster,
  berthPid: number | undefined,
): Promise<ReadonlyMap<string, number>> {
  const { layout, launches } = await readState(cluster.stateFile);
  const pids = new Map(launches.map(({ component }) => [`${component}`, runningPid(layout, component)]));
  pids.set('berth', berthPid);
  const seconds = new Map<string, number>();
  for (const [name, pid] of pids) if (pid !== undefined) seconds.set(name, cpuSecondsOf(pid));
  return seconds;
}

/** Seconds used between two readings, by component. */
export function cpuBetween(
  before: ReadonlyMap<string, number>,
  after: ReadonlyMap<string, number>,
): ReadonlyMap<string, number> {
  return new Map([...after].map(([name, seconds]) => [name, seconds - (before.get(name) ?? 0)]));
}

export function totalOf(seconds: ReadonlyMap<string, number>): number {
  return [...seconds.values()].reduce((sum, each) => sum + each, 0);
}

/** The largest first, as text. */
export function describeCpu(seconds: ReadonlyMap<string, number>): string {
  return [...seconds]
    .sort(([, a], [, b]) => b - a)
    .map(([name, each]) => `${name} ${each.toFixed(1)}`)
    .join(', ');
}

/**
 * Processor seconds, user and system, that a process has used since it started, in steps of 10 ms.
 *
 * @throws when it is gone
 */
export function cpuSecondsOf(pid: number): number {
  const stat = readProc(pid, 'stat');
  // The program's name stands in parentheses and may hold anything. User and system time are fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

function readProc(pid: number, file: string): string {
  return readFileSync(join('/proc', String(pid), file), 'utf8');
}
