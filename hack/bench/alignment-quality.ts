import type { NodeDevices } from '../../src/cluster/devices/choice-input.ts';
import { chooseDevices } from '../../src/cluster/devices/choose-devices.ts';
import type { WantedClaim } from '../../src/cluster/devices/claims.ts';
import type { MemberDevices } from '../../src/cluster/devices/device-choice.ts';
import { DeviceLedger } from '../../src/cluster/devices/device-ledger.ts';
import { mulberry32 } from '../../test/unit/planner/instances.ts';

/** A pod that may come, how often in proportion to the others, and how many of each kind of device it takes. */
export interface ArrivingPod {
  readonly claims: readonly WantedClaim[];
  readonly weight: number;
  readonly gpus: number;
  readonly nics: number;
}

export interface AlignmentRun {
  /** Empty nodes, all of as many GPUs and NICs. */
  readonly nodes: readonly NodeDevices[];
  readonly gpusPerNode: number;
  readonly nicsPerNode: number;
  readonly pods: readonly ArrivingPod[];
  /** Share of the GPUs that may be in use, from 0 to 1: pods leave until the next one may come. */
  readonly load: number;
  readonly arrivals: number;
  readonly seed: number;
}

/**
 * Percent of the running pods with GPU and NIC whose devices are aligned by PCIe roots, averaged over the arrivals from the
 * first on for which others had to leave.
 */
export interface AlignmentShares {
  readonly berth: number;
  readonly firstFit: number;
  /** Were every node's pods given their devices anew at each change. */
  readonly optimum: number;
  /** Percent of the GPUs in use, averaged likewise. */
  readonly load: number;
  /** Percent of the pods that came when no node had as many devices free. */
  readonly turnedAway: number;
}

interface Pod {
  readonly asks: ArrivingPod;
  readonly node: number;
  readonly berth: MemberDevices;
  readonly firstFit: MemberDevices;
}

interface NodeState {
  readonly devices: NodeDevices;
  readonly berth: DeviceLedger;
  readonly firstFit: DeviceLedger;
  pods: Pod[];
  optimum: number;
}

/**
 * Pods come one by one, each to the fullest node that has as many devices free, or not at all, and leave at random as long
 * as more than the load would be in use. The node is the same for all three, so that they differ by devices alone.
 * @throws Error when a pod finds no devices where there are enough, or asks for more than the load allows
 */
export function alignmentShares(run: AlignmentRun): AlignmentShares {
  const random = mulberry32(run.seed);
  const nodes = run.nodes.map(
    (devices): NodeState => ({
      devices,
      berth: new DeviceLedger(),
      firstFit: new DeviceLedger(),
      pods: [],
      optimum: 0,
    }),
  );
  const most = run.load * run.nodes.length * run.gpusPerNode;
  const samples: Sample[] = [];
  let isFull = false;
  let turnedAway = 0;
  for (let arrival = 0; arrival < run.arrivals; arrival++) {
    const asks = drawPod(run.pods, random());
    for (; usedGpus(nodes) + asks.gpus > most; isFull = true) leave(nodes, random());
    const node = fullestFor(asks, nodes, run);
    if (node === undefined) turnedAway++;
    else arrive(asks, node, nodes.indexOf(node));
    const sample = isFull ? sampleOf(nodes, run) : undefined;
    if (sample !== undefined) samples.push(sample);
  }
  const average = (pick: (sample: Sample) => number) =>
    samples.reduce((sum, sample) => sum + pick(sample), 0) / Math.max(1, samples.length);
  return {
    berth: average(({ berth }) => berth),
    firstFit: average(({ firstFit }) => firstFit),
    optimum: average(({ optimum }) => optimum),
    load: average(({ load }) => load),
    turnedAway: (100 * turnedAway) / run.arrivals,
  };
}

type Sample = Omit<AlignmentShares, 'turnedAway'>;

/** At one moment; undefined when no running pod has GPU and NIC. */
function sampleOf(nodes: readonly NodeState[], { gpusPerNode }: AlignmentRun): Sample | undefined {
  const pairs = nodes.flatMap(({ pods }) => pods).filter(isPair);
  if (pairs.length === 0) return undefined;
  const percent = (count: number) => (100 * count) / pairs.length;
  return {
    berth: percent(pairs.filter(({ berth }) => berth.rung === 'pcie').length),
    firstFit: percent(pairs.filter(({ firstFit }) => firstFit.rung === 'pcie').length),
    optimum: percent(nodes.reduce((sum, { optimum }) => sum + optimum, 0)),
    load: (100 * usedGpus(nodes)) / (nodes.length * gpusPerNode),
  };
}

function drawPod(pods: readonly ArrivingPod[], drawn: number): ArrivingPod {
  let left = drawn * pods.reduce((sum, { weight }) => sum + weight, 0);
  for (const pod of pods) {
    left -= pod.weight;
    if (left < 0) return pod;
  }
  throw new Error('there are no pods to draw from');
}

function fullestFor(
  { gpus, nics }: ArrivingPod,
  nodes: readonly NodeState[],
  { gpusPerNode, nicsPerNode }: AlignmentRun,
): NodeState | undefined {
  let fullest: NodeState | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const node of nodes) {
    const free = gpusPerNode - usedGpus([node]);
    const freeNics = nicsPerNode - node.pods.reduce((sum, { asks }) => sum + asks.nics, 0);
    if (free < gpus || freeNics < nics || free >= least) continue;
    fullest = node;
    least = free;
  }
  return fullest;
}

function arrive(asks: ArrivingPod, node: NodeState, index: number): void {
  const berth = serve(node.devices, node.berth, asks, true);
  const firstFit = serve(node.devices, node.firstFit, asks, false);
  node.berth.add(berth.results);
  node.firstFit.add(firstFit.results);
  node.pods.push({ asks, node: index, berth, firstFit });
  node.optimum = optimumOf(node);
}

function leave(nodes: readonly NodeState[], drawn: number): void {
  const pods = nodes.flatMap(node => node.pods);
  const pod = pods[Math.floor(drawn * pods.length)];
  const node = pod === undefined ? undefined : nodes[pod.node];
  if (pod === undefined || node === undefined) throw new Error('a pod does not fit into an empty fleet');
  node.berth.remove(pod.berth.results);
  node.firstFit.remove(pod.firstFit.results);
  node.pods = node.pods.filter(other => other !== pod);
  node.optimum = optimumOf(node);
}

function serve(
  devices: NodeDevices,
  used: DeviceLedger,
  { claims }: ArrivingPod,
  steerable: boolean,
): MemberDevices {
  const choice = chooseDevices({ ...devices, used, members: [claims], minRung: undefined, steerable });
  const [member] = choice.kind === 'chosen' ? choice.members : [];
  if (member === undefined) throw new Error('a pod finds no devices where there are enough');
  return member;
}

/** How many pods of a node with GPU and NIC could be aligned at once; pods without a NIC take what is left. */
function optimumOf({ devices, pods }: NodeState): number {
  const members = pods.filter(isPair).map(({ asks }) => asks.claims);
  const choice = chooseDevices({ ...devices, members, minRung: undefined, steerable: true });
  return choice.kind === 'chosen' ? choice.members.filter(({ rung }) => rung === 'pcie').length : 0;
}

function isPair({ asks }: Pod): boolean {
  return asks.gpus > 0 && asks.nics > 0;
}

function usedGpus(nodes: readonly NodeState[]): number {
  return nodes.reduce((sum, { pods }) => sum + pods.reduce((gpus, { asks }) => gpus + asks.gpus, 0), 0);
}
