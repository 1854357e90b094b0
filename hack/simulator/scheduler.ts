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
import type { SchedulerExtender } from './scheduler-extender.ts';

/** A node with what is left of it. */
interface Room {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly allocatable: Resources;
  readonly free: Resources;
}

/** The nodes that can take a pod, and for the others how many of them cannot for which reason. */
interface Findings {
  readonly open: readonly Room[];
  readonly reasons: ReadonlyMap<string, number>;
}

export interface SchedulerOptions {
  /** Asked in this order. */
  readonly extenders: readonly SchedulerExtender[];
  readonly random: () => number;
}

/** kube-scheduler's default strategy looks at these two and at no device. */
const scoredResources = ['cpu', 'memory'];
const highestScore = 100;

/**
 * Binds pods one by one in the order of their creation, as kube-scheduler does with its default profile: among the nodes
 * that fit and that no extender refuses, the least allocated, with what extenders add to that; of equals, any. A pinned
 * pod has one node to look at. No preemption, no spreading. Returns the end of it.
 */
export function startScheduler(api: ResourceApi, options: SchedulerOptions): () => void {
  const scheduler = new Scheduler(api, options);
  const loop = new ReconcileLoop(() => scheduler.scheduleAll(), 5);
  const unsubscribe = api.store.subscribe(({ resource }) => {
    if (resource === 'pods' || resource === 'nodes') loop.ask();
  });
  loop.ask();
  return () => {
    unsubscribe();
    loop.stop();
    scheduler.stop();
  };
}

class Scheduler {
  readonly #api: ResourceApi;
  readonly #options: SchedulerOptions;
  #isStopped = false;

  constructor(api: ResourceApi, options: SchedulerOptions) {
    this.#api = api;
    this.#options = options;
  }

  async scheduleAll(): Promise<void> {
    const waiting = this.#api.store.list<Pod>('pods').filter(isWaiting).sort(byAge);
    for (const pod of waiting) await this.#schedule(pod);
  }

  stop(): void {
    this.#isStopped = true;
    for (const extender of this.#options.extenders) extender.close();
  }

  async #schedule(pod: Pod): Promise<void> {
    const { store } = this.#api;
    const rooms = roomsOf(store.list<Node>('nodes'), store.list<Pod>('pods'));
    const { open, reasons } = await this.#extended(pod, look(pod, rooms));
    const chosen = await this.#choose(pod, open);
    const current = store.read<Pod>('pods', nameOf(pod));
    // Extenders take their time, and much may have happened meanwhile.
    if (this.#isStopped || current === undefined || !isWaiting(current)) return;
    if (current.metadata.uid !== pod.metadata.uid) return;
    if (chosen === undefined) refuse(this.#api, current, messageOf(rooms.length, reasons));
    else bind(this.#api, current, chosen.name);
  }

  /** Has extenders look at the nodes that are left. One that must not be ignored leaves nothing when it fails. */
  async #extended(pod: Pod, found: Findings): Promise<Findings> {
    let { open } = found;
    const reasons = new Map(found.reasons);
    for (const extender of this.#options.extenders) {
      if (open.length === 0 || !extender.isInterested(pod)) continue;
      const names = open.map(({ name }) => name);
      try {
        const { kept, refused } = await extender.filter(pod, names);
        open = open.filter(({ name }) => kept.has(name));
        for (const reason of Object.values(refused)) count(reasons, reason);
      } catch (error) {
        if (extender.isIgnorable) continue;
        open = [];
        count(reasons, error instanceof Error ? error.message : String(error));
      }
    }
    return { open, reasons };
  }

  /** The best of the nodes. Of one alone nobody is asked how good it is. */
  async #choose(pod: Pod, open: readonly Room[]): Promise<Room | undefined> {
    const scores = new Map(open.map(room => [room.name, leastAllocated(room)]));
    const names = [...scores.keys()];
    for (const extender of this.#options.extenders) {
      if (open.length < 2 || !extender.isInterested(pod)) continue;
      // An extender that does not answer has no opinion.
      const added = await extender.prioritize(pod, names).catch(() => new Map<string, number>());
      for (const [name, score] of added) scores.set(name, (scores.get(name) ?? 0) + score);
    }
    const best = Math.max(...scores.values());
    const equals = open.filter(({ name }) => scores.get(name) === best);
    return equals[Math.floor(this.#options.random() * equals.length)];
  }
}

function isWaiting({ metadata, spec }: Pod): boolean {
  const isGated = (spec.schedulingGates ?? []).length > 0;
  return spec.nodeName === undefined && !isGated && metadata.deletionTimestamp === undefined;
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

/** What kube-scheduler's own plugins say. */
function look(pod: Pod, rooms: readonly Room[]): Findings {
  const demand = withSlot(podRequests(pod));
  const pins = pinnedNodes(pod.spec);
  const reasons = new Map<string, number>();
  const open = rooms.filter(room => {
    const isMeant = (pins === undefined || pins.includes(room.name)) && matchesNode(pod.spec, room);
    if (!isMeant) count(reasons, "node(s) didn't match Pod's node affinity/selector");
    else for (const resource of lacking(room, demand)) count(reasons, shortOf(resource));
    return isMeant && fits(room.free, demand);
  });
  return { open, reasons };
}

function lacking({ free }: Room, demand: Resources): readonly string[] {
  return [...demand].filter(([name, amount]) => amount > (free.get(name) ?? 0)).map(([name]) => name);
}

function shortOf(resource: string): string {
  return resource === 'pods' ? 'Too many pods' : `Insufficient ${resource}`;
}

/** From 0 to 100, not rounded as kube-scheduler's are. */
function leastAllocated({ allocatable, free }: Room): number {
  const shares = scoredResources.map(name => (free.get(name) ?? 0) / (allocatable.get(name) ?? 1));
  return (highestScore * shares.reduce((sum, share) => sum + share, 0)) / shares.length;
}

function bind(api: ResourceApi, pod: Pod, nodeName: string): void {
  const scheduled = { type: 'PodScheduled', status: 'True' };
  const conditions = [...otherConditions(pod), scheduled];
  const bound = { ...pod, spec: { ...pod.spec, nodeName }, status: { ...pod.status, conditions } };
  api.store.write('pods', bound);
}

/** Said once: a condition that is there already is not written again. */
function refuse(api: ResourceApi, pod: Pod, message: string): void {
  const known = pod.status?.conditions?.find(({ type }) => type === 'PodScheduled');
  if (known?.reason === 'Unschedulable' && known.message === message) return;
  const refused = { type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message };
  const body = { status: { conditions: [refused] } };
  const contentType = 'application/strategic-merge-patch+json';
  api.patch(resourceTypes.pods, nameOf(pod), { contentType, body }, 'status');
}

function messageOf(nodes: number, reasons: ReadonlyMap<string, number>): string {
  const texts = [...reasons].map(([reason, times]) => `${times} ${reason}`).sort();
  return `0/${nodes} nodes are available: ${texts.join(', ')}.`;
}

function count(reasons: Map<string, number>, reason: string): void {
  reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
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
