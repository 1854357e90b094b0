import type { PodSpec, PodTemplateSpec } from '../api/kubernetes.ts';
import { k8s, lws } from '../api/names.ts';
import type { HostPort } from '../cluster/host-ports.ts';
import { hostPortsOf } from '../cluster/host-ports.ts';
import { withPodSlot } from '../cluster/node-info.ts';
import { compileTemplateAffinity, type PodAffinity } from '../cluster/pod-affinity.ts';
import { templateRequests } from '../cluster/pod-requests.ts';
import { keyOf, maxResources, type Resources } from '../cluster/resources.ts';
import type { PodInfo } from './pod-info.ts';

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
  });
}

/**
 * The demand of a member that does not exist yet.
 *
 * A template tells less than the pod made from it: sidecar injectors and LimitRanges enlarge pods at admission. So the
 * largest pod seen for the same template counts, and where none was seen yet, what admission added to the leader is
 * taken to be added to the workers too.
 */
export function demandOfTemplate(options: {
  readonly namespace: string;
  readonly template: PodTemplateSpec;
  /** Labels the owner's controller will add. */
  readonly labels: Readonly<Record<string, string>>;
  readonly seen: Resources | undefined;
  readonly addedAtAdmission: Resources | undefined;
}): MemberDemand {
  const { namespace, template } = options;
  const labels = { ...template.metadata?.labels, ...options.labels };
  const spec = template.spec;
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

function addWhatGrew(requests: Resources, added: Resources): Resources {
  const sum = new Map(requests);
  for (const [name, amount] of added) sum.set(name, (sum.get(name) ?? 0) + amount);
  return sum;
}

/** Labels that differ from pod to pod of one StatefulSet; no sane inter-pod term selects by them. */
const ordinalLabels: readonly string[] = [
  lws.workerIndex,
  k8s.podIndex,
  'statefulset.kubernetes.io/pod-name',
];

/** Labels count only where inter-pod terms look at them; without such terms they would split equal members. */
function withKey(demand: Omit<MemberDemand, 'key'>): MemberDemand {
  const { requests, spec, hostPorts, affinity } = demand;
  const { nodeSelector, affinity: specAffinity, tolerations } = spec;
  const labels =
    affinity === undefined
      ? ''
      : sortedEntries(demand.labels).filter(([name]) => !ordinalLabels.includes(name));
  const key = JSON.stringify([
    keyOf(requests),
    sortedEntries(nodeSelector),
    specAffinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? null,
    specAffinity?.podAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? null,
    specAffinity?.podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? null,
    tolerations ?? null,
    hostPorts,
    labels,
  ]);
  return { key, ...demand };
}

function sortedEntries(
  record: Readonly<Record<string, string>> | undefined,
): readonly (readonly [string, string])[] {
  return Object.entries(record ?? {}).sort();
}
