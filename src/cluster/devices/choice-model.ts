import type { DeviceRequest, DeviceRequestBody } from '../../api/dra.ts';
import { kindOf } from './alignment.ts';
import { maxResults } from './allocator/wanted-request.ts';
import { readCounters } from './choice-counters.ts';
import { devicesOn, type NodeDevices } from './choice-input.ts';
import { placesOn, sortDevices } from './choice-sorts.ts';
import type { WantedClaim } from './claims.ts';
import type { Device, DeviceKey } from './device.ts';
import { isTainted } from './device-taints.ts';
import { type Locality, localitiesOf } from './locality.ts';
import { selectionOf } from './request-selection.ts';

/**
 * What devices are to be chosen from, and for what, in numbers. Devices that nothing here tells apart are of one *sort*:
 * an assignment says how many of each sort a request takes, and there are far fewer of those than of devices.
 */
export interface ChoiceModel {
  readonly sorts: readonly Sort[];
  /** The whole of each counter. */
  readonly totals: readonly number[];
  /** How many attributes rules name. */
  readonly attributes: number;
  /** For the member at the same index. */
  readonly demands: readonly ModelledDemand[];
  readonly start: ChoiceState;
}

export interface Sort {
  /** The free ones, in the order in which the allocator finds them. */
  readonly devices: readonly Device[];
  readonly locality: Locality;
  readonly driver: string;
  readonly family: string;
  /** A NIC for management: it cannot do RDMA, and others of its driver on the node can. */
  readonly isSecondRate: boolean;
  readonly alignable: boolean;
  /** Values of the attributes that rules name, by {@link Rule.attribute}; undefined for those that are not there. */
  readonly values: readonly (string | undefined)[];
  /** What one device takes of which counters. */
  readonly takes: readonly (readonly [counter: number, amount: number])[];
  /** The counter set, for sorts that take from exactly one. */
  readonly counterSet: string | undefined;
}

/** What is left: devices by sort, and amounts by counter. */
export interface ChoiceState {
  readonly left: readonly number[];
  readonly counters: readonly number[];
}

/** Equal demands are one object. */
export interface ModelledDemand {
  /** By alternative of the requests that have some, the preferred first. */
  readonly recipes: readonly Recipe[];
}

export interface Recipe {
  readonly asks: readonly Ask[];
  readonly rules: readonly Rule[];
  /** Kinds of devices that are to be aligned. */
  readonly kinds: readonly string[];
  /** Whether each ask is of one kind or of none, so that its share at each value is known beforehand. */
  readonly isPlain: boolean;
}

export interface Ask {
  readonly claim: string;
  /** Name of the request, or `request/alternative`. */
  readonly request: string;
  readonly count: number;
  readonly className: string;
  readonly sorts: readonly number[];
  /** Kind of the devices by index in {@link Recipe.kinds}, where they are of one; undefined when none is aligned. */
  readonly kind: number | undefined;
}

export interface Rule {
  readonly kind: 'match' | 'distinct';
  readonly attribute: number;
  readonly asks: ReadonlySet<number>;
}

const mostRecipes = 16;

/**
 * What devices are told apart by beside requests, rules and counters: where they are and what they are good for, for
 * choices; where they are alone, where it matters that members are aligned but not how; nothing, where any devices do.
 */
export type SortDetail = 'usefulness' | 'places' | 'nothing';

/**
 * The model of a choice, or the reason why only the allocator itself can make it: features that devices take part in
 * otherwise than one by one as a whole, and selectors without a verdict.
 */
