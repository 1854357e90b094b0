import type { ClusterCache } from '../cache/cluster-cache.ts';
import { decodeResourceClaim } from '../cluster/devices/decode-claim.ts';
import { decodeResourceSlice } from '../cluster/devices/decode-slice.ts';
import type { DeviceId } from '../cluster/devices/device.ts';
import { poolStateOf } from '../cluster/devices/pool-state.ts';
import { decodeTaintRule, withTaintRules } from '../cluster/devices/taint-rules.ts';
import type { AllocatedDevice } from '../failure/signal.ts';
import type { PodInfo } from '../group/pod-info.ts';
import { allocatedDevices } from './device-facts.ts';
import type { FailureWrites } from './failure-writes.ts';

type LiveReads = Pick<FailureWrites, 'liveClaim' | 'liveSlices' | 'liveTaintRules'>;

/**
 * The devices of a pod, as the API server says at this moment for the pool of one of them and the claims that hold it.
 * What cannot be read is left out, as in the cache. Throws as `ApiClient.request` does.
 */
export async function liveDevices(
  cache: ClusterCache,
  reads: LiveReads,
  pod: PodInfo,
  suspect: DeviceId,
): Promise<readonly AllocatedDevice[]> {
  const { driver, pool } = suspect;
  const [rule] = cache.taintRules();
  const [claims, slices, rules] = await Promise.all([
    Promise.all([...cache.claimsOf(pod.uid)].map(claim => reads.liveClaim(claim))),
    reads.liveSlices(driver, cache.devicePool(driver, pool)?.nodeName),
    // Clusters that serve none have none.
    rule === undefined ? [] : reads.liveTaintRules(),
  ]);
  const known = new Set([...cache.claimsOf(pod.uid)].map(({ uid }) => uid));
  const live = readable(claims, claim => claim && decodeResourceClaim(claim)).filter(({ uid }) =>
    known.has(uid),
  );
  const taintRules = readable(rules, decodeTaintRule);
  const ofPool = readable(slices, decodeResourceSlice)
    .filter(slice => slice.pool === pool)
    .map(slice => withTaintRules(slice, taintRules));
  const state = poolStateOf(ofPool);
  return allocatedDevices(pod, live, (of, name) =>
    of === driver && name === pool ? state : cache.devicePool(of, name),
  );
}

function readable<Raw, T>(raw: readonly Raw[], decode: (raw: Raw) => T | undefined): readonly T[] {
  return raw.flatMap(each => {
    try {
      return decode(each) ?? [];
    } catch {
      return [];
    }
  });
}
