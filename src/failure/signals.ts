import type { Taint, Toleration } from '../api/kubernetes.ts';
import { tolerates } from '../cluster/taints.ts';
import { deviceMeant, deviceSignals } from './device-signals.ts';
import { fabricSignals } from './fabric-signals.ts';
import { usesFastNetwork } from './network-use.ts';
import { nodeSignals } from './node-signals.ts';
import type { FailureSettings } from './settings.ts';
import type { DeviceFacts, Finding, MemberFacts, NodeFacts, Sighting, Signal } from './signal.ts';

/** Taints that mirror the Ready condition: NodeNotReady looks at that itself. */
const readinessTaints: readonly string[] = ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'];

/** Somebody fenced the node: it is off for good and its pods may be removed. */
export const outOfServiceTaint = 'node.kubernetes.io/out-of-service';

/** Reasons of a DisruptionTarget condition that speak against the node, not for a drain or a preemption. */
const nodeBlamingReasons: readonly string[] = ['DeletionByTaintManager', 'DeletionByDeviceTaintManager'];

const maxCauseLength = 500;
const controls = /\p{Cc}/u;
const controlRuns = /\p{Cc}+/gu;

/** All signals. A new one is a new row. */
export const signals: readonly Signal[] = [
  ...deviceSignals,
  {
    // With device plugins the kubelet picks the device, so only the node can be avoided; a device of a claim is excluded
    // by itself.
    name: 'DeviceUnhealthy',
    class: 'suspect',
    scope: 'member',
    of: 'staying',
    see: ({ pod, nodeName, devices = [] }, settings) =>
      pod.unhealthyDevices.map(({ resource, resourceID, message }) => {
        const device = deviceMeant(resource, resourceID, devices);
        return {
          entity: device?.key ?? `${pod.uid}/${resource}/${resourceID}`,
          blamesNode: device === undefined,
          ...(device && { device: device.id }),
          cause: `device ${resourceID} (${resource}) of ${pod.name} on ${nodeName} is unhealthy${message === '' ? '' : `: ${message}`}`,
          debounceMs: settings.unhealthyAfterSeconds * 1000,
        };
      }),
  },
  {
    name: 'NodeNoExecute',
    class: 'certain',
    scope: 'member',
    of: 'staying',
    see: ({ pod, node }, settings) => {
      const taint = node === undefined ? undefined : soonestNoExecute(node.taints, pod.tolerations);
      if (node === undefined || taint === undefined) return [];
      return [
        {
          entity: `${node.uid}/${taint.key}/${taint.waitSeconds}`,
          blamesNode: true,
          cause: `node ${node.name} has the taint ${taint.key}:NoExecute`,
          debounceMs: Math.max(settings.noExecuteAfterSeconds, taint.waitSeconds) * 1000,
        },
      ];
    },
  },
  {
    name: 'NodeGone',
    class: 'certain',
    scope: 'member',
    of: 'staying',
    see: ({ node, nodeName }, settings) =>
      node !== undefined
        ? []
        : [
            {
              entity: nodeName,
              blamesNode: true,
              cause: `node ${nodeName} does not exist any more`,
              debounceMs: settings.nodeGoneAfterSeconds * 1000,
            },
          ],
  },
  ...nodeSignals,
  ...fabricSignals,
  {
    // Somebody else deletes already. Who scales down, rolls out or deletes sets no DisruptionTarget condition.
    name: 'Foreign',
    class: 'certain',
    scope: 'member',
    of: 'going',
    see: ({ pod, nodeName, othersLive, leads, returnsAlone }) => {
      const { disruptionReason } = pod;
      if (disruptionReason === undefined || !(pod.terminating || pod.terminal)) return [];
      if (!othersLive || (returnsAlone && !leads)) return [];
      return [
        {
          entity: pod.uid,
          blamesNode: nodeBlamingReasons.includes(disruptionReason),
          cause: `${pod.name} on ${nodeName} was disrupted by others (${disruptionReason})`,
          debounceMs: 0,
        },
      ];
    },
  },
  {
    // Patience was had before the claim was made, and no node is to blame.
    name: 'Preempted',
    class: 'certain',
    scope: 'member',
    of: 'staying',
    see: ({ pod, leads, claim }) =>
      leads && claim !== undefined
        ? [{ entity: pod.uid, blamesNode: false, cause: claim.cause, debounceMs: 0 }]
        : [],
  },
];

