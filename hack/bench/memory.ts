import { setTimeout as delay } from 'node:timers/promises';
import { type BerthProcess, installBerth, serviceAccount, startBerthOn, webhookUrlOf } from '../bed/berth.ts';
import { type Cluster, readState } from '../bed/cluster.ts';
import type { Fleet } from '../bed/fleet-presets.ts';
import { freePorts } from '../bed/ports.ts';
import { runningPid } from '../bed/processes.ts';
import { awaitLease, withEnvironment } from './berth-arm.ts';
import { type BenchContext, scaled } from './context.ts';
import type { Figure, Unit } from './figures.ts';
import { inLanes, numbers } from './lanes.ts';
import { makeNamespace } from './namespaces.ts';
import { type Memory, memoryOf } from './process-facts.ts';
import { summarize } from './statistics.ts';
import { residentGroupSize, residentPod } from './workloads.ts';

const namespaceCount = 20;
const podsPerNode = 10;
/** Of ten pods on a node so many belong to groups. */
const memberPodsPerNode = 2;
const createLanes = 48;
const fullChanges = 2_000;
const restMs = 10_000;
const megabyte = 1_000_000;

/**
 * How much memory Berth takes at 5,000 nodes and 50,000 pods, and how long it takes to read them; beside it
 * kube-scheduler, which keeps the same objects. Stops the controllers of the cluster.
 */
export async function measureMemory(
  cluster: Cluster,
  fleet: Fleet,
  context: BenchContext,
): Promise<readonly Figure[]> {
  const namespaces: string[] = [];
  for (const _ of numbers(namespaceCount)) namespaces.push(await makeNamespace(cluster, 'stock'));
  const [webhookPort = 0] = await freePorts(1);
  await installBerth(cluster, { webhookUrl: webhookUrlOf(webhookPort) });
  // They would only take time from those that are measured, and look for owners that these pods do not have.
  for (const component of ['kube-controller-manager', 'kube-scheduler', 'lws'] as const) {
    await cluster.stopComponent(component);
  }
  const pods = fleet.nodes.length * podsPerNode;
  context.say(`creating ${pods} bound pods`);
  await createResidents(cluster, fleet, namespaces);

  const { berth, readySeconds } = await startMeasured(cluster, webhookPort, context);
  await awaitLease(berth);
  await delay(restMs);
  const rested = memoryOf(berth.pid);
  await sayHeap('after reading', berth, rested, context);
  await changePods(cluster, namespaces, scaled(context, fullChanges));
  await delay(restMs);
  const changed = memoryOf(berth.pid);
  await sayHeap('after changes', berth, changed, context);
  await berth.stop();

  const scheduler = await measureScheduler(cluster);
  const beside = (bytes: number) => ({ name: 'kube-scheduler', value: summarize([bytes / megabyte]) });
  const what = `${fleet.nodes.length.toLocaleString('en')} nodes and ${pods.toLocaleString('en')} pods`;
  const figure = (text: string, unit: Unit, value: number): Figure => ({
    part: 'memory',
    what: `${what}: ${text}`,
    unit,
    berth: summarize([value]),
  });
  return [
    {
      ...figure('resident memory', 'MB', rested.residentBytes / megabyte),
      beside: beside(scheduler.memory.residentBytes),
      aim: { of: 'value', atMost: 300 },
    },
    figure('resident memory after changes', 'MB', changed.residentBytes / megabyte),
    {
      ...figure('largest resident memory', 'MB', changed.peakBytes / megabyte),
      beside: beside(scheduler.memory.peakBytes),
    },
    {
      ...figure('time from start to ready', 's', readySeconds),
      beside: { name: 'kube-scheduler', value: summarize([scheduler.readySeconds]) },
    },
  ];
}

async function createResidents(cluster: Cluster, fleet: Fleet, namespaces: readonly string[]): Promise<void> {
  const count = fleet.nodes.length * podsPerNode;
  await inLanes(numbers(count), createLanes, async index => {
    const node = fleet.nodes[Math.floor(index / podsPerNode)]?.metadata.name ?? '';
    const place = index % podsPerNode;
    const member =
      place < memberPodsPerNode ? Math.floor(index / podsPerNode) * memberPodsPerNode + place : undefined;
    const group = member === undefined ? undefined : groupOf(member);
    const pod = residentPod(`resident-${index}`, node, group);
    const at = group === undefined ? index : group.number;
    const namespace = namespaces[at % namespaces.length] ?? '';
    await cluster.request('POST', `/api/v1/namespaces/${namespace}/pods`, pod);
  });
}

function groupOf(member: number): { number: number; name: string; rank: number } {
  const number = Math.floor(member / residentGroupSize);
  return { number, name: `group-${number}`, rank: member % residentGroupSize };
}

async function startMeasured(
  cluster: Cluster,
  webhookPort: number,
  context: BenchContext,
): Promise<{ berth: BerthProcess; readySeconds: number }> {
  const kubeconfigPath = await cluster.serviceAccountKubeconfig(
    serviceAccount.namespace,
    serviceAccount.name,
  );
  const startedMs = performance.now();
  const start = () =>
    startBerthOn(cluster, { install: false, webhookPort, kubeconfigPath, name: 'berth-memory' });
  const berth = await withEnvironment(context.environment, start);
  return { berth, readySeconds: (performance.now() - startedMs) / 1000 };
}

/** Writes that a cluster sees all the time: labels and annotations of running pods. */
async function changePods(cluster: Cluster, namespaces: readonly string[], changes: number): Promise<void> {
  const [namespace = ''] = namespaces;
  const path = `/api/v1/namespaces/${namespace}/pods`;
  const { items } = await cluster.request<{ items: { metadata: { name: string } }[] }>(
    'GET',
    `${path}?limit=${changes}`,
  );
  await inLanes(numbers(changes), createLanes, async index => {
    const name = items[index % items.length]?.metadata.name ?? '';
    const metadata = { annotations: { 'example.com/changed': String(index) } };
    await cluster.request('PATCH', `${path}/${name}`, { metadata });
  });
}

async function measureScheduler(cluster: Cluster): Promise<{ memory: Memory; readySeconds: number }> {
  const startedMs = performance.now();
  await cluster.startComponent('kube-scheduler');
  const readySeconds = (performance.now() - startedMs) / 1000;
  await delay(restMs);
  const { layout } = await readState(cluster.stateFile);
  const pid = runningPid(layout, 'kube-scheduler');
  if (pid === undefined) throw new Error('kube-scheduler has ended');
  return { memory: memoryOf(pid), readySeconds };
}

async function sayHeap(
  when: string,
  berth: BerthProcess,
  { residentBytes, peakBytes }: Memory,
  { say }: BenchContext,
): Promise<void> {
  const metrics = await berth.metrics();
  const megabytes = (name: string) => {
    const value = new RegExp(`^${name} (\\S+)$`, 'm').exec(metrics)?.[1];
    return value === undefined ? '?' : (Number(value) / megabyte).toFixed(0);
  };
  say(
    `memory ${when}: resident ${(residentBytes / megabyte).toFixed(0)} MB, ` +
      `peak ${(peakBytes / megabyte).toFixed(0)} MB, heap used ${megabytes('nodejs_heap_size_used_bytes')} of ` +
      `${megabytes('nodejs_heap_size_total_bytes')} MB, external ${megabytes('nodejs_external_memory_bytes')} MB`,
  );
}
