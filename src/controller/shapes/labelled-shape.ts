import { berth } from '../../api/names.ts';
import type { ClusterCache } from '../../cache/cluster-cache.ts';
import { type Intent, namespaceOf } from '../../failure/intent.ts';
import { labelledIncarnationsOf, labelledPodsToGo } from '../../failure/labelled.ts';
import { remakersOf, whyNotRemade } from '../../failure/remakers.ts';
import { groupKeyOf, isMembershipError, membershipOf } from '../../group/membership.ts';
import { nextOfView } from './next.ts';
import { allRemake } from './remaking.ts';
import type { GroupShape, Intents } from './shape.ts';

/**
 * Groups by the labels `berth.dev/group...`: nothing stands above their pods, so each is evicted by itself, and its own
 * controller makes it anew, maybe under another name.
 */
export const labelledShape: GroupShape = {
  kind: 'labelled',
  goesSingly: true,
  keepsPlace: true,
  incarnations: (cache, key, intents) =>
    labelledIncarnationsOf(cache.podsOfGroup(key), ofGroup(intents, key)),
  view: (cache, key) => cache.group(key),
  ownerOf: () => undefined,
  wishes: (_, __, { pods }) => pods.map(pod => pod.annotations[berth.failure]),
  whyNotRemade: (_, { pods }) => whyNotRemade(pods),
  whyComesBack: () => undefined,
  remakers: (_, __, { pods }) => remakersOf(pods),
  membersReturnAlone: () => false,
  // No cache has their controllers.
  isWanted: () => true,
  isWantedNow: (_, writes, { membership: { namespace } }, { pods }) =>
    allRemake(writes, namespace, remakersOf(pods)),

  podsToGo: (cache, intent, intents) =>
    labelledPodsToGo(
      cache.podsOfGroup(intent.group),
      intent,
      ofGroup(intents, intent.group),
      nextLeader(cache, intent),
    ),
  wantsNext: () => true,
  wantsNextNow: (writes, intent) => allRemake(writes, namespaceOf(intent), intent.remakers),
  next: (cache, intent) => nextOfView(cache.group(intent.group), intent),
  sizeOf: (cache, { group, members }) => cache.group(group)?.membership.size ?? members.length,
  mayEnd({ metadata }, { group }) {
    const membership = membershipOf(metadata, metadata.namespace ?? '');
    return (
      membership !== undefined &&
      !isMembershipError(membership) &&
      membership.kind === 'labelled' &&
      groupKeyOf(membership) === group
    );
  },
};

function ofGroup(intents: Intents, key: string): readonly Intent[] {
  return intents().filter(({ group, shape }) => group === key && shape === 'labelled');
}

function nextLeader(cache: ClusterCache, { group, leaderUid }: Intent) {
  const view = cache.group(group);
  if (view?.leader === undefined || view.leader.uid === leaderUid) return undefined;
  return { createdAtMs: view.leader.createdAtMs, isPlanned: view.plan !== undefined };
}
