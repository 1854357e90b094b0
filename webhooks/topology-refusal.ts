import type { LeaderWorkerSet, Pod, PodSpec } from '../src/api/kubernetes.ts';
import { lws } from '../src/api/names.ts';
import type { TopologyLevel } from '../src/cluster/topology.ts';
import { tpuResource } from '../src/cluster/tpu-shape.ts';
import { requestSources } from '../src/group/group-info.ts';
import type { Membership } from '../src/group/membership.ts';
import { isRequestError, readTopologyRequest } from '../src/group/topology-request.ts';

/** What is wrong, and where it stands. */
export interface TopologyRefusal {
  readonly field: string;
  readonly message: string;
}

/**
 * What a group asks for that could never come true under any configuration of Berth. Only the leader's request counts,
 * so only the leader is refused: a worker that comes again must not fall for what was written on its owner meanwhile.
 * A level that is not configured is no such thing: the group waits and is told so.
 */
export function topologyRefusal(
  pod: Pod,
  membership: Membership,
  {
    owner,
    levels,
  }: { readonly owner: LeaderWorkerSet | undefined; readonly levels: readonly TopologyLevel[] },
): TopologyRefusal | undefined {
  if (membership.rank !== 0) return undefined;
  const annotations = pod.metadata.annotations ?? {};
  const request = readTopologyRequest(requestSources(annotations, owner), levels, membership);
  if (isRequestError(request) && request.permanent) return request;
  return membership.kind === 'lws' ? brokenTpuSubgroups(pod, membership.size, owner) : undefined;
}

/**
 * Shapes for which LWS gives TPU workers lists of hosts that are not those of their subgroup (pkg/utils/accelerators/
 * tpu.go beside pkg/webhooks/pod_webhook.go): such a group starts and never finds itself.
 */
function brokenTpuSubgroups(
  { metadata, spec }: Pod,
  size: number,
  owner: LeaderWorkerSet | undefined,
): TopologyRefusal | undefined {
  const subgroupSize = Number(metadata.annotations?.[lws.subgroupSize] ?? '');
  if (!Number.isInteger(subgroupSize) || subgroupSize < 1) return undefined;
  const leaderTakes = takesTpu(spec);
  const template = owner?.spec.leaderWorkerTemplate;
  const workersTake = template === undefined ? leaderTakes : takesTpu(template.workerTemplate.spec);
  const refuse = (why: string) => refusal(`subGroupSize ${subgroupSize} with ${size} members, ${why}`);
  if (metadata.annotations?.[lws.subgroupPolicyType] === 'LeaderExcluded')
    return leaderTakes
      ? refuse('LeaderExcluded and a leader on TPUs: LWS counts the leader as a host of the first subgroup')
      : undefined;
  const even = size % subgroupSize === 0;
  if (leaderTakes && !even)
    return refuse(
      'LeaderWorker and a leader on TPUs: the first subgroup has one member more than LWS gives it hosts',
    );
  if (workersTake && !leaderTakes && even && subgroupSize > 1)
    return refuse(
      'LeaderWorker and a leader without TPUs: LWS names a host for the last subgroup that does not exist',
    );
  return undefined;
}

function refusal(message: string): TopologyRefusal {
  const field = `metadata.annotations[${lws.subgroupSize}]`;
  return { field, message: `${field} makes TPU subgroups that cannot find each other: ${message}` };
}

/** As LWS looks for TPUs: in containers and init containers, in limits and requests. */
function takesTpu({ containers, initContainers = [] }: PodSpec): boolean {
  return [...containers, ...initContainers].some(
    ({ resources }) =>
      resources?.limits?.[tpuResource] !== undefined || resources?.requests?.[tpuResource] !== undefined,
  );
}
