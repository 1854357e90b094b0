import type { LeaderWorkerSet, Node, Pod, PodSpec } from '../../../src/api/kubernetes.ts';
import { berth, k8s, lws } from '../../../src/api/names.ts';
import type { TopologyLevel } from '../../../src/cluster/topology.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { requiredDuringScheduling } from '../../builders/pods.ts';
import { Dice } from './dice.ts';
import {
  lightContainer,
  manifest,
  namespaceNames,
  poolLabel,
  rackLabel,
  someLabels,
  someNodes,
  someSpec,
  someWishes,
  strangersWishes,
  zoneLabel,
} from './manifests.ts';

/** A pod that has its node. */
export interface Stranger {
  readonly manifest: Pod;
  readonly node: string;
  readonly terminating: boolean;
  /** Succeeded or Failed: kube-scheduler does not know it any more. */
  readonly terminal: boolean;
}

/** A fleet with a group to place, in manifests: what the API server makes of them is still to be asked. */
export interface FleetCase {
  readonly seed: number;
  readonly levels: readonly TopologyLevel[];
  readonly nodes: readonly Node[];
  readonly strangers: readonly Stranger[];
  /** By rank; each has Berth's gate. */
  readonly members: readonly Pod[];
  /** With it only the leader exists when Berth plans; without it all members do. */
  readonly owner: LeaderWorkerSet | undefined;
  readonly groupKey: string;
  /** Index of the level that must hold the group; the number of levels for one host. */
  readonly required: number | undefined;
  /** Node label that is no level, on which all members' nodes must agree. */
  readonly sameLabel: string | undefined;
  /** Node by rank of members that have theirs already. */
  readonly fixed: ReadonlyMap<number, string>;
}

const levels: readonly TopologyLevel[] = [
  { name: 'zone', nodeLabel: zoneLabel },
  { name: 'rack', nodeLabel: rackLabel },
];
const levelWords = ['zone', 'rack', 'host'] as const;

/** The same case for the same seed, on every machine. */
export function fleetCase(seed: number): FleetCase {
  const dice = new Dice(seed);
  const nodes = someNodes(dice);
  const strangers = dice.percent(25)
    ? crowd(dice, nodes)
    : dice.list(dice.percent(50) ? 2 : 5, () => 0).map((_, index) => someStranger(dice, nodes, index));
  const group = dice.percent(40) ? lwsGroup(dice) : labelledGroup(dice, nodes);
  return { seed, levels, nodes, strangers, ...group };
}

function someStranger(dice: Dice, nodes: readonly Node[], index: number): Stranger {
  const terminal = dice.percent(6);
  const exclusive = dice.percent(8);
  const spec = someSpec(dice, strangersWishes);
  const namespace = dice.pick([...namespaceNames, 'serving', 'serving', 'serving']);
  const name = `stranger-${index}`;
  const labels = someLabels(dice);
  return {
    manifest: exclusive
      ? leaderOf(new LwsGroup({ name, namespace, size: 1, worker: {}, exclusive: rackLabel }), spec, labels)
      : manifest({ name, namespace, labels }, spec),
    node: dice.pick(nodes as [Node, ...Node[]]).metadata.name ?? '',
    terminating: dice.percent(10),
    terminal,
  };
}

/** Pods that ask for little and look like the group's own, so that spreading counts them. */
function crowd(dice: Dice, nodes: readonly Node[]): readonly Stranger[] {
  return Array.from({ length: 3 + dice.below(8) }, (_, index) => ({
    manifest: manifest(
      { name: `stranger-${index}`, namespace: 'serving', labels: someLabels(dice) },
      { containers: [lightContainer(dice)] },
    ),
    node: dice.pick(nodes as [Node, ...Node[]]).metadata.name ?? '',
    terminating: dice.percent(10),
    terminal: false,
  }));
}

type Group = Omit<FleetCase, 'seed' | 'levels' | 'nodes' | 'strangers'>;

/** Members that all exist, one like another or not. */
function labelledGroup(dice: Dice, nodes: readonly Node[]): Group {
  const size = 1 + dice.below(5);
  const kinds = dice.pick([1, 1, 2, 2, 3]);
  const wishes = someWishes(dice);
  const specs = Array.from({ length: kinds }, () => ({
    spec: someSpec(dice, wishes),
    labels: someLabels(dice),
  }));
  const required = dice.percent(40) ? dice.pick([0, 0, 1, 2]) : undefined;
  const fixed = new Map<number, string>();
  if (dice.percent(12)) {
    for (let rank = 0; rank < size - 1; rank++)
      if (dice.percent(40)) fixed.set(rank, dice.pick(nodes as [Node, ...Node[]]).metadata.name ?? '');
  }
  const members = Array.from({ length: size }, (_, rank) => {
    const kind = kinds === 3 ? dice.below(3) : Math.min(rank, kinds - 1);
    const { spec, labels } = specs[kind] ?? { spec: { containers: [] }, labels: {} };
    const metadata = {
      name: `g-${rank}`,
      namespace: 'serving',
      labels: {
        ...labels,
        [berth.group]: 'g',
        [berth.groupSize]: String(size),
        [k8s.podIndex]: String(rank),
      },
      ...(required !== undefined && {
        annotations: { [berth.requiredTopology]: levelWords[required] ?? '' },
      }),
    };
    return manifest(metadata, fixed.has(rank) ? spec : gated(spec));
  });
  return { members, owner: undefined, groupKey: 'serving/g', required, sameLabel: undefined, fixed };
}

