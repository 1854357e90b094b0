import { constraintsOf } from './constraints.ts';
import {
  type AllocationAnswer,
  type AllocationQuestion,
  defaultBudget,
  fault,
  type NoneCause,
} from './question.ts';
import { nodeSelectorOf, resultOf } from './result.ts';
import { Search } from './search.ts';
import { maxResults, type WantedRequest, wantedRequests } from './wanted-request.ts';

/**
 * The devices that kube-scheduler's allocator would give the claims on the node: the variant and the features that the
 * default gates of Kubernetes 1.37 choose (k8s.io/dynamic-resource-allocation structured/internal/incubating, v0.37.2:
 * admin access, firstAvailable, shared counters, consumable capacity also in fractional ranges, taints, binding
 * conditions; no list attributes, derived attributes and compatibility groups). The same question has the same answer.
 */
export function allocate(question: AllocationQuestion): AllocationAnswer {
  const { claims, pools, node, used } = question;
  if (pools.problem !== undefined) return fault('node-selector', pools.problem);
  const requests = wantedRequests(question);
  if ('kind' in requests) return requests;
  const constraints = constraintsOf(claims, question.extraConstraints ?? []);
  if ('kind' in constraints) return constraints;
  const search = new Search(requests, constraints, used, question.budget ?? defaultBudget);
  const outcome = search.run();
  const { stop, doubt } = search;
  if (stop !== undefined && doubt === undefined) return stop;
  if (outcome !== 'done' && (doubt !== undefined || stop !== undefined))
    return { kind: 'unknown', message: doubt ?? stop?.message ?? '' };
  if (outcome === 'too-many')
    return fault('too-many-devices', `claim ${claims[0]?.name} would get more than ${maxResults} devices`);
  if (outcome === 'none' || outcome === 'stopped') return none(question, search.furthest);
  return {
    kind: 'allocated',
    claims: claims.map(({ name }, index) => {
      const taken = search.takenFor(index);
      return {
        claim: name,
        results: taken.map(resultOf),
        nodeSelector: nodeSelectorOf(taken, node.name),
      };
    }),
    doubt,
  };
}

function none(question: AllocationQuestion, furthest: WantedRequest | undefined): AllocationAnswer {
  const { claims, pools } = question;
  const isAnyInvalid = pools.pools.some(({ state }) => state === 'invalid');
  return {
    kind: 'none',
    cause: isAnyInvalid ? 'invalid-pools' : causeOf(question, furthest),
    claim: claims[furthest?.claimIndex ?? 0]?.name ?? '',
    request: furthest?.name ?? '',
  };
}

/** Asked only after a search without errors and doubts, so every selector that is still to be asked may fail unseen. */
function causeOf({ used }: AllocationQuestion, furthest: WantedRequest | undefined): NoneCause {
  if (furthest === undefined) return 'not-together';
  const needed = furthest.all === undefined ? furthest.count : Math.max(1, furthest.count);
  let matching = 0;
  let free = 0;
  for (const candidate of furthest.candidates) {
    if (furthest.selection.of(candidate).kind !== 'true') continue;
    matching++;
    if (furthest.adminAccess || !used.devices.has(candidate.device.key)) free++;
  }
  if (matching < needed) return 'no-matching-devices';
  return free < needed ? 'devices-in-use' : 'not-together';
}
