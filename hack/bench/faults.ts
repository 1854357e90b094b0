import type { ContainerStatus, Pod } from '../../src/api/kubernetes.ts';
import type { WriteEvent } from '../bed/audit.ts';
import type { Cluster } from '../bed/cluster.ts';

/** A failure of what one member of a group stands on, as the one who sees it tells the API server. */
export interface Fault {
  readonly name: string;
  /** The write that tells. */
  readonly signal: (victim: Pod) => Pick<WriteEvent, 'verb' | 'resource' | 'subresource' | 'name'>;
  readonly happen: (cluster: Cluster, victim: Pod) => Promise<void>;
  /** Takes away what outlives the pod. */
  readonly mend: (cluster: Cluster, victim: Pod) => Promise<void>;
}

const taint = { key: 'example.com/sick', value: 'true', effect: 'NoExecute' };
const sickDevice = [{ name: 'nvidia.com/gpu', resources: [{ resourceID: 'gpu-3', health: 'Unhealthy' }] }];

export const nodeTainted: Fault = {
  name: "NoExecute taint on a worker's node",
  signal: victim => ({ verb: 'patch', resource: 'nodes', subresource: '', name: nodeOf(victim) }),
  happen: (cluster, victim) => setTaints(cluster, victim, [taint]),
  mend: (cluster, victim) => setTaints(cluster, victim, []),
};

export const deviceUnhealthy: Fault = {
  name: 'device of a worker Unhealthy',
  signal: ({ metadata }) => ({
    verb: 'patch',
    resource: 'pods',
    subresource: 'status',
    name: metadata.name ?? '',
  }),
  async happen(cluster, { metadata, spec, status }) {
    const known: readonly ContainerStatus[] =
      status?.containerStatuses ?? spec.containers.map(({ name }) => ({ name }));
    // A merge patch replaces lists as a whole.
    const containerStatuses = known.map((container, index) =>
      index === 0 ? { ...container, allocatedResourcesStatus: sickDevice } : container,
    );
    const path = `/api/v1/namespaces/${metadata.namespace}/pods/${metadata.name}/status`;
    await cluster.request('PATCH', path, { status: { containerStatuses } });
  },
  // It goes with the pod.
  mend: async () => {},
};

async function setTaints(cluster: Cluster, victim: Pod, taints: readonly (typeof taint)[]): Promise<void> {
  await cluster.request('PATCH', `/api/v1/nodes/${nodeOf(victim)}`, { spec: { taints } });
}

function nodeOf({ spec }: Pod): string {
  return spec.nodeName ?? '';
}
