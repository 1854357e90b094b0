import type { NodeConditionRecord } from '../cluster/node-conditions.ts';
import { isKeptOff, nameOf } from './device-signals.ts';
import type { AllocatedDevice, Finding, NodeFacts, Signal } from './signal.ts';
import { verdictOnCondition } from './signal-tables.ts';

/** Signals of nodes, whoever runs on them. */
export const nodeSignals: readonly Signal[] = [
  {
    name: 'NodeNotReady',
    class: 'suspect',
    scope: 'node',
    of: 'staying',
    see: ({ record: node }, settings) => {
      if (node.readyStatus === 'True') return [];
      const unknown = node.readyStatus === 'Unknown';
      return [
        {
          entity: node.uid,
          blamesNode: true,
          cause: unknown ? `node ${node.name} does not report` : `node ${node.name} is not ready`,
          debounceMs: (unknown ? settings.nodeUnknownAfterSeconds : settings.nodeNotReadyAfterSeconds) * 1000,
        },
      ];
    },
  },
  {
    // Agents on the node. All conditions of a node are one fault, so that two that take turns do not begin it anew.
    name: 'NodeCondition',
    class: 'suspect',
    scope: 'node',
    of: 'staying',
    see: (node, settings, member) =>
      (node.record.conditions ?? []).flatMap(condition => {
        const verdict = verdictOnCondition(condition, settings);
        if (verdict === undefined) return [];
        const { class: signalClass, afterSeconds, network } = verdict;
        if (network && member?.usesNetwork === false) return [];
        const rest = { class: signalClass, debounceMs: afterSeconds * 1000 };
        const { devices = [] } = member ?? {};
        return whomItMeans(node, condition, devices).map(meant => ({ ...meant, ...rest }));
      }),
  },
  {
    // A device plugin that starts anew offers nothing for a moment.
    name: 'NodeShort',
    class: 'suspect',
    scope: 'node',
    of: 'staying',
    see: ({ record, shortOf }, settings) => {
      if (shortOf.length === 0) return [];
      return [
        {
          entity: record.uid,
          blamesNode: true,
          cause: `node ${record.name} offers less ${shortOf.join(', ')} than is in use there`,
          debounceMs: settings.nodeShortAfterSeconds * 1000,
        },
      ];
    },
  },
  {
    name: 'NodeRefusesPods',
    class: 'suspect',
    scope: 'node',
    of: 'staying',
    see: ({ record, refusesPods }, settings) => {
      if (!refusesPods) return [];
      const cause = `the kubelet of node ${record.name} refused several pods (UnexpectedAdmissionError)`;
      return [
        { entity: record.uid, blamesNode: true, cause, debounceMs: settings.suspectAfterSeconds * 1000 },
      ];
    },
  },
];

/**
 * The node, or of a member whose devices are known by the names that the condition has for them those that it names, if
 * any: GPUs by UUID, NICs by that of their RDMA device.
 */
function whomItMeans(
  { record }: NodeFacts,
  { type, status, gpus, nics }: NodeConditionRecord,
  devices: readonly AllocatedDevice[],
): readonly Omit<Finding, 'debounceMs'>[] {
  const condition = `condition ${type}=${status}`;
  const named = gpus.length > 0 ? gpus : nics;
  const nameIn = gpus.length > 0 ? gpuName : rdmaName;
  if (named.length === 0 || !devices.some(device => nameIn(device) !== undefined))
    return [{ entity: record.uid, blamesNode: true, cause: `node ${record.name} has the ${condition}` }];
  return devices
    .filter(device => named.includes(nameIn(device) ?? ''))
    .map(device => ({
      entity: device.key,
      blamesNode: !isKeptOff(device),
      device: device.id,
      cause: `${nameOf(device.id)} is named by ${condition} of node ${record.name}`,
    }));
}

function gpuName({ uuid }: AllocatedDevice): string | undefined {
  return uuid?.startsWith('GPU-') ? uuid : undefined;
}

function rdmaName({ attributes }: AllocatedDevice): string | undefined {
  const name = attributes?.get('dra.net/rdmaDevice');
  return name?.kind === 'string' ? name.value : undefined;
}
