import { domainOf, domainsUsed, type Instance, isInDomain } from './small-instance.ts';

/**
 * What is wrong with how members with TPUs stand. Those of the group, or of each of its slices, are one workload: they
 * fill a TPU slice of as many hosts, one on each with all of its chips, and nobody else has chips of it.
 */
export function tpuFault(instance: Instance, placed: readonly number[]): string | undefined {
  const { tpuLevel, members, demands, slices } = instance;
  if (tpuLevel === undefined) return undefined;
  const takesTpu = (rank: number) => (demands[members[rank] ?? -1]?.amounts[1] ?? 0) > 0;
  const inSlices = new Set(slices?.ranks.flat());
  const loose = [...members.keys()].filter(rank => !inSlices.has(rank));
  for (const part of [...(slices?.ranks ?? []), loose]) {
    const fault = faultOfPart(instance, placed, part.filter(takesTpu));
    if (fault !== undefined) return fault;
  }
  return undefined;
}

function isFinerAsked({ required, slices }: Instance, level: number): boolean {
  return required > level || (slices?.level ?? -1) > level;
}

function faultOfPart(
  instance: Instance,
  placed: readonly number[],
  ranks: readonly number[],
): string | undefined {
  const { tpuLevel: level = 0, hosts, members, demands, fixed } = instance;
  const own = ranks.map(rank => placed[rank] ?? 0);
  const [first = 0] = own;
  // A finer level that is asked for makes them neighbours by itself, where nodes do not say which TPU slice they are in.
  const isSlice = isInDomain(instance, first, level) || isFinerAsked(instance, level);
  if (ranks.length > 1 && (domainsUsed(instance, own, level).size > 1 || !isSlice))
    return 'members with TPUs are not in one TPU slice';
  if (!isInDomain(instance, first, level) || ranks.every(rank => fixed.has(rank))) return undefined;
  const domain = domainOf(instance, first, level);
  const nodes = hosts.filter((_, host) => domainOf(instance, host, level) === domain);
  const shapes = new Set(nodes.flatMap(({ shape }) => (shape === '' ? [] : [shape])));
  const chips = Math.max(...nodes.map(({ allocatable }) => allocatable[1]));
  if (shapes.size === 0 || chips === 0) return undefined;
  const [shape = ''] = shapes;
  const wanted = shape.split('x').reduce((product, side) => product * Number(side), 1) / chips;
  if (shapes.size > 1 || !Number.isInteger(wanted) || wanted < 1) return 'in a TPU slice of unclear shape';
  if (wanted !== ranks.length) return `${ranks.length} members in a TPU slice of ${wanted} hosts`;
  if (wanted === 1) return undefined;
  if (nodes.length !== wanted) return 'in a TPU slice without all of its hosts';
  if (ranks.some(rank => demands[members[rank] ?? -1]?.amounts[1] !== chips)) return 'a host is shared';
  const kept = new Set([...fixed.values()].map(host => hosts[host]));
  const isUsed = nodes.some(host => !kept.has(host) && host.strangers.some(({ amounts }) => amounts[1] > 0));
  return isUsed ? 'in a TPU slice that others use' : undefined;
}
