import type { Pod } from '../src/api/kubernetes.ts';
import { berth } from '../src/api/names.ts';
import { parsePlanAnnotation } from '../src/group/plan-annotation.ts';
import { isBound, isGoing } from './demo-pods.ts';
import {
  fleet,
  gpu,
  gpusPerHost,
  groups,
  rackOf,
  type StoryGroup,
  seatOf,
  singleNamespaces,
} from './demo-scenario.ts';

/** One host as it is drawn. */
export interface HostPicture {
  readonly name: string;
  readonly rack: string;
  /** For each GPU that is taken: by whom. Letters of groups, `s` for single pods. */
  readonly taken: string;
  /** Letter of a group for each GPU that its plan holds here for a member that does not exist yet. */
  readonly held: string;
  /** GPUs that are reported Unhealthy. */
  readonly broken: number;
  /** Rank of the group member that runs here. */
  readonly rank: number | undefined;
}

/** Where one group is. */
export interface GroupPicture extends StoryGroup {
  /** Node by rank; undefined for a member that has none. */
  readonly nodes: readonly (string | undefined)[];
  readonly racks: readonly string[];
  /** `starting`: not all members exist, and those that do not have places held for them. */
  readonly state: 'whole' | 'split' | 'starting' | 'half-placed' | 'waiting' | 'absent';
  /** Nodes held for members that do not exist yet. */
  readonly heldNodes: readonly string[];
}

/** The whole fleet at one moment. */
export interface Picture {
  readonly hosts: readonly HostPicture[];
  readonly groups: readonly GroupPicture[];
}

/**
 * Looks at the single pods, wherever they are, and at the groups in one namespace.
 *
 * @param broken hosts with a GPU that is reported Unhealthy
 */
export function takePicture(
  pods: readonly Pod[],
  namespace: string,
  broken: readonly string[] = [],
): Picture {
  const shown = pods.filter(
    pod => [...singleNamespaces, namespace].includes(pod.metadata.namespace ?? '') && !isGoing(pod),
  );
  const members = shown.filter(pod => pod.metadata.namespace === namespace);
  const pictures = groups.map(group => pictureOf(group, members));
  return {
    hosts: fleet.nodes.map(node => {
      const name = node.metadata.name ?? '';
      const here = shown.filter(pod => pod.spec.nodeName === name);
      const holders = pictures.filter(({ heldNodes }) => heldNodes.includes(name));
      return {
        name,
        rack: rackOf(node),
        taken: here.map(takenBy).sort().join(''),
        held: holders.map(({ letter }) => letter.repeat(gpusPerHost)).join(''),
        broken: broken.filter(host => host === name).length,
        rank: here.map(pod => seatOf(pod)?.rank).find(known => known !== undefined),
      };
    }),
    groups: pictures,
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
  const ranks = Array.from({ length: group.size }, (_, rank) =>
    members.find(pod => seatOf(pod)?.rank === rank),
  );
  const nodes = ranks.map(pod => pod?.spec.nodeName);
  const racks = [...new Set(nodes.flatMap(name => rackOfHost(name) ?? []))].sort();
  const planned = plannedNodes(ranks[0]);
  const heldNodes = planned.filter((_, rank) => ranks[rank] === undefined);
  return { ...group, nodes, racks, heldNodes, state: stateOf(group, members, racks, heldNodes) };
}

function stateOf(
  group: StoryGroup,
  members: readonly Pod[],
  racks: readonly string[],
  heldNodes: readonly string[],
): GroupPicture['state'] {
  const bound = members.filter(isBound).length;
  if (members.length === 0) return 'absent';
  if (bound === 0) return 'waiting';
  if (bound < group.size) return bound + heldNodes.length === group.size ? 'starting' : 'half-placed';
  return racks.length === 1 ? 'whole' : 'split';
}

/** By rank, from the plan that the leader carries. */
function plannedNodes(leader: Pod | undefined): readonly string[] {
  const text = leader?.metadata.annotations?.[berth.plan];
  const plan = text === undefined ? undefined : parsePlanAnnotation(text);
  return plan === undefined || 'code' in plan ? [] : plan.nodes;
}

export function rackOfHost(name: string | undefined): string | undefined {
  const node = fleet.nodes.find(({ metadata }) => metadata.name === name);
  return node === undefined ? undefined : rackOf(node);
}

/** GPUs of groups that are there only in part, and so serve nobody. */
export function wastedGpus({ groups: all }: Picture): number {
  return all
    .filter(({ state }) => state === 'half-placed')
    .reduce((sum, { nodes }) => sum + nodes.filter(name => name !== undefined).length * gpusPerHost, 0);
}
