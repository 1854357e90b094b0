import type { ComputeDomain } from '../../api/compute-domain.ts';
import type { DeviceClaimConfiguration } from '../../api/dra.ts';
import { nvidia } from '../../api/names.ts';
import { textAt } from './format-error.ts';

/** What Berth keeps of a ComputeDomain: nodes whose GPUs share memory over NVLink, by an IMEX daemon on each. */
export interface ComputeDomainRecord {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly ready: boolean;
  /** Whether the daemon of each node that has joined is ready, by name of the node. */
  readonly nodes: ReadonlyMap<string, boolean>;
}

/** @throws DeviceFormatError, which names the field */
export function decodeComputeDomain({ metadata, status }: ComputeDomain): ComputeDomainRecord {
  return {
    uid: textAt(metadata.uid, 'metadata.uid'),
    namespace: textAt(metadata.namespace, 'metadata.namespace'),
    name: textAt(metadata.name, 'metadata.name'),
    ready: status?.status === 'Ready',
    nodes: new Map(
      (status?.nodes ?? []).flatMap(node =>
        // A node of which nothing is said is as its domain is.
        node.name === undefined ? [] : [[node.name, (node.status ?? status?.status) === 'Ready'] as const],
      ),
    ),
  };
}

/**
 * Whether a pod that runs on a node can use its channel. It was not started before the daemon of its node was ready, so a
 * node that is not told of has left. Where hosts care for IMEX themselves no nodes are told at all.
 */
export function isReadyOn({ ready, nodes }: ComputeDomainRecord, node: string): boolean {
  return nodes.size === 0 ? ready : (nodes.get(node) ?? false);
}

/**
 * UID of the domain whose channel a claim asks for, or has (NVIDIA dra-driver-nvidia-gpu api/nvidia.com/resource/v1beta1
 * ComputeDomainChannelConfig).
 */
export function computeDomainOf(config: readonly DeviceClaimConfiguration[]): string | undefined {
  for (const { opaque } of config) {
    if (opaque?.driver !== nvidia.computeDomainDriver) continue;
    const { kind, domainID } = (opaque.parameters ?? {}) as Readonly<Record<string, unknown>>;
    if (kind === 'ComputeDomainChannelConfig' && typeof domainID === 'string') return domainID;
  }
  return undefined;
}
