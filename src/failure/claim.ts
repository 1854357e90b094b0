/** How far preemption goes, from least to most. */
export const preemptionModes = ['off', 'observe', 'evict'] as const;
export type PreemptionMode = (typeof preemptionModes)[number];

/** A group, or a pod outside groups, has to make room for a group of higher priority. */
export interface Claim {
  /** Who needs the place, in the same words for all victims. */
  readonly cause: string;
}

/** What is claimed now. */
export interface Claims {
  /** How far preemption goes anywhere in the cluster. */
  readonly mode: PreemptionMode;
  /**
   * The claim on an incarnation, by its leader's UID; undefined as soon as the place is not needed any more, for it is
   * asked at the moment of the eviction.
   */
  readonly of: (leaderUid: string) => Claim | undefined;
}

/** Where preemption is off. */
export const noClaims: Claims = { mode: 'off', of: () => undefined };
