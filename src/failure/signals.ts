import type { Taint, Toleration } from '../api/kubernetes.ts';
import type { NodeRecord } from '../cluster/node-info.ts';
import { tolerates } from '../cluster/taints.ts';
import type { PodInfo } from '../group/pod-info.ts';
import type { Claim } from './claim.ts';
import type { FailureSettings } from './settings.ts';

/** `certain` may evict at once; `suspect` only what has a better place to go to; `info` is counted. */
export type SignalClass = 'certain' | 'suspect' | 'info';

export const signalNames = [
  'DeviceUnhealthy',
  'NodeNoExecute',
  'NodeGone',
  'NodeNotReady',
  'Foreign',
  'Preempted',
] as const;
export type SignalName = (typeof signalNames)[number];

/** Nothing is wrong with such a group: another needs its place. */
export function isPreemption(signal: SignalName): boolean {
  return signal === 'Preempted';
}

/** One bound member of a group whose owner still wants it, as the signals look at it. */
export interface MemberFacts {
  readonly pod: PodInfo;
  readonly nodeName: string;
  /** Undefined when no such node exists. */
  readonly node: NodeRecord | undefined;
  readonly leads: boolean;
  /** It neither goes nor has ended, and nor has its leader. */
  readonly stays: boolean;
  /** Another member of its incarnation neither goes nor has ended. */
  readonly othersLive: boolean;
  /** A worker that goes comes back alone (LWS restartPolicy None). */
  readonly returnsAlone: boolean;
  /** Another group needs the place of this one. */
  readonly claim?: Claim | undefined;
}

/** One signal seen on one entity. Two sights of the same fault have the same `signal` and `entity`. */
export interface Sighting {
  readonly signal: SignalName;
  readonly class: SignalClass;
  /** Node UID (or name, when the node is gone), pod UID, or pod UID and device. */
  readonly entity: string;
  readonly nodeName: string;
  readonly nodeUid: string | undefined;
  /** The node itself is to blame: plans avoid it and breakers count it. */
  readonly blamesNode: boolean;
  /** The member that it was seen on; undefined for a node without members. */
  readonly podUid: string | undefined;
  /** One sentence without anything that changes by itself. */
  readonly cause: string;
  readonly debounceMs: number;
}

type Finding = Pick<Sighting, 'entity' | 'blamesNode' | 'cause' | 'debounceMs'> & {
  /** Where it differs from the signal's own. */
  readonly class?: SignalClass;
};

/**
 * One way in which a failure shows. `member` signals look at a member and its node, `node` signals at the node alone:
 * these are seen whether members are there or not, so that breakers see them as well.
 */
export type Signal =
  | {
      readonly name: SignalName;
      readonly class: SignalClass;
      readonly scope: 'device' | 'member';
      /** Members that stay, or those that are on their way out (or ended) with a group that lives on. */
      readonly of: 'staying' | 'going';
      readonly see: (facts: MemberFacts, settings: FailureSettings) => readonly Finding[];
    }
  | {
      readonly name: SignalName;
      readonly class: SignalClass;
      readonly scope: 'node';
      readonly of: 'staying';
      readonly see: (node: NodeRecord, settings: FailureSettings) => readonly Finding[];
    };

/** Taints that mirror the Ready condition: NodeNotReady looks at that itself. */
const readinessTaints: readonly string[] = ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'];

/** Somebody fenced the node: it is off for good and its pods may be removed. */
export const outOfServiceTaint = 'node.kubernetes.io/out-of-service';

/** Reasons of a DisruptionTarget condition that speak against the node, not for a drain or a preemption. */
const nodeBlamingReasons: readonly string[] = ['DeletionByTaintManager', 'DeletionByDeviceTaintManager'];

/** All signals. A new one is a new row. */
export const signals: readonly Signal[] = [
  {
    // With device plugins the kubelet picks the device, so only the node can be avoided.
    name: 'DeviceUnhealthy',
    class: 'certain',
    scope: 'device',
    of: 'staying',
    see: ({ pod, nodeName }, settings) =>
      pod.unhealthyDevices.map(({ resource, resourceID, message }) => ({
        entity: `${pod.uid}/${resource}/${resourceID}`,
        blamesNode: true,
        cause: `device ${resourceID} (${resource}) of ${pod.name} on ${nodeName} is unhealthy${message === '' ? '' : `: ${message}`}`,
        debounceMs: settings.unhealthyAfterSeconds * 1000,
      })),
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
  {
    name: 'NodeNotReady',
    class: 'suspect',
    scope: 'node',
    of: 'staying',
    see: (node, settings) => {
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

/** What is wrong with a member: its own faults, and those of its node. */
export function seeMember(facts: MemberFacts, settings: FailureSettings): readonly Sighting[] {
  return signals.flatMap(signal => {
    if ((signal.of === 'staying') !== facts.stays) return [];
    if (signal.scope === 'node')
      return facts.node === undefined
        ? []
        : sightings(signal, signal.see(facts.node, settings), facts.node.name, facts.node.uid, facts.pod.uid);
    return sightings(signal, signal.see(facts, settings), facts.nodeName, facts.node?.uid, facts.pod.uid);
  });
}

/** What is wrong with a node itself, whoever runs on it. */
export function seeNode(node: NodeRecord, settings: FailureSettings): readonly Sighting[] {
  return signals.flatMap(signal =>
    signal.scope === 'node'
      ? sightings(signal, signal.see(node, settings), node.name, node.uid, undefined)
      : [],
  );
}

function sightings(
  signal: Signal,
  findings: readonly Finding[],
  nodeName: string,
  nodeUid: string | undefined,
  podUid: string | undefined,
): readonly Sighting[] {
  return findings.map(finding => ({
    signal: signal.name,
    class: signal.class,
    nodeName,
    nodeUid,
    podUid,
    ...finding,
  }));
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
