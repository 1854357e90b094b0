import type { NodeInfo } from '../cluster/node-info.ts';
import type { TopologyDomain, TopologyLevel } from '../cluster/topology.ts';
import { isUsablePartition, tpuPartitionState } from '../cluster/tpu-partition.ts';
import { type TpuShape, tpuLevelOf, tpuResource, tpuShapeOf } from '../cluster/tpu-shape.ts';
import type { TpuSlices } from '../group/topology-request.ts';
import { takesTpu } from '../group/tpu-slices.ts';
import type { PlanInput } from './plan-input.ts';

export type TpuInput = Pick<PlanInput, 'demands' | 'topology' | 'snapshot' | 'fixed'>;

const nothingBarred: ReadonlyMap<number, string> = new Map();

/**
 * Nodes that the members with TPUs of a group could not use, each with the cause. The chips of a slice of
 * several hosts reach each other only when one workload runs on all of them, one member on each with all of its chips:
 * so the slice must have as many hosts as there are members to fill one, and none of its chips in other use. Members
 * that stay are no other use.
 *
 * Costs nothing without TPUs in the request or shapes in the levels, else one look at each node of the level.
 */
export function barredTpuNodes(input: TpuInput): ReadonlyMap<number, string> {
  const { snapshot } = input;
  const slices = slicesOf(input);
  const level = slices && snapshot.tree.levels[slices.level];
  if (slices === undefined || level === undefined) return nothingBarred;
  const wish: Wish = { hosts: new Set(slices.hosts), chips: chipsAsked(input), own: ownNodes(input) };
  const bars = new Map<number, string>();
  for (const domain of snapshot.tree.domainsByLevel[slices.level] ?? []) {
    const cause = causeAgainst(wish, domain, level, nodesOf(input, domain));
    if (cause !== '') for (const node of domain.nodes) bars.set(node, cause);
  }
  return bars;
}

/** What the members to be placed would fill. */
interface Wish {
  readonly hosts: ReadonlySet<number>;
  /** Chips of one member; several values when members differ. */
  readonly chips: ReadonlySet<number>;
  /** Names of nodes where members stay. */
  readonly own: ReadonlySet<string>;
}

/** A single pod has no request of its own that was worked out before: it is a slice of one host. */
function slicesOf({ topology, demands, snapshot }: TpuInput): TpuSlices | undefined {
  if (topology.tpuSlices !== undefined) return topology.tpuSlices;
  const level = tpuLevelOf(snapshot.tree.levels);
  const members = level === undefined ? 0 : demands.filter(takesTpu).length;
  return level === undefined || members === 0 ? undefined : { level, hosts: [members] };
}

function chipsAsked({ demands }: TpuInput): ReadonlySet<number> {
  return new Set(demands.filter(takesTpu).map(({ requests }) => requests.get(tpuResource) ?? 0));
}

function ownNodes({ fixed }: TpuInput): ReadonlySet<string> {
  return new Set(fixed?.values());
}

function nodesOf({ snapshot }: TpuInput, domain: TopologyDomain): readonly NodeInfo[] {
  return domain.nodes.flatMap(index => snapshot.nodes.at(index) ?? []);
}

/** Empty where the members may go. A single host is shared like any other. */
function causeAgainst(
  wish: Wish,
  domain: TopologyDomain,
  level: TopologyLevel,
  nodes: readonly NodeInfo[],
): string {
  const shape = tpuShapeOf(level, nodes);
  if (shape === undefined) return '';
  const state = nodes.map(({ record }) => tpuPartitionState(record)).find(told => !isUsablePartition(told));
  if (state !== undefined) return `in a TPU slice that is ${state}`;
  const { hosts } = shape;
  if (hosts === undefined) return 'in a TPU slice of unclear shape';
  if (!wish.hosts.has(hosts)) return `in a TPU slice of ${counted(hosts)}, not ${anyOf(wish.hosts)}`;
  if (hosts === 1) return '';
  return causeAgainstWhole(wish, { ...shape, hosts }, domain, nodes);
}

function causeAgainstWhole(
  { chips, own }: Wish,
  { hosts, chipsPerHost }: TpuShape & { readonly hosts: number },
  domain: TopologyDomain,
  nodes: readonly NodeInfo[],
): string {
  if (domain.nodes.length < hosts) return 'in a TPU slice that lacks hosts';
  if (domain.nodes.length > hosts) return 'in a TPU slice of unclear shape';
  if ([...chips].some(asked => asked !== chipsPerHost))
    return `in a TPU slice with ${chipsPerHost} chips per host, not ${anyOf(chips)}`;
  const shared = nodes.some(({ untouched, record }) => !untouched && !own.has(record.name));
  return shared ? 'in a TPU slice that others use' : '';
}

function counted(hosts: number): string {
  return hosts === 1 ? '1 host' : `${hosts} hosts`;
}

function anyOf(numbers: ReadonlySet<number>): string {
  return [...numbers].sort((a, b) => a - b).join(' or ');
}
