import { setTimeout as delay } from 'node:timers/promises';
import type { Pod } from '../../src/api/kubernetes.ts';
import { intentName } from '../../src/kube/intent-store.ts';
import { readAudit, type WriteEvent } from '../bed/audit.ts';
import { startBerthOn } from '../bed/berth.ts';
import type { Cluster } from '../bed/cluster.ts';
import { awaitLease, withEnvironment } from './berth-arm.ts';
import { claimants, hostTemplate, hostTemplateName, resourceApi } from './claimants.ts';
import { type BenchContext, scaled } from './context.ts';
import { gpuLost, gpuOf, type TakenDevice, taintDevice } from './device-taints.ts';
import type { Aim, Figure } from './figures.ts';
import { comesBack, type GroupAtWork, leaderOf, memberOf, startGroups } from './groups-at-work.ts';
import { removesPod } from './leader-deletion.ts';
import { makeNamespace } from './namespaces.ts';
import { PodWatch } from './pod-watch.ts';
import { percentile, summarize } from './statistics.ts';

const part = 'failure-latency';
const fullFaults = 100;
const groupSize = 4;
const pauseMs = 1_300;
const startTimeoutMs = 600_000;
const patienceMs = 120_000;
/** As shipped: a new holder of the Lease evicts nothing for so long. */
const newHolderMs = 31_000;

/** A fault and what came of it, in seconds from the answer to the write that told of it. */
export interface Reaction {
  readonly intentSeconds: number;
  readonly leaderSeconds: number;
}

/** A fault as it was told. */
export interface ToldFault {
  /** Slice that was published anew. */
  readonly slice: string;
  readonly leader: Pod;
}

/**
 * How long after a certain signal (a driver's taint on an allocated GPU) the intent is written and the leader is evicted,
 * with the times that are shipped, 5 s of debounce among them. The fleet must publish devices and the audit log be on.
 */
export async function measureFailureLatency(
  cluster: Cluster,
  nodes: number,
  context: BenchContext,
): Promise<readonly Figure[]> {
  const failure = {
    mode: 'evict',
    servingEvictionsPerSecond: 10,
    servingBurst: 100,
    inFlightMin: 100,
    inFlightPerDomain: 100,
  };
  const start = () => startBerthOn(cluster, { config: { failure } });
  const berth = await withEnvironment(context.environment, start);
  await awaitLease(berth);
  const holdsSinceMs = performance.now();
  const namespace = await makeNamespace(cluster, 'pin');
  await cluster.request(
    'POST',
    `${resourceApi}/namespaces/${namespace}/resourceclaimtemplates`,
    hostTemplate(namespace),
  );
  const watch = new PodWatch(cluster, namespace);
  const count = scaled(context, fullFaults);
  context.say(`failure-latency: starting ${count} groups of ${groupSize} on ${nodes} nodes`);
  const objects = Array.from({ length: count }, (_, index) =>
    claimants({ name: `serve-${index}`, groups: 1, size: groupSize, template: hostTemplateName }, 'rack'),
  );
  const groups = await startGroups(cluster, watch, namespace, objects, startTimeoutMs);
  await delay(Math.max(0, newHolderMs - (performance.now() - holdsSinceMs)));

  context.say(`failure-latency: ${count} devices fail, one after the other`);
  const { nextOffset } = await readAudit(cluster.auditLogPath);
  const { told, recoveries } = await failInTurn(cluster, watch, groups);
  const { events } = await readAudit(cluster.auditLogPath, nextOffset);
  watch.stop();
  await berth.stop();
  const reactions = reactionsIn(events, told);
  context.note(
    `In part failure-latency the shipped settings hold (certainAfterSeconds 5), but for rate and number in flight of evictions, ` +
      `which are set wide so that ${count} faults fit into minutes; each group of ${groupSize} x 8 GPUs by claims is an LWS of its own.`,
  );
  const what = `certain device taint at ${nodes.toLocaleString('en')} nodes, ${count} faults`;
  return [
    ...figuresOf(
      `${what}: to the intent`,
      reactions.map(each => each.intentSeconds),
      8,
    ),
    ...figuresOf(
      `${what}: to the leader's eviction`,
      reactions.map(each => each.leaderSeconds),
      10,
    ),
    ...figuresOf(`${what}: to all members new and Ready`, recoveries, 30),
  ];
}

async function failInTurn(cluster: Cluster, watch: PodWatch, groups: readonly GroupAtWork[]) {
  const devices: TakenDevice[] = [];
  for (const [index, group] of groups.entries())
    devices.push(await gpuOf(cluster, memberOf(group, index % groupSize)));
  const told: ToldFault[] = [];
  const pending: Promise<number>[] = [];
  for (const [index, group] of groups.entries()) {
    const device = devices[index];
    if (device === undefined) continue;
    const startedMs = performance.now();
    await taintDevice(cluster, device, gpuLost);
    told.push({ slice: device.slice, leader: leaderOf(group) });
    const back = comesBack(watch, group, patienceMs).then(atMs => {
      if (atMs === undefined) throw new Error(`${group.name} was not whole ${patienceMs / 1000} s after`);
      return (atMs - startedMs) / 1000;
    });
    back.catch(() => {});
    pending.push(back);
    await delay(pauseMs);
  }
  return { told, recoveries: await Promise.all(pending) };
}

/**
 * Reads the times from the API server's own log, all from one clock.
 *
 * @throws when a fault, its intent or its eviction is not there, or there is more than one of them
 */
export function reactionsIn(events: readonly WriteEvent[], told: readonly ToldFault[]): readonly Reaction[] {
  return told.map(({ slice, leader }) => {
    const { name = '', namespace, uid = '' } = leader.metadata;
    const signal = theOne(`publication of ${slice}`, events, event => isPublication(event, slice));
    const intent = theOne(`intent of ${name}`, events, event => isCreation(event, intentName(uid)));
    const removal = theOne(
      `eviction of ${name}`,
      events,
      event => removesPod(event) && !isKubelet(event) && event.name === name && event.namespace === namespace,
    );
    const secondsTo = ({ at }: WriteEvent) => (at.getTime() - signal.at.getTime()) / 1000;
    return { intentSeconds: secondsTo(intent), leaderSeconds: secondsTo(removal) };
  });
}

function isPublication({ verb, resource, name, user }: WriteEvent, slice: string): boolean {
  return verb === 'patch' && resource === 'resourceslices' && name === slice && user === 'bed-admin';
}

/** Who takes away what was told to go. */
function isKubelet({ user }: WriteEvent): boolean {
  return user === 'kwok';
}

function isCreation({ verb, resource, name, code }: WriteEvent, wanted: string): boolean {
  return verb === 'create' && resource === 'configmaps' && name === wanted && code < 300;
}

function theOne(
  what: string,
  events: readonly WriteEvent[],
  isIt: (event: WriteEvent) => boolean,
): WriteEvent {
  const [first, ...more] = events.filter(isIt);
  if (first === undefined || more.length > 0)
    throw new Error(`the audit log has ${first === undefined ? 'no' : 'more than one'} ${what}`);
  return first;
}

function figuresOf(what: string, seconds: readonly number[], p99AtMost: number): readonly Figure[] {
  const aim: Aim = { of: 'value', atMost: p99AtMost };
  return [
    { part, what: `${what}, median`, unit: 's', berth: summarize([percentile(seconds, 50)]) },
    { part, what: `${what}, p99`, unit: 's', berth: summarize([percentile(seconds, 99)]), aim },
  ];
}
