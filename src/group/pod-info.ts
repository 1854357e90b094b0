import type { Container, OwnerReference, Pod, PodSpec, Toleration } from '../api/kubernetes.ts';
import {
  berth,
  foreignTopologyAnnotations,
  foreignTopologyGates,
  foreignTopologyLabels,
  k8s,
  kueue,
  lws,
} from '../api/names.ts';
import { claimRefsOf, noClaimRefs, type PodClaimRef } from '../cluster/devices/claims.ts';
import { type HostPort, hostPortsOf } from '../cluster/host-ports.ts';
import { pinnedNodes } from '../cluster/node-affinity.ts';
import { withPodSlot } from '../cluster/node-info.ts';
import { compileAffinity, type PodAffinity } from '../cluster/pod-affinity.ts';
import { podRequests } from '../cluster/pod-requests.ts';
import { isAcceleratorResource, type Resources, sharedResources } from '../cluster/resources.ts';
import {
  controllerOf,
  isMembershipError,
  type Membership,
  type MembershipError,
  membershipOf,
} from './membership.ts';
import { type PlanAnnotation, type PlanAnnotationError, parsePlanAnnotation } from './plan-annotation.ts';

/**
 * What Berth keeps of a Pod: about a twentieth of the object. Made once when the object is read and never changed, so
 * that a record may be compared and memoised by identity.
 */
export interface PodInfo {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly createdAtMs: number;
  readonly labels: Readonly<Record<string, string>>;
  /** Who makes the pod anew when it goes; undefined for a bare pod. */
  readonly controller: PodController | undefined;
  /** The same controller's; empty for a bare pod. */
  readonly controllerUid: string;
  /** Both make the pod's DNS name; the pod's own name stands in for an absent hostname. */
  readonly hostname: string | undefined;
  readonly subdomain: string | undefined;
  readonly nodeName: string | undefined;
  /** The node that required node affinity leaves as the only one, which is how Berth pins; unset behind Berth's gate. */
  readonly pinnedTo: string | undefined;
  readonly gates: readonly string[];
  readonly priority: number;
  readonly terminating: boolean;
  /** Only of pods that are terminating: when their grace period is over. */
  readonly goneByMs?: number;
  /** Succeeded or Failed: it takes no room any more. */
  readonly terminal: boolean;
  /** The kubelet did not let it run on its node, which lacks what was promised (UnexpectedAdmissionError). */
  readonly refused?: true;
  /** Its containers were started once. */
  readonly running?: true;
  readonly hostNetwork?: true;
  readonly ready: boolean;
  /** Only of pods with Berth's readiness gate: status of the condition behind it, empty before it was ever set. */
  readonly inService?: string;
  /** That gate is all that keeps it from being Ready. */
  readonly withheld?: true;
  /** kube-scheduler's last word on an unbound pod, when that was Unschedulable. */
  readonly unschedulableMessage: string | undefined;
  /** Message of Berth's own condition, to know whether it must be written again. */
  readonly placedCondition:
    | { readonly status: string; readonly reason: string; readonly message: string }
    | undefined;
  /** Devices that the kubelet calls Unhealthy (allocatedResourcesStatus; Kubernetes KEP-4680). */
  readonly unhealthyDevices: readonly UnhealthyDevice[];
  /** Those that may tolerate NoExecute taints; empty for pods that are in no group and ask for no devices. */
  readonly tolerations: readonly Toleration[];
  /** Reason of condition DisruptionTarget: who ends this pod, when somebody does. */
  readonly disruptionReason: string | undefined;
  /** Requests as kube-scheduler counts them, with one `pods`. */
  readonly requests: Resources;
  readonly hostPorts: readonly HostPort[];
  /** It asks for devices, be it as resources or by claims. */
  readonly takesAccelerator: boolean;
  readonly claims: readonly PodClaimRef[];
  /** Required inter-pod terms; those of anti-affinity bind other pods too. */
  readonly affinity: PodAffinity | undefined;
  readonly membership: Membership | MembershipError | undefined;
  /** Who else decides where this pod goes; Berth counts it and keeps its hands off. */
  readonly foreignOwner: string | undefined;
  /** Annotations that Berth or LWS give a meaning. */
  readonly annotations: Readonly<Record<string, string>>;
  /** A JSON Patch must make the map before it can add to it. */
  readonly hasAnnotations: boolean;
  /**
   * Kept while the pod may still have to be planned (unbound and gated), and where others are planned after it: of
   * leaders, of all members of a group without templates, and of pods outside groups that have devices.
   */
  readonly scheduling: PodSpec | undefined;
  readonly plan: PlanAnnotation | PlanAnnotationError | undefined;
}

