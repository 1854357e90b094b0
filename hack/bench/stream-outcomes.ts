import type { StreamEvent, StreamGroup, StreamResident } from './stream-groups.ts';

/** What runs on a fleet from the beginning, and the groups that come and go. */
export interface Stream {
  readonly residents: readonly StreamResident[];
  readonly events: readonly StreamEvent[];
}

/** What became of a group that arrived. */
export interface Outcome {
  readonly group: StreamGroup;
  /** Node by rank, the leader's first; undefined when the group was refused. */
  readonly nodes: readonly string[] | undefined;
  readonly planMs: number;
  /** Places taken, and those of groups that left since the arrival before given back. */
  readonly applyMs: number;
}
