import { k8s } from '../../../src/api/names.ts';
import { demandOfPod } from '../../../src/group/demand.ts';
import { FitMemo } from '../../../src/planner/fit.ts';
import type { PlanInput } from '../../../src/planner/plan.ts';
import { labelOf, nodeOf, snapshotOf } from '../../builders/fleet.ts';
import { decode } from '../../builders/planning.ts';
import { type Ask, podOf } from '../../builders/pods.ts';
import type { Amounts, Instance, SmallDemand, SmallHost } from './brute-force.ts';

/** A generator of numbers in [0, 1) that is the same everywhere for the same seed. */
export function mulberry32(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 15), z | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 4294967296;
  };
}

/** A small fleet and group. `kinds` distinct demands: with two the leader has the first and workers the second. */
export function instanceOf(seed: number, kinds: 2 | 3): Instance {
  const random = mulberry32(seed);
  const upTo = (n: number) => Math.floor(random() * (n + 1));
  const chance = (p: number) => random() < p;
  const levels = upTo(3);
  const size = kinds === 3 ? 3 + upTo(2) : 1 + upTo(4);
  const samePool = chance(0.2);
  const hostCount = 1 + upTo(6);
  const roomy = chance(0.5);
  const hosts = Array.from({ length: hostCount }, (_, i): SmallHost => {
    const allocatable: Amounts = [
      upTo(6) + (roomy ? 3 : 0),
      upTo(4) + (roomy ? 2 : 0),
      upTo(5) + (roomy ? 2 : 0),
    ];
    return {
      name: `n${(i * 5) % 7}`,
      path: Array.from({ length: levels }, () => (chance(0.1) ? '' : chance(0.5) ? 'x' : 'y')),
      pool: chance(0.2) ? '' : chance(0.5) ? 'p' : 'q',
      tainted: chance(0.15),
      cordoned: chance(0.05),
      excluded: chance(0.05),
      allocatable,
      podSlots: chance(0.2) ? upTo(3) : 9,
      used: chance(0.4) ? [upTo(3), upTo(2), upTo(2)] : undefined,
    };
  });
  const demand = (): SmallDemand => ({
    amounts: [upTo(3), chance(0.6) ? upTo(2) : 0, upTo(2)],
    pool: chance(0.15) ? 'p' : '',
    tolerates: chance(0.4),
    port: chance(0.1),
  });
  const demands = Array.from({ length: kinds }, demand);
  const alike = chance(0.25);
  const memberOf = (rank: number) => (kinds === 3 ? upTo(2) : rank === 0 || alike ? 0 : 1);
  const members = Array.from({ length: size }, (_, rank) => memberOf(rank));
  const fixed = new Map<number, number>();
  if (chance(0.2)) for (const rank of members.keys()) if (chance(0.4)) fixed.set(rank, upTo(hostCount - 1));
  const required = chance(0.45) ? -1 : upTo(levels);
  return { seed, levels, hosts, demands, members, required, samePool, fixed };
}

/** The same question in the planner's terms, by way of API objects. */
export function inputOfInstance(instance: Instance): PlanInput {
  const { levels, hosts, demands, members, required, samePool, fixed } = instance;
  const levelNames = Array.from({ length: levels }, (_, i) => `level-${i}`);
  const strangers = hosts.flatMap(({ name, used }) =>
    used === undefined ? [] : [podOf({ name: `s-${name}`, node: name, ...amountsOf(used) })],
  );
  const asks = demands.map(askOf);
  const pods = members.map((demand, rank) => {
    const host = fixed.get(rank);
    const node = host === undefined ? undefined : hosts[host]?.name;
    return podOf({
      name: `m-${rank}`,
      ...asks[demand],
      ...(node === undefined ? { gated: true } : { node }),
    });
  });
  const own = pods.map(decode);
  const fleet = {
    levels: levelNames.map(name => ({ name, nodeLabel: labelOf(name) })),
    nodes: hosts.map(host => nodeOfHost(host, levelNames)),
    pods: strangers,
  };
  const kept = pods.filter(pod => pod.spec.nodeName !== undefined);
  // A gated single keeps its spec; membership does not matter to a demand.
  return {
    demands: own.map(demandOfPod),
    topology: {
      requiredLevel: required < 0 ? undefined : required,
      preferredLevel: undefined,
      sameLabels: samePool ? ['pool'] : [],
    },
    snapshot: snapshotOf(fleet, kept),
    memo: new FitMemo(),
    fixed: new Map([...fixed].map(([rank, host]) => [rank, hosts[host]?.name ?? ''])),
    excludedNodes: new Map(hosts.filter(host => host.excluded).map(host => [host.name, 'excluded'])),
  };
}

function askOf({ amounts, pool, tolerates, port }: SmallDemand): Ask {
  return {
    ...amountsOf(amounts),
    ...(pool !== '' && { nodeSelector: { pool } }),
    ...(tolerates && { tolerations: [{ key: 'dedicated', operator: 'Exists' }] }),
    ...(port && { hostPort: 29500 }),
  };
}

function amountsOf([cpu, gpu, memoryGi]: Amounts): Ask {
  return { cpu, gpu, memoryGi };
}

function nodeOfHost(host: SmallHost, levelNames: readonly string[]) {
  const [cpu, gpu, memoryGi] = host.allocatable;
  const domains = levelNames.flatMap((name, i) =>
    host.path[i] === '' ? [] : [[labelOf(name), host.path[i] ?? ''] as const],
  );
  return nodeOf({
    name: host.name,
    labels: {
      ...Object.fromEntries(domains),
      ...(host.pool !== '' && { pool: host.pool }),
      [k8s.hostname]: host.name,
    },
    taints: host.tainted ? ['dedicated=x:NoSchedule'] : [],
    cordoned: host.cordoned,
    cpu,
    gpu,
    memoryGi,
    pods: host.podSlots,
  });
}
