import type { Pod } from '../../../src/api/kubernetes.ts';
import type { NodeUse } from '../../../src/cluster/node-info.ts';
import type { PlanInput } from '../../../src/planner/plan.ts';
import type { Unit } from '../../../src/planner/release.ts';
import { type Fleet, labelOf, nodeOf } from '../../builders/fleet.ts';
import { decode, questionOf } from '../../builders/planning.ts';
import { gpuName, podOf } from '../../builders/pods.ts';
import { mulberry32 } from './instances.ts';

/** Hosts that differ in GPUs only, so that what fits where can be told by plain arithmetic. */
export interface PlainHost {
  readonly name: string;
  readonly block: string;
  readonly rack: string;
  readonly gpu: number;
  readonly cordoned: boolean;
}

export interface PlainUnit {
  readonly name: string;
  readonly kind: 'group' | 'pod';
  readonly priority: number;
  readonly budgetsForbid: boolean;
  readonly kept: boolean;
  readonly going: boolean;
  /** One pod each. */
  readonly uses: readonly { readonly host: string; readonly gpu: number; readonly bound: boolean }[];
}

export interface PlainInstance {
  readonly seed: number;
  readonly hosts: readonly PlainHost[];
  readonly units: readonly PlainUnit[];
  readonly workers: number;
  readonly workerGpu: number;
  /** Undefined where the leader is like the workers, and counted among them. */
  readonly leaderGpu: number | undefined;
  readonly required: 'block' | 'rack' | 'host' | undefined;
  readonly priority: number;
}

/** A small fleet that is rather full, and a group that asks for more than is free, more often than not. */
export function plainInstance(seed: number, maxUnits: number): PlainInstance {
  const random = mulberry32(seed);
  const upTo = (n: number) => Math.floor(random() * (n + 1));
  const chance = (p: number) => random() < p;
  const many = maxUnits > 12;
  const hosts = Array.from({ length: many ? 10 + upTo(8) : 2 + upTo(6) }, (_, i): PlainHost => {
    const rack = upTo(2);
    const block = rack === 2 ? 'b1' : 'b0';
    return { name: `n${i}`, block, rack: `r${rack}`, gpu: 2 + upTo(6), cordoned: chance(0.08) };
  });
  const left = new Map(hosts.map(({ name, gpu }) => [name, gpu]));
  const units: PlainUnit[] = [];
  for (let i = many ? maxUnits - upTo(12) : upTo(maxUnits); i > 0; i--) {
    const uses: PlainUnit['uses'][number][] = [];
    for (let pods = 1 + upTo(2); pods > 0; pods--) {
      const host = hosts[upTo(hosts.length - 1)]?.name ?? '';
      const gpu = Math.min(1 + upTo(3), left.get(host) ?? 0);
      if (gpu === 0) continue;
      left.set(host, (left.get(host) ?? 0) - gpu);
      uses.push({ host, gpu, bound: chance(0.8) });
    }
    if (uses.length === 0) continue;
    units.push({
      name: `u${String.fromCharCode(97 + ((i * 7) % 26))}${i}`,
      kind: uses.length > 1 || chance(0.5) ? 'group' : 'pod',
      priority: [-10, 0, 0, 5, 10, 20][upTo(5)] ?? 0,
      budgetsForbid: chance(0.15),
      kept: chance(0.08),
      going: chance(0.06),
      uses,
    });
  }
  const workers = 1 + upTo(many ? 9 : 4);
  return {
    seed,
    hosts,
    units,
    workers,
    workerGpu: 1 + upTo(3),
    leaderGpu: chance(0.3) ? upTo(2) : undefined,
    required: ([undefined, 'block', 'rack', 'rack', 'host'] as const)[upTo(4)],
    priority: 10,
  };
}

/** Whether the group fits when only these units stand: a leader is tried on each host. */
export function plainlyFits(instance: PlainInstance, standing: readonly PlainUnit[]): boolean {
  const { hosts, workers, workerGpu, leaderGpu, required } = instance;
  const used = new Map<string, number>();
  for (const { host, gpu } of standing.flatMap(unit => unit.uses))
    used.set(host, (used.get(host) ?? 0) + gpu);
  const usable = hosts
    .filter(host => !host.cordoned)
    .map(host => ({ ...host, free: host.gpu - (used.get(host.name) ?? 0) }));
  const domainOf = (host: PlainHost) => {
    if (required === undefined) return '';
    return required === 'host' ? host.name : required === 'rack' ? host.rack : host.block;
  };
  return [...Map.groupBy(usable, domainOf).values()].some(domain => {
    const slots = (free: number) => Math.max(0, Math.floor(free / workerGpu));
    const all = domain.reduce((sum, host) => sum + slots(host.free), 0);
    if (leaderGpu === undefined) return all >= workers;
    return domain.some(
      host => host.free >= leaderGpu && all - slots(host.free) + slots(host.free - leaderGpu) >= workers,
    );
  });
}

/** The same in the planner's terms. */
export function questionOfPlain(instance: PlainInstance): { input: PlanInput; units: readonly Unit[] } {
  const { hosts, units, workers, workerGpu, leaderGpu, required } = instance;
  const fleet: Fleet = {
    levels: ['block', 'rack'].map(name => ({ name, nodeLabel: labelOf(name) })),
    nodes: hosts.map(({ name, gpu, block, rack, cordoned }) =>
      nodeOf({ name, gpu, cordoned, labels: { [labelOf('block')]: block, [labelOf('rack')]: rack } }),
    ),
    pods: [],
  };
  const placed = units.map(unit => ({ unit, pods: podsOf(unit) }));
  const input = questionOf(fleet, {
    size: workers + (leaderGpu === undefined ? 0 : 1),
    worker: { gpu: workerGpu },
    ...(leaderGpu !== undefined && { leader: { gpu: leaderGpu, cpu: 1 } }),
    ...(required !== undefined && { required }),
    pods: placed.flatMap(({ pods }) => pods),
  });
  return { input, units: placed.map(({ unit, pods }) => unitOf(unit, pods)) };
}

/** A use of one node by a pod of so many GPUs. */
export function gpuUse(gpu: number): NodeUse {
  const requests = new Map([
    [gpuName, gpu],
    ['pods', 1],
  ]);
  return { requests, hostPorts: [], takesAccelerator: gpu > 0 };
}

function podsOf({ name, uses, priority }: PlainUnit): readonly Pod[] {
  return uses.map(({ host, gpu, bound }, i) =>
    podOf({
      name: `${name}-${i}`,
      namespace: 'victims',
      gpu,
      priority,
      ...(bound ? { node: host } : { pinnedTo: host }),
    }),
  );
}

function unitOf(
  { name, kind, priority, budgetsForbid, kept, going, uses }: PlainUnit,
  pods: readonly Pod[],
): Unit {
  return {
    key: `victims/${name}`,
    kind,
    owner: `victims/${name}`,
    state: going ? 'going' : 'stays',
    whole: true,
    priority,
    pods: pods.length,
    uses: pods.map((pod, i) => ({
      node: uses[i]?.host ?? '',
      bound: uses[i]?.bound === true,
      use: decode(pod),
    })),
    existing: [],
    whyKept: kept ? 'its namespace has not opted in' : undefined,
    budgetsForbid: budgetsForbid ? 'a PodDisruptionBudget forbids it' : undefined,
  };
}
