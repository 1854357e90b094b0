import { NodeUse, serveClaims } from './choice-input.ts';
import { buildChoiceModel, type ChoiceModel } from './choice-model.ts';
import { type MemberOption, searchChoice } from './choice-search.ts';
import { placeAll, predictMember, serveAll } from './choose-first-fit.ts';
import type { DeviceKey } from './device.ts';
import { causeOf, type DeviceChoice, type DeviceQuestion, type MemberDevices } from './device-choice.ts';
import { NodePlaces } from './node-places.ts';
import { restrictClaims } from './restricted-claims.ts';

/** As many as a choice takes in a few milliseconds. */
export const defaultSteps = 20_000;

/**
 * Chooses devices for members on a node: as many members as can be on one PCIe root each, then on one NUMA node, and so
 * that what remains is most useful (choice-usefulness.ts). Whatever is chosen has been allocated by the allocator from
 * exactly these devices. Equal questions have equal answers.
 *
 * Beyond `steps`, and for claims that only the allocator understands, members are served one after the other.
 */
export function chooseDevices(question: DeviceQuestion, steps: number = defaultSteps): DeviceChoice {
  if (!question.steerable) {
    return serveAll(question, predictMember(question, new NodePlaces(question)));
  }
  const model = buildChoiceModel(question, question.members, 'usefulness');
  if ('opaque' in model) return placeAll(question, new NodePlaces(question));
  const { minRung } = question;
  const found = searchChoice({ model, minRung, steps });
  if (found.kind === 'impossible') return { kind: 'none', cause: causeOf(minRung), isCertain: true };
  const allocated = found.kind === 'found' ? allocateFound(question, model, found.options) : undefined;
  return allocated ?? placeAll(question, new NodePlaces(question));
}

/** Lets the allocator allocate the devices that were found; undefined when it does not do so. */
function allocateFound(
  question: DeviceQuestion,
  model: ChoiceModel,
  options: readonly MemberOption[],
): DeviceChoice | undefined {
  const next = model.sorts.map(() => 0);
  const members: MemberDevices[] = [];
  const used = new NodeUse(question.pools, question.used);
  for (const [member, { recipe, takes, rung }] of options.entries()) {
    const asks = model.demands[member]?.recipes[recipe]?.asks ?? [];
    const allowed = new Map<string, Set<DeviceKey>>();
    for (const { ask, sort, count } of takes) {
      const from = next[sort] ?? 0;
      next[sort] = from + count;
      const label = `${asks[ask]?.claim}//${asks[ask]?.request}`;
      const keys = allowed.get(label) ?? new Set();
      for (const device of model.sorts[sort]?.devices.slice(from, from + count) ?? []) keys.add(device.key);
      allowed.set(label, keys);
    }
    const restricted = restrictClaims(
      question.members[member] ?? [],
      question.selectors,
      (claim, request, device) => allowed.get(`${claim}//${request}`)?.has(device.key) ?? false,
    );
    const served = serveClaims(question, restricted.claims, used, restricted.selectors);
    if (served.kind !== 'allocated') return undefined;
    members.push({ claims: served.claims, results: served.results, rung });
    used.add(served.results);
  }
  return { kind: 'chosen', members, doubt: undefined };
}
