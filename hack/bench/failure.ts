import { setTimeout as delay } from 'node:timers/promises';
import type { Pod } from '../../src/api/kubernetes.ts';
import { lws } from '../../src/api/names.ts';
import { readAudit } from '../bed/audit.ts';
import { startBerthOn } from '../bed/berth.ts';
import type { Cluster } from '../bed/cluster.ts';
import { awaitLease, withEnvironment } from './berth-arm.ts';
import { type BenchContext, scaled } from './context.ts';
import { deviceUnhealthy, type Fault, nodeTainted } from './faults.ts';
import type { Figure, Never, Unit } from './figures.ts';
import { type LeaderDeletion, leaderDeletionIn } from './leader-deletion.ts';
import { clearNamespace, makeNamespace, type WebhookArm } from './namespaces.ts';
import { isServing, PodWatch } from './pod-watch.ts';
import { summarize } from './statistics.ts';
import { groupsObject } from './workloads.ts';

/** How one group came out of one fault. */
interface Recovery {
  readonly leader: LeaderDeletion;
  /** From the moment before the signal was written until all members were new and Ready. */
  readonly seconds: number;
}

const faults: readonly Fault[] = [nodeTainted, deviceUnhealthy];
const fullFaults = 5;
const groupSize = 4;
const gpusPerPod = 8;
const victimRank = 2;
const startTimeoutMs = 60_000;
/** A group that is not whole again by then is not taken care of. Not scaled: a recovery takes as long in a small cluster. */
const patienceSeconds = 60;
const never: Never = { waitedSeconds: patienceSeconds };
/** What a fault and its mending set in motion is over by then, an intent's end among it. */
const settleMs = 2_000;

/**
 * Certain failures count at once. What holds back after several of them is set wide: here one follows another within
 * seconds and in one rack, which is what brakes are there to distrust.
 */
const failureConfig = {
  mode: 'evict',
  unhealthyAfterSeconds: 0,
  newHolderSeconds: 0,
  servingEvictionsPerSecond: 10,
  servingBurst: 100,
  brokenEvictionsPerSecond: 10,
  brokenBurst: 100,
  domainMinNodes: 1_000,
};

/**
 * How long after a certain failure the leader of the hurt group is told to go, and how long until the group is whole
 * again, with Berth and on a cluster that has never seen Berth. The audit log must be on.
 */
export async function measureFailure(
  cluster: Cluster,
  nodes: number,
  context: BenchContext,
): Promise<readonly Figure[]> {
  const stock = await measureArm(cluster, 'stock', context);
  const start = () => startBerthOn(cluster, { config: { failure: failureConfig } });
  const berth = await withEnvironment(context.environment, start);
  await awaitLease(berth);
  const pin = await measureArm(cluster, 'pin', context);
  await berth.stop();
  context.note(
    'In part failure a signal counts at once (unhealthyAfterSeconds 0), rates and the breaker domain-failure are set ' +
      'wide, a deleted pod takes 1.5 s to go, and a bound one is Ready at once.',
  );
  return faults.flatMap(fault => figuresOf(fault, nodes, pin.get(fault) ?? [], stock.get(fault) ?? []));
}

/** Recoveries by fault; none for a fault that the arm does not recover from. */
async function measureArm(
  cluster: Cluster,
  arm: WebhookArm,
  context: BenchContext,
): Promise<ReadonlyMap<Fault, readonly Recovery[]>> {
  const namespace = await makeNamespace(cluster, arm);
  const recoveries = new Map<Fault, readonly Recovery[]>();
  // The first deletions of a young control plane wait for its garbage collector.
  await recover(cluster, { namespace, arm, fault: nodeTainted, context });
  for (const fault of faults) {
    const ofFault: Recovery[] = [];
    for (let count = 0; count < scaled(context, fullFaults); count++) {
      const recovery = await recover(cluster, { namespace, arm, fault, context });
      if (recovery === undefined && (arm !== 'stock' || ofFault.length > 0))
        throw new Error(`${arm}: the group did not come back from: ${fault.name}`);
      if (recovery === undefined) break;
      ofFault.push(recovery);
    }
    recoveries.set(fault, ofFault);
    noteDeleters(fault, arm, ofFault, context);
  }
  return recoveries;
}

