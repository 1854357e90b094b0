import type { LeaderWorkerSet, Pod } from '../../src/api/kubernetes.ts';
import { lws } from '../../src/api/names.ts';
import type { Cluster } from '../bed/cluster.ts';
import { inLanes } from './lanes.ts';
import { isServing, type PodWatch } from './pod-watch.ts';

/** The one group of a LeaderWorkerSet, as it ran before something happened to it. */
export interface GroupAtWork {
  /** Of its LeaderWorkerSet. */
  readonly name: string;
  /** By rank. */
  readonly members: readonly Pod[];
}

const createLanes = 8;

/** Creates LeaderWorkerSets of one group each and waits until all members are Ready. */
export async function startGroups(
  cluster: Cluster,
  watch: PodWatch,
  namespace: string,
  objects: readonly LeaderWorkerSet[],
  timeoutMs: number,
): Promise<readonly GroupAtWork[]> {
  const path = `/apis/${lws.apiVersion}/namespaces/${namespace}/leaderworkersets`;
  await inLanes(objects, createLanes, object => cluster.request('POST', path, object));
  const count = objects.reduce((sum, { spec }) => sum + (spec.leaderWorkerTemplate.size ?? 1), 0);
  const areWhole = (pods: readonly Pod[]) => pods.length === count && pods.every(isServing);
  if ((await watch.until(areWhole, timeoutMs)) === undefined) {
    const ready = watch.pods.filter(isServing).length;
    throw new Error(`only ${ready} of ${count} members were Ready within ${timeoutMs / 1000} s`);
  }
  return objects.map(({ metadata: { name = '' } }) => ({ name, members: membersOf(watch.pods, name) }));
}

/** When all members of a group were new and Ready, by `performance.now()`; undefined when not within the time. */
export async function comesBack(
  watch: PodWatch,
  { name, members }: GroupAtWork,
  timeoutMs: number,
): Promise<number | undefined> {
  const old = new Set(members.map(({ metadata }) => metadata.uid));
  return watch.until(pods => {
    const now = pods.filter(pod => ownerOf(pod) === name);
    return now.length === members.length && now.every(pod => isServing(pod) && !old.has(pod.metadata.uid));
  }, timeoutMs);
}

export function leaderOf({ name, members: [leader] }: GroupAtWork): Pod {
  if (leader === undefined) throw new Error(`group ${name} has no leader`);
  return leader;
}

export function memberOf({ name, members }: GroupAtWork, rank: number): Pod {
  const member = members[rank];
  if (member === undefined) throw new Error(`group ${name} has no rank ${rank}`);
  return member;
}

/** Name of the LeaderWorkerSet of a pod. */
export function ownerOf({ metadata }: Pod): string | undefined {
  return metadata.labels?.[lws.name];
}

/** By rank. */
export function membersOf(pods: readonly Pod[], name: string): readonly Pod[] {
  const rankOf = ({ metadata }: Pod) => Number(metadata.labels?.[lws.workerIndex]);
  return pods.filter(pod => ownerOf(pod) === name).sort((a, b) => rankOf(a) - rankOf(b));
}