/** The controller of a pod. */
export interface PodController {
  /** With the API group for kinds that are not Kubernetes' own: `StatefulSet`, `StatefulSet.apps.kruise.io`. */
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
}

/** One device of a pod. */
export interface UnhealthyDevice {
  /** Resource name, or `claim:<claim>/<request>`. */
  readonly resource: string;
  readonly resourceID: string;
  /** The driver's words; may be empty. */
  readonly message: string;
}

/** Makes equal parts of pods one object: thousands of pods have the same, and kept apart they would take most of the memory. */
export interface PodShare {
  readonly resources: (resources: Resources) => Resources;
  readonly tolerations: (tolerations: readonly Toleration[]) => readonly Toleration[];
  readonly controller: (controller: OwnerReference | undefined) => PodController | undefined;
  /** Parts of specs of pods outside groups. */
  readonly spec: (spec: PodSpec) => PodSpec;
}

export function podShare(): PodShare {
  const known = new Map<string, readonly Toleration[]>();
  const controllers = new RecentValues<PodController>();
  const specs = new RecentValues<PodSpec>();
  return {
    resources: sharedResources(),
    tolerations: tolerations => {
      const key = JSON.stringify(tolerations);
      const shared = known.get(key);
      if (shared !== undefined) return shared;
      known.set(key, tolerations);
      return tolerations;
    },
    controller: owner => owner && controllers.of(owner.uid, () => podController(owner)),
    spec: spec => specs.of(JSON.stringify(spec), () => spec),
  };
}

/** They come and go, so only so many are remembered; pods that are alike come one after the other. */
class RecentValues<Value> {
  readonly #known = new Map<string, Value>();

