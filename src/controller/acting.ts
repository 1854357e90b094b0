/** What decides whether this process may change anything. */
export interface ActingFacts {
  /** By its configuration it only looks. */
  readonly observeOnly: boolean;
  /** It has read the whole cluster since it took the Lease over. */
  readonly hasRead: boolean;
  readonly isHolder: boolean;
  /** Age of the oldest view of any resource. */
  readonly stalestMs: number;
}

/** Decisions made on knowledge older than this could place twice on one node; a healthy quiet watch has a bookmark every minute. */
const stalenessLimitMs = 120_000;

/** Asked right before every write. */
export function mayAct({ observeOnly, hasRead, isHolder, stalestMs }: ActingFacts): boolean {
  return !observeOnly && hasRead && isHolder && stalestMs < stalenessLimitMs;
}
