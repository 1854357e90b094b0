import type { Pod } from '../../src/api/kubernetes.ts';
import { berth, lws } from '../../src/api/names.ts';
import { pinnedNodes } from '../../src/cluster/node-affinity.ts';
import { parsePlanAnnotation } from '../../src/group/plan-annotation.ts';
import type { Cluster } from '../bed/cluster.ts';
import { type BenchContext, scaled } from './context.ts';
import { type Arm, makeNamespace } from './namespaces.ts';
import { until } from './waiting.ts';
import { cpuPod, groupsObject, injected, singleGpuPod } from './workloads.ts';

/** Pods that wait for kube-scheduler, which is away, by what Berth has to say of them. */
export interface FilterWorld {
  readonly pinned: readonly Pod[];
  /** Members with a plan and without a pin. */
  readonly planned: readonly Pod[];
  /** Members of a group that fits nowhere. */
  readonly waiting: readonly Pod[];
  readonly strangerWithGpus: Pod;
  readonly strangerWithoutGpus: Pod;
  /** In a namespace in which Berth scores pods. */
  readonly single: Pod;
  /** Node by the UID of a pinned or planned pod. */
  readonly places: ReadonlyMap<string, string>;
  readonly namespaces: readonly string[];
  /** Where bound pods may come and go. */
  readonly foreignNamespace: string;
}

const fullGroups = 50;
const groupSize = 4;
const gpusPerPod = 8;
/** More than the rack of a large fleet has hosts. */
const tooLarge = 9;
const timeoutMs = 120_000;

/** Half of the groups planned in mode `pin-extender`, half in mode `extender`; kube-scheduler must not run. */
export async function makeFilterWorld(cluster: Cluster, context: BenchContext): Promise<FilterWorld> {
  const groups = scaled(context, fullGroups);
  const spaces: Readonly<Record<Exclude<Arm, 'pin'>, string>> = {
    stock: await makeNamespace(cluster, 'stock'),
    'pin-extender': await makeNamespace(cluster, 'pin-extender'),
    extender: await makeNamespace(cluster, 'extender'),
  };
  const create = (arm: keyof typeof spaces, pod: Pod) =>
    cluster.request<Pod>('POST', `/api/v1/namespaces/${spaces[arm]}/pods`, pod);
  const createGroups = async (arm: keyof typeof spaces, name: string, count: number, size: number) => {
    const object = groupsObject({ name, groups: count, size, gpusPerPod }, 'rack');
    await cluster.request(
      'POST',
      `/apis/${lws.apiVersion}/namespaces/${spaces[arm]}/leaderworkersets`,
      object,
    );
  };
  await createGroups('pin-extender', 'pinned', groups, groupSize);
  await createGroups('extender', 'planned', groups, groupSize);
  await createGroups('extender', 'waiting', 1, tooLarge);

  const expected = groups * groupSize;
  const pinned = await membersOf(cluster, spaces['pin-extender'], 'pinned', expected, pods =>
    pods.every(pod => pinOf(pod) !== undefined),
  );
  const planned = await membersOf(
    cluster,
    spaces.extender,
    'planned',
    expected,
    pods => placesOf(pods).size === expected,
  );
  const waiting = await membersOf(cluster, spaces.extender, 'waiting', tooLarge, pods =>
    pods.some(({ status }) => status?.conditions?.some(({ type }) => type === berth.placedCondition)),
  );
  const pins = pinned.map(pod => [pod.metadata.uid ?? '', pinOf(pod) ?? ''] as const);
  return {
    pinned,
    planned,
    waiting,
    strangerWithGpus: await create('stock', injected(singleGpuPod('stranger'))),
    strangerWithoutGpus: await create('stock', injected(cpuPod('web'))),
    single: await create('pin-extender', injected(singleGpuPod('single'))),
    places: new Map([...pins, ...placesOf(planned)]),
    namespaces: Object.values(spaces),
    foreignNamespace: spaces.stock,
  };
}

/** Waits until an LWS has all its pods and they are as wanted. */
async function membersOf(
  cluster: Cluster,
  namespace: string,
  name: string,
  count: number,
  areReady: (pods: readonly Pod[]) => boolean,
): Promise<readonly Pod[]> {
  const selector = encodeURIComponent(`${lws.name}=${name}`);
  let pods: readonly Pod[] = [];
  await until(`${count} ${name} pods`, timeoutMs, async () => {
    const path = `/api/v1/namespaces/${namespace}/pods?labelSelector=${selector}`;
    pods = (await cluster.request<{ items: Pod[] }>('GET', path)).items;
    return pods.length === count && areReady(pods);
  });
  return pods;
}

function pinOf({ spec }: Pod): string | undefined {
  return pinnedNodes(spec)?.[0];
}

/** Nodes by UID, as the plans on the leaders among these pods say. */
function placesOf(pods: readonly Pod[]): ReadonlyMap<string, string> {
  const groupOf = ({ metadata }: Pod) => metadata.labels?.[lws.groupIndex] ?? '';
  const rankOf = ({ metadata }: Pod) => Number(metadata.labels?.[lws.workerIndex]);
  const plans = new Map<string, readonly string[]>();
  for (const pod of pods) {
    const plan = parsePlanAnnotation(pod.metadata.annotations?.[berth.plan] ?? '');
    if ('nodes' in plan) plans.set(groupOf(pod), plan.nodes);
  }
  const places = pods.map(pod => [pod.metadata.uid ?? '', plans.get(groupOf(pod))?.[rankOf(pod)]] as const);
  return new Map(places.flatMap(([uid, node]) => (node === undefined ? [] : [[uid, node]])));
}
