import type { Node, ObjectMeta, Pod } from '../../src/api/kubernetes.ts';
import { matchesNode, pinnedNodes } from '../../src/cluster/node-affinity.ts';
import { podRequests } from '../../src/cluster/pod-requests.ts';
import {
  addResources,
  fits,
  noResources,
  type Resources,
  resourcesFrom,
  subtractResources,
} from '../../src/cluster/resources.ts';
import { resourceTypes } from './api-paths.ts';
import { ReconcileLoop } from './reconcile-loop.ts';
import { nameOf, type ResourceApi } from './resource-api.ts';

/** A node with what is left of it. */
interface Room {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly allocatable: Resources;
  free: Resources;
}

/** kube-scheduler's default strategy looks at these two and at no device. */
const scoredResources = ['cpu', 'memory'];

/**
 * Binds pods one by one in the order of their creation, as kube-scheduler does with its default profile: among the nodes
 * that fit, the least allocated; of equals, any. A pinned pod has one node to look at. No preemption, no spreading.
 */
export function startScheduler(api: ResourceApi, random: () => number): () => void {
  const loop = new ReconcileLoop(() => scheduleAll(api, random), 5);
  const unsubscribe = api.store.subscribe(({ resource }) => {
    if (resource === 'pods' || resource === 'nodes') loop.ask();
  });
  return () => {
    unsubscribe();
    loop.stop();
  };
}

function scheduleAll(api: ResourceApi, random: () => number): void {
  const pods = api.store.list<Pod>('pods');
  const rooms = roomsOf(api.store.list<Node>('nodes'), pods);
  const waiting = pods
    .filter(pod => pod.spec.nodeName === undefined && (pod.spec.schedulingGates ?? []).length === 0)
    .sort(byAge);
  for (const pod of waiting) {
    const demand = withSlot(podRequests(pod));
    const open = roomsFor(pod, rooms).filter(({ free }) => fits(free, demand));
    const chosen = leastAllocated(open, random);
    if (chosen === undefined) {
      refuse(api, pod, rooms.length);
      continue;
    }
    chosen.free = subtractResources(chosen.free, demand);
    bind(api, pod, chosen.name);
  }
}

function roomsOf(nodes: readonly Node[], pods: readonly Pod[]): readonly Room[] {
  const used = new Map<string, Resources>();
  for (const pod of pods) {
    const { nodeName } = pod.spec;
    if (nodeName === undefined) continue;
    used.set(nodeName, addResources(used.get(nodeName) ?? noResources, withSlot(podRequests(pod))));
  }
  return nodes.map(({ metadata, status }) => {
    const { name = '', labels = {} } = metadata;
    const allocatable = resourcesFrom(status?.allocatable ?? {}, 'status.allocatable');
    return { name, labels, allocatable, free: subtractResources(allocatable, used.get(name) ?? noResources) };
  });
}

function roomsFor(pod: Pod, rooms: readonly Room[]): readonly Room[] {
  const pins = pinnedNodes(pod.spec);
  const candidates = pins === undefined ? rooms : rooms.filter(({ name }) => pins.includes(name));
  return candidates.filter(room => matchesNode(pod.spec, room));
}

function leastAllocated(rooms: readonly Room[], random: () => number): Room | undefined {
  const scores = rooms.map(({ allocatable, free }) => {
    const shares = scoredResources.map(name => (free.get(name) ?? 0) / (allocatable.get(name) ?? 1));
    return shares.reduce((sum, share) => sum + share, 0);
  });
  const best = Math.max(...scores);
  const equals = rooms.filter((_, index) => scores[index] === best);
  return equals[Math.floor(random() * equals.length)];
}

function bind(api: ResourceApi, pod: Pod, nodeName: string): void {
  const scheduled = { type: 'PodScheduled', status: 'True' };
  const conditions = [...otherConditions(pod), scheduled];
  const bound = { ...pod, spec: { ...pod.spec, nodeName }, status: { ...pod.status, conditions } };
  api.store.write('pods', bound);
}

/** Said once: a condition that is there already is not written again. */
function refuse(api: ResourceApi, pod: Pod, nodes: number): void {
  const message = `0/${nodes} nodes are available`;
  const known = pod.status?.conditions?.find(({ type }) => type === 'PodScheduled');
  if (known?.reason === 'Unschedulable') return;
  const refused = { type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message };
  const body = { status: { conditions: [refused] } };
  const contentType = 'application/strategic-merge-patch+json';
  api.patch(resourceTypes.pods, nameOf(pod), { contentType, body });
}

function otherConditions({ status }: Pod) {
  return (status?.conditions ?? []).filter(({ type }) => type !== 'PodScheduled');
}

/** Creation times have whole seconds; resourceVersions tell more, and pods that wait are seldom written. */
function byAge({ metadata: a }: Pod, { metadata: b }: Pod): number {
  const createdMs = ({ creationTimestamp = '' }: ObjectMeta) => Date.parse(creationTimestamp);
  return createdMs(a) - createdMs(b) || Number(a.resourceVersion) - Number(b.resourceVersion);
}

function withSlot(requests: Resources): Resources {
  return addResources(requests, new Map([['pods', 1]]));
}
