import type { Affinity, Node, Pod, PodAffinityTerm } from '../../../src/api/kubernetes.ts';
import { berth, k8s, nvidia } from '../../../src/api/names.ts';
import { tpuResource } from '../../../src/cluster/tpu-shape.ts';
import { demandOfPod } from '../../../src/group/demand.ts';
import { isRequestError } from '../../../src/group/request-annotations.ts';
import type { TopologyRequest } from '../../../src/group/topology-request.ts';
import { withTpuSlices } from '../../../src/group/tpu-slices.ts';
import { FitMemo } from '../../../src/planner/fit.ts';
import type { PlacedGroup, PlanInput } from '../../../src/planner/plan.ts';
import { type Fleet, labelOf, nodeOf, snapshotOf } from '../../builders/fleet.ts';
import { decode } from '../../builders/planning.ts';
import { type Ask, gpuName, podOf, requiredDuringScheduling } from '../../builders/pods.ts';
import type { Amounts, Instance, Neighbour, SmallDemand, SmallHost, SmallTerm } from './small-instance.ts';

const shapeLabel = 'example.com/shape';

/** The same question in the planner's terms, by way of API objects. */
export function inputOfInstance(instance: Instance): PlanInput {
  const { hosts, fixed, neighbours, warm, prefer } = instance;
  const { fleet, members } = fleetOfInstance(instance);
  const demands = members.map(decode).map(demandOfPod);
  const nameOf = (host: number) => hosts[host]?.name ?? '';
  return {
    demands,
    topology: withDevices(instance, demands),
    snapshot: snapshotOf(fleet),
    memo: new FitMemo(),
    fixed: new Map([...fixed].map(([rank, host]) => [rank, nameOf(host)])),
    excludedNodes: new Map(hosts.filter(host => host.excluded).map(host => [host.name, 'excluded'])),
    neighbours: neighbours.map((neighbour, at) => placedGroup(neighbour, at, nameOf)),
    warmNodes: warm.map(nameOf),
    objective: { prefer, warmHosts: true },
  };
}

/** The fleet with the pods on it, those members of the group that stay among them, and all members. */
export function fleetOfInstance(instance: Instance): {
  readonly fleet: Fleet;
  readonly members: readonly Pod[];
} {
  const { levels, hosts, demands, members, fixed, tpuLevel } = instance;
  // The builders speak of GPUs.
  const onDevices = <T>(value: T): T =>
    tpuLevel === undefined ? value : JSON.parse(JSON.stringify(value).replaceAll(gpuName, tpuResource));
  const asks = demands.map(demand => askOf(demand, levels));
  const pods = members.map((demand, rank) => {
    const node = hosts[fixed.get(rank) ?? -1]?.name;
    const parts = { name: `m-${rank}`, ...asks[demand] };
    return onDevices(podOf({ ...parts, ...(node === undefined ? { gated: true } : { node }) }));
  });
  const fleet = onDevices({
    levels: levelsOf(instance),
    nodes: hosts.map(host => nodeOfHost(host)),
    pods: hosts.flatMap(host => strangersOn(host, levels)),
  });
  const kept = pods.filter(pod => pod.spec.nodeName !== undefined);
  return { fleet: { ...fleet, pods: [...fleet.pods, ...kept] }, members: pods };
}

function levelsOf({ levels, tpuLevel }: Instance) {
  return Array.from({ length: levels }, (_, level) => ({
    name: `level-${level}`,
    nodeLabel: labelOf(`level-${level}`),
    ...(level === tpuLevel && { shapeLabel }),
  }));
}

function placedGroup(
  { owner, hosts, exclusive }: Neighbour,
  at: number,
  nameOf: (host: number) => string,
): PlacedGroup {
  return {
    key: `ns/${owner}-${at}`,
    owner: `ns/${owner}`,
    nodes: hosts.map(nameOf),
    ...(exclusive !== undefined && { exclusiveLevel: exclusive }),
  };
}

