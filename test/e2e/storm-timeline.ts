import type { DeviceTaintRule, ResourceSlice } from '../../src/api/dra.ts';
import type { Node, Pod } from '../../src/api/kubernetes.ts';
import { type DeviceId, deviceKey } from '../../src/cluster/devices/device.ts';
import { inOrder, ownerUidOf, rankOf, Spans, type StormChange, slackMs } from './storm-story.ts';

/** A pod over its life. */
export interface Life {
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly bornMs: number;
  /** Leader of its incarnation; its own UID for a leader; empty for a pod of no group. */
  leaderUid: string;
  readonly rank: number;
  node: string;
  boundMs: number;
  /** When it began to go, or was gone, whatever was seen first; and by which change, to tell who went first. */
  leftMs: number;
  leftVersion: number;
  /** Seen to go with the finalizer that has the garbage collector end its dependents first. */
  inForeground: boolean;
  /** `driver/pool/device` of all that its claims were given. */
  readonly devices: Set<string>;
}

interface Allocation {
  readonly atMs: number;
  readonly claim: string;
  readonly devices: readonly string[];
}

/** A storm put in order: who lived when and where, and what was wrong with what. Reads API objects and nothing of Berth. */
export interface Timeline {
  readonly lives: ReadonlyMap<string, Life>;
  /** Keys are names of nodes: something for which a group may go. */
  readonly badNodes: Spans;
  /** Keys are devices: tainted, by anybody but Berth. */
  readonly sick: Spans;
  /** Keys are UIDs of pods: their kubelet says that a device is Unhealthy. */
  readonly unhealthy: Spans;
  /** Keys are devices: nobody may be given them, by whoever's taint. */
  readonly keptOff: Spans;
  /** Keys are UIDs of pods. */
  readonly ready: Spans;
  readonly allocations: readonly Allocation[];
  /** UID of a StatefulSet to that of the leader that owns it. */
  readonly leaderOfSet: ReadonlyMap<string, string>;
  membersOf(leaderUid: string): readonly Life[];
}

const never = Number.POSITIVE_INFINITY;

export function timelineOf(changes: readonly StormChange[]): Timeline {
  const lives = new Map<string, Life>();
  const badNodes = new Spans();
  const sick = new Spans();
  const unhealthy = new Spans();
  const keptOff = new Spans();
  const ready = new Spans();
  const allocations: Allocation[] = [];
  const leaderOfSet = new Map<string, string>();
  const slices = new Map<string, ResourceSlice>();
  const rules = new Map<string, DeviceTaintRule>();
  const allocated = new Set<string>();
  const claimsOf = new Map<string, Set<string>>();

  const lookAtDevices = (atMs: number) => {
    const bad = new Set<string>();
    const off = new Set<string>();
    for (const { key, id, taints } of published(slices.values())) {
      const matching = [...rules.values()].filter(rule => means(rule, id));
      const foreign = [...taints, ...matching.filter(rule => !isBerths(rule)).map(({ spec }) => spec.taint)];
      if (foreign.some(keepsOff)) bad.add(key);
      if ([...foreign, ...matching.map(({ spec }) => spec.taint)].some(keepsOff)) off.add(key);
    }
    sick.setAll(bad, atMs);
    keptOff.setAll(off, atMs);
  };

  for (const change of inOrder(changes)) {
    const { atMs, type, object } = change;
    const { name = '', uid = '' } = object.metadata;
    const isGone = type === 'DELETED';
    switch (change.resource) {
      case 'nodes':
        badNodes.set(name, isGone || isBadNode(change.object), atMs);
        break;
      case 'statefulsets':
        leaderOfSet.set(uid, ownerUidOf(object));
        break;
      case 'pods': {
        const life = lives.get(uid) ?? lifeOf(change.object, atMs);
        lives.set(uid, life);
        const { spec } = change.object;
        if (life.node === '' && spec.nodeName !== undefined) {
          life.node = spec.nodeName;
          life.boundMs = atMs;
        }
        const leaves = isGone || object.metadata.deletionTimestamp !== undefined || isOver(change.object);
        if (leaves && life.leftMs === never) {
          life.leftMs = atMs;
          life.leftVersion = Number(object.metadata.resourceVersion);
        }
        if (leaves && object.metadata.finalizers?.includes('foregroundDeletion')) life.inForeground = true;
        ready.set(uid, !leaves && isReady(change.object), atMs);
        unhealthy.set(uid, !isGone && isUnhealthy(change.object), atMs);
        break;
      }
      case 'resourceslices':
        if (isGone) slices.delete(name);
        else slices.set(name, change.object);
        lookAtDevices(atMs);
        break;
      case 'devicetaintrules':
        if (isGone) rules.delete(name);
        else rules.set(name, change.object);
        lookAtDevices(atMs);
        break;
      case 'resourceclaims': {
        const devices = (change.object.status?.allocation?.devices?.results ?? []).map(deviceKey);
        const owner = ownerUidOf(object);
        for (const device of devices) claimsOf.set(owner, (claimsOf.get(owner) ?? new Set()).add(device));
        if (devices.length > 0 && !allocated.has(uid)) {
          allocated.add(uid);
          allocations.push({ atMs, claim: `${object.metadata.namespace}/${name}`, devices });
        }
        break;
      }
      case 'configmaps':
        break;
    }
  }
  const groups = new Map<string, Life[]>();
  for (const life of lives.values()) {
    if (life.rank > 0) life.leaderUid = leaderOfSet.get(life.leaderUid) ?? '';
    if (life.leaderUid !== '') groups.set(life.leaderUid, [...(groups.get(life.leaderUid) ?? []), life]);
    for (const device of claimsOf.get(life.uid) ?? []) life.devices.add(device);
  }
  const membersOf = (leaderUid: string) => groups.get(leaderUid) ?? [];
  return { lives, badNodes, sick, unhealthy, keptOff, ready, allocations, leaderOfSet, membersOf };
}