  of(key: string, make: () => Value): Value {
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const value = make();
    this.#known.set(key, value);
    const [oldest] = this.#known.keys();
    if (this.#known.size > maxRemembered && oldest !== undefined) this.#known.delete(oldest);
    return value;
  }
}

export function podController({ apiVersion, kind, name, uid }: OwnerReference): PodController {
  const [group = ''] = /^[^/]+(?=\/)/.exec(String(apiVersion)) ?? [];
  return { kind: ownGroups.includes(group) ? kind : `${kind}.${group}`, name, uid };
}

const ownGroups: readonly string[] = ['', 'apps', 'batch'];
const maxRemembered = 10_000;

const noRequests: Resources = new Map();
const noTolerations: readonly Toleration[] = [];
const noDevices: readonly UnhealthyDevice[] = [];

/** Trims a pod as it is read. Throws QuantityError for a quantity beyond what Kubernetes itself can add up. */
export function decodePod(pod: Pod, share: PodShare): PodInfo {
  const { metadata, spec, status } = pod;
  const namespace = metadata.namespace ?? '';
  const labels = metadata.labels ?? {};
  const controller = share.controller(controllerOf(metadata));
  const terminal = status?.phase === 'Succeeded' || status?.phase === 'Failed';
  const requests = terminal ? noRequests : share.resources(withPodSlot(podRequests(pod)));
  const membership = membershipOf(metadata, namespace);
  const member = membership === undefined || isMembershipError(membership) ? undefined : membership;
  const leads = member?.rank === 0;
  const labelled = member?.kind === 'labelled';
  const gates = (spec.schedulingGates ?? []).map(gate => gate.name);
  const awaitsBerth = spec.nodeName === undefined && gates.includes(berth.placementGate);
  // Berth pins and lifts its gate at once: a pin behind the gate is the user's wish, and holds no room yet.
  const pinned = spec.nodeName === undefined && !awaitsBerth ? pinnedNodes(spec) : undefined;
  const scheduled = status?.conditions?.find(c => c.type === 'PodScheduled');
  const placed = status?.conditions?.find(c => c.type === berth.placedCondition);
  const disrupted = status?.conditions?.find(c => c.type === 'DisruptionTarget' && c.status === 'True');
  const claims = terminal ? noClaimRefs : claimRefsOf(spec);
  const takesDevices = claims.length > 0 || takesAccelerator(requests);
  const foreignOwner = foreignOwnerOf(pod);
  const isSingle = membership === undefined && takesDevices && foreignOwner === undefined;
  const schedulingOf = (): PodSpec | undefined => {
    if (leads || labelled || awaitsBerth) return trimSpec(spec, takesAccelerator(requests));
    return isSingle ? share.spec(trimSpec(spec, takesAccelerator(requests))) : undefined;
  };
  const planText = leads ? metadata.annotations?.[berth.plan] : undefined;
  return {
    uid: metadata.uid ?? '',
    namespace,
    name: metadata.name ?? '',
    createdAtMs: Date.parse(metadata.creationTimestamp ?? '') || 0,
    labels,
    controller,
    controllerUid: controller?.uid ?? '',
    hostname: spec.hostname,
    subdomain: spec.subdomain,
    nodeName: spec.nodeName,
    pinnedTo: pinned?.length === 1 ? pinned[0] : undefined,
    gates,
    priority: spec.priority ?? 0,
    terminating: metadata.deletionTimestamp !== undefined,
    ...(metadata.deletionTimestamp !== undefined && {
      goneByMs: Date.parse(metadata.deletionTimestamp) || 0,
    }),
    terminal,
    ...(status?.phase === 'Failed' && status.reason === 'UnexpectedAdmissionError' && { refused: true }),
    ...(status?.phase === 'Running' && { running: true }),
    ...(spec.hostNetwork === true && { hostNetwork: true }),
    ready: status?.conditions?.some(c => c.type === 'Ready' && c.status === 'True') ?? false,
    ...(isServiceGated(spec) && {
      inService: status?.conditions?.find(c => c.type === berth.inService)?.status ?? '',
    }),
    ...(isWithheld(pod) && { withheld: true }),
    unschedulableMessage:
      spec.nodeName === undefined && scheduled?.status === 'False' && scheduled.reason === 'Unschedulable'
        ? (scheduled.message ?? '')
        : undefined,
    placedCondition:
      placed === undefined
        ? undefined
        : { status: placed.status, reason: placed.reason ?? '', message: placed.message ?? '' },
    unhealthyDevices: unhealthyDevicesOf(status),
    tolerations:
      member === undefined && !takesDevices
        ? noTolerations
        : share.tolerations((spec.tolerations ?? []).filter(mayTolerateNoExecute)),
    disruptionReason: disrupted === undefined ? undefined : (disrupted.reason ?? ''),
    requests,
    hostPorts: terminal ? [] : hostPortsOf(spec),
    takesAccelerator: takesDevices,
    claims,
    affinity: compileAffinity({ namespace, labels, spec }),
    membership,
    foreignOwner,
    annotations: keptAnnotations(metadata.annotations),
    hasAnnotations: metadata.annotations !== undefined,
    scheduling: schedulingOf(),
    plan: planText === undefined ? undefined : parsePlanAnnotation(planText),
  };
}

export function takesAccelerator(requests: Resources): boolean {
  for (const [name, amount] of requests) {
    if (amount > 0 && isAcceleratorResource(name)) return true;
  }
  return false;
}

function isServiceGated({ readinessGates = [] }: PodSpec): boolean {
  return readinessGates.some(({ conditionType }) => conditionType === berth.inService);
}

/** The kubelet calls a pod Ready when its containers are and the conditions behind all its gates are True. */
function isWithheld({ spec: { readinessGates = [] }, status }: Pod): boolean {
  const isTrue = (type: string) =>
    status?.conditions?.some(c => c.type === type && c.status === 'True') ?? false;
  const unmet = readinessGates.filter(({ conditionType }) => !isTrue(conditionType));
  return (
    unmet.length > 0 &&
    unmet.every(({ conditionType }) => conditionType === berth.inService) &&
    isTrue('ContainersReady')
  );
}

function mayTolerateNoExecute({ effect = '' }: Toleration): boolean {
  return effect === '' || effect === 'NoExecute';
}

function unhealthyDevicesOf(status: Pod['status']): readonly UnhealthyDevice[] {
  const found: UnhealthyDevice[] = [];
  for (const container of [...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? [])]) {
    for (const { name, resources = [] } of container.allocatedResourcesStatus ?? []) {
      for (const { resourceID, health, message = '' } of resources)
        if (health === 'Unhealthy') found.push({ resource: name, resourceID, message });
    }
  }
  return found.length === 0 ? noDevices : found;
}