/** One fault of one fresh group; undefined when nothing came of it within the time. */
async function recover(
  cluster: Cluster,
  trial: {
    readonly namespace: string;
    readonly arm: WebhookArm;
    readonly fault: Fault;
    readonly context: BenchContext;
  },
): Promise<Recovery | undefined> {
  const { namespace, arm, fault, context } = trial;
  const watch = new PodWatch(cluster, namespace);
  const before = await startGroup(cluster, watch, namespace, arm);
  const leader = memberOf(before, 0);
  const victim = memberOf(before, victimRank);
  await delay(settleMs);

  const { nextOffset } = await readAudit(cluster.auditLogPath);
  const startedMs = performance.now();
  await fault.happen(cluster, victim);
  const old = new Set(before.map(({ metadata }) => metadata.uid));
  const isWholeAndNew = (pods: readonly Pod[]) =>
    pods.length === groupSize && pods.every(pod => isServing(pod) && !old.has(pod.metadata.uid));
  const readyMs = await watch.until(isWholeAndNew, patienceSeconds * 1000);
  if (readyMs !== undefined && watch.pods.some(({ spec }) => spec.nodeName === victim.spec.nodeName))
    throw new Error(`${arm}: a member came back to the node that had: ${fault.name}`);
  const { events } = await readAudit(cluster.auditLogPath, nextOffset);
  const deletion = leaderDeletionIn(events, fault, { leader, victim });

  await delay(settleMs);
  watch.stop();
  await clearNamespace(cluster, namespace);
  await fault.mend(cluster, victim);
  const seconds = readyMs === undefined ? undefined : (readyMs - startedMs) / 1000;
  context.say(
    `failure, ${arm}, ${fault.name}: leader deleted ` +
      `${deletion === undefined ? 'never' : `after ${deletion.afterMs} ms by ${deletion.user}`}, ` +
      `whole again ${seconds === undefined ? 'never' : `after ${seconds.toFixed(2)} s`}`,
  );
  if (deletion === undefined && seconds === undefined) return undefined;
  if (deletion === undefined || seconds === undefined)
    throw new Error(`${arm}: the group is only half remade ${patienceSeconds} s after: ${fault.name}`);
  return { leader: deletion, seconds };
}

let made = 0;

/** A group under a name of its own: budgets are counted by name. */
async function startGroup(
  cluster: Cluster,
  watch: PodWatch,
  namespace: string,
  arm: WebhookArm,
): Promise<readonly Pod[]> {
  const shape = { name: `hurt-${++made}`, groups: 1, size: groupSize, gpusPerPod };
  const object = groupsObject(shape, arm === 'stock' ? undefined : 'rack');
  await cluster.request('POST', `/apis/${lws.apiVersion}/namespaces/${namespace}/leaderworkersets`, object);
  const isWhole = (pods: readonly Pod[]) => pods.length === groupSize && pods.every(isServing);
  if ((await watch.until(isWhole, startTimeoutMs)) === undefined)
    throw new Error(`${shape.name} did not become Ready within ${startTimeoutMs / 1000} s`);
  return watch.pods;
}

function memberOf(pods: readonly Pod[], rank: number): Pod {
  const member = pods.find(({ metadata }) => metadata.labels?.[lws.workerIndex] === String(rank));
  if (member === undefined) throw new Error(`the group has no rank ${rank}`);
  return member;
}

/** LWS acts as well when a worker is deleted: a figure with Berth is not always Berth's doing. */
function noteDeleters(
  fault: Fault,
  arm: WebhookArm,
  recoveries: readonly Recovery[],
  context: BenchContext,
): void {
  if (recoveries.length === 0) return;
  const byUser = Map.groupBy(recoveries, ({ leader }) => leader.user);
  const counts = [...byUser].map(([user, { length }]) => `${user.split(':').at(-1)} in ${length}`);
  const where = arm === 'stock' ? 'Without Berth' : 'With Berth';
  context.note(
    `${where}, ${fault.name}: the leader was deleted by ${counts.join(', by ')} of ${recoveries.length} faults.`,
  );
}

function figuresOf(
  fault: Fault,
  nodes: number,
  pin: readonly Recovery[],
  stock: readonly Recovery[],
): readonly Figure[] {
  const what = `${fault.name}, group of ${groupSize} x ${gpusPerPod} GPUs at ${nodes.toLocaleString('en')} nodes`;
  const figure = (text: string, unit: Unit, of: (recovery: Recovery) => number): Figure => ({
    part: 'failure',
    what: `${what}: ${text}`,
    unit,
    berth: summarize(pin.map(of)),
    beside: { name: 'stock with LWS', value: stock.length === 0 ? never : summarize(stock.map(of)) },
  });
  return [
    figure('from the signal to the deletion of the leader', 'ms', ({ leader }) => leader.afterMs),
    figure('from the fault to all members new and Ready', 's', ({ seconds }) => seconds),
  ];
}
