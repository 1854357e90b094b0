import { isWithin, type Rung } from './alignment.ts';
import { type NodeDevices, NodeUse, type Served, serveClaims } from './choice-input.ts';
import type { WantedClaim } from './claims.ts';
import type { DeviceUse } from './device.ts';
import { causeOf, type DeviceChoice, type DeviceQuestion, type MemberDevices } from './device-choice.ts';
import type { NodePlaces } from './node-places.ts';
import { restrictClaims } from './restricted-claims.ts';

/** Devices for one more member, beside what is used. */
export type ServeMember = (claims: readonly WantedClaim[], used: DeviceUse) => ServedMember;

export type ServedMember =
  | (Extract<Served, { kind: 'allocated' }> & { readonly rung: Rung | undefined })
  | Exclude<Served, { kind: 'allocated' }>;

/** What kube-scheduler gives to a member. */
export function predictMember(nodeDevices: NodeDevices, places: NodePlaces): ServeMember {
  return (claims, used) => {
    const served = serveClaims(nodeDevices, claims, used);
    return served.kind === 'allocated' ? { ...served, rung: places.rungOf(claims, served.claims) } : served;
  };
}

/** What the allocator finds within one PCIe root, else within one NUMA node, else anywhere. */
export function placeMember(nodeDevices: NodeDevices, places: NodePlaces): ServeMember {
  const predict = predictMember(nodeDevices, places);
  return (claims, used) => {
    for (const rung of ['pcie', 'numa'] as const) {
      for (const place of places.placesAt(rung, used.devices)) {
        const restricted = restrictClaims(claims, nodeDevices.selectors, (_claim, _request, device) =>
          places.isAt(rung, place, device),
        );
        const served = serveClaims(nodeDevices, restricted.claims, used, restricted.selectors);
        if (served.kind === 'allocated') return { ...served, rung: places.rungOf(claims, served.claims) };
        if (served.kind !== 'none') return served;
      }
    }
    return predict(claims, used);
  };
}

/** Serves all members of a question, one after the other. */
export function serveAll(question: DeviceQuestion, serve: ServeMember): DeviceChoice {
  const { minRung, steerable } = question;
  const members: MemberDevices[] = [];
  const used = new NodeUse(question.pools, question.used);
  let doubt: string | undefined;
  for (const claims of question.members) {
    const served = serve(claims, used);
    if (served.kind === 'none') return none(undefined, !steerable || members.length === 0);
    if (served.kind !== 'allocated') return served;
    const { rung, results } = served;
    if (!isWithin(rung, minRung)) return none(minRung, !steerable);
    doubt ??= served.doubt;
    if (!steerable && minRung !== undefined && doubt !== undefined)
      return { kind: 'unknown', message: doubt };
    members.push({ claims: served.claims, results, rung });
    used.add(results);
  }
  return { kind: 'chosen', members, doubt };
}

/**
 * Each member near together as far as the allocator finds it so. When that leaves one without devices, all members are
 * allocated together as the allocator likes.
 */
export function placeAll(question: DeviceQuestion, places: NodePlaces): DeviceChoice {
  const choice = serveAll(question, placeMember(question, places));
  return choice.kind === 'none' && question.minRung === undefined && question.members.length > 1
    ? allTogether(question, places)
    : choice;
}

/** One question to the allocator, which then goes back over all members. */
export function allTogether(question: DeviceQuestion, places: NodePlaces): DeviceChoice {
  const prefixOf = (member: number) => `${member} `;
  const all = question.members.flatMap((claims, member) =>
    claims.map(({ name, spec }) => ({ name: prefixOf(member) + name, spec })),
  );
  const served = serveClaims(question, all, new NodeUse(question.pools, question.used));
  if (served.kind === 'none') return none(undefined, true);
  if (served.kind !== 'allocated') return served;
  let results = 0;
  const members = question.members.map((wanted, member): MemberDevices => {
    const prefix = prefixOf(member);
    const claims = served.claims.flatMap(({ claim, requests }) =>
      claim.startsWith(prefix) ? [{ claim: claim.slice(prefix.length), requests }] : [],
    );
    const count = claims.reduce(
      (sum, { requests }) => sum + requests.reduce((devices, request) => devices + request.devices.length, 0),
      0,
    );
    const own = served.results.slice(results, results + count);
    results += count;
    return { claims, results: own, rung: places.rungOf(wanted, claims) };
  });
  return { kind: 'chosen', members, doubt: served.doubt };
}

function none(minRung: Rung | undefined, isCertain: boolean): DeviceChoice {
  return { kind: 'none', cause: causeOf(minRung), isCertain };
}