function requestOf(instance: Instance): TopologyRequest {
  const { required, preferred, samePool, slices, exclusive, spread, partner, computeDomain } = instance;
  return {
    requiredLevel: required < 0 ? undefined : required,
    preferredLevel: preferred < 0 ? undefined : preferred,
    sameLabels: samePool ? ['pool'] : [],
    ...(slices && { slices }),
    ...(exclusive !== undefined && { exclusiveLevel: exclusive }),
    ...(spread && { spread: { ...spread, owner: 'ns/own' } }),
    ...(partner !== undefined && { sameDomainAs: { owner: 'ns/partner', level: partner } }),
    ...(computeDomain !== '' && { computeDomain }),
  };
}

/** What follows from TPUs is worked out where requests are read. */
function withDevices(instance: Instance, demands: PlanInput['demands']): TopologyRequest {
  const request = requestOf(instance);
  if (instance.tpuLevel === undefined) return request;
  const sliceSize = instance.slices?.ranks[0]?.length;
  const sources = [sliceSize === undefined ? {} : { [berth.sliceSize]: String(sliceSize) }];
  const topology = withTpuSlices(request, { sources, demands, levels: levelsOf(instance) });
  if (isRequestError(topology)) throw new Error(topology.message);
  return topology;
}

function askOf(demand: SmallDemand, levels: number): Ask {
  const { amounts, pool, tolerates, port, app, near, away } = demand;
  return {
    ...amountsOf(amounts),
    ...(pool !== '' && { nodeSelector: { pool } }),
    ...(tolerates && { tolerations: [{ key: 'dedicated', operator: 'Exists' }] }),
    ...(port !== 0 && { hostPort: 29500 + port }),
    labels: { app },
    ...affinityOf(near, away, levels),
  };
}

function affinityOf(
  near: readonly SmallTerm[],
  away: readonly SmallTerm[],
  levels: number,
): { readonly affinity?: Affinity } {
  const termsOf = (terms: readonly SmallTerm[]): readonly PodAffinityTerm[] =>
    terms.map(({ key, app }) => ({
      topologyKey: key === 'pool' ? key : key === levels ? k8s.hostname : labelOf(`level-${key}`),
      labelSelector: { matchLabels: { app } },
    }));
  if (near.length + away.length === 0) return {};
  return {
    affinity: {
      ...(near.length > 0 && { podAffinity: { [requiredDuringScheduling]: termsOf(near) } }),
      ...(away.length > 0 && { podAntiAffinity: { [requiredDuringScheduling]: termsOf(away) } }),
    },
  };
}

function strangersOn({ name, strangers }: SmallHost, levels: number) {
  return strangers.map(({ amounts, app, port, away }, at) =>
    podOf({
      name: `s-${name}-${at}`,
      node: name,
      ...amountsOf(amounts),
      labels: { app },
      ...(port !== 0 && { hostPort: 29500 + port }),
      ...affinityOf([], away, levels),
    }),
  );
}

function amountsOf([cpu, gpu, memoryGi]: Amounts): Ask {
  return { cpu, gpu, memoryGi };
}

function nodeOfHost(host: SmallHost): Node {
  const [cpu, gpu, memoryGi] = host.allocatable;
  const node = nodeOf({
    name: host.name,
    taints: host.tainted ? ['dedicated=x:NoSchedule'] : [],
    cordoned: host.cordoned,
    ready: host.ready,
    cpu,
    gpu,
    memoryGi,
    pods: host.podSlots,
  });
  return { ...node, metadata: { ...node.metadata, labels: labelsOf(host) } };
}

function labelsOf({
  name,
  path,
  pool,
  hostLabel,
  shape,
  computeDomain,
}: SmallHost): Readonly<Record<string, string>> {
  const domains = path.map((value, level) => [labelOf(`level-${level}`), value] as const);
  const others = [
    ['pool', pool],
    [k8s.hostname, hostLabel ? name : ''],
    [shapeLabel, shape],
    [nvidia.computeDomain, computeDomain],
  ] as const;
  return Object.fromEntries([...domains, ...others].filter(([, value]) => value !== ''));
}
