import type { Pod } from '../src/api/kubernetes.ts';
import { isBound, isGoing } from './demo-pods.ts';
import {
  fleet,
  gpu,
  gpusPerHost,
  groups,
  namespaces,
  rackOf,
  type StoryGroup,
  seatOf,
} from './demo-scenario.ts';

/** One host as it is drawn. */
export interface HostPicture {
  readonly name: string;
  readonly rack: string;
  /** For each GPU that is taken: by whom. Letters of groups, `s` for single pods. */
  readonly taken: string;
  /** Rank of the group member that runs here. */
  readonly rank: number | undefined;
}

/** Where one group is. */
export interface GroupPicture extends StoryGroup {
  /** Node by rank; undefined for a member that has none. */
  readonly nodes: readonly (string | undefined)[];
  readonly racks: readonly string[];
  readonly state: 'whole' | 'split' | 'half-placed' | 'waiting' | 'absent';
}

/** The whole fleet at one moment. */
export interface Picture {
  readonly hosts: readonly HostPicture[];
  readonly groups: readonly GroupPicture[];
}

/** Looks at the single pods that were there before and at one namespace of the story. */
export function takePicture(pods: readonly Pod[], namespace: string): Picture {
  const shown = pods.filter(
    pod => [namespaces.residents, namespace].includes(pod.metadata.namespace ?? '') && !isGoing(pod),
  );
  const members = shown.filter(pod => pod.metadata.namespace === namespace);
  return {
    hosts: fleet.nodes.map(node => {
      const name = node.metadata.name ?? '';
      const here = shown.filter(pod => pod.spec.nodeName === name);
      const rank = here.map(pod => seatOf(pod)?.rank).find(known => known !== undefined);
      return { name, rack: rackOf(node), taken: here.map(takenBy).sort().join(''), rank };
    }),
    groups: groups.map(group => pictureOf(group, members)),
  };
}

/** GPUs that a pod asks for. */
export function gpusOf({ spec }: Pod): number {
  return spec.containers.reduce((sum, { resources }) => sum + Number(resources?.limits?.[gpu] ?? 0), 0);
}

function takenBy(pod: Pod): string {
  return (seatOf(pod)?.group.letter ?? 's').repeat(gpusOf(pod));
}

function pictureOf(group: StoryGroup, pods: readonly Pod[]): GroupPicture {
  const members = pods.filter(pod => seatOf(pod)?.group === group);
  const nodes = Array.from(
    { length: group.size },
    (_, rank) => members.find(pod => seatOf(pod)?.rank === rank)?.spec.nodeName,
  );
  const racks = [...new Set(nodes.flatMap(name => rackOfHost(name) ?? []))].sort();
  return { ...group, nodes, racks, state: stateOf(group, members, racks) };
}

function stateOf(
  group: StoryGroup,
  members: readonly Pod[],
  racks: readonly string[],
): GroupPicture['state'] {
  const bound = members.filter(isBound).length;
  if (members.length === 0) return 'absent';
  if (bound === 0) return 'waiting';
  if (bound < group.size) return 'half-placed';
  return racks.length === 1 ? 'whole' : 'split';
}

function rackOfHost(name: string | undefined): string | undefined {
  const node = fleet.nodes.find(({ metadata }) => metadata.name === name);
  return node === undefined ? undefined : rackOf(node);
}

/** GPUs of groups that are there only in part, and so serve nobody. */
export function wastedGpus({ groups: all }: Picture): number {
  return all
    .filter(({ state }) => state === 'half-placed')
    .reduce((sum, { nodes }) => sum + nodes.filter(name => name !== undefined).length * gpusPerHost, 0);
}
