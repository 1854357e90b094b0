/** A kind of object that the simulated API server knows. */
export interface ResourceType {
  readonly resource: string;
  readonly apiVersion: string;
  readonly kind: string;
  readonly namespaced: boolean;
}

/** What a request path names. */
export interface ApiPath {
  readonly type: ResourceType;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  readonly subresource: string | undefined;
}

export const resourceTypes = {
  nodes: clusterScoped('nodes', 'v1', 'Node'),
  namespaces: clusterScoped('namespaces', 'v1', 'Namespace'),
  pods: namespaced('pods', 'v1', 'Pod'),
  secrets: namespaced('secrets', 'v1', 'Secret'),
  events: namespaced('events', 'v1', 'Event'),
  configmaps: namespaced('configmaps', 'v1', 'ConfigMap'),
  poddisruptionbudgets: namespaced('poddisruptionbudgets', 'policy/v1', 'PodDisruptionBudget'),
  statefulsets: namespaced('statefulsets', 'apps/v1', 'StatefulSet'),
  leases: namespaced('leases', 'coordination.k8s.io/v1', 'Lease'),
  leaderworkersets: namespaced('leaderworkersets', 'leaderworkerset.x-k8s.io/v1', 'LeaderWorkerSet'),
  resourceslices: clusterScoped('resourceslices', 'resource.k8s.io/v1', 'ResourceSlice'),
  deviceclasses: clusterScoped('deviceclasses', 'resource.k8s.io/v1', 'DeviceClass'),
  devicetaintrules: clusterScoped('devicetaintrules', 'resource.k8s.io/v1', 'DeviceTaintRule'),
  resourceclaims: namespaced('resourceclaims', 'resource.k8s.io/v1', 'ResourceClaim'),
  resourceclaimtemplates: namespaced('resourceclaimtemplates', 'resource.k8s.io/v1', 'ResourceClaimTemplate'),
  mutatingwebhookconfigurations: clusterScoped(
    'mutatingwebhookconfigurations',
    'admissionregistration.k8s.io/v1',
    'MutatingWebhookConfiguration',
  ),
} as const satisfies Readonly<Record<string, ResourceType>>;

/** Undefined for a path that the simulated API server does not serve. */
export function parseApiPath(path: string): ApiPath | undefined {
  const [, root, ...segments] = path.split('/').map(decodeURIComponent);
  const versionLength = root === 'api' ? 1 : 2;
  if (root !== 'api' && root !== 'apis') return undefined;
  const apiVersion = segments.slice(0, versionLength).join('/');
  const rest = segments.slice(versionLength);
  // `/namespaces/x` is the object itself, `/namespaces/x/pods` something inside it.
  const isInNamespace = rest[0] === 'namespaces' && rest.length > 2;
  const namespace = isInNamespace ? rest[1] : undefined;
  const [resource, name, subresource] = isInNamespace ? rest.slice(2) : rest;
  const type = Object.values(resourceTypes).find(
    known => known.resource === resource && known.apiVersion === apiVersion,
  );
  return type === undefined ? undefined : { type, namespace, name, subresource };
}

/** What is served of a group and version, by the path `/apis/<group>/<version>`; empty for one that is not. */
export function resourcesAt(path: string): readonly ResourceType[] {
  return Object.values(resourceTypes).filter(({ apiVersion }) => path === `/apis/${apiVersion}`);
}

function namespaced(resource: string, apiVersion: string, kind: string): ResourceType {
  return { resource, apiVersion, kind, namespaced: true };
}

function clusterScoped(resource: string, apiVersion: string, kind: string): ResourceType {
  return { resource, apiVersion, kind, namespaced: false };
}
