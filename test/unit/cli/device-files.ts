import type { FleetContent } from '../../../hack/bed/fleet-presets.ts';
import type { DeviceRequestBody } from '../../../src/api/dra.ts';
import { listOf } from './input-files.ts';

const resourceApi = 'resource.k8s.io/v1';

/** Nodes, and what drivers publish of them, as a file. */
export function fleetFile({ nodes, slices = [], deviceClasses = [] }: FleetContent): string {
  return listOf([...nodes.map(node => ({ kind: 'Node', ...node })), ...slices, ...deviceClasses]);
}

export function classOf(name: string, expression: string): object {
  return {
    apiVersion: resourceApi,
    kind: 'DeviceClass',
    metadata: { name },
    spec: { selectors: [{ cel: { expression } }] },
  };
}

/** A template of one request for each entry. */
export function templateOf(name: string, requests: Readonly<Record<string, DeviceRequestBody>>): object {
  return {
    apiVersion: resourceApi,
    kind: 'ResourceClaimTemplate',
    metadata: { name },
    spec: {
      spec: {
        devices: {
          requests: Object.entries(requests).map(([request, exactly]) => ({ name: request, exactly })),
        },
      },
    },
  };
}

/** A GPU or several, and a card for EFA, as p4d machines have them. */
export function gpusAndCard(gpus: number): Readonly<Record<string, DeviceRequestBody>> {
  return {
    gpu: { deviceClassName: 'gpu.nvidia.com', count: gpus },
    efa: { deviceClassName: 'efa.networking.k8s.aws' },
  };
}

export interface ClaimingSetParts {
  readonly template: string;
  readonly name?: string;
  readonly namespace?: string;
  readonly replicas?: number;
  readonly size?: number;
  readonly annotations?: Readonly<Record<string, string>>;
  /** With the template beside it, of one request. */
  readonly body?: DeviceRequestBody;
}

/** A LeaderWorkerSet whose members have claim `fabric` from a template each, as a list. */
export function claimingSet(parts: ClaimingSetParts): string {
  const { name = 'llm', namespace, replicas = 1, size = 1, template, annotations, body } = parts;
  const spec = {
    containers: [{ name: 'main', resources: { claims: [{ name: 'fabric' }] } }],
    resourceClaims: [{ name: 'fabric', resourceClaimTemplateName: template }],
  };
  return listOf([
    {
      apiVersion: 'leaderworkerset.x-k8s.io/v1',
      kind: 'LeaderWorkerSet',
      metadata: { name, ...(namespace !== undefined && { namespace }), ...(annotations && { annotations }) },
      spec: { replicas, leaderWorkerTemplate: { size, workerTemplate: { spec } } },
    },
    ...(body === undefined ? [] : [templateOf(template, { share: body })]),
  ]);
}
