import type { Pod } from '../../src/api/kubernetes.ts';
import type { WriteEvent } from '../bed/audit.ts';
import type { Fault } from './faults.ts';

/** Who told the leader of a hurt group to go, and how long after the signal. */
export interface LeaderDeletion {
  readonly afterMs: number;
  /** User of the API server. */
  readonly user: string;
}

/** Whom the requests of the bench come from. */
const ownUser = 'bed-admin';

/**
 * Reads it from the API server's own log, both times from the same clock: from the answer to the write that told of the
 * fault to the answer to the first eviction or deletion of the leader. Undefined when there was none.
 *
 * @throws when the log does not have the signal
 */
export function leaderDeletionIn(
  events: readonly WriteEvent[],
  fault: Fault,
  { leader, victim }: { readonly leader: Pod; readonly victim: Pod },
): LeaderDeletion | undefined {
  const told = fault.signal(victim);
  const signalIndex = events.findIndex(
    event =>
      event.user === ownUser &&
      event.verb === told.verb &&
      event.resource === told.resource &&
      event.subresource === told.subresource &&
      event.name === told.name,
  );
  const signal = events[signalIndex];
  if (signal === undefined) throw new Error(`the audit log has no ${fault.name}`);
  const { name, namespace } = leader.metadata;
  const deletion = events
    .slice(signalIndex)
    .find(event => removesPod(event) && event.name === name && event.namespace === namespace);
  if (deletion === undefined) return undefined;
  return { afterMs: deletion.at.getTime() - signal.at.getTime(), user: deletion.user };
}

export function removesPod({ verb, resource, subresource, code, dryRun }: WriteEvent): boolean {
  if (resource !== 'pods' || code > 299 || dryRun) return false;
  return subresource === 'eviction' ? verb === 'create' : subresource === '' && verb === 'delete';
}
