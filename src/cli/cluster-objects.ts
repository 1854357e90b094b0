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
import { checkedObject, isKnownKind, type KnownKind } from './object-schemas.ts';
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
  const nodes: Node[] = [];
  const pods: Pod[] = [];
  const namespaces: Namespace[] = [];
  const leaderWorkerSets: LeaderWorkerSet[] = [];
  const statefulSets: StatefulSet[] = [];
  const priorityClasses: PriorityClass[] = [];
  const ignored = new Map<string, number>();
  const sourceOf = new Map<KubernetesObject, SourceObject>();
  const seen = new Map<string, SourceObject>();

  function take<T extends KubernetesObject>(kind: KnownKind, source: SourceObject, list: T[]): void {
    const object = checkedObject<T>(kind, source);
    refuseTwin(object, source, seen);
    sourceOf.set(object, source);
    list.push(object);
  }

  for (const source of sources) {
    const kind = knownKindOf(source);
    switch (kind) {
      case 'Node':
        take(kind, source, nodes);
        break;
      case 'Pod':
        take(kind, source, pods);
        break;
      case 'Namespace':
        take(kind, source, namespaces);
        break;
      case 'LeaderWorkerSet':
        take(kind, source, leaderWorkerSets);
        break;
      case 'StatefulSet':
        take(kind, source, statefulSets);
        break;
      case 'PriorityClass':
        take(kind, source, priorityClasses);
        break;
      case undefined:
        ignored.set(source.kind, (ignored.get(source.kind) ?? 0) + 1);
        break;
    }
  }
  // Only when asked for: to know a line, a JSON text is read again.
  const placeOf = (object: KubernetesObject) => sourceOf.get(object)?.placeOf([]);
  return { nodes, pods, namespaces, leaderWorkerSets, statefulSets, priorityClasses, ignored, placeOf };
}

/** Other groups of the API use the same words: a Knative or Volcano kind is none of ours. */
function knownKindOf({ kind, value }: SourceObject): KnownKind | undefined {
  if (!isKnownKind(kind)) return undefined;
  const group = String(value['apiVersion'] ?? '').split('/')[0];
  if (group === '' || group === 'v1') return kind;
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
