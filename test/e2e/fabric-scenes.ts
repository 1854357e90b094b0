import type { Test } from 'tap';
import { ApiFailure } from '../../hack/bed/api-client.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import type { Node, Pod } from '../../src/api/kubernetes.ts';
import { type DeviceId, deviceKey } from '../../src/cluster/devices/device.ts';
import { listPods, until } from './bed.ts';
import { present, slicesOf } from './device-scenes.ts';
import { listClaims, resultsOf } from './devices.ts';

const domainsApi = '/apis/resource.nvidia.com/v1beta1';
const definitionsPath = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
const definitionName = 'computedomains.resource.nvidia.com';
const channelDriver = 'compute-domain.nvidia.com';
const json = 'application/json-patch+json';

/** Stands in for dranet: says of a NIC in its ResourceSlice whether the link is up. */
export async function sayLinkState(cluster: Cluster, id: DeviceId, state: string): Promise<void> {
  const slice = present(
    (await slicesOf(cluster)).find(
      ({ spec }) =>
        spec.driver === id.driver &&
        spec.pool.name === id.pool &&
        spec.devices?.some(({ name }) => name === id.device),
    ),
  );
  const at = slice.spec.devices?.findIndex(({ name }) => name === id.device) ?? -1;
  const path = `/spec/devices/${at}/attributes/dra.net~1state`;
  const steps = [{ op: 'add', path, value: { string: state } }];
  await cluster.request(
    'PATCH',
    `/apis/resource.k8s.io/v1/resourceslices/${slice.metadata.name}`,
    steps,
    json,
  );
}

/** The first device of a driver that a pod has by its claims. */
export async function deviceHeldBy(cluster: Cluster, pod: Pod, driver: string): Promise<DeviceId> {
  const claims = (await listClaims(cluster, pod.metadata.namespace)).filter(({ metadata }) =>
    metadata.ownerReferences?.some(({ uid }) => uid === pod.metadata.uid),
  );
  const found = present(resultsOf(claims).find(result => result.driver === driver));
  return { driver, pool: found.pool, device: found.device };
}

/** An RDMA NIC of a node that nobody has. */
export async function spareNic(cluster: Cluster, node: string): Promise<DeviceId> {
  const taken = new Set(resultsOf(await listClaims(cluster)).map(deviceKey));
  const ids = (await slicesOf(cluster)).flatMap(({ spec }) =>
    spec.driver !== 'dra.net' || spec.nodeName !== node
      ? []
      : (spec.devices ?? [])
          .filter(({ attributes }) => attributes?.['dra.net/rdma']?.bool === true)
          .map(({ name }) => ({ driver: spec.driver, pool: spec.pool.name, device: name })),
  );
  return present(ids.find(id => !taken.has(deviceKey(id))));
}

/** Sets a label of a node, or takes it away. */
export async function labelNode(
  cluster: Cluster,
  node: string,
  label: string,
  value: string | null,
): Promise<void> {
  await cluster.request('PATCH', `/api/v1/nodes/${node}`, { metadata: { labels: { [label]: value } } });
}

/** Stands in for the CRD of NVIDIA's DRA driver, with the fields that the driver's own has; goes with the test. */
export async function installComputeDomains(t: Test, cluster: Cluster): Promise<void> {
  const open = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
  const schema = { openAPIV3Schema: { type: 'object', properties: { spec: open, status: open } } };
  await cluster.request('POST', definitionsPath, {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: definitionName },
    spec: {
      group: 'resource.nvidia.com',
      names: {
        kind: 'ComputeDomain',
        listKind: 'ComputeDomainList',
        plural: 'computedomains',
        singular: 'computedomain',
      },
      scope: 'Namespaced',
      versions: [{ name: 'v1beta1', served: true, storage: true, schema, subresources: { status: {} } }],
    },
  });
  t.teardown(() => cluster.request('DELETE', `${definitionsPath}/${definitionName}`));
  await until('ComputeDomains to be served', 30_000, () =>
    cluster.request('GET', `${domainsApi}/computedomains`).then(
      () => true,
      error => {
        if (error instanceof ApiFailure) return false;
        throw error;
      },
    ),
  );
}

