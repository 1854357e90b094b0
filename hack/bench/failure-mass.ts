import { setTimeout as delay } from 'node:timers/promises';
import type { Pod } from '../../src/api/kubernetes.ts';
import { berth as names } from '../../src/api/names.ts';
import { defaultFailureSettings as shipped } from '../../src/failure/settings.ts';
import { readAudit } from '../bed/audit.ts';
import { type BerthProcess, serviceAccount, startBerthOn } from '../bed/berth.ts';
import type { Cluster } from '../bed/cluster.ts';
import { awaitLease, withEnvironment } from './berth-arm.ts';
import { type BenchContext, scaled } from './context.ts';
import { allowedBy, type Budget, excessOver } from './eviction-budget.ts';
import type { Figure } from './figures.ts';
import { type GroupAtWork, leaderOf, memberOf, membersOf, startGroups } from './groups-at-work.ts';
import { inLanes } from './lanes.ts';
import { removesPod } from './leader-deletion.ts';
import { clearNamespace, makeNamespace } from './namespaces.ts';
import { isServing, PodWatch } from './pod-watch.ts';
import { percentile, summarize } from './statistics.ts';
import { groupsObject } from './workloads.ts';

/** How the failing nodes lie, and what Berth may do about them with shipped settings. */
interface Layout {
  readonly name: string;
  readonly perRack: number;
  readonly budget: Budget;
  readonly watchSeconds: number;
}

interface Outcome {
  /** Of each hurt group, from the first write of the storm on. */
  readonly verdictSeconds: readonly number[];
  readonly evictionsMs: readonly number[];
  readonly endMs: number;
}

const part = 'failure-mass';
const fullFaults = 150;
const groupSize = 4;
const gpusPerPod = 8;
/** As in the fleet of part `failure`. */
const hostsPerRack = 18;
const victimRank = 1;
const lanes = 24;
const startTimeoutMs = 600_000;
const wellTimeoutMs = 90_000;
/** As shipped: a new holder of the Lease evicts nothing for so long. */
const newHolderMs = 31_000;
/** The intent, by whose time the budget reckons, is written a moment before its eviction; on a busy machine a long one. */
const jitterMs = 1_000;
const strategicMerge = 'application/strategic-merge-patch+json';
const condition = 'SysLogsXIDError';
/** Racks have 18 hosts: the breaker `domain-failure` takes four of them for a fault of the rack. */
const layouts: readonly Layout[] = [
  {
    name: '3 in a rack',
    perRack: 3,
    budget: { perSecond: shipped.servingEvictionsPerSecond, burst: shipped.servingBurst },
    watchSeconds: 60,
  },
  {
    name: '4 in a rack, which trips domain-failure',
    perRack: 4,
    budget: { perSecond: shipped.domainEvictionsPerSecond, burst: 1 },
    watchSeconds: 115,
  },
];

/**
 * What Berth makes of 150 nodes that an agent calls broken at the same moment, each under another group: how soon each group
 * has its verdict, and whether evictions keep to the budget, with shipped settings. The audit log must be on.
 */
