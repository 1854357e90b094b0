import { chooseDevices, defaultSteps } from './choose-devices.ts';
import type { WantedClaim } from './claims.ts';
import { type DeviceKey, deviceKey } from './device.ts';
import type { DeviceChoice, DeviceQuestion } from './device-choice.ts';
import { tellsFamily } from './device-family.ts';
import { attributesAsked, shapeOf } from './hardware-shapes.ts';
import { type FitCount, type FitQuestion, membersThatFit } from './members-that-fit.ts';
import type { NodePools } from './pools.ts';

/** Beyond, everything is forgotten: a fleet has a few shapes, and each a few hundred ways to be in use. */
const mostRemembered = 20_000;

/** A choice by the positions of its devices among those of the node. */
interface Pattern {
  readonly choice: Extract<DeviceChoice, { kind: 'chosen' }>;
  readonly positions: ReadonlyMap<DeviceKey, number>;
}

/**
 * Counts and choices, worked out once for nodes that are alike: the same devices in the same order, as far as the claims
 * can tell, of which the same are in use. The answers are those of `membersThatFit` and `chooseDevices`; what was asked
 * before changes how long they take and nothing else. For one set of classes and one engine.
 */
export class ShapeMemo {
  /** Texts by number. A number is never given twice, for it may be remembered longer than its text. */
  readonly #numbers = new Map<string, number>();
  #next = 0;
  readonly #shapes = new WeakMap<NodePools, Map<number, number>>();
  readonly #counts = new Map<string, FitCount>();
  readonly #choices = new Map<string, Pattern | Extract<DeviceChoice, { kind: 'none' }>>();
  readonly #demands = new WeakMap<readonly WantedClaim[], number>();

  count(question: FitQuestion): FitCount {
    const { demand, beside, most, minRung, steerable } = question;
    const node = this.#nodeKey(question, beside === undefined ? [demand] : [beside, demand]);
    if (node === undefined) return membersThatFit(question);
    const key = `${node} ${most} ${minRung ?? ''} ${steerable} ${beside !== undefined}`;
    const known = this.#counts.get(key);
    if (known !== undefined) return known;
    const count = membersThatFit(question);
    // What went wrong is told with the node's own device.
    if (count.kind !== 'count') return count;
    if (this.#counts.size >= mostRemembered) this.#counts.clear();
    this.#counts.set(key, count);
    return count;
  }

  choose(question: DeviceQuestion): DeviceChoice {
    const { members, minRung, steerable } = question;
    const node = this.#nodeKey(question, members);
    if (node === undefined) return chooseDevices(question, defaultSteps);
    const key = `${node} ${minRung ?? ''} ${steerable}`;
    const known = this.#choices.get(key);
    if (known !== undefined) return 'positions' in known ? onNode(known, question.pools) : known;
    const choice = chooseDevices(question, defaultSteps);
    if (choice.kind === 'error' || choice.kind === 'unknown') return choice;
    if (this.#choices.size >= mostRemembered) this.#choices.clear();
    if (choice.kind === 'none') this.#choices.set(key, choice);
    else this.#choices.set(key, { choice, positions: positionsOf(question.pools) });
    return choice;
  }

  /** Equal where the answer is; undefined where more than the node's own devices matters. */
  #nodeKey(
    {
      node,
      pools,
      used,
      classes,
      numaOf,
    }: Pick<DeviceQuestion, 'node' | 'pools' | 'used' | 'classes' | 'numaOf'>,
    members: readonly (readonly WantedClaim[])[],
  ): string | undefined {
    if (used.capacity.size > 0 || numaOf !== undefined || pools.problem !== undefined) return undefined;
    if (pools.pools.some(({ usable, otherSlices }) => !usable || otherSlices.length > 0)) return undefined;
    const demands = members.map(claims => this.#demandNumber(claims));
    const together = this.#number(`claims ${[...new Set(demands)].sort((a, b) => a - b).join()}`);
    const byDemand = this.#shapes.get(pools) ?? new Map<number, number>();
    this.#shapes.set(pools, byDemand);
    let shape = byDemand.get(together);
    if (shape === undefined) {
      const isAsked = attributesAsked({ demand: members.flat(), classes });
      const text = shapeOf({ node, pools }, (name, value) => isAsked(name) || tellsFamily(name, value), true);
      shape = this.#number(`shape ${text}`);
      byDemand.set(together, shape);
    }
    let taken = '';
    for (const { device } of pools.candidates) taken += used.devices.has(device.key) ? '1' : '0';
    return `${shape} ${taken} ${demands.join()}`;
  }

  #demandNumber(claims: readonly WantedClaim[]): number {
    const known = this.#demands.get(claims);
    if (known !== undefined) return known;
    const number = this.#number(`demand ${JSON.stringify(claims)}`);
    this.#demands.set(claims, number);
    return number;
  }

  #number(text: string): number {
    const known = this.#numbers.get(text);
    if (known !== undefined) return known;
    if (this.#numbers.size >= mostRemembered) this.#numbers.clear();
    this.#next += 1;
    this.#numbers.set(text, this.#next);
    return this.#next;
  }
}

function positionsOf({ candidates }: NodePools): ReadonlyMap<DeviceKey, number> {
  return new Map(candidates.map(({ device }, position) => [device.key, position]));
}

/** The same choice on another node. */
function onNode({ choice, positions }: Pattern, { candidates }: NodePools): DeviceChoice {
  const there = <Id extends { readonly driver: string; readonly pool: string; readonly device: string }>(
    id: Id,
  ): Id => ({
    ...id,
    ...candidates[positions.get(deviceKey(id)) ?? -1]?.device.id,
  });
  return {
    ...choice,
    members: choice.members.map(({ claims, results, rung }) => ({
      claims: claims.map(({ claim, requests }) => ({
        claim,
        requests: requests.map(({ request, devices }) => ({ request, devices: devices.map(there) })),
      })),
      results: results.map(there),
      rung,
    })),
  };
}
