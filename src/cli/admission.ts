import type {
  Container,
  Node,
  Pod,
  PodSpec,
  ResourceList,
  ResourceRequirements,
  Toleration,
} from '../api/kubernetes.ts';
import { berth, k8s } from '../api/names.ts';
import type { PriorityClass } from './cluster-objects.ts';

/**
 * What the API server and its admission plugins make of objects that never went through them. All rules are those of
 * k8s.io/kubernetes: pkg/apis/core/v1/defaults.go, pkg/api/pod, plugin/pkg/admission/{priority,defaulttolerationseconds}.
 */

/** What a pod of a manifest would be given at its creation. */
export interface Admission {
  readonly namespace: string;
  readonly uid: string;
  readonly createdAtMs: number;
  readonly priorityClasses: readonly PriorityClass[];
}

/** The pod as it would wait for Berth: with Berth's gate, as the webhook sets it. */
export function admitPod(pod: Pod, admission: Admission): Pod {
  const { spec, metadata } = pod;
  const gates = spec.schedulingGates ?? [];
  const priority = spec.priority ?? priorityOf(spec, admission.priorityClasses);
  return withDefaultRequests({
    ...pod,
    metadata: {
      ...metadata,
      namespace: metadata.namespace ?? admission.namespace,
      uid: metadata.uid ?? admission.uid,
      creationTimestamp: metadata.creationTimestamp ?? new Date(admission.createdAtMs).toISOString(),
    },
    spec: {
      ...spec,
      priority,
      schedulerName: spec.schedulerName ?? k8s.defaultScheduler,
      tolerations: withNodeTolerations(spec.tolerations ?? []),
      schedulingGates: gates.some(({ name }) => name === berth.placementGate)
        ? gates
        : [...gates, { name: berth.placementGate }],
    },
  });
}

/** Limits stand in for absent requests. The same pod when there is nothing to add. */
export function withDefaultRequests(pod: Pod): Pod {
  const { spec } = pod;
  const lacks = ({ resources }: { readonly resources?: ResourceRequirements }) =>
    Object.keys(resources?.limits ?? {}).some(name => resources?.requests?.[name] === undefined);
  const all = [...spec.containers, ...(spec.initContainers ?? [])];
  if (!lacks(spec) && !all.some(lacks)) return pod;
  const containers = spec.containers.map(withRequests);
  const initContainers = spec.initContainers?.map(withRequests);
  const asked = new Set(containers.flatMap(({ resources }) => Object.keys(resources?.requests ?? {})));
  const podLimits = Object.entries(spec.resources?.limits ?? {}).filter(([name]) => !asked.has(name));
  const requests: ResourceList = { ...Object.fromEntries(podLimits), ...spec.resources?.requests };
  return {
    ...pod,
    spec: {
      ...spec,
      containers,
      ...(initContainers && { initContainers }),
      ...(spec.resources && { resources: { ...spec.resources, requests } }),
    },
  };
}

/**
 * A node as its kubelet would report it: files written by hand leave out what every kubelet says. Only what is absent
 * is filled in, and a Ready condition that says otherwise stands.
 */
export function completeNode(node: Node): Node {
  const { metadata, status = {} } = node;
  const reported = status.allocatable ?? capacityOf(status);
  return {
    ...node,
    metadata: { ...metadata, labels: { [k8s.hostname]: metadata.name ?? '', ...metadata.labels } },
    status: {
      allocatable: { pods: '110', ...reported },
      conditions: status.conditions ?? [{ type: 'Ready', status: 'True' }],
    },
  };
}

/** A number that the class table does not know is 0, with the class named in the notes. */
export function unknownPriorityClass(spec: PodSpec, classes: readonly PriorityClass[]): string | undefined {
  const wanted = spec.priorityClassName;
  if (wanted === undefined || wanted === '' || spec.priority !== undefined) return undefined;
  const known = systemClasses.has(wanted) || classes.some(({ metadata }) => metadata.name === wanted);
  return known ? undefined : wanted;
}

const systemClasses: ReadonlyMap<string, number> = new Map([
  ['system-cluster-critical', 2_000_000_000],
  ['system-node-critical', 2_000_001_000],
]);

function priorityOf({ priorityClassName }: PodSpec, classes: readonly PriorityClass[]): number {
  if (priorityClassName === undefined || priorityClassName === '')
    return classes.find(({ globalDefault }) => globalDefault === true)?.value ?? 0;
  const named = classes.find(({ metadata }) => metadata.name === priorityClassName);
  return named?.value ?? systemClasses.get(priorityClassName) ?? 0;
}

function withNodeTolerations(tolerations: readonly Toleration[]): readonly Toleration[] {
  const missing = ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'].filter(
    taint =>
      !tolerations.some(
        ({ key = '', effect = '' }) =>
          (key === taint || key === '') && (effect === '' || effect === 'NoExecute'),
      ),
  );
  return [
    ...tolerations,
    ...missing.map(key => ({ key, operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 300 })),
  ];
}

function withRequests(container: Container): Container {
  const { resources } = container;
  if (resources?.limits === undefined) return container;
  return {
    ...container,
    resources: { ...resources, requests: { ...resources.limits, ...resources.requests } },
  };
}

function capacityOf(status: object): ResourceList {
  return 'capacity' in status && typeof status.capacity === 'object' ? { ...status.capacity } : {};
}