export async function measureFailureMass(
  cluster: Cluster,
  nodes: number,
  context: BenchContext,
): Promise<readonly Figure[]> {
  const first = await startShipped(cluster, context);
  const namespace = await makeNamespace(cluster, 'pin');
  const watch = new PodWatch(cluster, namespace);
  // As many as whole racks have room for.
  const count = Math.floor(nodes / hostsPerRack) * Math.floor(hostsPerRack / groupSize);
  context.say(`failure-mass: starting ${count} groups of ${groupSize} on ${nodes} nodes`);
  const objects = Array.from({ length: count }, (_, index) =>
    groupsObject({ name: `serve-${index}`, groups: 1, size: groupSize, gpusPerPod }, 'rack'),
  );
  const groups = await startGroups(cluster, watch, namespace, objects, startTimeoutMs);
  await first.stop();
  const figures: Figure[] = [];
  const faults = scaled(context, fullFaults);
  for (const layout of layouts) {
    // Breakers remember what went bad, and budgets what was evicted: each layout has a Berth and records of its own.
    await deleteRecords(cluster);
    const now = groups.map(({ name }) => ({ name, members: membersOf(watch.pods, name) }));
    const hurt = hurtGroups(now, { perRack: layout.perRack, faults, nodes });
    const berth = await startShipped(cluster, context);
    await delay(newHolderMs);
    const outcome = await failAtOnce(cluster, watch, hurt, layout);
    await inLanes(hurt, lanes, group => report(cluster, victimOf(group), false));
    // Nobody would take back later what this Berth says of its groups.
    await allWell(watch, count);
    await berth.stop();
    figures.push(...figuresOf(layout, hurt.length, nodes, outcome, context));
  }
  watch.stop();
  await clearNamespace(cluster, namespace);
  context.note(
    'In part failure-mass an agent writes the condition SysLogsXIDError, a certain signal after 5 s, onto all nodes at ' +
      'once; a verdict is the condition berth.dev/Failed of the leader, or its eviction, and its time runs from the first ' +
      'of these writes. Settings are the shipped ones.',
  );
  return figures;
}

async function startShipped(cluster: Cluster, { environment }: BenchContext): Promise<BerthProcess> {
  const start = () => startBerthOn(cluster, { config: { failure: { mode: 'evict' } } });
  const berth = await withEnvironment(environment, start);
  await awaitLease(berth);
  return berth;
}

async function deleteRecords(cluster: Cluster): Promise<void> {
  const path = `/api/v1/namespaces/${serviceAccount.namespace}/configmaps`;
  for (const label of [names.intent, names.breaker])
    await cluster.request('DELETE', `${path}?labelSelector=${encodeURIComponent(label)}`);
}

/**
 * At most so many groups of a rack, each hurt on one node. The last rack may be a part of one, of which as many nodes are a
 * larger share.
 */
function hurtGroups(
  groups: readonly GroupAtWork[],
  { perRack, faults, nodes }: { readonly perRack: number; readonly faults: number; readonly nodes: number },
): readonly GroupAtWork[] {
  const lastRack = `r${String(Math.floor((nodes - 1) / hostsPerRack)).padStart(2, '0')}`;
  const byRack = Map.groupBy(groups, group => victimOf(group).slice(0, lastRack.length));
  byRack.delete(lastRack);
  const hurt = [...byRack.values()].flatMap(ofRack => ofRack.slice(0, perRack)).slice(0, faults);
  if (hurt.length < faults) throw new Error(`only ${hurt.length} of ${faults} groups can be hurt`);
  return hurt;
}

async function failAtOnce(
  cluster: Cluster,
  watch: PodWatch,
  hurt: readonly GroupAtWork[],
  { watchSeconds }: Layout,
): Promise<Outcome> {
  const leaders = new Map(hurt.map(group => [leaderOf(group).metadata.uid, leaderOf(group)]));
  const verdicts = new Map<string | undefined, number>();
  const others = new Set(watch.pods.map(({ metadata }) => metadata.uid));
  for (const { members } of hurt) for (const { metadata } of members) others.delete(metadata.uid);
  const { nextOffset } = await readAudit(cluster.auditLogPath);
  const startedMs = performance.now();
  const all = watch.until(pods => {
    const there = new Set(pods.map(({ metadata }) => metadata.uid));
    for (const uid of leaders.keys())
      if (!there.has(uid) && !verdicts.has(uid)) verdicts.set(uid, performance.now());
    for (const pod of pods) {
      const { uid } = pod.metadata;
      if (leaders.has(uid) && !verdicts.has(uid) && isJudged(pod)) verdicts.set(uid, performance.now());
    }
    return verdicts.size === leaders.size;
  }, watchSeconds * 1000);
  await inLanes(hurt, lanes, group => report(cluster, victimOf(group), true));
  if ((await all) === undefined)
    throw new Error(
      `only ${verdicts.size} of ${leaders.size} hurt groups had a verdict in ${watchSeconds} s`,
    );
  await delay(Math.max(0, watchSeconds * 1000 - (performance.now() - startedMs)));
  const endMs = Date.now();
  const { events } = await readAudit(cluster.auditLogPath, nextOffset);
  const hurtNames = new Set([...leaders.values()].map(({ metadata }) => metadata.name));
  const evictions = events.filter(event => removesPod(event) && event.subresource === 'eviction');
  if (evictions.some(({ name }) => !hurtNames.has(name)))
    throw new Error('a group without a fault was evicted');
  const remaining = watch.pods.filter(({ metadata }) => others.has(metadata.uid ?? ''));
  if (remaining.length < others.size || remaining.some(isJudged))
    throw new Error('a group without a fault was touched');
  return {
    verdictSeconds: [...verdicts.values()].map(atMs => (atMs - startedMs) / 1000),
    evictionsMs: evictions.map(({ at }) => at.getTime()).sort((a, b) => a - b),
    endMs,
  };
}

