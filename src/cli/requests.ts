import type { LeaderWorkerSet, Pod } from '../api/kubernetes.ts';
import { berth } from '../api/names.ts';
import type { ClusterCache } from '../cache/cluster-cache.ts';
import { usesResourceClaims } from '../cluster/pod-requests.ts';
import { groupKeyOf, isMembershipError } from '../group/membership.ts';
import { decodeLeaderWorkerSet, decodeNamespace } from '../group/owner.ts';
import { whyNotPlaceable } from '../group/placeable.ts';
import { decodePod, isGated, type PodInfo, podShare } from '../group/pod-info.ts';
import { admitPod, unknownPriorityClass } from './admission.ts';
import type { ClusterObjects, PriorityClass } from './cluster-objects.ts';
import { withPlace } from './decode-object.ts';
import { takeDeviceObjects } from './device-objects.ts';
import { InputError } from './input-error.ts';
import { lwsLeaderPod } from './lws-leader.ts';
import { leftForClaims, type Verdict } from './what-if.ts';

/** A group, or a pod outside any group, that asks for a place. */
export interface Request {
  /** Key of the group, or UID of the pod. */
  readonly key: string;
  readonly kind: 'group' | 'single';
  /** `namespace/name` of the group or pod. */
  readonly name: string;
  readonly priority: number;
  readonly createdAtMs: number;
  /** Known before any planning, e.g. a mistake in its labels. */
  readonly verdict?: Verdict;
}

export interface Requests {
  readonly list: readonly Request[];
  /** Sentences about what was given and is not as it may seem. */
  readonly notes: readonly string[];
}

/** No manifest means more; each replica is planned by itself. */
const mostReplicas = 10_000;

/** What waits for Berth in the fleet already: gated, and without a place. */
export function waitingInFleet(cache: ClusterCache): readonly Request[] {
  const waiting: Request[] = [];
  for (const key of cache.groupKeys()) {
    const view = cache.group(key);
    if (view?.leader === undefined || view.plan !== undefined || !waits(view.leader)) continue;
    waiting.push(requestOf(view.leader));
  }
  for (const pod of cache.allPods())
    if (pod.membership === undefined && waits(pod) && cache.plannedNode(pod) === undefined)
      waiting.push(requestOf(pod));
  return waiting;
}

/** Pods of a fleet that are neither bound nor Berth's to place: nobody knows yet whose room they will take. */
export function pendingElsewhere(cache: ClusterCache): number {
  let pending = 0;
  for (const pod of cache.allPods()) {
    const goes = pod.terminating || pod.terminal || pod.nodeName !== undefined;
    if (!goes && !isGated(pod) && cache.plannedNode(pod) === undefined) pending++;
  }
  return pending;
}

/**
 * Puts what some manifests ask for into the cache, as it would wait for Berth, younger than everything there, in the
 * order of the manifests.
 * @throws InputError for an amount that is no quantity, and for a manifest that is too large
 */
export function takeManifests(
  cache: ClusterCache,
  manifests: ClusterObjects,
  options: { readonly namespace: string; readonly priorityClasses: readonly PriorityClass[] },
): Requests {
  const taking = new ManifestTaking(cache, manifests, options);
  for (const namespace of manifests.namespaces) cache.namespaces.upsert(decodeNamespace(namespace));
  // Drivers publish slices: like nodes they are of the fleet.
  for (const claim of takeDeviceObjects(cache, { ...manifests, resourceSlices: [] }, options))
    taking.note(`ResourceClaim ${claim} is in the fleet already and stays as it is`);
  for (const set of manifests.leaderWorkerSets) taking.takeSet(set);
  for (const pod of manifests.pods) taking.takePod(pod);
  if (manifests.nodes.length > 0)
    taking.note('nodes among the manifests are not read; name them with --fleet');
  if (manifests.resourceSlices.length > 0)
    taking.note('ResourceSlices among the manifests are not read; name them with --fleet');
  const others = [...manifests.ignored].filter(([kind]) => !quietKinds.has(kind));
  if (others.length > 0) {
    const list = others.map(([kind, count]) => `${count} ${kind}`).join(', ');
    taking.note(`only LeaderWorkerSets and pods are planned, and not ${list}`);
  }
  return taking.requests();
}

/** What usually stands beside a workload and asks for no place. */
const quietKinds: ReadonlySet<string> = new Set([
  'Service',
  'ConfigMap',
  'Secret',
  'ServiceAccount',
  'Role',
  'RoleBinding',
  'ClusterRole',
  'ClusterRoleBinding',
  'PersistentVolumeClaim',
  'HorizontalPodAutoscaler',
  'PodDisruptionBudget',
  'NetworkPolicy',
  'Ingress',
  'Gateway',
  'HTTPRoute',
  'PodMonitor',
  'PodMonitoring',
  'ServiceMonitor',
]);

class ManifestTaking {
  readonly #cache: ClusterCache;
  readonly #manifests: ClusterObjects;
  readonly #namespace: string;
  readonly #priorityClasses: readonly PriorityClass[];
  readonly #share = podShare();
  readonly #requests = new Map<string, Request>();
  readonly #notes = new Set<string>();
  #createdAtMs: number;

