import { labelValue } from '../cluster/labels.ts';
import type { NodeRecord } from '../cluster/node-info.ts';
import type { TopologyLevel } from '../cluster/topology.ts';

/*
 * After an outage the cluster does not look as it is: nodes that could not report are taken for dead until they have
 * reported again, and who evicts at once evicts what is well.
 */

/** Knows for how long something has been back that was away for long. Times are monotonic milliseconds. */
export class Outage {
  readonly #longMs: number;
  #fineMs: number;
  #backMs: number | undefined;

  /** @param longMs who is away for no longer was never out */
  constructor(longMs: number, nowMs: number) {
    this.#longMs = longMs;
    this.#fineMs = nowMs;
  }

  /** It is fine at this moment. */
  fine(nowMs: number): void {
    if (this.#lasts(nowMs)) this.#backMs = nowMs;
    this.#fineMs = nowMs;
  }

  /** 0 while it is out, infinite when it never was. */
  backForMs(nowMs: number): number {
    if (this.#lasts(nowMs)) return 0;
    return this.#backMs === undefined ? Number.POSITIVE_INFINITY : nowMs - this.#backMs;
  }

  #lasts(nowMs: number): boolean {
    return nowMs - this.#fineMs > this.#longMs;
  }
}

/**
 * Whether each domain of the coarsest level has nodes that are not ready, and hardly any others. That is no failure of
 * nodes: what they report to, or the way there, has failed. Nodes without a label of that level are one domain.
 */
export function allDomainsDown(
  nodes: Iterable<Pick<NodeRecord, 'labels' | 'ready'>>,
  levels: readonly TopologyLevel[],
  share: number,
): boolean {
  const [coarsest] = levels;
  const domains = new Map<string, { all: number; down: number }>();
  for (const { labels, ready } of nodes) {
    const name = coarsest === undefined ? '' : (labelValue(labels, coarsest.nodeLabel) ?? '');
    const domain = domains.get(name) ?? { all: 0, down: 0 };
    domains.set(name, domain);
    domain.all += 1;
    if (!ready) domain.down += 1;
  }
  return domains.size > 0 && [...domains.values()].every(({ all, down }) => down >= share * all);
}
