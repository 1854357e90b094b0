import type { Affinity, PodAffinityTerm } from '../api/kubernetes.ts';
import { k8s, lws } from '../api/names.ts';
import type { TopologyLevel } from '../cluster/topology.ts';
import { demandWithAffinity, type MemberDemand } from './demand.ts';
import type { TopologyRequest } from './topology-request.ts';

const required = 'requiredDuringSchedulingIgnoredDuringExecution';

/**
 * Takes from members that exist the terms that LWS gave them for subgroup-exclusive-topology, where the request says the
 * same: each subgroup whole in one domain, apart from the others and from subgroups of other groups. The terms differ
 * from subgroup to subgroup, so with them equal members would look different, and like none that does not exist yet.
 */
export function withoutSubgroupTerms(
  demands: readonly MemberDemand[],
  { slices }: TopologyRequest,
  levels: readonly TopologyLevel[],
): readonly MemberDemand[] {
  if (slices?.apart !== true) return demands;
  const topologyKey = levels[slices.level]?.nodeLabel ?? k8s.hostname;
  return demands.map(demand => {
    const { affinity } = demand.spec;
    const rest = affinity && withoutTerms(affinity, topologyKey);
    return rest === affinity || rest === undefined ? demand : demandWithAffinity(demand, rest);
  });
}

/** The same object where there is nothing to take away. Preferred terms go too, for no plan looks at them. */
function withoutTerms(affinity: Affinity, topologyKey: string): Affinity {
  const near = affinity.podAffinity?.[required] ?? [];
  const away = affinity.podAntiAffinity?.[required] ?? [];
  const isOthers = (term: PodAffinityTerm) => !isSubgroupTerm(term, topologyKey);
  const [nearRest, awayRest] = [near.filter(isOthers), away.filter(isOthers)];
  if (nearRest.length === near.length && awayRest.length === away.length) return affinity;
  const { podAffinity: _near, podAntiAffinity: _away, ...others } = affinity;
  return {
    ...others,
    ...(nearRest.length > 0 && { podAffinity: { [required]: nearRest } }),
    ...(awayRest.length > 0 && { podAntiAffinity: { [required]: awayRest } }),
  };
}

/** Selects by the subgroup's key alone, in the pod's own namespace, as LWS writes them (pkg/webhooks/pod_webhook.go). */
function isSubgroupTerm(term: PodAffinityTerm, topologyKey: string): boolean {
  const { labelSelector, namespaces = [], namespaceSelector } = term;
  const { matchLabels = {}, matchExpressions = [] } = labelSelector ?? {};
  return (
    term.topologyKey === topologyKey &&
    namespaces.length === 0 &&
    namespaceSelector === undefined &&
    Object.keys(matchLabels).length === 0 &&
    matchExpressions.length > 0 &&
    matchExpressions.every(({ key }) => key === lws.subgroupKey)
  );
}