  constructor(
    cache: ClusterCache,
    manifests: ClusterObjects,
    options: { readonly namespace: string; readonly priorityClasses: readonly PriorityClass[] },
  ) {
    this.#cache = cache;
    this.#manifests = manifests;
    this.#namespace = options.namespace;
    this.#priorityClasses = options.priorityClasses;
    this.#createdAtMs = [...cache.allPods()].reduce((latest, pod) => Math.max(latest, pod.createdAtMs), 0);
  }

  note(sentence: string): void {
    this.#notes.add(sentence);
  }

  requests(): Requests {
    return { list: [...this.#requests.values()], notes: [...this.#notes] };
  }

  takeSet(set: LeaderWorkerSet): void {
    const { replicas = 1 } = set.spec;
    const namespace = set.metadata.namespace ?? this.#namespace;
    const placeOf = () => this.#manifests.placeOf(set);
    if (replicas > mostReplicas)
      throw new InputError([
        `${placeOf() ?? 'LeaderWorkerSet'}: spec.replicas: at most ${mostReplicas} are planned`,
      ]);
    const owner = { ...set, metadata: { ...set.metadata, namespace } };
    this.#notePlaceable(owner, namespace);
    this.#cache.leaderWorkerSets.upsert(decodeLeaderWorkerSet(owner));
    for (let ordinal = 0; ordinal < replicas; ordinal++) {
      const leader = lwsLeaderPod(owner, namespace, ordinal);
      const key = `${namespace}/${leader.metadata.name}`;
      // Scaled up, the replicas that are there stay as they are.
      if (this.#cache.group(key)?.leader !== undefined) {
        this.note(`${key} is in the fleet already and keeps its place`);
        continue;
      }
      this.#take(leader, placeOf);
    }
  }

  #notePlaceable(owner: LeaderWorkerSet, namespace: string): void {
    const why = whyNotPlaceable({ spec: { containers: [] }, annotations: {}, owner });
    if (why !== 'no-accelerator') return;
    this.note(
      `${namespace}/${owner.metadata.name} asks for neither devices nor a topology: Berth would leave it to kube-scheduler`,
    );
  }

  takePod(pod: Pod): void {
    const { metadata } = pod;
    if (metadata.name === undefined && metadata.generateName === undefined)
      throw new InputError([`${this.#manifests.placeOf(pod) ?? 'Pod'}: metadata.name is missing`]);
    // The API server ends a generated name with five random letters; here a number keeps it the same.
    const name = metadata.name ?? `${metadata.generateName}${this.#requests.size}`;
    this.#take({ ...pod, metadata: { ...metadata, name } }, () => this.#manifests.placeOf(pod));
  }

  #take(raw: Pod, placeOf: () => string | undefined): void {
    const namespace = raw.metadata.namespace ?? this.#namespace;
    this.#createdAtMs += 1;
    const uid = `manifest:${namespace}/${raw.metadata.name}`;
    const admission = {
      namespace,
      uid,
      createdAtMs: this.#createdAtMs,
      priorityClasses: this.#priorityClasses,
    };
    const unknownClass = unknownPriorityClass(raw.spec, this.#priorityClasses);
    if (unknownClass !== undefined)
      this.note(`PriorityClass ${unknownClass} is in none of the files: priority 0 is taken`);
    const pod = withPlace(raw, placeOf, () => decodePod(admitPod(raw, admission), this.#share));
    this.#noteMode(namespace);
    this.#cache.pods.upsert(pod);
    if (pod.nodeName !== undefined) this.note(`${namespace}/${pod.name} names its node already`);
    else this.#file(raw, pod);
  }

  #file(raw: Pod, pod: PodInfo): void {
    const request = requestOf(pod);
    const verdict = verdictBeforehand(raw, pod);
    // A labelled group stands in the line by its leader.
    if (
      this.#requests.has(request.key) &&
      pod.membership !== undefined &&
      !leads(pod) &&
      verdict === undefined
    )
      return;
    this.#requests.set(request.key, { ...request, ...(verdict && { verdict }) });
  }

  #noteMode(name: string): void {
    const namespace = this.#cache.namespace(name);
    if (namespace === undefined || namespace.labels[berth.mode] !== undefined) return;
    this.note(`namespace ${name} has no label ${berth.mode}: Berth would not place its pods until it has`);
  }
}

function waits(pod: PodInfo): boolean {
  return isGated(pod) && pod.nodeName === undefined && !pod.terminating && !pod.terminal;
}

function leads({ membership }: PodInfo): boolean {
  return membership !== undefined && !isMembershipError(membership) && membership.rank === 0;
}

function requestOf(pod: PodInfo): Request {
  const { priority, createdAtMs } = pod;
  const { membership } = pod;
  if (membership === undefined || isMembershipError(membership))
    return { key: pod.uid, kind: 'single', name: `${pod.namespace}/${pod.name}`, priority, createdAtMs };
  const key = groupKeyOf(membership);
  return { key, kind: 'group', name: key, priority, createdAtMs };
}

function verdictBeforehand(raw: Pod, pod: PodInfo): Verdict | undefined {
  if (isMembershipError(pod.membership)) return { kind: 'invalid', ...pod.membership };
  if (pod.foreignOwner !== undefined) {
    const message = `its place is decided by ${pod.foreignOwner}`;
    return { kind: 'left', code: 'ForeignOwner', message };
  }
  return pod.membership === undefined && usesResourceClaims(raw.spec) ? leftForClaims : undefined;
}
