import type { Pod } from '../../api/kubernetes.ts';
import type { ClusterCache } from '../../cache/cluster-cache.ts';
import type { GroupView } from '../../cache/group-view.ts';
import type { Incarnation } from '../../failure/incarnation.ts';
import type { Intent, ShapeKind } from '../../failure/intent.ts';
import type { NewIncarnation } from '../../failure/next-step.ts';
import type { Remaker } from '../../failure/remakers.ts';
import type { Sighting } from '../../failure/signal.ts';
import type { PodInfo } from '../../group/pod-info.ts';
import type { FailureWrites } from '../failure-writes.ts';
import type { OwnerRef } from '../placement-report.ts';

/** Intents as they were read or written last. */
export type Intents = () => readonly Intent[];

/**
 * What is particular to one kind of group when it is evicted whole: who belongs together, who makes it anew, what takes
 * what along. Everything else is the same for all. Another kind is another file like this one's neighbours, and a row in
 * shapes.ts.
 */
export interface GroupShape {
  readonly kind: ShapeKind;
  /** Nothing takes the other members along with the leader: each is evicted by itself. */
  readonly goesSingly: boolean;
  /** Its next place is planned for it by name, and kept until the plan stands. */
  readonly keepsPlace: boolean;
  /** The incarnations of a group, each with its pods; those that are going included. */
  incarnations(cache: ClusterCache, key: string, intents: Intents): readonly Incarnation[];
  /** One of them as planning looks at groups; undefined while none of its pods is left. */
  view(cache: ClusterCache, key: string, incarnation: Incarnation): GroupView | undefined;
  /** The object that is told about it, besides its pods. */
  ownerOf(cache: ClusterCache, view: GroupView): OwnerRef | undefined;
  /** What owner and pods ask of failure handling. */
  wishes(cache: ClusterCache, view: GroupView, incarnation: Incarnation): readonly (string | undefined)[];
  /** Why nobody would make it anew as it must be; undefined when somebody would. */
  whyNotRemade(view: GroupView, incarnation: Incarnation): string | undefined;
  /** Why it could get what has failed again; undefined where its next plan will not. */
  whyComesBack(cache: ClusterCache, view: GroupView, fault: Sighting): string | undefined;
  /** Who makes its pods anew, for the record. */
  remakers(cache: ClusterCache, view: GroupView, incarnation: Incarnation): readonly Remaker[];
  /** Whether a member that goes comes back alone, and the others stay. */
  membersReturnAlone(cache: ClusterCache, view: GroupView): boolean;
  /** Whether whoever makes the group wants it still, as far as the cache knows. */
  isWanted(cache: ClusterCache, view: GroupView, incarnation: Incarnation): boolean;
  /** The same at this moment. Throws as `ApiClient.request` does. */
  isWantedNow(
    cache: ClusterCache,
    writes: FailureWrites,
    view: GroupView,
    incarnation: Incarnation,
  ): Promise<boolean>;

  /** Pods that are to go by an intent, and are there still. */
  podsToGo(cache: ClusterCache, intent: Intent, intents: Intents): readonly PodInfo[];
  /** Whether whoever makes the group of an intent wants it still, as far as the cache knows. */
  wantsNext(cache: ClusterCache, intent: Intent): boolean;
  /** The same at this moment, where the cache cannot tell. Throws as `ApiClient.request` does. */
  wantsNextNow(writes: FailureWrites, intent: Intent): Promise<boolean>;
  /** The incarnation that follows that of an intent. */
  next(cache: ClusterCache, intent: Intent, intents: Intents): NewIncarnation | undefined;
  /** How many members it has. */
  sizeOf(cache: ClusterCache, intent: Intent): number;
  /** Whether a live pod is one that the intent may end: an edited intent must not make Berth evict something else. */
  mayEnd(live: Pod, intent: Intent): boolean;
}
