/**
 * Every label, annotation, gate, condition and finalizer key that Berth reads or writes, each with who writes it.
 * Nothing else in the tree spells such a key as a literal.
 */

/** Domain of Berth's own keys. */
export const berthDomain = 'berth.dev/';

/** Keys of Berth itself, prefix `berth.dev/`. */
export const berth = {
  /** Namespace label, or annotation on a pod template. User. `observe`, `pin`, `pin-extender`, `extender`. */
  mode: 'berth.dev/mode',
  /**
   * Namespace label, or annotation on a LeaderWorkerSet, pod template or Node. User. `off`, `observe`, `cordon`, `evict`:
   * how far Berth goes when a device fails, on a Node one of its own; never further than the configuration allows.
   */
  failure: 'berth.dev/failure',
  /** Namespace label. User. What happens to single pods with accelerators: `leave` (default) or `pin`. */
  singles: 'berth.dev/singles',

  /** Owner or pod template annotation. User. Level (or its node label) that must hold the whole group. */
  requiredTopology: 'berth.dev/required-topology',
  /** Owner or pod template annotation. User. Level that should hold the whole group. */
  preferredTopology: 'berth.dev/preferred-topology',
  /** Owner or pod template annotation. User. Level that must hold each slice of the group, see src/group/slices.ts. */
  sliceTopology: 'berth.dev/slice-topology',
  /** Owner or pod template annotation. User. Members of a slice, where LWS has no subGroupPolicy to say it. */
  sliceSize: 'berth.dev/slice-size',
  /** Owner or pod template annotation. User. Level whose domains the group has to itself. */
  exclusiveTopology: 'berth.dev/exclusive-topology',
  /** Owner or pod template annotation. User. Level over which the groups of one LeaderWorkerSet are spread. */
  spreadTopology: 'berth.dev/spread-topology',
  /** Owner or pod template annotation. User. `ScheduleAnyway` (default) or `DoNotSchedule`. */
  spreadPolicy: 'berth.dev/spread-policy',
  /** Owner or pod template annotation. User. `[level:][namespace/]owner`: in a domain where that owner's groups stand. */
  sameDomainAs: 'berth.dev/same-domain-as',

  /** Owner or pod template annotation. User. `pcie` or `numa`: how close the devices of each member must stand. */
  minAlignment: 'berth.dev/min-alignment',

  /** Pod label, groups without LWS. User. Name of the group inside its namespace. */
  group: 'berth.dev/group',
  /** Pod label, groups without LWS. User. Number of members. */
  groupSize: 'berth.dev/group-size',
  /** Pod label, groups without LWS. User. 0..size-1, rank 0 leads; the pod index stands in when it is absent. */
  groupRank: 'berth.dev/group-rank',

  /** Pod annotation. User. OCI reference of model weights, mounted as an image volume. */
  model: 'berth.dev/model',
  /** Pod annotation. User. Absolute path, default `/models`. */
  modelMountPath: 'berth.dev/model-mount-path',
  /** Pod annotation. User. `Always`, `IfNotPresent` (default) or `Never`. */
  modelPullPolicy: 'berth.dev/model-pull-policy',
  /** Pod annotation. User. Comma-separated container names; default: the containers that ask for accelerators. */
  modelContainers: 'berth.dev/model-containers',

  /** Pod annotation. User. Port of MASTER_PORT, default 29500. */
  masterPort: 'berth.dev/master-port',
  /** Pod annotation. User. `false` keeps Berth from injecting addresses and ranks into the pod. */
  injectEnv: 'berth.dev/inject-env',
  /** Pod annotation, groups without LWS. User. Address of rank 0 where it cannot be derived. */
  leaderAddress: 'berth.dev/leader-address',

  /**
   * Namespace label, or annotation on a ResourceClaim (by its template's metadata). User. `false` keeps Berth from steering
   * claims to planned devices.
   */
  steerClaims: 'berth.dev/steer-claims',

  /** Annotation on a group's leader. Berth. Versioned JSON, see src/group/plan-annotation.ts. */
  plan: 'berth.dev/plan',
  /** Pod annotation. Berth. The alignment planned for the pod's devices: `pcie`, `numa` or `host`. */
  alignment: 'berth.dev/alignment',
  /** Scheduling gate. Berth. Set at CREATE, removed by the PATCH that pins. */
  placementGate: 'berth.dev/placement',
  /** Condition type on a group's leader. Berth. True with the reason while a failure hurts the group and it is not remade. */
  failureCondition: 'berth.dev/Failed',
  /**
   * Readiness gate in a pod template, by which it asks to be taken out of traffic before an eviction. User. The condition
   * of that name: False while its group drains, else True. Berth.
   */
  inService: 'berth.dev/InService',
  /**
   * Annotation of a DeviceTaintRule or ResourceSlice. User. Any value: it is meant to hit as many groups as it does, and
   * Berth may act on it.
   */
  confirmed: 'berth.dev/confirmed',
  /**
   * Taint of a device that Berth keeps off new claims, and label on the DeviceTaintRule that says so. Berth. The label is
   * `fault`, or `quarantine` for a device that went bad again and again.
   */
  excluded: 'berth.dev/excluded',
  /** Annotation on such a DeviceTaintRule. Berth. Versioned JSON, see src/kube/exclusion-store.ts. */
  exclusion: 'berth.dev/exclusion',
  /**
   * Annotation of Berth's DeviceTaintRule, any value, or of a ResourceSlice, names of devices with commas. User. These
   * devices are well: they come back without probation.
   */
  release: 'berth.dev/release',
  /** Annotation on the ConfigMap of Berth's configuration. User. Any value: nothing new is evicted. */
  halt: 'berth.dev/halt',
  /** Label on the ConfigMap of an intent to evict a group. Berth. `open` or `closed`. */
  intent: 'berth.dev/intent',
  /** Label on the ConfigMap of a preemption. Berth. `open` or `closed`. */
  preemption: 'berth.dev/preemption',
  /** Label on the ConfigMap that keeps a tripped breaker tripped. Berth. The breaker's name. */
  breaker: 'berth.dev/breaker',
  /** Condition type on a group's leader. Berth. False with the reason and sentence while the group waits. */
  placedCondition: 'berth.dev/Placed',
} as const;

