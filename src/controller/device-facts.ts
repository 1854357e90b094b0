import type { ClusterCache } from '../cache/cluster-cache.ts';
import { groupKeyOfPod } from '../cache/pod-index.ts';
import type { ClaimRecord } from '../cluster/devices/claims.ts';
import type { Device, DeviceId } from '../cluster/devices/device.ts';
import { isDelegatedToDra } from '../cluster/devices/extended-resources.ts';
import type { PoolState } from '../cluster/devices/pool-state.ts';
import { SharedParts } from '../cluster/devices/shared-parts.ts';
import { isAcceleratorResource, type Resources } from '../cluster/resources.ts';
import { deviceFactsOf } from '../failure/device-signals.ts';
import type { AllocatedDevice, DeviceFacts, FaultOrigin } from '../failure/signal.ts';
import { plansGroups } from '../group/owner.ts';
import type { PodInfo } from '../group/pod-info.ts';
import { singleKeyOf } from '../group/single.ts';

/** What failure handling reads of devices in the cache. Nothing here remembers or writes anything. */

/** What a pool is now; the cache's view, or one that was read live. */
export type PoolLookup = (driver: string, pool: string) => PoolState | undefined;

export function factsOfDevice(poolOf: PoolLookup, id: DeviceId): DeviceFacts {
  const state = poolOf(id.driver, id.pool);
  if (state === undefined) return deviceFactsOf(id, 'withdrawn');
  const device = state.devices.get(id.device);
  if (device === undefined) return deviceFactsOf(id, state.isComplete ? 'missing' : 'incomplete');
  const { key, taints, attributes } = device;
  return deviceFactsOf(id, 'published', { key, taints, attributes, uuid: uuidOf(device) });
}

/** The UUID of a device as it is published now. */
export function publishedUuid(poolOf: PoolLookup, { driver, pool, device }: DeviceId): string | undefined {
  const published = poolOf(driver, pool)?.devices.get(device);
  return published && uuidOf(published);
}

/** The devices that a pod holds by claims: made for it, named by it, or behind its extended resources. */
export function allocatedDevices(
  pod: PodInfo,
  claims: Iterable<ClaimRecord>,
  poolOf: PoolLookup,
): readonly AllocatedDevice[] {
  return [...claims].flatMap(({ name, podClaimName, allocation, conditions = [] }) => {
    const claim = podClaimName ?? pod.claims.find(ref => ref.claim === name)?.name;
    return (allocation?.results ?? [])
      .filter(({ adminAccess }) => adminAccess !== true)
      .map(({ request, driver, pool, device, tolerations = [] }) => {
        const facts = factsOfDevice(poolOf, { driver, pool, device });
        const told = conditions.filter(condition => condition.device === facts.key);
        return { ...facts, ...(told.length > 0 && { conditions: told }), claim, request, tolerations };
      });
  });
}

/**
 * Accelerator resources of which the pods on a node have more than it still offers.
 * @param live what it offers by a look that is later than the cache
 */
export function resourcesShortOn(cache: ClusterCache, nodeName: string, live?: Resources): readonly string[] {
  const info = cache.nodeInfo(nodeName);
  if (info === undefined) return [];
  const known = info.record.allocatable;
  const allocatable = live ?? known;
  const { extended } = cache.deviceCatalog;
  const isShort = (name: string, free: number) =>
    free - (known.get(name) ?? 0) + (allocatable.get(name) ?? 0) < 0;
  return [...info.freeOfPods]
    .filter(([name, free]) => allocatable.has(name) && isAcceleratorResource(name) && isShort(name, free))
    .map(([name]) => name)
    .filter(name => !isDelegatedToDra(allocatable, name, extended))
    .sort();
}

/** Key of the group that a pod belongs to, or of the pods outside groups that its controller makes. */
export function subjectOf(pod: PodInfo): string | undefined {
  return groupKeyOfPod(pod) ?? singleKeyOf(pod);
}

/** Pods outside groups that may be evicted. */
export function countSingles(cache: ClusterCache): number {
  let count = 0;
  for (const key of cache.singleKeys()) {
    const mode = cache.namespace(key.slice(0, key.indexOf('/')))?.mode ?? 'observe';
    if (plansGroups(mode)) count += cache.singles(key).size;
  }
  return count;
}

/** Groups, and pods outside of them, that have devices of a pool. */
export function groupsOnPool(cache: ClusterCache, driver: string, pool: string): readonly string[] {
  const pods = [...podsOfClaims(cache, cache.claimsOnPool(driver, pool))];
  return [...new Set(pods.flatMap(pod => subjectOf(pod) ?? []))];
}

/**
 * How many groups, and pods outside of them, one object hits: those with a device that a rule selects, or with one of a
 * pool that is missing or tainted. Counted from all claims, not from what was looked at so far.
 */
export function groupsHitBy(cache: ClusterCache, origin: FaultOrigin): number {
  if (origin.kind === 'pool') {
    const { driver, pool } = origin;
    const isHit = (id: DeviceId) => {
      const { state, taints } = factsOfDevice((d, p) => cache.devicePool(d, p), id);
      return state === 'missing' || taints.some(({ effect, rule }) => effect !== 'None' && !rule);
    };
    return countHit(
      podsOfClaims(
        cache,
        cache.claimsOnPool(driver, pool),
        id => id.driver === driver && id.pool === pool && isHit(id),
      ),
    );
  }
  const selector = cache.taintRule(origin.name)?.selector;
  if (selector === undefined) return 0;
  const { driver, pool, device } = selector;
  return countHit(
    podsOfClaims(
      cache,
      cache.allClaims(),
      id =>
        (driver ?? id.driver) === id.driver &&
        (pool ?? id.pool) === id.pool &&
        (device ?? id.device) === id.device,
    ),
  );
}

function countHit(pods: Iterable<PodInfo>): number {
  const hit = new Set<string>();
  for (const pod of pods) {
    const subject = subjectOf(pod);
    if (subject !== undefined) hit.add(pod.membership === undefined ? pod.uid : subject);
  }
  return hit.size;
}

function* podsOfClaims(
  cache: ClusterCache,
  claims: Iterable<ClaimRecord>,
  isHit: (id: DeviceId) => boolean = () => true,
): Iterable<PodInfo> {
  for (const { podUid, reservedFor, allocation } of claims) {
    if (!(allocation?.results ?? []).some(isHit)) continue;
    for (const uid of podUid === undefined ? reservedFor : [podUid, ...reservedFor]) {
      const pod = cache.pod(uid);
      if (pod !== undefined) yield pod;
    }
  }
}

/** By driver: it is looked up for thousands of devices at a time. */
const uuidNames = new SharedParts<string>(64);

function uuidOf({ id, attributes }: Device): string | undefined {
  const uuid = attributes.get(uuidNames.get(id.driver, () => `${id.driver}/uuid`));
  return uuid?.kind === 'string' ? uuid.value : undefined;
}
