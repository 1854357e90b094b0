import type { SearchBudget } from './mixed-budget.ts';
import { emptyHost, type HostClass, type Packing, put, roomFor } from './mixed-packing.ts';

/**
 * For each class of hosts all the loads that take no further member: whatever stands on a host in any packing is part of
 * one of them. Undefined when the budget ends before all are found.
 */
export function fullLoads(
  packing: Packing,
  budget: SearchBudget,
): readonly (readonly (readonly number[])[])[] | undefined {
  const found: (readonly (readonly number[])[])[] = [];
  for (const host of packing.classes) {
    const loads = fullLoadsOf(host, packing, budget);
    if (loads === undefined) return undefined;
    found.push(loads);
  }
  return found;
}

function fullLoadsOf(
  host: HostClass,
  { kinds, counts }: Packing,
  budget: SearchBudget,
): readonly (readonly number[])[] | undefined {
  const loads: (readonly number[])[] = [];
  const filling = emptyHost(host);
  const roomNow = (kind: number) =>
    Math.min(
      roomFor(host, kind, kinds[kind]?.amounts ?? [], filling),
      (counts[kind] ?? 0) - (filling.take[kind] ?? 0),
    );

  function choose(kind: number): boolean {
    if (budget.trials-- <= 0) return false;
    if (kind === kinds.length) {
      if (kinds.every((_, other) => roomNow(other) === 0)) loads.push([...filling.take]);
      return true;
    }
    const amounts = kinds[kind]?.amounts ?? [];
    const room = roomNow(kind);
    // Of the last kind, fewer than fit never make a full load.
    const least = kind === kinds.length - 1 ? room : 0;
    for (let members = room; members >= least; members--) {
      put(filling, kind, amounts, members);
      const done = choose(kind + 1);
      put(filling, kind, amounts, -members);
      if (!done) return false;
    }
    return true;
  }

  return choose(0) ? loads : undefined;
}
