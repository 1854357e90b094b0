import { nvidia } from '../api/names.ts';
import { isReadyOn } from '../cluster/devices/compute-domain.ts';
import { labelValue } from '../cluster/labels.ts';
import { tpuPartitionState } from '../cluster/tpu-partition.ts';
import type { Signal } from './signal.ts';
import { classOfPartition, secondsOf } from './signal-tables.ts';

/**
 * Signals of what ties nodes together: NVLink domains and TPU slices. They are seen on members, for only who uses a domain
 * is hurt by it.
 */
export const fabricSignals: readonly Signal[] = [
  {
    // GPU Feature Discovery tells no clique for minutes after a boot.
    name: 'CliqueChanged',
    class: 'suspect',
    scope: 'member',
    of: 'staying',
    see: ({ node, nvlink }, settings) => {
      if (node === undefined || nvlink?.clique === undefined) return [];
      const found = labelValue(node.labels, nvidia.clique);
      if (found === nvlink.clique) return [];
      const now = found === undefined ? 'has lost its label' : `is in ${found} now`;
      return [
        {
          entity: node.uid,
          blamesNode: true,
          clique: nvlink.clique,
          cause: `node ${node.name} was in the NVLink clique ${nvlink.clique} and ${now}`,
          debounceMs: settings.cliqueAfterSeconds * 1000,
        },
      ];
    },
  },
  {
    // Memory that is shared already may go on to be, so a group that is Ready is only suspect.
    name: 'ComputeDomainNotReady',
    class: 'certain',
    scope: 'member',
    of: 'staying',
    see: ({ pod, node, nodeName, nvlink, groupReady = false }, settings) => {
      const { domain, clique } = nvlink ?? {};
      // A pod is not started before the daemon of its node is ready.
      if (domain === undefined || pod.running !== true || isReadyOn(domain, nodeName)) return [];
      const signalClass = groupReady || domain.ready ? 'suspect' : 'certain';
      const seconds = Math.max(settings.computeDomainAfterSeconds, secondsOf(signalClass, settings));
      return [
        {
          entity: node?.uid ?? nodeName,
          blamesNode: true,
          class: signalClass,
          ...(clique !== undefined && { clique }),
          cause: `ComputeDomain ${domain.namespace}/${domain.name} is not ready on node ${nodeName}`,
          debounceMs: seconds * 1000,
        },
      ];
    },
  },
  {
    // The hosts of a slice reach each other all or not at all, and the platform makes it anew as a whole. None of them is
    // to blame: plans keep off the slice as long as it is not whole.
    name: 'TpuSliceBroken',
    class: 'certain',
    scope: 'member',
    of: 'staying',
    see: ({ node, tpuSlice }, settings) => {
      if (node === undefined || tpuSlice === undefined) return [];
      const { name, hosts, present } = tpuSlice;
      const about = { entity: name, blamesNode: false } as const;
      const state = tpuPartitionState(node);
      const stateClass = classOfPartition(state);
      return [
        ...(hosts !== undefined && present < hosts
          ? [
              {
                ...about,
                cause: `TPU slice ${name} of ${hosts} hosts is not whole`,
                debounceMs: settings.nodeGoneAfterSeconds * 1000,
              },
            ]
          : []),
        ...(stateClass !== undefined
          ? [
              {
                ...about,
                class: stateClass,
                cause: `TPU slice ${name} is ${state}`,
                debounceMs: secondsOf(stateClass, settings) * 1000,
              },
            ]
          : []),
      ];
    },
  },
];
