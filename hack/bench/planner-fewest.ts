/** A host, or a domain of hosts, that takes so many workers. */
export interface Bin {
  readonly workers: number;
  /** The same beside the leader; -1 where the leader may not go. */
  readonly besideLeader: number;
}

/**
 * The fewest bins that hold a leader and equal workers: exact, for beside the leader's bin, which is tried for each, the
 * roomiest are taken. Undefined when all together do not hold them.
 */
export function fewestBins(bins: readonly Bin[], workers: number, withLeader: boolean): number | undefined {
  const byRoom = [...bins].sort((a, b) => b.workers - a.workers);
  if (!withLeader) return fewestFor(byRoom, workers);
  const found = byRoom.flatMap(bin => {
    if (bin.besideLeader < 0) return [];
    const others = byRoom.filter(other => other !== bin);
    const more = fewestFor(others, workers - bin.besideLeader);
    return more === undefined ? [] : [1 + more];
  });
  return found.length === 0 ? undefined : Math.min(...found);
}

function fewestFor(byRoom: readonly Bin[], workers: number): number | undefined {
  let left = workers;
  let count = 0;
  for (const bin of byRoom) {
    if (left <= 0) break;
    left -= bin.workers;
    count += 1;
  }
  return left <= 0 ? count : undefined;
}

/** Hosts as one bin: the leader goes where it costs the fewest workers. */
export function binOf(hosts: readonly Bin[]): Bin {
  const workers = hosts.reduce((sum, host) => sum + host.workers, 0);
  const losses = hosts.flatMap(host => (host.besideLeader < 0 ? [] : [host.workers - host.besideLeader]));
  return { workers, besideLeader: losses.length === 0 ? -1 : workers - Math.min(...losses) };
}
