import type { Pod } from '../../src/api/kubernetes.ts';
import type { ExtenderVerb } from './extender-client.ts';
import type { FilterWorld } from './filter-world.ts';

/** One kind of question of kube-scheduler. */
export interface Kind {
  /** Which pod is asked for. */
  readonly name: string;
  readonly verb: ExtenderVerb;
  /** Asked by turns. */
  readonly bodies: readonly Buffer[];
}

/** So many pods of a kind: more would only fill memory with names. */
const podsPerKind = 20;

/** All kinds of pods that Berth tells apart, each with the names of all nodes unless it says otherwise. */
export function kindsOf(world: FilterWorld, names: readonly string[]): readonly Kind[] {
  const filter = (
    name: string,
    pods: readonly Pod[],
    namesFor: (pod: Pod) => readonly string[] = () => names,
  ): Kind => ({
    name,
    verb: 'filter',
    bodies: pods.slice(0, podsPerKind).map(pod => bodyOf(pod, namesFor(pod))),
  });
  const held = new Set(world.places.values()).size;
  return [
    filter('pinned member', world.pinned),
    filter('pinned member, as kube-scheduler asks, with its one node', world.pinned, ({ metadata }) => [
      world.places.get(metadata.uid ?? '') ?? '',
    ]),
    filter('planned member, mode extender', world.planned),
    filter('member without a plan, mode extender', world.waiting),
    filter(`stranger with a GPU, ${held} nodes held`, [world.strangerWithGpus]),
    filter('stranger without GPUs', [world.strangerWithoutGpus]),
    { name: 'single with a GPU', verb: 'prioritize', bodies: [bodyOf(world.single, names)] },
  ];
}

/** As Go's encoder writes it; pods in kube-scheduler's cache have neither kind nor managed fields. */
export function bodyOf(pod: Pod, names: readonly string[]): Buffer {
  const { kind: _kind, apiVersion: _version, metadata, ...rest } = pod;
  const { managedFields: _fields, ...kept }: Pod['metadata'] & { managedFields?: unknown } = metadata;
  return Buffer.from(JSON.stringify({ Pod: { metadata: kept, ...rest }, Nodes: null, NodeNames: names }));
}
