import { mulberry32 } from '../../test/unit/planner/instances.ts';
import { Admission } from '../simulator/admission.ts';
import { resourceTypes } from '../simulator/api-paths.ts';
import { startGarbageCollector } from '../simulator/garbage-collector.ts';
import { ObjectStore, parseObject } from '../simulator/object-store.ts';
import { nameOf, ResourceApi } from '../simulator/resource-api.ts';
import { SimulatedClock } from './simulated-clock.ts';
import { type StormBerth, startStormBerth } from './storm-berth.ts';
import { type OfOthers, StormClient } from './storm-client.ts';
import { StormSignals } from './storm-signals.ts';
import { writeStormWorld } from './storm-world.ts';

/** What the process is sent. */
export interface StormStart {
  readonly hosts: number;
  readonly signalsPerSecond: number;
  /** Before anything is measured. */
  readonly warmUpSeconds: number;
  readonly seconds: number;
  readonly windowSeconds: number;
}

/** What it sends back for each window of simulated time. */
export interface StormWindow {
  /** Processor seconds that Berth took. */
  readonly cpuSeconds: number;
  /** What the simulated API server and controllers took, and the sources of the signals. */
  readonly othersCpuSeconds: number;
  /** In use after a collection at the end, by Berth and the simulated API server. */
  readonly heapBytes: number;
  readonly residentBytes: number;
}

export interface StormResult {
  readonly groups: number;
  /** In use before Berth was there. */
  readonly heapBytesBefore: number;
  readonly windows: readonly StormWindow[];
  /** As Prometheus reads them. */
  readonly metrics: string;
}

const seed = 7;
const stepMs = 10;
const podEndMs = 1_500;
/** Watches begin right after their lists here. */
const rememberedChanges = 1_000;
const microsPerSecond = 1_000_000;

/** Processor seconds of this process, those of the work that is left out by themselves. */
class CpuMeter {
  #leftOutMicros = 0;

  get seconds(): number {
    const { user, system } = process.cpuUsage();
    return (user + system - this.#leftOutMicros) / microsPerSecond;
  }

  get leftOutSeconds(): number {
    return this.#leftOutMicros / microsPerSecond;
  }

  /** Must not be called from within `work`, and counts that part of it alone which is done when it returns. */
  leaveOut<T>(work: () => T): T {
    const before = process.cpuUsage();
    const result = work();
    const { user, system } = process.cpuUsage(before);
    this.#leftOutMicros += user + system;
    return result;
  }
}

process.once('message', start => {
  void play(start as StormStart).then(result => process.send?.(result, () => process.exit(0)));
});

async function play(start: StormStart): Promise<StormResult> {
  const clock = new SimulatedClock();
  const store = new ObjectStore(rememberedChanges);
  const api = new ResourceApi(store, new Admission(store));
  const world = writeStormWorld(store, start.hosts);
  const cpu = new CpuMeter();
  const ofOthers = cpu.leaveOut.bind(cpu);
  endDeletedPods(api, clock, ofOthers);
  startGarbageCollector(api, work => setImmediate(() => ofOthers(work)));
  const heapBytesBefore = heapInUse();
  const berth = await startStormBerth(new StormClient(api, ofOthers), clock);
  const signals = new StormSignals(store, world, mulberry32(seed));
  const run = (seconds: number) =>
    playSeconds(seconds, start.signalsPerSecond, { berth, signals, clock, cpu });
  await run(start.warmUpSeconds);
  const windows: StormWindow[] = [];
  cpu.leaveOut(heapInUse);
  for (let played = 0; played < start.seconds; played += start.windowSeconds) {
    const before = { own: cpu.seconds, others: cpu.leftOutSeconds };
    await run(start.windowSeconds);
    const cpuSeconds = cpu.seconds - before.own;
    const othersCpuSeconds = cpu.leftOutSeconds - before.others;
    const heapBytes = cpu.leaveOut(heapInUse);
    windows.push({ cpuSeconds, othersCpuSeconds, heapBytes, residentBytes: process.memoryUsage.rss() });
  }
  const metrics = await berth.metrics.registry.metrics();
  return { groups: world.pods.length / 4, heapBytesBefore, windows, metrics };
}

interface Played {
  readonly berth: StormBerth;
  readonly signals: StormSignals;
  readonly clock: SimulatedClock;
  readonly cpu: CpuMeter;
}

async function playSeconds(
  seconds: number,
  perSecond: number,
  { berth, signals, clock, cpu }: Played,
): Promise<void> {
  const steps = (seconds * 1000) / stepMs;
  let due = 0;
  for (let step = 0; step < steps; step++) {
    due += (perSecond * stepMs) / 1000;
    cpu.leaveOut(() => {
      for (; due >= 1; due--) signals.tell();
    });
    await clock.advance(stepMs, () => berth.settle());
  }
}

function heapInUse(): number {
  globalThis.gc?.();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** All that kubelets do here: a pod that was told to go is gone after a moment. Nobody makes it anew. */
function endDeletedPods(api: ResourceApi, clock: SimulatedClock, ofOthers: OfOthers): void {
  const going = new Set<string>();
  api.store.subscribe(({ resource, type, text }) => {
    // Most changes are about other things, and to parse them all would be work that is not Berth's.
    if (resource !== 'pods' || type === 'DELETED' || !text.includes('"deletionTimestamp"')) return;
    const pod = parseObject(text);
    const { uid = '', deletionTimestamp } = pod.metadata;
    if (deletionTimestamp === undefined || going.has(uid)) return;
    going.add(uid);
    const end = () => {
      const isThere = api.store.read('pods', nameOf(pod))?.metadata.uid === uid;
      if (isThere) api.remove(resourceTypes.pods, nameOf(pod), { uid, gracePeriodSeconds: 0 });
    };
    clock.setTimer(podEndMs, () => ofOthers(end));
  });
}
