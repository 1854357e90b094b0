import type { ChoiceModel, ChoiceState, Sort } from './choice-model.ts';

/** One text for all states that differ only in which of several equal parts of the node they use. */
export type StateKey = (state: ChoiceState) => string;

/**
 * ```
 *   node -> NUMA node -> PCIe root -> counter set -> sorts, by what they are apart from where
 * ```
 * Roots of a NUMA node with equal parts left can be exchanged, and so can NUMA nodes and counter sets: the key names the
 * parts in the order of their contents. That holds only on a node that is such a tree, and for rules whose attribute, if
 * it tells the place at all, tells it everywhere; else the key is what is left, sort by sort.
 */
export function stateKeyOf(model: ChoiceModel): StateKey {
  if (!isTree(model.sorts)) return plainKey;
  const types = typesOf(model);
  const numaNodes = new Map<string, Map<string, Map<string, Leaf>>>();
  for (const [index, sort] of model.sorts.entries()) {
    const roots = at(numaNodes, sort.locality.numa[0] ?? '', () => new Map<string, Map<string, Leaf>>());
    const leaves = at(roots, sort.locality.pcie[0] ?? '', () => new Map<string, Leaf>());
    const leaf = at(leaves, sort.counterSet ?? '', () => ({ sorts: [], counters: [] }));
    leaf.sorts.push({ index, type: types[index] ?? '' });
    for (const [counter] of sort.takes) if (!leaf.counters.includes(counter)) leaf.counters.push(counter);
  }
  const names = new Map<string, number>();
  const tree = [...numaNodes.values()].map(roots =>
    [...roots.values()].map(leaves => [...leaves.values()].map(leaf => finish(leaf, model, names))),
  );
  return ({ left, counters }) =>
    tree
      .map(roots =>
        roots
          .map(leaves =>
            leaves
              .map(({ name, sorts, counters: ofLeaf }) => {
                let text = String(name);
                for (const sort of sorts) text += `,${left[sort]}`;
                for (const counter of ofLeaf) text += `;${counters[counter]}`;
                return text;
              })
              .sort()
              .join('|'),
          )
          .sort()
          .join('/'),
      )
      .sort()
      .join('\n');
}

interface Leaf {
  readonly sorts: { readonly index: number; readonly type: string }[];
  readonly counters: number[];
}

interface FinishedLeaf {
  /** A number for its sorts' types and counters' sizes: leaves of one name can be exchanged when as much is left. */
  readonly name: number;
  readonly sorts: readonly number[];
  readonly counters: readonly number[];
}

function finish({ sorts, counters }: Leaf, model: ChoiceModel, names: Map<string, number>): FinishedLeaf {
  counters.sort((left, right) => left - right);
  const described = sorts.map(({ index, type }) => {
    const takes = model.sorts[index]?.takes ?? [];
    const relative = takes.map(([counter, amount]) => [counters.indexOf(counter), amount]);
    return { index, text: JSON.stringify([type, relative]) };
  });
  described.sort((left, right) => (left.text < right.text ? -1 : left.text > right.text ? 1 : 0));
  const description = JSON.stringify([described.map(({ text }) => text), counters.map(c => model.totals[c])]);
  return {
    name: at(names, description, () => names.size),
    sorts: described.map(({ index }) => index),
    counters,
  };
}

function plainKey({ left, counters }: ChoiceState): string {
  return `${left.join()};${counters.join()}`;
}

/** Every sort at one place at most, every root on one NUMA node, every counter set at one root. */
function isTree(sorts: readonly Sort[]): boolean {
  const numaByRoot = new Map<string, string>();
  const rootByCounterSet = new Map<string, string>();
  for (const { locality, takes, counterSet } of sorts) {
    if (locality.pcie.length > 1 || locality.numa.length > 1) return false;
    if (takes.length > 0 && counterSet === undefined) return false;
    const [numa = ''] = locality.numa;
    const [root = ''] = locality.pcie;
    if (root !== '' && at(numaByRoot, root, () => numa) !== numa) return false;
    const place = `${numa}/${root}`;
    if (counterSet !== undefined && at(rootByCounterSet, counterSet, () => place) !== place) return false;
  }
  return true;
}

/** What each sort is apart from where: who may get it, what it is, and its values for rules. */
function typesOf({ sorts, demands, attributes }: ChoiceModel): readonly string[] {
  const asks = new Set(demands.flatMap(({ recipes }) => recipes.flatMap(recipe => recipe.asks)));
  const askedBy = sorts.map((): number[] => []);
  for (const [index, ask] of [...asks].entries()) for (const sort of ask.sorts) askedBy[sort]?.push(index);
  const tells = Array.from({ length: attributes }, (_, attribute) => placeTold(sorts, attribute));
  return sorts.map((sort, index) =>
    JSON.stringify([
      askedBy[index],
      sort.family,
      sort.alignable,
      sort.isSecondRate,
      sort.locality.pcie.length,
      sort.locality.numa.length,
      sort.values.map((value, attribute) =>
        value !== undefined && tells[attribute] !== undefined ? tells[attribute] : value,
      ),
    ]),
  );
}

function placeTold(sorts: readonly Sort[], attribute: number): 'pcie' | 'numa' | undefined {
  return (['pcie', 'numa'] as const).find(rung =>
    sorts.every(({ values, locality }) => {
      const value = values[attribute];
      const [place] = locality[rung];
      return value === undefined || (place !== undefined && value.slice(value.indexOf(':') + 1) === place);
    }),
  );
}

function at<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const known = map.get(key);
  if (known !== undefined) return known;
  const made = make();
  map.set(key, made);
  return made;
}
