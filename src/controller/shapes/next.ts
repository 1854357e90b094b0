import type { GroupView } from '../../cache/group-view.ts';
import type { Intent } from '../../failure/intent.ts';
import type { NewIncarnation } from '../../failure/next-step.ts';

/** What follows the incarnation of an intent, once it has a leader of its own. */
export function nextOfView(view: GroupView | undefined, intent: Intent): NewIncarnation | undefined {
  if (view?.leader === undefined || view.leader.uid === intent.leaderUid) return undefined;
  const members = [...view.members.values()];
  return {
    leaderUid: view.leader.uid,
    boundRanks: members.filter(pod => pod.nodeName !== undefined).length,
    readyRanks: members.filter(pod => pod.ready).length,
  };
}
