import type { DeviceTaint } from '../../src/api/dra.ts';
import { startBerthOn } from '../bed/berth.ts';
import type { Cluster } from '../bed/cluster.ts';
import { awaitLease, withEnvironment } from './berth-arm.ts';
import { claimants, hostTemplate, hostTemplateName, resourceApi } from './claimants.ts';
import { type BenchContext, scaled } from './context.ts';
import { type Fencing, fence, killKubelet } from './dead-nodes.ts';
import { gpuLost, gpuLostForAll, gpuOf, taintDevice } from './device-taints.ts';
import type { Figure, Never } from './figures.ts';
import { comesBack, type GroupAtWork, memberOf, startGroups } from './groups-at-work.ts';
import { clearNamespace, makeNamespace, type WebhookArm } from './namespaces.ts';
import { PodWatch } from './pod-watch.ts';
import { summarize } from './statistics.ts';

/** What befalls a group. */
interface Kind {
  readonly name: string;
  readonly patienceSeconds: number;
  readonly aimSeconds: number;
  readonly full: number;
  readonly happen: HappenToDevice | HappenToNode;
}

interface HappenToDevice {
  readonly to: 'device';
  readonly taint: DeviceTaint;
}

interface HappenToNode {
  readonly to: 'node';
  readonly fencing: Fencing;
}

/** Seconds until all members were new and Ready; undefined when that was not within the patience. */
type Seconds = number | undefined;

const part = 'failure-recovery';
const groupSize = 4;
const victimRank = 2;
const startTimeoutMs = 120_000;
/** How long it takes to make sure that a silent machine is off. */
const fencerSeconds = 10;
const kinds: readonly Kind[] = [
  {
    name: 'device lost, tainted NoSchedule by its driver',
    patienceSeconds: 60,
    aimSeconds: 30,
    full: 3,
    happen: { to: 'device', taint: gpuLost },
  },
  {
    name: 'device lost, tainted NoExecute by its driver',
    patienceSeconds: 60,
    aimSeconds: 30,
    full: 3,
    happen: { to: 'device', taint: gpuLostForAll },
  },
  {
    name: 'node silent, then fenced by the taint out-of-service',
    patienceSeconds: 180,
    aimSeconds: 120,
    full: 2,
    happen: { to: 'node', fencing: 'taint' },
  },
  {
    name: 'node silent, then deleted',
    patienceSeconds: 180,
    aimSeconds: 120,
    full: 2,
    happen: { to: 'node', fencing: 'delete' },
  },
];

/**
 * How long a group is away after a device or node under it has failed, with shipped settings and beside Kubernetes with LWS
 * alone. Pods are Ready as soon as they are bound: no model is loaded. The fleet must publish devices.
 */
export async function measureFailureRecovery(
  cluster: Cluster,
  nodes: number,
  context: BenchContext,
): Promise<readonly Figure[]> {
  const start = () => startBerthOn(cluster, { config: { failure: { mode: 'evict' } } });
  const berth = await withEnvironment(context.environment, start);
  await awaitLease(berth);
  const pin = await measureArm(cluster, 'pin', context);
  await berth.stop();
  // After Berth, whose breakers would count the nodes that fail here.
  const stock = await measureArm(cluster, 'stock', context);
  context.note(
    `In part failure-recovery the settings are the shipped ones and the timers of kube-controller-manager are its own ` +
      `(node Unknown after 50 s); the bench fences ${fencerSeconds} s after a node has turned Unknown, in both arms. A ` +
      `deleted pod takes 1.5 s to go.`,
  );
  return kinds.map(kind => figureOf(kind, nodes, pin.get(kind) ?? [], stock.get(kind) ?? []));
}