export function buildChoiceModel(
  nodeDevices: NodeDevices,
  members: readonly (readonly WantedClaim[])[],
  detail: SortDetail,
): ChoiceModel | { readonly opaque: string } {
  const { pools, node, used, numaOf } = nodeDevices;
  if (pools.problem !== undefined) return { opaque: pools.problem };
  const devices = devicesOn(pools);
  const counters = readCounters(pools, devices, used);
  if ('opaque' in counters) return counters;
  const draft = new Draft(nodeDevices);
  const byText = new Map<string, DraftDemand>();
  const byClaims = new Map<readonly WantedClaim[], DraftDemand>();
  const drafts: DraftDemand[] = [];
  for (const claims of members) {
    let demand = byClaims.get(claims);
    if (demand === undefined) {
      const text = JSON.stringify(claims);
      const read = byText.get(text) ?? draft.demand(claims);
      if ('opaque' in read) return read;
      byText.set(text, read);
      byClaims.set(claims, read);
      demand = read;
    }
    drafts.push(demand);
  }
  const free = devices.filter(({ key }) => !used.devices.has(key));
  const { sorts, sortsOf } = sortDevices(free, {
    matching: draft.matching,
    attributes: draft.attributes,
    takes: counters.takes,
    // With rules, too: where places are known, parts of the node that a rule tells apart may still be equal.
    places:
      detail === 'nothing' && draft.attributes.length === 0
        ? undefined
        : placesOn(devices, localitiesOf(devices, node, numaOf), detail === 'usefulness'),
    keepsUnasked: detail === 'usefulness',
  });
  const modelled = new Map<DraftDemand, ModelledDemand>();
  for (const demand of byText.values())
    modelled.set(demand, { recipes: demand.recipes.map(recipe => finish(recipe, sorts, sortsOf)) });
  return {
    sorts,
    totals: counters.totals,
    attributes: draft.attributes.length,
    demands: drafts.map(demand => modelled.get(demand) ?? { recipes: [] }),
    start: { left: sorts.map(sort => sort.devices.length), counters: counters.left },
  };
}

interface DraftAsk {
  readonly claim: string;
  readonly request: string;
  readonly count: number;
  readonly className: string;
  /** Index of the set of devices that it may get. */
  readonly matching: number;
}

interface DraftRecipe {
  readonly asks: readonly DraftAsk[];
  readonly rules: readonly Rule[];
}

interface DraftDemand {
  readonly recipes: readonly DraftRecipe[];
}

/** Reads demands; collects the sets of devices that requests match and the attributes that rules name. */
class Draft {
  readonly matching: ReadonlySet<DeviceKey>[] = [];
  readonly attributes: string[] = [];
  readonly #matchingByText = new Map<string, number>();
  readonly #nodeDevices: NodeDevices;

  constructor(nodeDevices: NodeDevices) {
    this.#nodeDevices = nodeDevices;
  }

  demand(claims: readonly WantedClaim[]): DraftDemand | { readonly opaque: string } {
    let recipes: DraftRecipe[] = [{ asks: [], rules: [] }];
    for (const claim of claims) {
      const ofClaim = this.#claim(claim);
      if ('opaque' in ofClaim) return ofClaim;
      recipes = recipes.flatMap(before => ofClaim.map(after => joined(before, after)));
      if (recipes.length > mostRecipes) return { opaque: 'too many alternatives' };
    }
    return { recipes };
  }

  #claim({ name, spec }: WantedClaim): readonly DraftRecipe[] | { readonly opaque: string } {
    let choices: (readonly DraftAsk[])[] = [[]];
    for (const request of spec.devices?.requests ?? []) {
      const asks: DraftAsk[] = [];
      for (const [label, body] of bodiesOf(request)) {
        const ask = this.#ask(name, label, body);
        if ('opaque' in ask) return ask;
        asks.push(ask);
      }
      choices = choices.flatMap(before => asks.map(ask => [...before, ask]));
      if (choices.length > mostRecipes) return { opaque: 'too many alternatives' };
    }
    const recipes: DraftRecipe[] = [];
    for (const asks of choices) {
      if (asks.reduce((sum, { count }) => sum + count, 0) > maxResults)
        return { opaque: 'more devices than a claim can get' };
      const rules: Rule[] = [];
      for (const constraint of spec.devices?.constraints ?? []) {
        const { requests = [], matchAttribute, distinctAttribute } = constraint;
        const name = matchAttribute ?? distinctAttribute;
        if (name === undefined) return { opaque: 'a constraint of a kind that is not known' };
        const covered = new Set<number>();
        for (const [index, { request }] of asks.entries()) if (covers(requests, request)) covered.add(index);
        const kind = matchAttribute === undefined ? 'distinct' : 'match';
        rules.push({ kind, attribute: this.#attribute(name), asks: covered });
      }
      recipes.push({ asks, rules });
    }
    return recipes;
  }

  #ask(claim: string, request: string, body: DeviceRequestBody): DraftAsk | { readonly opaque: string } {
    if (body.allocationMode === 'All') return { opaque: 'allocationMode All' };
    if ('adminAccess' in body && body.adminAccess === true) return { opaque: 'adminAccess' };
    if (body.capacity !== undefined) return { opaque: 'shares of devices' };
    if (body.derivedAttributes !== undefined) return { opaque: 'derived attributes' };
    const matching = this.#match(body);
    if (typeof matching !== 'number') return matching;
    return { claim, request, count: body.count ?? 1, className: body.deviceClassName, matching };
  }