/** What was wrong with an incarnation when its leader was asked to go; empty when nothing was. */
export function troublesOf(timeline: Timeline, leaderUid: string, atMs: number): readonly string[] {
  const { lives, badNodes, sick, unhealthy, membersOf } = timeline;
  const [fromMs, toMs] = [atMs - slackMs, atMs + slackMs];
  const leaderLeft = lives.get(leaderUid)?.leftVersion ?? never;
  return membersOf(leaderUid)
    .filter(({ bornMs }) => bornMs <= toMs)
    .flatMap(({ uid, name, node, devices, leftMs, leftVersion }) => [
      // Members that the eviction itself takes away go after their leader.
      ...(leftMs <= toMs && leftVersion < leaderLeft ? [`${name} had left`] : []),
      ...(unhealthy.touches(uid, fromMs, toMs) ? [`${name} was Unhealthy`] : []),
      ...(badNodes.touches(node, fromMs, toMs) ? [`${name} was on ${node}`] : []),
      ...[...devices].filter(key => sick.touches(key, fromMs, toMs)).map(key => `${name} had ${key}`),
    ]);
}

/** Whether all ranks of an incarnation were Ready together at some moment of a span. */
export function wasWhole(
  { membersOf, ready }: Timeline,
  leaderUid: string,
  size: number,
  fromMs: number,
  toMs: number,
) {
  const members = membersOf(leaderUid);
  const ranks = new Set(
    members.filter(({ uid }) => ready.touches(uid, fromMs, toMs)).map(({ rank }) => rank),
  );
  return ranks.size === size;
}

function lifeOf(pod: Pod, atMs: number): Life {
  const { uid = '', name = '', namespace = '' } = pod.metadata;
  const rank = rankOf(pod);
  // Of a worker its StatefulSet for now, whose leader may be told later.
  const leaderUid = rank === 0 ? uid : rank > 0 ? ownerUidOf(pod) : '';
  return {
    uid,
    name,
    namespace,
    bornMs: atMs,
    leaderUid,
    rank,
    node: '',
    boundMs: never,
    leftMs: never,
    leftVersion: never,
    inForeground: false,
    devices: new Set(),
  };
}

/** Devices of the newest generation of each pool. */
function* published(slices: Iterable<ResourceSlice>) {
  const all = [...slices];
  const newest = new Map<string, number>();
  const poolOf = ({ spec }: ResourceSlice) => `${spec.driver}/${spec.pool.name}`;
  for (const slice of all)
    newest.set(poolOf(slice), Math.max(newest.get(poolOf(slice)) ?? 0, slice.spec.pool.generation));
  for (const slice of all) {
    if (slice.spec.pool.generation !== newest.get(poolOf(slice))) continue;
    for (const { name, taints = [] } of slice.spec.devices ?? []) {
      const id: DeviceId = { driver: slice.spec.driver, pool: slice.spec.pool.name, device: name };
      yield { key: deviceKey(id), id, taints };
    }
  }
}

function means({ spec: { deviceSelector } }: DeviceTaintRule, id: DeviceId): boolean {
  if (deviceSelector === undefined) return false;
  return (['driver', 'pool', 'device'] as const).every(
    field => deviceSelector[field] === undefined || deviceSelector[field] === id[field],
  );
}

/** What Berth itself keeps off is no reason for it. */
export function isBerths({ metadata }: DeviceTaintRule): boolean {
  return metadata.labels?.['berth.dev/excluded'] !== undefined;
}

function keepsOff({ effect }: { readonly effect: string }): boolean {
  return effect === 'NoSchedule' || effect === 'NoExecute';
}

function isBadNode({ spec, status }: Node): boolean {
  const ready = status?.conditions?.find(({ type }) => type === 'Ready')?.status;
  return ready !== 'True' || (spec?.taints ?? []).some(({ effect }) => effect === 'NoExecute');
}

function isReady({ spec, status }: Pod): boolean {
  return (
    spec.nodeName !== undefined &&
    (status?.conditions?.some(condition => condition.type === 'Ready' && condition.status === 'True') ??
      false)
  );
}

function isOver({ status }: Pod): boolean {
  return status?.phase === 'Succeeded' || status?.phase === 'Failed';
}

function isUnhealthy({ status }: Pod): boolean {
  return (status?.containerStatuses ?? []).some(({ allocatedResourcesStatus = [] }) =>
    allocatedResourcesStatus.some(({ resources = [] }) =>
      resources.some(({ health }) => health === 'Unhealthy'),
    ),
  );
}
