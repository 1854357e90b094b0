import { leastPrice, roughMeasures, sharpMeasures } from './mixed-bounds.ts';
import { type SearchBudget, withAllowance } from './mixed-budget.ts';
import { packExactly } from './mixed-exact.ts';
import { packGreedily } from './mixed-greedy.ts';
import { fullLoads } from './mixed-loads.ts';
import { isNothing, type Packed, type Packing, packedOf } from './mixed-packing.ts';

/** `impossible` is proven; `cut off` says that the budget ended before it was known. */
export type PackVerdict = Packed | 'impossible' | 'cut off';

/** Steps to save a host or two once a place is found: a few milliseconds. */
const trialsToImprove = 20_000;
/** Full loads are many only where members are small and many, and there the exact search would get nowhere. */
const trialsForLoads = 100_000;
/** Beyond these the exact search is not begun: codes of what is left are to be exact numbers. */
/** States that are followed at first: enough to find most places that the rules of thumb miss. */
const narrowBeam = 200;
const mostKinds = 40;
const mostStates = 2 ** 52;

/**
 * Packs all members on the fewest hosts: rules of thumb first, the exact search where they fail or where the bounds
 * leave room for something better. A packing that is found is the cheapest unless the budget ends.
 */
export function pack(packing: Packing, budget: SearchBudget): PackVerdict {
  if (isNothing(packing.counts)) return { loads: [], price: 0 };
  if (packing.kinds.some((_, kind) => hasTooLittleRoom(packing, kind))) return 'impossible';
  if (packing.kinds.length > mostKinds) return packGreedily(packing, 0) ?? 'cut off';
  const roughly = leastPrice(packing, roughMeasures(packing));
  if (roughly === Number.POSITIVE_INFINITY) return 'impossible';
  const quick = packGreedily(packing, roughly);
  if (quick !== undefined && quick.price <= roughly) return quick;
  if (statesOf(packing.counts) > mostStates) return quick ?? 'cut off';
  if (quick !== undefined) return improve(packing, quick, budget);
  const found = find(packing, budget);
  return found === 'impossible' || found === 'cut off' ? found : improve(packing, found, budget);
}

/**
 * Any packing at all. At no price, states that leave less are always better, which leaves few to look at; the most
 * promising of them are followed first, all of them only where that fails.
 */
function find(packing: Packing, budget: SearchBudget): PackVerdict {
  const free = { ...packing, classes: packing.classes.map(host => ({ ...host, price: 0 })) };
  const search = exactSearch(free, budget);
  if (typeof search === 'string') return search;
  const soon = search(Number.POSITIVE_INFINITY, narrowBeam, budget);
  const found =
    soon === 'cut off' ? search(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, budget) : soon;
  return typeof found === 'string' ? found : packedOf(packing, found.loads);
}

function improve(packing: Packing, known: Packed, budget: SearchBudget): Packed {
  const better = withAllowance(budget, trialsToImprove, part => {
    const search = exactSearch(packing, part);
    return typeof search === 'string' ? search : search(known.price, Number.POSITIVE_INFINITY, part);
  });
  return typeof better === 'string' ? known : better;
}

type ExactSearch = (below: number, beam: number, budget: SearchBudget) => PackVerdict;

/** What every exact search of a packing needs; `cut off` where that is too much already. */
function exactSearch(packing: Packing, budget: SearchBudget): ExactSearch | 'cut off' {
  // The roomiest hosts go first: the bounds grow sharper the less the hosts that follow can take.
  const order = roomiestFirst(packing);
  const ordered = { ...packing, classes: order.flatMap(index => packing.classes[index] ?? []) };
  const loads = withAllowance(budget, trialsForLoads, part => fullLoads(ordered, part));
  if (loads === undefined) return 'cut off';
  const measures = sharpMeasures(ordered, loads);
  const least = leastPrice(ordered, measures);
  return (below, beam, part) => {
    if (least >= below) return 'impossible';
    const found = packExactly({ packing: ordered, loads, measures, below, beam }, part);
    if (typeof found === 'string') return found;
    const inOldOrder = found.loads.map(load => ({ ...load, hostClass: order[load.hostClass] ?? -1 }));
    return { ...found, loads: inOldOrder };
  };
}

function roomiestFirst({ counts, classes }: Packing): readonly number[] {
  const sizes = classes.map(({ most }) =>
    most.reduce((sum, members, kind) => sum + members / Math.max(1, counts[kind] ?? 0), 0),
  );
  return [...classes.keys()].sort((a, b) => (sizes[b] ?? 0) - (sizes[a] ?? 0));
}

function hasTooLittleRoom({ counts, classes }: Packing, kind: number): boolean {
  const room = classes.reduce((sum, { most, nodes }) => sum + (most[kind] ?? 0) * nodes.length, 0);
  return room < (counts[kind] ?? 0);
}

function statesOf(counts: readonly number[]): number {
  return counts.reduce((product, count) => product * (count + 1), 1);
}