function figuresOf(
  { name, budget, watchSeconds }: Layout,
  faults: number,
  nodes: number,
  { verdictSeconds, evictionsMs, endMs }: Outcome,
  { say }: BenchContext,
): readonly Figure[] {
  const what = `${faults} of ${nodes.toLocaleString('en')} nodes at once, ${name}`;
  const allowed = allowedBy(budget, evictionsMs, endMs);
  const [firstMs = 0] = evictionsMs;
  const seconds = evictionsMs.map(ms => ((ms - firstMs) / 1000).toFixed(2));
  say(
    `failure-mass, ${name}: ${evictionsMs.length} evictions, allowed ${allowed}, at ${seconds.join(' ')} s`,
  );
  return [
    {
      part,
      what: `${what}: verdicts, 90 % after`,
      unit: 's',
      berth: summarize([percentile(verdictSeconds, 90)]),
      aim: { of: 'value', atMost: 10 },
    },
    {
      part,
      what: `${what}: the last verdict after`,
      unit: 's',
      berth: summarize([Math.max(...verdictSeconds)]),
    },
    {
      part,
      what: `${what}: evicted within ${watchSeconds} s`,
      unit: 'evictions',
      berth: summarize([evictionsMs.length]),
      beside: { name: 'what the budget allows', value: summarize([allowed]) },
      aim: { of: 'ratio', atMost: 1 },
    },
    {
      part,
      what: `${what}: above the budget, in the worst window of any length`,
      unit: 'evictions',
      berth: summarize([excessOver(budget, evictionsMs, jitterMs)]),
      aim: { of: 'value', atMost: 0 },
    },
  ];
}

function isJudged({ metadata, status }: Pod): boolean {
  const failed = status?.conditions?.some(
    ({ type, status: value }) => type === names.failureCondition && value === 'True',
  );
  return failed === true || metadata.deletionTimestamp !== undefined;
}

/** What NVSentinel writes of a GPU that has fallen off the bus, or of one that is well again. */
async function report(cluster: Cluster, node: string, isBroken: boolean): Promise<void> {
  const now = new Date().toISOString();
  const message = 'XID 79 on GPU-5fd6a8a4-6b1e-4c39-a9c1-2d8d3f0e9a11 Recommended Action=RESTART_VM';
  const status = isBroken ? 'True' : 'False';
  const conditions = [
    { type: condition, status, reason: condition, message, lastHeartbeatTime: now, lastTransitionTime: now },
  ];
  await cluster.request('PATCH', `/api/v1/nodes/${node}/status`, { status: { conditions } }, strategicMerge);
}

function victimOf(group: GroupAtWork): string {
  return memberOf(group, victimRank).spec.nodeName ?? '';
}

async function allWell(watch: PodWatch, groups: number): Promise<void> {
  const areWell = (pods: readonly Pod[]) =>
    pods.length === groups * groupSize && pods.every(pod => isServing(pod) && !isJudged(pod));
  if ((await watch.until(areWell, wellTimeoutMs)) === undefined)
    throw new Error(`not all groups were well ${wellTimeoutMs / 1000} s after the end of the faults`);
}
