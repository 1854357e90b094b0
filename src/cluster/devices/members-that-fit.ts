import { isWithin, type Rung } from './alignment.ts';
import { mostAligned, mostMembers } from './choice-bounds.ts';
import { type NodeDevices, NodeUse } from './choice-input.ts';
import { buildChoiceModel, type ChoiceModel, type ModelledDemand } from './choice-model.ts';
import { isChoicePossible } from './choice-possible.ts';
import { allTogether, placeMember, predictMember, type ServeMember } from './choose-first-fit.ts';
import type { WantedClaim } from './claims.ts';
import { NodePlaces } from './node-places.ts';

export interface FitQuestion extends NodeDevices {
  /** The claims of one member's own. */
  readonly demand: readonly WantedClaim[];
  /** Claims of one more member that is to have its devices first: the leader, where it asks for others. */
  readonly beside: readonly WantedClaim[] | undefined;
  /** More are not asked for. */
  readonly most: number;
  readonly minRung: Rung | undefined;
  readonly steerable: boolean;
}

export type FitCount =
  /** Undefined when the member they are to stand beside does not fit. */
  | { readonly kind: 'count'; readonly members: number | undefined }
  | { readonly kind: 'unknown'; readonly message: string }
  | { readonly kind: 'error'; readonly message: string };

/** Enough for every node of a few kinds of devices; a count beyond it may be too low, never too high. */
const steps = 5_000;

/**
 * How many members of one demand find devices on a node together, from 0 to `most`. What cannot be steered is counted as
 * kube-scheduler will serve it, member by member; everything else over all choices. Only members within `minRung` count.
 */
export function membersThatFit(question: FitQuestion): FitCount {
  const { beside, demand, most, steerable } = question;
  if (!steerable) return countServed(question, predictMember(question, new NodePlaces(question)));
  const before = beside === undefined ? [] : [beside];
  const members = [...before, ...Array.from({ length: most }, () => demand)];
  const model = buildChoiceModel(
    question,
    members,
    isWithin('host', question.minRung) ? 'nothing' : 'places',
  );
  return 'opaque' in model ? countPlaced(question) : countModelled(question, model, before.length);
}

function countModelled(question: FitQuestion, model: ChoiceModel, before: number): FitCount {
  const { minRung, most } = question;
  let isProven = true;
  const fits = (members: number): boolean => {
    const demands = model.demands.slice(0, before + members);
    const possible = isChoicePossible({ ...model, demands }, { minRung, steps });
    if (possible === 'undecided') isProven = false;
    return possible === 'yes';
  };
  const demand = model.demands[before];
  const bound = demand === undefined ? 0 : Math.min(most, boundOf(model, demand, minRung));
  if (fits(bound)) return { kind: 'count', members: bound };
  let least = -1;
  let beyond = bound;
  while (beyond - least > 1) {
    const middle = (least + beyond) >> 1;
    if (fits(middle)) least = middle;
    else beyond = middle;
  }
  if (!isProven) {
    const placed = countPlaced(question);
    if (placed.kind !== 'count') return placed;
    least = Math.max(least, placed.members ?? -1);
  }
  return { kind: 'count', members: least < 0 ? undefined : least };
}

/** No more than this fit, by counts alone. */
function boundOf(model: ChoiceModel, { recipes }: ModelledDemand, minRung: Rung | undefined): number {
  let bound = 0;
  for (const recipe of recipes) {
    let ofRecipe = mostMembers(recipe, model.start);
    if (minRung === 'pcie') ofRecipe = Math.min(ofRecipe, mostAligned(model, recipe, model.start, 'pcie'));
    // Alternatives may be mixed: what one cannot have, another may.
    bound += ofRecipe;
  }
  return bound;
}

/** Member by member, then by the allocator over all at once where it may do as it likes. */
function countPlaced(question: FitQuestion): FitCount {
  const places = new NodePlaces(question);
  const served = countServed(question, placeMember(question, places));
  if (served.kind !== 'count' || question.minRung !== undefined) return served;
  const before = question.beside === undefined ? [] : [question.beside];
  let members = served.members;
  for (let more = (members ?? -1) + 1; more <= question.most; more++) {
    const all = [...before, ...Array.from({ length: more }, () => question.demand)];
    const choice = allTogether({ ...question, members: all }, places);
    if (choice.kind === 'none') break;
    if (choice.kind !== 'chosen') return choice;
    members = more;
  }
  return { kind: 'count', members };
}

function countServed(question: FitQuestion, serve: ServeMember): FitCount {
  const { beside, demand, most, minRung, steerable } = question;
  const used = new NodeUse(question.pools, question.used);
  const next = (claims: readonly WantedClaim[]) => {
    const served = serve(claims, used);
    if (served.kind === 'none') return false;
    if (served.kind !== 'allocated') return served;
    if (!steerable && minRung !== undefined && served.doubt !== undefined)
      return { kind: 'unknown', message: served.doubt } as const;
    used.add(served.results);
    return isWithin(served.rung, minRung);
  };
  if (beside !== undefined) {
    const leader = next(beside);
    if (typeof leader !== 'boolean') return leader;
    if (!leader) return { kind: 'count', members: undefined };
  }
  for (let members = 0; members < most; members++) {
    const member = next(demand);
    if (typeof member !== 'boolean') return member;
    if (!member) return { kind: 'count', members };
  }
  return { kind: 'count', members: most };
}