/** True for a pod that waits for nothing but Berth (others' gates may be there too). */
export function isGated(pod: PodInfo): boolean {
  return pod.gates.includes(berth.placementGate);
}

/** The plan a leader carries, when it can be believed: readable, and written for this very incarnation and size. */
export function believedPlan(leader: PodInfo): PlanAnnotation | undefined {
  const { plan, membership } = leader;
  if (plan === undefined || 'code' in plan || plan.leaderUid !== leader.uid) return undefined;
  if (membership === undefined || isMembershipError(membership)) return undefined;
  return plan.nodes.length === membership.size ? plan : undefined;
}

/** Names who else owns a pod's place: its node, another scheduler, or a queue system that places pods itself. */
function foreignOwnerOf(pod: Pod): string | undefined {
  const { metadata, spec } = pod;
  if (spec.schedulerName !== undefined && spec.schedulerName !== k8s.defaultScheduler)
    return spec.schedulerName;
  const owner = metadata.ownerReferences?.find(({ kind }) => kind === 'DaemonSet' || kind === 'Node');
  if (owner !== undefined) return owner.kind;
  if (metadata.annotations?.[k8s.mirrorPod] !== undefined) return k8s.mirrorPod;
  const gate = spec.schedulingGates?.find(g => foreignTopologyGates.includes(g.name));
  if (gate !== undefined) return gate.name;
  const label = foreignTopologyLabels.find(key => metadata.labels?.[key] !== undefined);
  if (label !== undefined) return label;
  return foreignTopologyAnnotations.find(key => metadata.annotations?.[key] !== undefined);
}

const keptAnnotationKeys: readonly string[] = [
  berth.mode,
  berth.failure,
  berth.requiredTopology,
  berth.preferredTopology,
  berth.sliceTopology,
  berth.sliceSize,
  berth.exclusiveTopology,
  berth.spreadTopology,
  berth.spreadPolicy,
  berth.sameDomainAs,
  berth.minAlignment,
  lws.size,
  lws.exclusiveTopology,
  lws.subgroupSize,
  lws.subgroupPolicyType,
  lws.subgroupExclusiveTopology,
  lws.leaderName,
  ...Object.values(kueue),
];

const noAnnotations: Readonly<Record<string, string>> = {};

function keptAnnotations(
  annotations: Readonly<Record<string, string>> | undefined,
): Readonly<Record<string, string>> {
  if (annotations === undefined) return noAnnotations;
  const kept = keptAnnotationKeys.flatMap(key =>
    annotations[key] === undefined ? [] : [[key, annotations[key]] as const],
  );
  return kept.length === 0 ? noAnnotations : Object.fromEntries(kept);
}

/** The parts of a spec that decide where a pod may go, and those the pinning PATCH builds on. */
function trimSpec(spec: PodSpec, takesDevices: boolean): PodSpec {
  const { nodeSelector, affinity, tolerations, topologySpreadConstraints } = spec;
  const { schedulingGates, hostNetwork, preemptionPolicy } = spec;
  return {
    // Where a node has the devices by DRA, it matters which container asks for how many.
    containers: takesDevices ? spec.containers.map(trimContainer) : [],
    ...(takesDevices && spec.initContainers && { initContainers: spec.initContainers.map(trimContainer) }),
    ...(nodeSelector && { nodeSelector }),
    ...(affinity && { affinity }),
    ...(tolerations && { tolerations }),
    ...(topologySpreadConstraints && { topologySpreadConstraints }),
    ...(schedulingGates && { schedulingGates }),
    ...(hostNetwork && { hostNetwork }),
    ...(preemptionPolicy === 'Never' && { preemptionPolicy }),
  };
}

function trimContainer({ name, restartPolicy, resources = {} }: Container): Container {
  const requests = { ...resources.limits, ...resources.requests };
  return { name, ...(restartPolicy && { restartPolicy }), resources: { requests } };
}