function figureOf(kind: Kind, nodes: number, pin: readonly Seconds[], stock: readonly Seconds[]): Figure {
  const never: Never = { waitedSeconds: kind.patienceSeconds };
  const times = pin.filter(seconds => seconds !== undefined);
  const beside = stock.filter(seconds => seconds !== undefined);
  if (times.length < pin.length || times.length === 0)
    throw new Error(`a group did not come back within ${kind.patienceSeconds} s: ${kind.name}`);
  return {
    part,
    what: `${kind.name}, group of ${groupSize} x 8 GPUs at ${nodes} nodes: to all members new and Ready`,
    unit: 's',
    berth: summarize(times),
    // Some that came back would hide those that did not.
    beside: {
      name: 'stock with LWS',
      value: beside.length < stock.length || beside.length === 0 ? never : summarize(beside),
    },
    aim: { of: 'value', atMost: kind.aimSeconds },
  };
}

/** Nodes fall silent at once, and devices fail in turn meanwhile. */
async function measureArm(
  cluster: Cluster,
  arm: WebhookArm,
  context: BenchContext,
): Promise<ReadonlyMap<Kind, readonly Seconds[]>> {
  const namespace = await makeNamespace(cluster, arm);
  const templates = `${resourceApi}/namespaces/${namespace}/resourceclaimtemplates`;
  await cluster.request('POST', templates, hostTemplate(namespace));
  const watch = new PodWatch(cluster, namespace);
  const trials = kinds.flatMap(kind =>
    Array.from({ length: scaled(context, kind.full) }, (_, index) => ({ kind, index })),
  );
  const objects = trials.map((_, index) =>
    claimants(
      { name: `hurt-${index}`, groups: 1, size: groupSize, template: hostTemplateName },
      arm === 'stock' ? undefined : 'rack',
    ),
  );
  const groups = await startGroups(cluster, watch, namespace, objects, startTimeoutMs);
  const waiting = new Map<Kind, Promise<Seconds>[]>(kinds.map(kind => [kind, []]));
  const hurt = async (group: GroupAtWork, kind: Kind) => {
    const seconds = hurtGroup(cluster, watch, group, kind);
    waiting.get(kind)?.push(seconds);
    const text = (await seconds)?.toFixed(1) ?? 'never';
    context.say(`failure-recovery, ${arm}, ${kind.name}: whole again after ${text} s`);
  };
  // Nodes first: those of one kind next to each other in the list may share a rack, so the kinds take turns.
  const ordered = trials
    .map((trial, at) => ({ ...trial, group: groups[at] }))
    .sort((a, b) => a.index - b.index);
  const started: Promise<void>[] = [];
  for (const { kind, group } of ordered)
    if (group !== undefined && kind.happen.to === 'node') started.push(hurt(group, kind));
  for (const { kind, group } of ordered)
    if (group !== undefined && kind.happen.to === 'device') {
      const done = hurt(group, kind);
      // Without Berth nothing comes of a taint that only keeps new claims off: no need to wait for it in turn.
      if (arm === 'stock' && kind.happen.taint === gpuLost) started.push(done);
      else await done;
    }
  await Promise.all(started);
  watch.stop();
  await clearNamespace(cluster, namespace);
  const results = new Map<Kind, readonly Seconds[]>();
  for (const [kind, seconds] of waiting) results.set(kind, await Promise.all(seconds));
  return results;
}

async function hurtGroup(
  cluster: Cluster,
  watch: PodWatch,
  group: GroupAtWork,
  { happen, patienceSeconds }: Kind,
): Promise<Seconds> {
  const victim = memberOf(group, victimRank);
  const device = happen.to === 'device' ? await gpuOf(cluster, victim) : undefined;
  const startedMs = performance.now();
  const back = comesBack(watch, group, patienceSeconds * 1000);
  if (happen.to === 'device' && device !== undefined) await taintDevice(cluster, device, happen.taint);
  if (happen.to === 'node') {
    const node = victim.spec.nodeName ?? '';
    await killKubelet(cluster, node, group.members);
    await fence(cluster, node, happen.fencing, fencerSeconds * 1000);
  }
  const readyMs = await back;
  return readyMs === undefined ? undefined : (readyMs - startedMs) / 1000;
}
