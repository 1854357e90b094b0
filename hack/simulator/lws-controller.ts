import { createHash } from 'node:crypto';
import type {
  Container,
  EnvVar,
  LeaderWorkerSet,
  OwnerReference,
  Pod,
  PodTemplateSpec,
  StatefulSet,
} from '../../src/api/kubernetes.ts';
import { k8s, lws } from '../../src/api/names.ts';
import { resourceTypes } from './api-paths.ts';
import { ReconcileLoop } from './reconcile-loop.ts';
import type { ResourceApi } from './resource-api.ts';

/** Where a pod stands in its LeaderWorkerSet. */
interface Seat {
  readonly owner: LeaderWorkerSet;
  readonly group: number;
  readonly rank: number;
}

/**
 * Makes the pods of LeaderWorkerSets, with names, owners, labels, annotations and environment as LWS 0.9 gives them
 * (leader StatefulSet, a StatefulSet of workers per leader). StatefulSet controller and LWS's own webhook are played
 * here too: pods come with all that they would have added. No rolling updates, no subgroups, and a group is made anew only
 * when its leader goes.
 */
export function startLwsController(api: ResourceApi): () => void {
  const loop = new ReconcileLoop(async () => {
    const owners = api.store.list<LeaderWorkerSet>('leaderworkersets');
    owners.sort((a, b) => Number(a.metadata.resourceVersion) - Number(b.metadata.resourceVersion));
    for (const owner of owners) await reconcile(api, owner);
  });
  const watched = ['leaderworkersets', 'statefulsets', 'pods'];
  const unsubscribe = api.store.subscribe(({ resource }) => {
    if (watched.includes(resource)) loop.ask();
  });
  return () => {
    unsubscribe();
    loop.stop();
  };
}

async function reconcile(api: ResourceApi, owner: LeaderWorkerSet): Promise<void> {
  const { name = '', namespace } = owner.metadata;
  const replicas = owner.spec.replicas ?? 1;
  const leaderSet = await ensureSet(api, owner, name, ownedBy(lws.apiVersion, lws.kind, owner));
  const leaders = Array.from({ length: replicas }, (_, group) => ({ owner, group, rank: 0 }));
  // All leaders first: groups are not started one by one.
  for (const seat of leaders) await ensurePod(api, seat, leaderSet);
  for (const seat of leaders) await ensureWorkers(api, seat);
  // Scaled down from the top.
  for (let group = replicas; ; group++) {
    const pod = { namespace, name: podNameOf({ owner, group, rank: 0 }) };
    if (api.store.read('pods', pod) === undefined) return;
    api.remove(resourceTypes.pods, pod);
  }
}

async function ensureWorkers(api: ResourceApi, { owner, group }: Seat): Promise<void> {
  const name = podNameOf({ owner, group, rank: 0 });
  const leader = api.store.read<Pod>('pods', { namespace: owner.metadata.namespace, name });
  if (leader === undefined || leader.metadata.deletionTimestamp !== undefined) return;
  if (owner.spec.startupPolicy === 'LeaderReady' && !isReady(leader)) return;
  const set = await ensureSet(api, owner, name, ownedBy('v1', 'Pod', leader));
  // One of an earlier leader, which the garbage collector takes away first.
  if (set.metadata.ownerReferences?.[0]?.uid !== leader.metadata.uid) return;
  for (let rank = 1; rank < sizeOf(owner); rank++) await ensurePod(api, { owner, group, rank }, set);
}

async function ensureSet(
  api: ResourceApi,
  owner: LeaderWorkerSet,
  name: string,
  reference: OwnerReference,
): Promise<StatefulSet> {
  const { namespace } = owner.metadata;
  const known = api.store.read<StatefulSet>('statefulsets', { namespace, name });
  if (known !== undefined) return known;
  const labels = { [lws.name]: owner.metadata.name ?? '' };
  const set: StatefulSet = { metadata: { name, labels, ownerReferences: [reference] } };
  return api.create(resourceTypes.statefulsets, set, { namespace });
}

async function ensurePod(api: ResourceApi, seat: Seat, set: StatefulSet): Promise<void> {
  const { namespace } = seat.owner.metadata;
  const name = podNameOf(seat);
  if (api.store.read('pods', { namespace, name }) !== undefined) return;
  await api.create(resourceTypes.pods, podOf(seat, ownedBy('apps/v1', 'StatefulSet', set)), { namespace });
}

function isReady({ status }: Pod): boolean {
  return status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;
}

function podOf(seat: Seat, reference: OwnerReference): Pod {
  const { owner, group, rank } = seat;
  const template = templateOf(seat);
  const name = podNameOf(seat);
  const leaderName = podNameOf({ owner, group, rank: 0 });
  const labels = {
    ...template.metadata?.labels,
    [lws.name]: owner.metadata.name ?? '',
    [lws.workerIndex]: String(rank),
    [lws.groupIndex]: String(group),
    [lws.groupKey]: sha1(`${owner.metadata.namespace}/${leaderName}`),
    [lws.templateRevisionHash]: sha1(JSON.stringify(owner.spec.leaderWorkerTemplate)).slice(0, 10),
    [k8s.podIndex]: String(rank === 0 ? group : rank),
  };
  const annotations = {
    ...template.metadata?.annotations,
    [lws.size]: String(sizeOf(owner)),
    ...(rank > 0 && { [lws.leaderName]: leaderName }),
  };
  const subdomain = owner.metadata.name ?? '';
  const env = lwsEnv(seat, `${leaderName}.${subdomain}.${owner.metadata.namespace}`);
  const { initContainers } = template.spec;
  return {
    metadata: { name, labels, annotations, ownerReferences: [reference] },
    spec: {
      ...template.spec,
      hostname: name,
      subdomain,
      ...(initContainers && { initContainers: initContainers.map(container => withEnv(container, env)) }),
      containers: template.spec.containers.map(container => withEnv(container, env)),
    },
  };
}

/** Before all others, in this order, and in place of entries of the same name. */
function lwsEnv({ owner, rank }: Seat, leaderAddress: string): readonly EnvVar[] {
  return [
    { name: lws.envLeaderAddress, value: leaderAddress },
    { name: lws.envGroupSize, value: String(sizeOf(owner)) },
    { name: lws.envWorkerIndex, value: String(rank) },
  ];
}

function withEnv(container: Container, env: readonly EnvVar[]): Container {
  const names = env.map(({ name }) => name);
  const others = (container.env ?? []).filter(({ name }) => !names.includes(name));
  return { ...container, env: [...env, ...others] };
}

function templateOf({ owner, rank }: Seat): PodTemplateSpec {
  const { leaderTemplate, workerTemplate } = owner.spec.leaderWorkerTemplate;
  return rank === 0 ? (leaderTemplate ?? workerTemplate) : workerTemplate;
}

function podNameOf({ owner, group, rank }: Seat): string {
  const leader = `${owner.metadata.name}-${group}`;
  return rank === 0 ? leader : `${leader}-${rank}`;
}

function sizeOf(owner: LeaderWorkerSet): number {
  return owner.spec.leaderWorkerTemplate.size ?? 1;
}

function ownedBy(
  apiVersion: string,
  kind: string,
  owner: LeaderWorkerSet | Pod | StatefulSet,
): OwnerReference {
  const { name = '', uid = '' } = owner.metadata;
  return { apiVersion, kind, name, uid, controller: true };
}

function sha1(text: string): string {
  return createHash('sha1').update(text).digest('hex');
}
