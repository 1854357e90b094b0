import type {
  Container,
  LeaderWorkerSet,
  Pod,
  PodAffinityTerm,
  PodSpec,
} from '../../../src/api/kubernetes.ts';
import { requiredDuringScheduling } from '../../builders/pods.ts';
import type { Blindness, Fleet } from './parity.ts';

/**
 * Worlds in which Berth does not see one thing, as if it lacked the rule about it: the oracle must notice each. What
 * kube-scheduler is asked about stays whole.
 */
export const blindnesses: Readonly<Record<string, Blindness>> = {
  'taints of nodes': onNodes(node => ({ ...node, spec: { ...node.spec, taints: [] } })),
  cordons: onNodes(({ spec: { unschedulable: _, ...spec } = {}, ...node }) => ({ ...node, spec })),
  'the limit of pods': onNodes(node => ({
    ...node,
    status: { ...node.status, allocatable: { ...node.status?.allocatable, pods: '110' } },
  })),
  'pods that stand there': fleet => ({ ...fleet, strangers: [] }),
  'that terminating pods still take room': fleet => ({
    ...fleet,
    strangers: fleet.strangers.filter(({ metadata }) => metadata.deletionTimestamp === undefined),
  }),
  'that pods have ended': fleet => ({
    ...fleet,
    ended: fleet.ended.map(({ status: _, ...pod }) => pod),
  }),
  tolerations: onMembers(({ tolerations: _, ...spec }) => spec),
  'node selectors': onMembers(({ nodeSelector: _, ...spec }) => spec),
  'required node affinity': onMembers(spec => withoutAffinity(spec, 'nodeAffinity')),
  'required pod affinity': onMembers(spec => withoutAffinity(spec, 'podAffinity')),
  'required pod anti-affinity': onMembers(spec => withoutAffinity(spec, 'podAntiAffinity')),
  'anti-affinity of others': onStrangers(spec => withoutAffinity(spec, 'podAntiAffinity')),
  'namespace selectors': onMembers(onTerms(({ namespaceSelector: _, ...term }) => term)),
  'namespaces of terms': onMembers(onTerms(({ namespaces: _, ...term }) => term)),
  'label keys of terms': onTemplates(
    onTerms(({ matchLabelKeys: _, mismatchLabelKeys: __, ...term }) => term),
  ),
  'host ports': onMembers(({ hostNetwork: _, ...spec }) =>
    onContainers(({ ports: __, ...container }) => container)(spec),
  ),
  'addresses of host ports': onAll(
    onContainers(({ ports, ...container }) => ({
      ...container,
      ...(ports && { ports: ports.map(({ hostIP: _, ...port }) => port) }),
    })),
  ),
  'init containers': onMembers(({ initContainers: _, ...spec }) => spec),
  'that sidecars stay': onMembers(({ initContainers = [], ...spec }) => ({
    ...spec,
    initContainers: initContainers.map(({ restartPolicy: _, ...container }) => container),
  })),
  overhead: onMembers(({ overhead: _, ...spec }) => spec),
  'pod-level resources': onMembers(({ resources: _, ...spec }) => spec),
  'defaults of templates': onTemplates(
    onContainers(({ resources: { limits: _, ...resources } = {}, ...container }) => ({
      ...container,
      resources,
    })),
  ),
  'topology spread': onMembers(({ topologySpreadConstraints: _, ...spec }) => spec),
  'minDomains of spread': onMembers(onSpread(({ minDomains: _, ...constraint }) => constraint)),
  'policies of spread': onMembers(
    onSpread(({ nodeAffinityPolicy: _, nodeTaintsPolicy: __, ...constraint }) => constraint),
  ),
  'label keys of spread': onTemplates(onSpread(({ matchLabelKeys: _, ...constraint }) => constraint)),
};

type OnSpec = (spec: PodSpec) => PodSpec;
type SpreadConstraint = NonNullable<PodSpec['topologySpreadConstraints']>[number];

function onNodes(change: (node: Fleet['nodes'][number]) => Fleet['nodes'][number]): Blindness {
  return fleet => ({ ...fleet, nodes: fleet.nodes.map(change) });
}

/** Members that exist, and the templates of those that do not. */
function onMembers(change: OnSpec): Blindness {
  return fleet => onTemplates(change)({ ...fleet, members: fleet.members.map(onPod(change)) });
}

function onStrangers(change: OnSpec): Blindness {
  return fleet => ({ ...fleet, strangers: fleet.strangers.map(onPod(change)) });
}

function onAll(change: OnSpec): Blindness {
  return fleet => onMembers(change)(onStrangers(change)(fleet));
}

function onTemplates(change: OnSpec): Blindness {
  return fleet => {
    const { owner } = fleet.case;
    return { ...fleet, case: { ...fleet.case, owner: owner && onOwner(owner, change) } };
  };
}

function onOwner(owner: LeaderWorkerSet, change: OnSpec): LeaderWorkerSet {
  const { leaderWorkerTemplate } = owner.spec;
  const { workerTemplate, leaderTemplate } = leaderWorkerTemplate;
  return {
    ...owner,
    spec: {
      ...owner.spec,
      leaderWorkerTemplate: {
        ...leaderWorkerTemplate,
        workerTemplate: { ...workerTemplate, spec: change(workerTemplate.spec) },
        ...(leaderTemplate && { leaderTemplate: { ...leaderTemplate, spec: change(leaderTemplate.spec) } }),
      },
    },
  };
}

function onPod(change: OnSpec): (pod: Pod) => Pod {
  return pod => ({ ...pod, spec: change(pod.spec) });
}

function onContainers(change: (container: Container) => Container): OnSpec {
  return ({ containers, initContainers, ...spec }) => ({
    ...spec,
    containers: containers.map(change),
    ...(initContainers && { initContainers: initContainers.map(change) }),
  });
}

function onSpread(change: (constraint: SpreadConstraint) => SpreadConstraint): OnSpec {
  return ({ topologySpreadConstraints, ...spec }) => ({
    ...spec,
    ...(topologySpreadConstraints && { topologySpreadConstraints: topologySpreadConstraints.map(change) }),
  });
}

function onTerms(change: (term: PodAffinityTerm) => PodAffinityTerm): OnSpec {
  return spec => {
    const { podAffinity, podAntiAffinity, ...affinity } = spec.affinity ?? {};
    const near = podAffinity?.[requiredDuringScheduling];
    const away = podAntiAffinity?.[requiredDuringScheduling];
    return {
      ...spec,
      affinity: {
        ...affinity,
        ...(near && { podAffinity: { [requiredDuringScheduling]: near.map(change) } }),
        ...(away && { podAntiAffinity: { [requiredDuringScheduling]: away.map(change) } }),
      },
    };
  };
}

function withoutAffinity(spec: PodSpec, left: 'nodeAffinity' | 'podAffinity' | 'podAntiAffinity'): PodSpec {
  const { [left]: _, ...affinity } = spec.affinity ?? {};
  return { ...spec, affinity };
}
