import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { type BenchContext, scaled } from './context.ts';
import type { Figure, Unit } from './figures.ts';
import { type Summary, summarize } from './statistics.ts';
import type { StormResult, StormStart, StormWindow } from './storm-process.ts';

const part = 'failure-storm';
const program = join(import.meta.dirname, 'storm-process.ts');
const fullHosts = 2_500;
const gpusPerHost = 8;
const fullSignalsPerSecond = 1_000;
const fullSeconds = 120;
/** Until then Berth comes to know what there is to know: which devices go bad, and rules for them. */
const fullWarmUpSeconds = 60;
const windowSeconds = 10;
const megabyte = 1_000_000;

/**
 * What Berth takes while a fleet of 20,000 devices reports 1,000 times a second that something is bad, or well again. Time is
 * simulated, so that it does not matter what else the machine does: processor time is what one second of the storm takes.
 */
export async function measureFailureStorm(context: BenchContext): Promise<readonly Figure[]> {
  const windows = Math.max(3, scaled(context, fullSeconds / windowSeconds));
  const start: StormStart = {
    hosts: scaled(context, fullHosts),
    signalsPerSecond: scaled(context, fullSignalsPerSecond),
    warmUpSeconds: scaled(context, fullWarmUpSeconds),
    seconds: windows * windowSeconds,
    windowSeconds,
  };
  const devices = (start.hosts * gpusPerHost).toLocaleString('en');
  context.say(`failure-storm: ${start.warmUpSeconds + start.seconds} s with ${devices} devices, simulated`);
  const result = await playStorm(start, context.environment);
  sayResult(result, context);
  const others = summarize(
    result.windows.map(({ othersCpuSeconds }) => othersCpuSeconds / windowSeconds),
  ).median;
  context.note(
    `In part failure-storm the whole of Berth but its servers runs in simulated time with its shipped settings and failure ` +
      `mode evict, on a simulated API server in its process; ${result.groups} groups have four fifths of the devices. ` +
      `A tenth of the devices, pods and nodes goes bad and comes back, and half of the signals repeat how things are in the whole fleet; the processor time has ` +
      `everything from the bytes of a watch on, JSON written and read and the collection of garbage included, and no TLS. What ` +
      `stands in for other processes (the API server and its stored objects, the collector of owned objects, kubelets, the sources of ` +
      `the signals) is metered apart and took ${others.toFixed(2)} s a second. ${sumOf(result.metrics, 'berth_devices_excluded')} devices were ` +
      `excluded in the end, and ${sumOf(result.metrics, 'berth_evictions_total')} evictions counted.`,
  );
  const rate = start.signalsPerSecond.toLocaleString('en');
  return figuresOf(`${devices} devices, ${rate} signals a second`, result);
}

/** In a process of its own: its heap shall be that of Berth. */
async function playStorm(
  start: StormStart,
  environment: Readonly<Record<string, string>>,
): Promise<StormResult> {
  const child = fork(program, { env: { ...process.env, ...environment }, execArgv: ['--expose-gc'] });
  child.send(start);
  const ended = once(child, 'exit').then(() => undefined);
  const result = await Promise.race([once(child, 'message').then(([sent]) => sent as StormResult), ended]);
  if (result === undefined) throw new Error('the storm ended before its time');
  await ended;
  return result;
}

function figuresOf(what: string, { windows, heapBytesBefore }: StormResult): readonly Figure[] {
  const figure = (text: string, unit: Unit, berth: Summary): Figure => ({
    part,
    what: `${what}: ${text}`,
    unit,
    berth,
  });
  const third = Math.floor(windows.length / 3);
  const heaps = (some: readonly StormWindow[]) =>
    summarize(some.map(({ heapBytes }) => (heapBytes - heapBytesBefore) / megabyte));
  return [
    {
      ...figure(
        'processor seconds for each',
        'cores',
        summarize(windows.map(({ cpuSeconds }) => cpuSeconds / windowSeconds)),
      ),
      aim: { of: 'value', atMost: 1 },
    },
    {
      ...figure('memory in use, last third of the time', 'MB', heaps(windows.slice(-third))),
      beside: { name: 'first third', value: heaps(windows.slice(0, third)) },
      aim: { of: 'ratio', atMost: 1.05 },
    },
    figure('growth of memory in use', 'MB/min', summarize([slopeOf(windows)])),
  ];
}

/** By least squares. */
function slopeOf(windows: readonly StormWindow[]): number {
  const mean = (values: readonly number[]) => values.reduce((sum, each) => sum + each, 0) / values.length;
  const minutes = windows.map((_, index) => (index * windowSeconds) / 60);
  const megabytes = windows.map(({ heapBytes }) => heapBytes / megabyte);
  const [meanMinutes, meanMegabytes] = [mean(minutes), mean(megabytes)];
  const products = minutes.map((at, index) => (at - meanMinutes) * ((megabytes[index] ?? 0) - meanMegabytes));
  return mean(products) / mean(minutes.map(at => (at - meanMinutes) ** 2));
}

/** A counter or gauge with labels, summed over them. */
function sumOf(metrics: string, name: string): number {
  const lines = metrics.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'gm'));
  return [...lines].reduce((sum, [, value]) => sum + Number(value), 0);
}

function sayResult({ windows, heapBytesBefore, metrics }: StormResult, { say }: BenchContext): void {
  const lines = metrics
    .split('\n')
    .filter(line => /^berth_(failures|devices|brake|evictions|intents|poison)/.test(line));
  say(`failure-storm: ${lines.join('; ')}`);
  for (const [index, { cpuSeconds, othersCpuSeconds, heapBytes, residentBytes }] of windows.entries())
    say(
      `failure-storm: after ${(index + 1) * windowSeconds} s: processor ${cpuSeconds.toFixed(2)} s of ${windowSeconds}, ` +
        `others ${othersCpuSeconds.toFixed(2)} s, ` +
        `in use ${((heapBytes - heapBytesBefore) / megabyte).toFixed(1)} MB, ` +
        `resident ${(residentBytes / megabyte).toFixed(0)} MB`,
    );
}
