import type { NodeRecord } from '../cluster/node-info.ts';
import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import {
  countsPods,
  type SpreadCheck,
  type SpreadCounted,
  type SpreadRefusal,
  spreadAdmits,
} from '../cluster/topology-spread.ts';
import { interPodKeyOf, type MemberDemand } from '../group/demand.ts';

/** What is asked about a node. */
export type Place = Pick<NodeRecord, 'name' | 'labels'>;

interface SpreadInput {
  readonly snapshot: ClusterSnapshot;
  readonly demands: readonly MemberDemand[];
  readonly fixed?: ReadonlyMap<number, string>;
}

/** The hard spread constraints of a member; undefined when it has none. One pass over all nodes and pods. */
export function spreadCheckOf(snapshot: ClusterSnapshot, demand: MemberDemand): SpreadCheck | undefined {
  const { spread: constraints, ...pod } = demand;
  if (constraints.length === 0) return undefined;
  const nodes = Array.from(snapshot.nodes, ({ record }) => record);
  return spreadAdmits({ constraints, pod, nodes, existing: placedPods(snapshot) });
}

/**
 * The same for a member alone: refuses only what the other members of the group, wherever they go, cannot change, for
 * they raise the fewest that a domain is compared with.
 */
export function lastingSpreadCheckOf(input: SpreadInput, demand: MemberDemand): SpreadCheck | undefined {
  return spreadCheckOf(input.snapshot, demand)?.withCompanions(companionsOf(input, demand));
}

/** As written, and as kube-scheduler reads it once the member is pinned: what is planned must come true. */
export function admitsSpread(check: SpreadCheck, node: Place): true | SpreadRefusal {
  const written = check.admits(node.labels);
  return written === true ? check.admitsPinned(node) : written;
}

/** A cause in the words of a refusal. */
export function spreadCause({ code, topologyKey }: SpreadRefusal): string {
  return code === 'MissingLabel' ? `without node label ${topologyKey}` : 'topology spread';
}

/** Which of the members' constraints count the demand, one digit each. */
export function countedBySpread(demands: Iterable<MemberDemand>, other: MemberDemand): string {
  return [...demands]
    .flatMap(({ namespace, spread }) =>
      spread.map(({ selector }) => namespace === other.namespace && countsPods(selector, other.labels)),
    )
    .map(Number)
    .join('');
}

function* placedPods(snapshot: ClusterSnapshot): Iterable<SpreadCounted> {
  for (const { namespace, labels, nodeName, terminating = false } of snapshot.existingPods())
    if (nodeName !== undefined) yield { namespace, labels, nodeName, terminating };
}

/** The members that are placed together with one of this demand. */
function companionsOf({ demands, fixed }: SpreadInput, demand: MemberDemand): readonly MemberDemand[] {
  const open = demands.filter((_, rank) => !fixed?.has(rank));
  const key = interPodKeyOf(demand);
  const own = open.findIndex(other => other === demand || interPodKeyOf(other) === key);
  return open.filter((_, index) => index !== own);
}
