import type { Affinity, PodSpec, PodTemplateSpec, Toleration } from '../api/kubernetes.ts';
import { k8s, lws } from '../api/names.ts';
import { claimRefsOf, type DeviceDemand, type PodClaimRef } from '../cluster/devices/claims.ts';
import type { HostPort } from '../cluster/host-ports.ts';
import { hostPortsOf } from '../cluster/host-ports.ts';
import { labelValue } from '../cluster/labels.ts';
import { withPodSlot } from '../cluster/node-info.ts';
import { compileAffinity, compileTemplateAffinity, type PodAffinity } from '../cluster/pod-affinity.ts';
import { templateRequests } from '../cluster/pod-requests.ts';
import { isAcceleratorResource, keyOf, maxResources, type Resources } from '../cluster/resources.ts';
import { compileSpread, type SpreadConstraint } from '../cluster/topology-spread.ts';
import { isGated, type PodInfo } from './pod-info.ts';

const required = 'requiredDuringSchedulingIgnoredDuringExecution';

/** What one member asks of a node. Two demands with the same key are interchangeable. */
export interface MemberDemand {
  readonly key: string;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  /** As kube-scheduler counts them, with one `pods`. */
  readonly requests: Resources;
  /** Selector, affinity and tolerations. */
  readonly spec: PodSpec;
  readonly hostPorts: readonly HostPort[];
  readonly affinity: PodAffinity | undefined;
  /** Hard topology spread constraints. */
  readonly spread: readonly SpreadConstraint[];
  /** Claims as the pod names them. */
  readonly claims: readonly PodClaimRef[];
  /** What these come to once the objects behind them are known; undefined for a member without claims. */
  readonly devices: DeviceDemand | undefined;
}

/** The demand of a pod that exists and is not bound. */
export function demandOfPod(pod: PodInfo): MemberDemand {
  const spec: PodSpec = pod.scheduling ?? { containers: [] };
  return withKey({
    namespace: pod.namespace,
    labels: pod.labels,
    requests: pod.requests,
    spec,
    hostPorts: pod.hostPorts,
    affinity: pod.affinity,
    spread: compileSpread({ labels: pod.labels, spec }),
    claims: pod.claims,
    devices: undefined,
  });
}

/**
 * The demand of a missing member of a group without templates: like that of a member that exists, less the pin that
 * Berth has put on that one.
 */
export function demandAlike(pod: PodInfo): MemberDemand {
  const demand = demandOfPod(pod);
  if (isGated(pod)) return demand;
  const { key: _key, ...rest } = demand;
  return withKey({ ...rest, spec: unpinned(demand.spec) });
}

/** The same demand for other amounts. */
export function demandWithRequests(demand: MemberDemand, requests: Resources): MemberDemand {
  const { key: _key, ...rest } = demand;
  return withKey({ ...rest, requests });
}

/** The same demand with its claims resolved. */
export function demandWithDevices(demand: MemberDemand, devices: DeviceDemand | undefined): MemberDemand {
  const { key: _key, ...rest } = demand;
  return withKey({ ...rest, devices });
}

/** The same demand with other affinity, for a pod whose terms the API server has completed. */
export function demandWithAffinity(demand: MemberDemand, affinity: Affinity): MemberDemand {
  const { key: _key, ...rest } = demand;
  const { namespace, labels } = demand;
  const spec = { ...demand.spec, affinity };
  return withKey({ ...rest, spec, affinity: compileAffinity({ namespace, labels, spec }) });
}

/**
 * The demand of a member that does not exist yet.
 *
 * A template tells less than the pod made from it: sidecar injectors and LimitRanges enlarge pods at admission. So the
 * largest pod seen for the same template counts, and where none was seen yet, what admission added to the leader is
 * taken to be added to the workers too. So are tolerations and node selectors, which come from RuntimeClasses and from
 * the ExtendedResourceToleration and PodNodeSelector plugins.
 */
export function demandOfTemplate(options: {
  readonly namespace: string;
  readonly template: PodTemplateSpec;
  /** Labels the owner's controller will add. */
  readonly labels: Readonly<Record<string, string>>;
  readonly seen: Resources | undefined;
  readonly addedAtAdmission: Resources | undefined;
  readonly selectionAdded?: SelectionAdded | undefined;
}): MemberDemand {
  const { namespace, template, selectionAdded } = options;
  const labels = { ...template.metadata?.labels, ...options.labels };
  const nodeSelector = { ...template.spec.nodeSelector, ...selectionAdded?.nodeSelector };
  const tolerations = [...(template.spec.tolerations ?? []), ...(selectionAdded?.tolerations ?? [])];
  const spec = { ...template.spec, nodeSelector, tolerations: withDefaultTolerations(tolerations) };
  let requests = withPodSlot(templateRequests(spec));
  if (options.seen !== undefined) requests = maxResources(requests, options.seen);
  else if (options.addedAtAdmission !== undefined) requests = addWhatGrew(requests, options.addedAtAdmission);
  return withKey({
    namespace,
    labels,
    requests,
    spec,
    hostPorts: hostPortsOf(spec),
    affinity: compileTemplateAffinity({ namespace, labels, spec }),
    spread: compileSpread({ labels, spec }),
    claims: claimRefsOf(spec),
    devices: undefined,
  });
}

/** What a live pod asks for beyond its template: never negative, and no accelerator, which injectors do not add. */
export function addedAtAdmission(live: Resources, template: PodSpec): Resources {
  const planned = withPodSlot(templateRequests(template));
  const added = new Map<string, number>();
  for (const [name, amount] of live) {
    const more = amount - (planned.get(name) ?? 0);
    if (more > 0 && !name.includes('/')) added.set(name, more);
  }
  return added;
}