/** Annotations that only Berth may write: dropped at CREATE, guarded afterwards by the policy in deploy/. */
export const ownedAnnotations: readonly string[] = [berth.plan, berth.alignment];

/** Keys of LeaderWorkerSet, prefix `leaderworkerset.sigs.k8s.io/`. LWS writes them unless said otherwise. */
export const lws = {
  apiVersion: 'leaderworkerset.x-k8s.io/v1',
  kind: 'LeaderWorkerSet',
  /** Pod label: name of the LeaderWorkerSet. */
  name: 'leaderworkerset.sigs.k8s.io/name',
  /** Pod label: `0` on the leader, else the worker's ordinal. */
  workerIndex: 'leaderworkerset.sigs.k8s.io/worker-index',
  /** Pod label. An ordinal now, a random key with `groupIdentity: Hash` (LWS KEP-898): never parsed. */
  groupIndex: 'leaderworkerset.sigs.k8s.io/group-index',
  /** Pod label. The same value over recreations of a group: no incarnation can be told by it. */
  groupKey: 'leaderworkerset.sigs.k8s.io/group-key',
  /** Pod label. Hash of the leaderWorkerTemplate. */
  templateRevisionHash: 'leaderworkerset.sigs.k8s.io/template-revision-hash',
  /** Pod annotation: group size, on every pod. */
  size: 'leaderworkerset.sigs.k8s.io/size',
  /** Pod annotation, workers only: name of the leader pod, which is also the worker StatefulSet's name. */
  leaderName: 'leaderworkerset.sigs.k8s.io/leader-name',
  /** Annotation, user on the LWS, LWS on pods: node label that one group must have to itself. */
  exclusiveTopology: 'leaderworkerset.sigs.k8s.io/exclusive-topology',
  /** Pod label, with a subGroupPolicy. The same on all pods of one subgroup; none on a leader that is in no subgroup. */
  subgroupKey: 'leaderworkerset.sigs.k8s.io/subgroup-key',
  /** Pod annotation, with a subGroupPolicy. Its subGroupSize. */
  subgroupSize: 'leaderworkerset.sigs.k8s.io/subgroup-size',
  /** Pod annotation, with a subGroupPolicy; on leaders only before v0.10. `LeaderWorker` or `LeaderExcluded`. */
  subgroupPolicyType: 'leaderworkerset.sigs.k8s.io/subgroup-policy-type',
  /** Annotation, user on the LWS, LWS on pods: node label that one subgroup must have to itself. */
  subgroupExclusiveTopology: 'leaderworkerset.sigs.k8s.io/subgroup-exclusive-topology',
  envLeaderAddress: 'LWS_LEADER_ADDRESS',
  envGroupSize: 'LWS_GROUP_SIZE',
  envWorkerIndex: 'LWS_WORKER_INDEX',
} as const;