/** What is wrong with a member: its own faults, and those of its node and of its devices. */
export function seeMember(facts: MemberFacts, settings: FailureSettings): readonly Sighting[] {
  const { pod, nodeName, node, devices = [], shortOf = [] } = facts;
  const at = { nodeName, nodeUid: node?.uid, podUid: pod.uid };
  return signals.flatMap(signal => {
    if ((signal.of === 'staying') !== facts.stays) return [];
    if (signal.scope === 'member') return sightings(signal, signal.see(facts, settings), at);
    if (signal.scope === 'device')
      return devices.flatMap(device => {
        // What Berth itself takes out of traffic works still.
        const ready = pod.ready || pod.withheld === true;
        const holder = { ready, tolerations: device.tolerations };
        return sightings(signal, signal.see(device, settings, holder), at);
      });
    if (node === undefined) return [];
    const nodeFacts = { record: node, shortOf, refusesPods: false };
    const member = { devices, usesNetwork: usesFastNetwork(pod, devices) };
    return sightings(signal, signal.see(nodeFacts, settings, member), at);
  });
}

/** What is wrong with a node itself, whoever runs on it. */
export function seeNode(node: NodeFacts, settings: FailureSettings): readonly Sighting[] {
  const { name, uid } = node.record;
  const at = { nodeName: name, nodeUid: uid, podUid: undefined };
  return signals.flatMap(signal =>
    signal.scope === 'node' ? sightings(signal, signal.see(node, settings, undefined), at) : [],
  );
}

/** What is wrong with a device itself, whoever has it; `nodeName` is empty where several nodes can reach it. */
export function seeDevice(
  device: DeviceFacts,
  nodeName: string,
  settings: FailureSettings,
): readonly Sighting[] {
  const at = { nodeName, nodeUid: undefined, podUid: undefined };
  return signals.flatMap(signal =>
    signal.scope === 'device' ? sightings(signal, signal.see(device, settings, undefined), at) : [],
  );
}

function sightings(
  { name, class: signalClass }: Signal,
  findings: readonly Finding[],
  at: Pick<Sighting, 'nodeName' | 'nodeUid' | 'podUid'>,
): readonly Sighting[] {
  return findings.map(finding => ({
    signal: name,
    class: signalClass,
    ...at,
    ...finding,
    cause: plainText(finding.cause),
  }));
}

/** In one line and not too long: what others say ends up in events, conditions and intents, and on terminals. */
export function plainText(text: string): string {
  if (text.length <= maxCauseLength && !controls.test(text)) return text;
  const plain = text
    .slice(0, maxCauseLength + 1)
    .replace(controlRuns, ' ')
    .toWellFormed();
  return plain.length <= maxCauseLength
    ? plain
    : `${plain.slice(0, maxCauseLength - 1).toWellFormed()}\u2026`;
}

/**
 * The NoExecute taint that ends a pod soonest, and after how many seconds, as kube-controller-manager's taint eviction
 * reckons: the first toleration that matches a taint counts, and one without tolerationSeconds tolerates it for ever.
 */
function soonestNoExecute(
  taints: readonly Taint[],
  tolerations: readonly Toleration[],
): { readonly key: string; readonly waitSeconds: number } | undefined {
  let soonest: { readonly key: string; readonly waitSeconds: number } | undefined;
  for (const taint of taints) {
    if (taint.effect !== 'NoExecute' || readinessTaints.includes(taint.key)) continue;
    const toleration = tolerations.find(candidate => tolerates(candidate, taint));
    if (toleration !== undefined && toleration.tolerationSeconds === undefined) continue;
    const waitSeconds = Math.max(0, toleration?.tolerationSeconds ?? 0);
    if (soonest === undefined || waitSeconds < soonest.waitSeconds) soonest = { key: taint.key, waitSeconds };
  }
  return soonest;
}