  #match(body: DeviceRequestBody): number | { readonly opaque: string } {
    const text = JSON.stringify([body.deviceClassName, body.selectors, body.tolerations]);
    const known = this.#matchingByText.get(text);
    if (known !== undefined) return known;
    const { classes, selectors, pools } = this.#nodeDevices;
    const selection = selectionOf(body, classes, selectors);
    if (selection === undefined) return { opaque: 'a class that does not exist' };
    const matching = new Set<DeviceKey>();
    for (const candidate of pools.candidates) {
      const { device } = candidate;
      const verdict = selection.of(candidate);
      // Only the allocator knows whether it comes to that.
      if (verdict.kind === 'error' || verdict.kind === 'unknown') return { opaque: verdict.message };
      if (verdict.kind === 'false' || isTainted(device, body)) continue;
      if (device.allowMultipleAllocations) return { opaque: 'shares of devices' };
      matching.add(device.key);
    }
    this.#matchingByText.set(text, this.matching.length);
    return this.matching.push(matching) - 1;
  }

  #attribute(name: string): number {
    const known = this.attributes.indexOf(name);
    return known >= 0 ? known : this.attributes.push(name) - 1;
  }
}

function bodiesOf(request: DeviceRequest): readonly (readonly [string, DeviceRequestBody])[] {
  if (request.exactly !== undefined) return [[request.name, request.exactly]];
  return (request.firstAvailable ?? []).map(body => [`${request.name}/${body.name}`, body]);
}

/** A constraint names requests, or alternatives of them; all when it names none. */
function covers(requests: readonly string[], request: string): boolean {
  if (requests.length === 0 || requests.includes(request)) return true;
  const slash = request.indexOf('/');
  return slash > 0 && requests.includes(request.slice(0, slash));
}

function joined(before: DraftRecipe, after: DraftRecipe): DraftRecipe {
  const offset = before.asks.length;
  const rules = after.rules.map(rule => ({
    ...rule,
    asks: new Set([...rule.asks].map(index => index + offset)),
  }));
  return { asks: [...before.asks, ...after.asks], rules: [...before.rules, ...rules] };
}

function finish(
  { asks, rules }: DraftRecipe,
  sorts: readonly Sort[],
  sortsOf: readonly (readonly number[])[],
): Recipe {
  const kinds: string[] = [];
  let isPlain = true;
  const finished = asks.map(({ matching, ...ask }) => {
    const matched = sortsOf[matching] ?? [];
    const kindsHere = new Set(
      matched.map(index => {
        const sort = sorts[index];
        if (sort === undefined || !sort.alignable) return undefined;
        if (sort.locality.pcie.length > 1 || sort.locality.numa.length > 1) isPlain = false;
        return kindOf(sort.driver, ask.className);
      }),
    );
    if (kindsHere.size > 1) isPlain = false;
    for (const each of kindsHere) if (each !== undefined && !kinds.includes(each)) kinds.push(each);
    const [kind] = kindsHere;
    return { ...ask, sorts: matched, kind: kind === undefined ? undefined : kinds.indexOf(kind) };
  });
  return { asks: finished, rules, kinds, isPlain };
}
