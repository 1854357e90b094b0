import type { ChoiceModel, ChoiceState } from './choice-model.ts';

/**
 * How useful what is left is for pods to come, the most important number first, more is better. Whole numbers: equal
 * parts of a node must not differ by the order in which they are added up.
 *
 * 1. devices of two drivers that still share a PCIe root: aligned pairs that are not broken;
 * 2. partitions that can still be taken, the large ones above all: a GPU cut up already is cut up further;
 * 3. pairs that still share a NUMA node;
 * 4. choices of such pairs at each root: a root with devices to spare keeps them;
 * 5. devices of a kind together on one NUMA node, then on one root.
 */
export type Usefulness = readonly number[];

export function usefulnessOf(model: ChoiceModel): (state: ChoiceState) => Usefulness {
  const byRoot = groupsAt(model, 'pcie');
  const byNumaNode = groupsAt(model, 'numa');
  const sizes = model.sorts.map(({ takes }) => sizeOf(takes, model.totals));
  return ({ left, counters }) => {
    const available = model.sorts.map((sort, index) => {
      for (const [counter, amount] of sort.takes) if ((counters[counter] ?? 0) < amount) return 0;
      return left[index] ?? 0;
    });
    let partitions = 0;
    for (const [index, size] of sizes.entries()) partitions += (available[index] ?? 0) * size * size;
    const roots = tally(byRoot, available);
    const numaNodes = tally(byNumaNode, available);
    return [roots.pairs, partitions, numaNodes.pairs, roots.choices, numaNodes.squares, roots.squares];
  };
}

/** By place, by driver, by family: the sorts there. */
type Groups = readonly (readonly (readonly (readonly number[])[])[])[];

function groupsAt(model: ChoiceModel, rung: 'pcie' | 'numa'): Groups {
  const places = new Map<string, Map<string, Map<string, number[]>>>();
  for (const [index, { locality, driver, family, alignable, isSecondRate }] of model.sorts.entries()) {
    if (!alignable || isSecondRate) continue;
    for (const place of locality[rung]) {
      const drivers = places.get(place) ?? new Map<string, Map<string, number[]>>();
      const families = drivers.get(driver) ?? new Map<string, number[]>();
      families.set(family, [...(families.get(family) ?? []), index]);
      places.set(place, drivers.set(driver, families));
    }
  }
  return [...places.values()].map(drivers => [...drivers.values()].map(families => [...families.values()]));
}

function tally(groups: Groups, available: readonly number[]) {
  let pairs = 0;
  let choices = 0;
  let squares = 0;
  for (const drivers of groups) {
    const before: number[] = [];
    for (const families of drivers) {
      const here = families.map(sorts => sorts.reduce((sum, sort) => sum + (available[sort] ?? 0), 0));
      for (const count of here) {
        squares += count * count;
        for (const other of before) {
          pairs += Math.min(count, other);
          choices += count * other;
        }
      }
      before.push(...here);
    }
  }
  return { pairs, choices, squares };
}

/** In thousandths of the counters that it takes from; 0 for devices that are no partitions. */
function sizeOf(takes: readonly (readonly [number, number])[], totals: readonly number[]): number {
  let size = 0;
  for (const [counter, amount] of takes) size += Math.round((1000 * amount) / (totals[counter] || 1));
  return size;
}
