import type {
  DeviceClass,
  DeviceTaintRule,
  ResourceClaim,
  ResourceClaimTemplate,
  ResourceSlice,
} from '../api/dra.ts';
import type {
  KubernetesObject,
  LeaderWorkerSet,
  Namespace,
  Node,
  Pod,
  StatefulSet,
} from '../api/kubernetes.ts';
import { lws } from '../api/names.ts';
import { InputError } from './input-error.ts';
import { checkedObject, isKnownKind, type KnownKind, nameOf } from './object-schemas.ts';
import type { SourceObject } from './read-objects.ts';

/** scheduling.k8s.io/v1, which turns a priorityClassName into a number at admission. */
export interface PriorityClass extends KubernetesObject {
  readonly value: number;
  readonly globalDefault?: boolean;
}

/** The objects of some files by kind, in the order of the files. */
export interface ClusterObjects {
  readonly nodes: readonly Node[];
  readonly pods: readonly Pod[];
  readonly namespaces: readonly Namespace[];
  readonly leaderWorkerSets: readonly LeaderWorkerSet[];
  readonly statefulSets: readonly StatefulSet[];
  readonly priorityClasses: readonly PriorityClass[];
  readonly resourceSlices: readonly ResourceSlice[];
  readonly deviceClasses: readonly DeviceClass[];
  readonly resourceClaims: readonly ResourceClaim[];
  readonly resourceClaimTemplates: readonly ResourceClaimTemplate[];
  readonly deviceTaintRules: readonly DeviceTaintRule[];
  /** Kinds that planning does not look at, with how many there were. */
  readonly ignored: ReadonlyMap<string, number>;
  /** `file:line` of an object that was read from a file. */
  readonly placeOf: (object: KubernetesObject) => string | undefined;
}

/**
 * Checks the objects and sorts them by kind.
 * @throws InputError for fields that cannot be read, and for two objects of one name
 */
export function sortObjects(sources: readonly SourceObject[]): ClusterObjects {
  const lists = {
    nodes: [] as Node[],
    pods: [] as Pod[],
    namespaces: [] as Namespace[],
    leaderWorkerSets: [] as LeaderWorkerSet[],
    statefulSets: [] as StatefulSet[],
    priorityClasses: [] as PriorityClass[],
    resourceSlices: [] as ResourceSlice[],
    deviceClasses: [] as DeviceClass[],
    resourceClaims: [] as ResourceClaim[],
    resourceClaimTemplates: [] as ResourceClaimTemplate[],
    deviceTaintRules: [] as DeviceTaintRule[],
  };
  const ignored = new Map<string, number>();
  const sourceOf = new Map<KubernetesObject, SourceObject>();
  const seen = new Map<string, SourceObject>();
  const taken = <T extends KubernetesObject>(kind: KnownKind, source: SourceObject): T => {
    const object = checkedObject<T>(kind, source);
    refuseTwin(object, source, seen);
    sourceOf.set(object, source);
    return object;
  };
  const takers: Readonly<Record<KnownKind, (source: SourceObject) => void>> = {
    Node: source => lists.nodes.push(taken('Node', source)),
    Pod: source => lists.pods.push(taken('Pod', source)),
    Namespace: source => lists.namespaces.push(taken('Namespace', source)),
    LeaderWorkerSet: source => lists.leaderWorkerSets.push(taken('LeaderWorkerSet', source)),
    StatefulSet: source => lists.statefulSets.push(taken('StatefulSet', source)),
    PriorityClass: source => lists.priorityClasses.push(taken('PriorityClass', source)),
    ResourceSlice: source => lists.resourceSlices.push(taken('ResourceSlice', source)),
    DeviceClass: source => lists.deviceClasses.push(taken('DeviceClass', source)),
    ResourceClaim: source => lists.resourceClaims.push(taken('ResourceClaim', source)),
    ResourceClaimTemplate: source =>
      lists.resourceClaimTemplates.push(taken('ResourceClaimTemplate', source)),
    DeviceTaintRule: source => lists.deviceTaintRules.push(taken('DeviceTaintRule', source)),
  };
  for (const source of sources) {
    const kind = knownKindOf(source);
    if (kind !== undefined) takers[kind](source);
    else ignored.set(source.kind, (ignored.get(source.kind) ?? 0) + 1);
  }
  // Only when asked for: to know a line, a JSON text is read again.
  const placeOf = (object: KubernetesObject) => sourceOf.get(object)?.placeOf([]);
  return { ...lists, ignored, placeOf };
}

const resourceGroup = 'resource.k8s.io';
/** Versions with the fields of v1. What else there is says claims and devices in other words. */
const sameAsV1: ReadonlySet<string> = new Set(['v1', 'v1beta2']);

/** Other groups of the API use the same words: a Knative or Volcano kind is none of ours. */
function knownKindOf(source: SourceObject): KnownKind | undefined {
  const { kind, value } = source;
  if (!isKnownKind(kind)) return undefined;
  const [group, version = ''] = String(value['apiVersion'] ?? '').split('/');
  if (group === '' || group === 'v1') return kind;
  if (group === resourceGroup) {
    if (sameAsV1.has(version)) return kind;
    const older = `apiVersion: ${group}/${version} has other fields than ${group}/v1, which is what is read`;
    throw new InputError([`${source.placeOf(['apiVersion'])}: ${kind} ${nameOf(value)}: ${older}`]);
  }
  const groups = [lws.apiVersion.split('/')[0], 'apps', 'scheduling.k8s.io'];
  return groups.includes(group) ? kind : undefined;
}

function refuseTwin(object: KubernetesObject, source: SourceObject, seen: Map<string, SourceObject>): void {
  const { namespace, name } = object.metadata;
  // Pods that only have a generateName are as many as there are.
  if (name === undefined) return;
  const key = `${source.kind} ${namespace === undefined ? '' : `${namespace}/`}${name}`;
  const first = seen.get(key);
  if (first !== undefined)
    throw new InputError([`${source.placeOf([])}: ${key} is there already, at ${first.placeOf([])}`]);
  seen.set(key, source);
}