/** A ComputeDomain whose status a test plays. */
export interface PlayedDomain {
  /** From now on the daemons of these nodes are not ready. */
  break(nodes: readonly string[]): Promise<void>;
}

/**
 * Makes a ComputeDomain with the ResourceClaimTemplate of its channels, and stands in for the driver: every node on which
 * a pod has a channel of the namespace is in its status, ready unless it is broken.
 */
export async function playComputeDomain(
  t: Test,
  cluster: Cluster,
  namespace: string,
  name: string,
): Promise<PlayedDomain> {
  const path = `${domainsApi}/namespaces/${namespace}/computedomains`;
  const created = await cluster.request<{ metadata: { uid: string } }>('POST', path, {
    apiVersion: 'resource.nvidia.com/v1beta1',
    kind: 'ComputeDomain',
    metadata: { name, namespace },
    spec: { numNodes: 0, channel: { resourceClaimTemplate: { name } } },
  });
  const parameters = {
    apiVersion: 'resource.nvidia.com/v1beta1',
    kind: 'ComputeDomainChannelConfig',
    domainID: created.metadata.uid,
  };
  const requests = [
    { name: 'channel', exactly: { deviceClassName: 'compute-domain-default-channel.nvidia.com' } },
  ];
  const config = [{ requests: ['channel'], opaque: { driver: channelDriver, parameters } }];
  await cluster.request('POST', `/apis/resource.k8s.io/v1/namespaces/${namespace}/resourceclaimtemplates`, {
    apiVersion: 'resource.k8s.io/v1',
    kind: 'ResourceClaimTemplate',
    metadata: { name, namespace },
    spec: { spec: { devices: { requests, config } } },
  });
  let broken = new Set<string>();
  let last = '';
  const play = async () => {
    const claims = await listClaims(cluster, namespace);
    const joined = resultsOf(claims).flatMap(({ driver, pool }) => (driver === channelDriver ? [pool] : []));
    const nodes = [...new Set(joined)].sort().map((node, index) => ({
      name: node,
      ipAddress: `10.0.0.${index}`,
      cliqueID: 'played',
      index,
      status: broken.has(node) ? 'NotReady' : 'Ready',
    }));
    const status = { status: nodes.some(node => node.status === 'NotReady') ? 'NotReady' : 'Ready', nodes };
    const text = JSON.stringify(status);
    if (text === last) return;
    await cluster.request('PATCH', `${path}/${name}/status`, { status });
    last = text;
  };
  await play();
  let ended = false;
  const loop = (async () => {
    while (!ended) {
      await play().catch(() => {});
      await new Promise(resolve => setTimeout(resolve, 200));
    }
  })();
  t.teardown(async () => {
    ended = true;
    await loop;
  });
  return {
    async break(nodes) {
      broken = new Set(nodes);
      await play();
    },
  };
}

/** The hosts of a slice under other names, as a platform brings them when it makes the slice anew. */
export function remade(nodes: readonly Node[], suffix: string): readonly Node[] {
  return nodes.map(({ metadata, ...node }) => {
    const name = `${metadata.name}-${suffix}`;
    return {
      ...node,
      metadata: { ...metadata, name, labels: { ...metadata.labels, 'kubernetes.io/hostname': name } },
    };
  });
}

/** Nodes of the members of a group that are bound. */
export async function nodesOf(
  cluster: Cluster,
  namespace: string,
  group: string,
): Promise<readonly string[]> {
  const pods = await listPods(cluster, namespace, `leaderworkerset.sigs.k8s.io/name=${group}`);
  return pods.flatMap(({ spec }) => spec.nodeName ?? []).sort();
}