/** What admission has put into a pod that decides which nodes take it. */
export interface SelectionAdded {
  readonly nodeSelector: Readonly<Record<string, string>>;
  readonly tolerations: readonly Toleration[];
}

/** What a live pod tolerates and selects beyond its template. */
export function selectionAddedAtAdmission(live: PodSpec, template: PodSpec): SelectionAdded {
  const known = new Set((template.tolerations ?? []).map(tolerationKey));
  const selected = Object.entries(live.nodeSelector ?? {});
  return {
    nodeSelector: Object.fromEntries(
      selected.filter(([key]) => labelValue(template.nodeSelector ?? {}, key) === undefined),
    ),
    tolerations: (live.tolerations ?? []).filter(toleration => !known.has(tolerationKey(toleration))),
  };
}

/** All that inter-pod terms can see or say of a member: two with the same key are alike to them. */
export function interPodKeyOf(demand: MemberDemand): string {
  return JSON.stringify([demand.key, demand.namespace, steadyLabels(demand.labels)]);
}

function addWhatGrew(requests: Resources, added: Resources): Resources {
  const sum = new Map(requests);
  for (const [name, amount] of added) sum.set(name, (sum.get(name) ?? 0) + amount);
  return sum;
}

const afflictions = ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'] as const;

/**
 * The API server's DefaultTolerationSeconds plugin gives these to every pod (plugin/pkg/admission/
 * defaulttolerationseconds), so that a member that exists and one that does not yet ask for the same.
 */
function withDefaultTolerations(tolerations: readonly Toleration[]): readonly Toleration[] {
  const missing = afflictions.filter(
    affliction =>
      !tolerations.some(
        ({ key = '', effect = '' }) =>
          (key === affliction || key === '') && (effect === 'NoExecute' || effect === ''),
      ),
  );
  return [
    ...tolerations,
    ...missing.map(key => ({ key, operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 300 })),
  ];
}

/** How long a taint is tolerated does not matter for where a pod may go. */
function tolerationKey({ key = '', operator = '', value = '', effect = '' }: Toleration): string {
  return JSON.stringify([key, operator === '' ? 'Equal' : operator, value, effect]);
}

/** Takes away what pinned the pod: the `metadata.name` requirements, and a term that was made of nothing else. */
function unpinned(spec: PodSpec): PodSpec {
  const { affinity, ...rest } = spec;
  const terms = affinity?.nodeAffinity?.[required]?.nodeSelectorTerms;
  if (terms === undefined) return spec;
  const kept = terms.flatMap(({ matchFields = [], matchExpressions = [] }) => {
    const fields = matchFields.filter(({ key, operator }) => key !== 'metadata.name' || operator !== 'In');
    return fields.length + matchExpressions.length === 0 ? [] : [{ matchFields: fields, matchExpressions }];
  });
  const { nodeAffinity: _pinned, ...others } = affinity ?? {};
  return {
    ...rest,
    affinity: {
      ...others,
      ...(kept.length > 0 && { nodeAffinity: { [required]: { nodeSelectorTerms: kept } } }),
    },
  };
}

/** Labels that differ from pod to pod of one StatefulSet; no sane inter-pod term selects by them. */
const ordinalLabels: readonly string[] = [
  lws.workerIndex,
  k8s.podIndex,
  'statefulset.kubernetes.io/pod-name',
];

/** Labels count only where terms or spreading look at them; without these they would split equal members. */
function withKey(demand: Omit<MemberDemand, 'key'>): MemberDemand {
  const { requests, spec, hostPorts, affinity, spread, claims, devices } = demand;
  const { nodeSelector, affinity: specAffinity, tolerations } = spec;
  const key = JSON.stringify([
    keyOf(requests),
    sortedEntries(nodeSelector),
    specAffinity?.nodeAffinity?.[required] ?? null,
    specAffinity?.podAffinity?.[required] ?? null,
    specAffinity?.podAntiAffinity?.[required] ?? null,
    [...new Set((tolerations ?? []).map(tolerationKey))].sort(),
    hostPorts,
    spread,
    affinity === undefined && spread.length === 0 ? '' : steadyLabels(demand.labels),
    ...splitOf(requests, spec),
    ...(claims.length === 0 && devices === undefined ? [] : [claims, devices]),
  ]);
  return { key, ...demand };
}

/**
 * Which containers ask for how many devices, where more than one does: nodes that have them by DRA do not add them up as
 * device plugins do.
 */
function splitOf(requests: Resources, spec: PodSpec): readonly unknown[] {
  const names = [...requests.keys()].filter(isAcceleratorResource).sort();
  if (names.length === 0) return [];
  const split = [...(spec.initContainers ?? []), ...spec.containers].flatMap(
    ({ restartPolicy, resources }) => {
      const amounts = { ...resources?.limits, ...resources?.requests };
      const wanted = names.flatMap(name =>
        amounts[name] === undefined ? [] : [[name, String(amounts[name])]],
      );
      return wanted.length === 0 ? [] : [[restartPolicy ?? '', wanted]];
    },
  );
  return split.length > 1 ? [split] : [];
}

function steadyLabels(labels: Readonly<Record<string, string>>): readonly (readonly [string, string])[] {
  return sortedEntries(labels).filter(([name]) => !ordinalLabels.includes(name));
}

function sortedEntries(
  record: Readonly<Record<string, string>> | undefined,
): readonly (readonly [string, string])[] {
  return Object.entries(record ?? {}).sort();
}