/** A LeaderWorkerSet's group whose workers Berth must foresee from the template. */
function lwsGroup(dice: Dice): Group {
  const size = 1 + dice.below(5);
  const wishes = someWishes(dice);
  const worker = { spec: someSpec(dice, wishes), labels: someLabels(dice) };
  const leader = dice.percent(50) ? { spec: someSpec(dice, wishes), labels: someLabels(dice) } : undefined;
  const required = dice.percent(30) ? dice.pick([0, 0, 1, 2]) : undefined;
  const exclusive = dice.percent(35) ? dice.pick([rackLabel, zoneLabel, poolLabel, k8s.hostname]) : undefined;
  const group = new LwsGroup({
    size,
    worker: {},
    ...(leader && { leader: {} }),
    ...(exclusive !== undefined && { exclusive }),
    ...(required !== undefined && { annotations: { [berth.requiredTopology]: levelWords[required] ?? '' } }),
  });
  const members = [leaderOf(group, gated((leader ?? worker).spec), (leader ?? worker).labels)];
  for (let rank = 1; rank < size; rank++)
    members.push(withSpec(group.worker(rank), gated(worker.spec), worker.labels));
  return {
    members,
    owner: ownerOf(group, worker, leader),
    groupKey: group.key,
    required: finest(required, exclusive),
    sameLabel: exclusive === poolLabel ? poolLabel : undefined,
    fixed: new Map(),
  };
}

type Half = { readonly spec: PodSpec; readonly labels: Readonly<Record<string, string>> };

function ownerOf(group: LwsGroup, worker: Half, leader: Half | undefined): LeaderWorkerSet {
  const owner = group.owner();
  const template = ({ spec, labels }: Half) => ({ metadata: { labels }, spec });
  return {
    ...owner,
    spec: {
      ...owner.spec,
      leaderWorkerTemplate: {
        ...owner.spec.leaderWorkerTemplate,
        workerTemplate: template(worker),
        ...(leader && { leaderTemplate: template(leader) }),
      },
    },
  };
}

/** LWS appends its exclusive terms to those of the template. */
function leaderOf(group: LwsGroup, spec: PodSpec, labels: Readonly<Record<string, string>>): Pod {
  const leader = group.leader();
  const { podAffinity, podAntiAffinity } = leader.spec.affinity ?? {};
  if (podAffinity === undefined) return withSpec(leader, spec, labels);
  const near = [
    ...(spec.affinity?.podAffinity?.[requiredDuringScheduling] ?? []),
    ...(podAffinity[requiredDuringScheduling] ?? []),
  ];
  const away = [
    ...(spec.affinity?.podAntiAffinity?.[requiredDuringScheduling] ?? []),
    ...(podAntiAffinity?.[requiredDuringScheduling] ?? []),
  ];
  const affinity = {
    ...spec.affinity,
    podAffinity: { [requiredDuringScheduling]: near },
    podAntiAffinity: { [requiredDuringScheduling]: away },
  };
  return withSpec(leader, { ...spec, affinity }, labels);
}

function withSpec(pod: Pod, spec: PodSpec, labels: Readonly<Record<string, string>>): Pod {
  const { name = '', namespace = '', annotations, ownerReferences } = pod.metadata;
  const metadata = {
    name,
    namespace,
    labels: { ...labels, ...pod.metadata.labels },
    ...(annotations && { annotations }),
    ...(ownerReferences && { ownerReferences }),
  };
  return manifest(metadata, spec);
}

function gated(spec: PodSpec): PodSpec {
  return { ...spec, schedulingGates: [{ name: berth.placementGate }] };
}

function finest(required: number | undefined, exclusive: string | undefined): number | undefined {
  const labels = [zoneLabel, rackLabel, k8s.hostname];
  const level = exclusive === undefined ? -1 : labels.indexOf(exclusive);
  return level < 0 ? required : Math.max(level, required ?? -1);
}

/** Keys that tell members of one template apart and nothing else. */
export const ordinalLabels: readonly string[] = [k8s.podIndex, lws.workerIndex];
