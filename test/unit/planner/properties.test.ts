import fc from 'fast-check';
import t from 'tap';
import type { Node, Pod } from '../../../src/api/kubernetes.ts';
import { ClusterCache } from '../../../src/cache/cluster-cache.ts';
import { decodeNode } from '../../../src/cluster/node-info.ts';
import { FitMemo } from '../../../src/planner/fit.ts';
import { type PlanInput, planGroup } from '../../../src/planner/plan.ts';
import { type Fleet, labelOf, nodeOf, snapshotOf } from '../../builders/fleet.ts';
import { decode, type Verdict } from '../../builders/planning.ts';
import { type Ask, gpuName, podOf } from '../../builders/pods.ts';
import { fleetOfInstance, inputOfInstance } from './instance-input.ts';
import { type GroupMix, instanceOf, mulberry32 } from './instances.ts';
import { demandsOf, requestOf } from './plain-questions.ts';

const seed = Number(process.env['BERTH_SEED'] ?? 20260101);

t.setTimeout(120_000);

const mixes = fc.constantFrom<GroupMix>('leader and workers', 'three kinds', 'many kinds');

t.test('in which order nodes, pods and labels come changes nothing', async t => {
  fc.assert(
    fc.property(fc.nat(), mixes, fc.nat(), (instanceSeed, mix, order) => {
      const instance = instanceOf(instanceSeed, mix);
      const input = inputOfInstance(instance);
      const random = mulberry32(order);
      const other = shuffledInput(input, fleetOfInstance(instance).fleet, random);
      assertSame(planGroup(other), planGroup(input));
      const neighbours = shuffled(input.neighbours ?? [], random);
      assertSame(withoutCauses(planGroup({ ...input, neighbours })), withoutCauses(planGroup(input)));
    }),
    { seed, numRuns: 2_500 },
  );
  t.pass();
});

/** Of several groups that close one node to others the first is named. */
function withoutCauses(verdict: Verdict): object {
  return verdict.kind === 'rejection' ? { ...verdict, code: '', causes: [] } : verdict;
}

function shuffledInput(input: PlanInput, fleet: Fleet, random: () => number): PlanInput {
  const nodes = shuffled(fleet.nodes, random).map(node => ({
    ...node,
    metadata: {
      ...node.metadata,
      labels: Object.fromEntries(shuffled(Object.entries(node.metadata.labels ?? {}), random)),
    },
  }));
  return {
    ...input,
    snapshot: snapshotOf({ ...fleet, nodes, pods: shuffled(fleet.pods, random) }),
    warmNodes: shuffled([...(input.warmNodes ?? [])], random),
    fixed: new Map(shuffled([...(input.fixed ?? [])], random)),
    excludedNodes: new Map(shuffled([...(input.excludedNodes ?? [])], random)),
  };
}

function shuffled<T>(values: readonly T[], random: () => number): T[] {
  return values
    .map(value => ({ value, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ value }) => value);
}

interface Stream {
  readonly nodes: readonly {
    readonly gpu: number;
    readonly cpu: number;
    readonly pods: number;
    readonly rack: number;
  }[];
  readonly groups: readonly Group[];
}

interface Group {
  readonly size: number;
  readonly leader: Ask;
  readonly worker: Ask;
  readonly required: boolean;
}

const ask = fc.record({
  gpu: fc.integer({ min: 0, max: 4 }),
  cpu: fc.integer({ min: 0, max: 3 }),
  memoryGi: fc.integer({ min: 0, max: 2 }),
  hostPort: fc.constantFrom(0, 0, 0, 80, 443),
});

const streams: fc.Arbitrary<Stream> = fc.record({
  nodes: fc.array(
    fc.record({
      gpu: fc.integer({ min: 0, max: 8 }),
      cpu: fc.integer({ min: 1, max: 12 }),
      pods: fc.integer({ min: 0, max: 6 }),
      rack: fc.nat({ max: 3 }),
    }),
    { minLength: 1, maxLength: 16 },
  ),
  groups: fc.array(
    fc.record({ size: fc.integer({ min: 1, max: 6 }), leader: ask, worker: ask, required: fc.boolean() }),
    { minLength: 1, maxLength: 10 },
  ),
});

t.test('whatever is planned one after the other, no place is used twice', async t => {
  let placed = 0;
  fc.assert(
    fc.property(streams, ({ nodes, groups }) => {
      const fleet = nodes.map(({ rack, ...parts }, at) =>
        nodeOf({ name: `n${at}`, ...parts, memoryGi: 6, labels: { [labelOf('rack')]: `r${rack}` } }),
      );
      const pods: Pod[] = [];
      const cache = new ClusterCache({ levels: [{ name: 'rack', nodeLabel: labelOf('rack') }] });
      cache.nodes.replace(fleet.map(decodeNode));
      for (const [serial, group] of groups.entries()) {
        const plan = planGroup(inputFor(cache, group));
        if (plan.kind !== 'plan') continue;
        placed++;
        for (const [rank, node] of plan.nodes.entries()) {
          const pod = podOf({ name: `g${serial}-${rank}`, ...askFor(group, rank), node });
          pods.push(pod);
          cache.pods.upsert(decode(pod));
        }
      }
      for (const node of fleet) assertWithin(node, pods);
    }),
    { seed, numRuns: 400 },
  );
  t.ok(placed > 400, `${placed} groups placed`);
});

function askFor({ leader, worker }: Group, rank: number): Ask {
  const { hostPort, ...rest } = rank === 0 ? leader : worker;
  return { ...rest, ...(hostPort !== 0 && hostPort !== undefined && { hostPort }) };
}

function inputFor(cache: ClusterCache, group: Group): PlanInput {
  const demands = demandsOf(Array.from({ length: group.size }, (_, rank) => askFor(group, rank)));
  const topology = requestOf(group.required ? { requiredLevel: 0 } : {});
  return { ...inputBase(cache), demands, topology };
}

function inputBase(cache: ClusterCache): Pick<PlanInput, 'snapshot' | 'memo'> {
  return { snapshot: cache.snapshot(), memo: memoOf(cache) };
}

const memos = new WeakMap<ClusterCache, PlanInput['memo']>();

function memoOf(cache: ClusterCache): PlanInput['memo'] {
  const memo = memos.get(cache) ?? new FitMemo();
  memos.set(cache, memo);
  return memo;
}

/** Adds up from the API objects alone. */
function assertWithin(node: Node, pods: readonly Pod[]): void {
  const own = pods.filter(({ spec }) => spec.nodeName === node.metadata.name);
  const allocatable = node.status?.allocatable ?? {};
  const sum = (name: string) =>
    own.reduce(
      (total, { spec }) =>
        total + Number.parseInt(`${spec.containers[0]?.resources?.requests?.[name] ?? 0}`, 10),
      0,
    );
  for (const name of ['cpu', 'memory', gpuName])
    if (sum(name) > Number.parseInt(`${allocatable[name] ?? 0}`, 10))
      throw new Error(`${node.metadata.name}: ${name}`);
  if (own.length > Number(allocatable['pods'])) throw new Error(`${node.metadata.name}: pods`);
  const ports = own.flatMap(
    ({ spec }) => spec.containers[0]?.ports?.flatMap(({ hostPort }) => hostPort ?? []) ?? [],
  );
  if (new Set(ports).size < ports.length) throw new Error(`${node.metadata.name}: ports`);
}

function assertSame(actual: unknown, expected: unknown): void {
  if (JSON.stringify(actual) !== JSON.stringify(expected))
    throw new Error(`${JSON.stringify(actual)} is not ${JSON.stringify(expected)}`);
}
