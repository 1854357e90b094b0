import type { ChoiceModel, ChoiceState, Recipe } from './choice-model.ts';

/** Whether options that are aligned at a rung can be listed by themselves. */
export function isAimable({ isPlain, kinds }: Recipe): boolean {
  return isPlain && kinds.length > 0;
}

/** How many members of a recipe can be aligned at a rung at most, each by itself; Infinity when that is not known. */
export function mostAligned(
  model: ChoiceModel,
  recipe: Recipe,
  state: ChoiceState,
  rung: 'pcie' | 'numa',
): number {
  if (!isAimable(recipe)) return Number.POSITIVE_INFINITY;
  const { units, parts } = unitsOf(recipe);
  let possible = 0;
  for (const capacity of unitsByPlace(model, recipe, state, rung, units).values()) possible += capacity;
  return Math.floor(possible / parts);
}

/** How many members of a recipe there are devices for at most, by counts of what each request may get. */
export function mostMembers({ asks }: Recipe, { left }: ChoiceState): number {
  let most = Number.POSITIVE_INFINITY;
  for (const { sorts } of asks) {
    const within = new Set(sorts);
    let wanted = 0;
    for (const ask of asks) if (ask.sorts.every(sort => within.has(sort))) wanted += ask.count;
    const free = sorts.reduce((sum, sort) => sum + (left[sort] ?? 0), 0);
    most = Math.min(most, Math.floor(free / wanted));
  }
  return most;
}

/** The smallest part that has the proportions of the whole pod, by kind, and how many there are of it. */
export function unitsOf({ asks, kinds }: Recipe): {
  readonly units: readonly number[];
  readonly parts: number;
} {
  const totals = kinds.map((_, kind) =>
    asks.reduce((sum, ask) => (ask.kind === kind ? sum + ask.count : sum), 0),
  );
  const parts = totals.length === 1 ? 1 : totals.reduce(commonDivisor, 0);
  return { units: totals.map(total => total / parts), parts };
}

/** How many such parts each place of a rung has room for, were there no rules. */
export function unitsByPlace(
  model: ChoiceModel,
  { asks, kinds }: Recipe,
  { left }: ChoiceState,
  rung: 'pcie' | 'numa',
  units: readonly number[],
): ReadonlyMap<string, number> {
  const sortsByKind = kinds.map((_, kind) =>
    [...new Set(asks.flatMap(ask => (ask.kind === kind ? ask.sorts : [])))].sort((a, b) => a - b),
  );
  const free = sortsByKind.map(sorts => {
    const byPlace = new Map<string, number>();
    for (const sort of sorts) {
      const place = model.sorts[sort]?.locality[rung][0];
      if (place !== undefined) byPlace.set(place, (byPlace.get(place) ?? 0) + (left[sort] ?? 0));
    }
    return byPlace;
  });
  const places = new Map<string, number>();
  for (const place of free[0]?.keys() ?? []) {
    const capacity = Math.min(...units.map((unit, kind) => Math.floor((free[kind]?.get(place) ?? 0) / unit)));
    if (capacity > 0) places.set(place, capacity);
  }
  return places;
}

function commonDivisor(left: number, right: number): number {
  return right === 0 ? left : commonDivisor(right, left % right);
}