/** Kueue's own words for topology requests; they hold node label keys. Read only where Kueue does not own the pod. */
export const kueue = {
  requiredTopology: 'kueue.x-k8s.io/podset-required-topology',
  preferredTopology: 'kueue.x-k8s.io/podset-preferred-topology',
  sliceTopology: 'kueue.x-k8s.io/podset-slice-required-topology',
  sliceSize: 'kueue.x-k8s.io/podset-slice-size',
} as const;

/** Keys of NVIDIA's DRA driver. */
export const nvidia = {
  /** Of ComputeDomains. */
  apiVersion: 'resource.nvidia.com/v1beta1',
  /** Node label: UID of the ComputeDomain that the node belongs to. A node belongs to one at a time. */
  computeDomain: 'resource.nvidia.com/computeDomain',
  /** Node label: `<cluster UUID>.<clique>`, the NVLink domain as GPU Feature Discovery tells it. */
  clique: 'nvidia.com/gpu.clique',
  /** The DRA driver whose devices are IMEX channels. */
  computeDomainDriver: 'compute-domain.nvidia.com',
} as const;

/** Keys of Kubernetes itself. */
export const k8s = {
  hostname: 'kubernetes.io/hostname',
  zone: 'topology.kubernetes.io/zone',
  namespaceName: 'kubernetes.io/metadata.name',
  podIndex: 'apps.kubernetes.io/pod-index',
  jobCompletionIndex: 'batch.kubernetes.io/job-completion-index',
  mirrorPod: 'kubernetes.io/config.mirror',
  /** Annotation on a ResourceClaim made from a template. kube-controller-manager. What the pod calls the claim. */
  podClaimName: 'resource.kubernetes.io/pod-claim-name',
  /** Annotation on a ResourceClaim. kube-scheduler. `true` on the claim it makes for a pod's extended resources. */
  extendedResourceClaim: 'resource.kubernetes.io/extended-resource-claim',
  /** Prefix of the resource name by which any DeviceClass may be asked for; the name of the class follows. */
  deviceClassResourcePrefix: 'deviceclass.resource.kubernetes.io/',
  defaultScheduler: 'default-scheduler',
  /** Label on an EndpointSlice: its Service. kube-controller-manager. */
  serviceName: 'kubernetes.io/service-name',
  /** Label on an EndpointSlice of a Service without an address of its own. kube-controller-manager. */
  headlessService: 'service.kubernetes.io/headless',
} as const;

/** Scheduling gates of others who own a pod's topology: such pods Berth counts but never touches. */
export const foreignTopologyGates: readonly string[] = [
  'kueue.x-k8s.io/admission',
  'kueue.x-k8s.io/topology',
  'grove.io/podgang-pending-creation',
];

/** Labels of others who own a pod's topology. */
export const foreignTopologyLabels: readonly string[] = [
  'kueue.x-k8s.io/queue-name',
  'kueue.x-k8s.io/managed',
  'kai.scheduler/queue',
  'grove.io/podgang',
];

/** Annotations of others who own a pod's topology. */
export const foreignTopologyAnnotations: readonly string[] = ['scheduling.k8s.io/group-name'];
