import type {
  Container,
  LeaderWorkerSet,
  Namespace,
  PodSpec,
  PodTemplateSpec,
  StatefulSet,
} from '../api/kubernetes.ts';
import { berth } from '../api/names.ts';
import { controllerOf } from './membership.ts';

/** How far Berth goes in a namespace. `pin-extender` is `pin+extender` in a form that a label value may have. */
export type PlacementMode = 'observe' | 'pin' | 'pin-extender' | 'extender';

/** What Berth keeps of a Namespace. */
export interface NamespaceRecord {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly mode: PlacementMode;
  /** A mode label that names no mode; the namespace is only observed then. */
  readonly invalidMode: string | undefined;
  readonly pinsSingles: boolean;
}

/** What Berth keeps of a worker StatefulSet: which leader incarnation it belongs to. */
export interface StatefulSetRecord {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly controllerUid: string;
}

export function decodeNamespace(namespace: Namespace): NamespaceRecord {
  const labels = namespace.metadata.labels ?? {};
  const wanted = labels[berth.mode];
  const mode = wanted === undefined ? 'observe' : parseMode(wanted);
  return {
    name: namespace.metadata.name ?? '',
    labels,
    mode: mode ?? 'observe',
    invalidMode: mode === undefined ? wanted : undefined,
    pinsSingles: labels[berth.singles] === 'pin',
  };
}

/** Whether pods are gated, planned and pinned in this mode. */
export function pinsPods(mode: PlacementMode): boolean {
  return mode === 'pin' || mode === 'pin-extender';
}

/** Whether Berth decides where groups go in this mode, be it by pins or by the extender's answers. */
export function plansGroups(mode: PlacementMode): boolean {
  return mode !== 'observe';
}

/** Undefined for a word that is no mode. */
export function parseMode(text: string): PlacementMode | undefined {
  if (text === 'pin+extender') return 'pin-extender';
  return text === 'observe' || text === 'pin' || text === 'pin-extender' || text === 'extender'
    ? text
    : undefined;
}

export function decodeStatefulSet(set: StatefulSet): StatefulSetRecord {
  return {
    uid: set.metadata.uid ?? '',
    namespace: set.metadata.namespace ?? '',
    name: set.metadata.name ?? '',
    controllerUid: controllerOf(set.metadata)?.uid ?? '',
  };
}

/**
 * How many of its groups a LeaderWorkerSet can do without while it is updated: a share is rounded down, as LWS does. At
 * least 1, also where that is not to be read.
 */
export function maxUnavailableOf({ spec }: LeaderWorkerSet): number {
  const wanted = spec.rolloutStrategy?.rollingUpdateConfiguration?.maxUnavailable ?? 1;
  const percent = typeof wanted === 'string' ? /^(\d{1,3})%$/.exec(wanted)?.[1] : undefined;
  const count = percent === undefined ? Number(wanted) : ((spec.replicas ?? 1) * Number(percent)) / 100;
  return Number.isFinite(count) ? Math.max(1, Math.floor(count)) : 1;
}

/** Drops from an LWS what placement never looks at: env, arguments, volumes, images. */
export function decodeLeaderWorkerSet(owner: LeaderWorkerSet): LeaderWorkerSet {
  const { name, namespace, uid, annotations, generation, deletionTimestamp } = owner.metadata;
  const { size, leaderTemplate, workerTemplate, restartPolicy } = owner.spec.leaderWorkerTemplate;
  const maxUnavailable = owner.spec.rolloutStrategy?.rollingUpdateConfiguration?.maxUnavailable;
  return {
    metadata: {
      ...(name !== undefined && { name }),
      ...(namespace !== undefined && { namespace }),
      ...(uid !== undefined && { uid }),
      ...(generation !== undefined && { generation }),
      ...(deletionTimestamp !== undefined && { deletionTimestamp }),
      ...(annotations !== undefined && { annotations }),
    },
    spec: {
      ...(owner.spec.replicas !== undefined && { replicas: owner.spec.replicas }),
      ...(owner.spec.startupPolicy !== undefined && { startupPolicy: owner.spec.startupPolicy }),
      ...(maxUnavailable !== undefined && {
        rolloutStrategy: { rollingUpdateConfiguration: { maxUnavailable } },
      }),
      leaderWorkerTemplate: {
        ...(size !== undefined && { size }),
        ...(leaderTemplate !== undefined && { leaderTemplate: trimTemplate(leaderTemplate) }),
        workerTemplate: trimTemplate(workerTemplate),
        ...(restartPolicy !== undefined && { restartPolicy }),
      },
    },
  };
}

function trimTemplate(template: PodTemplateSpec): PodTemplateSpec {
  const { labels, annotations } = template.metadata ?? {};
  const { containers, initContainers, volumes: _volumes, ...rest } = template.spec;
  const spec: PodSpec = {
    ...rest,
    containers: containers.map(trimContainer),
    ...(initContainers && { initContainers: initContainers.map(trimContainer) }),
  };
  return { metadata: { ...(labels && { labels }), ...(annotations && { annotations }) }, spec };
}

function trimContainer({ name, resources, ports, restartPolicy }: Container): Container {
  return {
    name,
    ...(resources && { resources }),
    ...(ports && { ports }),
    ...(restartPolicy !== undefined && { restartPolicy }),
  };
}
