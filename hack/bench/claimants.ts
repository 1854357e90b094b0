import type { ResourceClaimTemplate } from '../../src/api/dra.ts';
import type { LeaderWorkerSet } from '../../src/api/kubernetes.ts';
import { berth, lws } from '../../src/api/names.ts';
import { efaClass, gpuClass } from '../bed/device-classes.ts';

export interface ClaimantsShape {
  readonly name: string;
  readonly groups: number;
  readonly size: number;
  /** Name of the template of each pod's claim. */
  readonly template: string;
}

export const resourceApi = '/apis/resource.k8s.io/v1';
export const pairTemplateName = 'pair';
export const hostTemplateName = 'host';

/** A claim for a GPU and an RDMA NIC. */
export function pairTemplate(namespace: string): ResourceClaimTemplate {
  return template(pairTemplateName, namespace, [
    { name: 'gpu', exactly: { deviceClassName: gpuClass.metadata.name ?? '' } },
    { name: 'nic', exactly: { deviceClassName: efaClass.metadata.name ?? '' } },
  ]);
}

/** A claim for all eight GPUs of a host. */
export function hostTemplate(namespace: string): ResourceClaimTemplate {
  return template(hostTemplateName, namespace, [
    { name: 'gpus', exactly: { deviceClassName: gpuClass.metadata.name ?? '', count: 8 } },
  ]);
}

/** An LWS whose pods have a claim each. With a level, each group must lie in one domain of it. */
export function claimants(shape: ClaimantsShape, requiredLevel?: string): LeaderWorkerSet {
  const resources = { requests: { cpu: '1' }, claims: [{ name: 'devices' }] };
  const spec = {
    terminationGracePeriodSeconds: 1,
    resourceClaims: [{ name: 'devices', resourceClaimTemplateName: shape.template }],
    containers: [{ name: 'server', image: 'registry.example.com/inference/model-server:v1.4.2', resources }],
  };
  return {
    apiVersion: lws.apiVersion,
    kind: lws.kind,
    metadata: {
      name: shape.name,
      ...(requiredLevel !== undefined && { annotations: { [berth.requiredTopology]: requiredLevel } }),
    },
    spec: {
      replicas: shape.groups,
      leaderWorkerTemplate: { size: shape.size, workerTemplate: { spec } },
    },
  };
}

type Requests = ResourceClaimTemplate['spec']['spec']['devices'];

function template(
  name: string,
  namespace: string,
  requests: NonNullable<NonNullable<Requests>['requests']>,
): ResourceClaimTemplate {
  return {
    apiVersion: 'resource.k8s.io/v1',
    kind: 'ResourceClaimTemplate',
    metadata: { name, namespace },
    spec: { spec: { devices: { requests } } },
  };
}
