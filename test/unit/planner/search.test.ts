import fc from 'fast-check';
import t from 'tap';
import { k8s } from '../../../src/api/names.ts';
import { buildNodeInfo, decodeNode, type NodeInfo } from '../../../src/cluster/node-info.ts';
import { NodeList } from '../../../src/cluster/node-list.ts';
import type { ClusterSnapshot } from '../../../src/cluster/snapshot.ts';
import { buildTopologyTree, type TopologyDomain } from '../../../src/cluster/topology.ts';
import { demandOfPod, type MemberDemand } from '../../../src/group/demand.ts';
import { decodePod, podShare } from '../../../src/group/pod-info.ts';
import { FitMemo } from '../../../src/planner/fit.ts';
import { keepApartOnHost } from '../../../src/planner/inter-pod.ts';
import { type SearchOptions, searchBudget, searchMixed } from '../../../src/planner/search.ts';
import { labelOf, nodeOf } from '../../builders/fleet.ts';

import { podOf, requiredDuringScheduling } from '../../builders/pods.ts';
import { mulberry32 } from './instances.ts';

const firstSeed = Number(process.env['BERTH_SEED'] ?? 20260101);

/** CPU, GPU, memory. */
type Amounts = readonly [number, number, number];

interface PlainHost {
  readonly free: Amounts;
  /** Index of its rack; -1 for none. */
  readonly rack: number;
  readonly untouched: boolean;
  readonly kept: boolean;
  /** Anti-affinity over the host name means nothing without the label. */
  readonly named: boolean;
}

interface PlainKind {
  readonly amounts: Amounts;
  readonly port: boolean;
  readonly role: string;
  /** The role that may not stand on the same host. */
  readonly repels: string | undefined;
  /** Hosts where other pods keep its role away. */
  readonly barred: ReadonlySet<number>;
}

interface PlainInstance {
  readonly hosts: readonly PlainHost[];
  readonly kinds: readonly PlainKind[];
  /** Kind by rank. */
  readonly members: readonly number[];
  readonly slices?: readonly (readonly number[])[];
  readonly apartSlices?: boolean;
}

/** How good a placement is: smaller is better, element by element. */
type Score = readonly [racks: number, hosts: number, whole: number];

/** Undefined where no assignment is right. */
function bestScore(instance: PlainInstance): Score | undefined {
  const { hosts, members } = instance;
  const placed: number[] = [];
  let best: Score | undefined;
  const place = (rank: number): void => {
    if (rank === members.length) {
      if (sliceFault(instance, placed) !== undefined) return;
      const score = scoreOf(instance, placed);
      if (best === undefined || compareScores(score, best) < 0) best = score;
      return;
    }
    for (const host of hosts.keys()) {
      placed.push(host);
      if (isRightOn(instance, placed, host)) place(rank + 1);
      placed.pop();
    }
  };
  place(0);
  return best;
}

function scoreOf({ hosts, slices }: PlainInstance, placed: readonly number[]): Score {
  const opened = [...new Set(placed)].filter(host => !hosts[host]?.kept);
  const racks = new Set(placed.map(host => hosts[host]?.rack ?? -1));
  const whole = opened.filter(host => hosts[host]?.untouched).length;
  return [slices === undefined ? 0 : racks.size, opened.length, whole];
}

function compareScores(a: Score, b: Score): number {
  return a[0] - b[0] || a[1] - b[1] || a[2] - b[2];
}

/** Whether the members so far can stand on a host together. */
function isRightOn({ hosts, kinds, members }: PlainInstance, placed: readonly number[], at: number): boolean {
  const host = hosts[at];
  const there = placed.flatMap((node, rank) => (node === at ? (kinds[members[rank] ?? -1] ?? []) : []));
  if (host === undefined || there.some(kind => kind.barred.has(at))) return false;
  if (there.filter(({ port }) => port).length > 1) return false;
  for (const [i, amount] of host.free.entries())
    if (there.reduce((sum, { amounts }) => sum + (amounts[i] ?? 0), 0) > amount) return false;
  if (!host.named) return true;
  return there.every((kind, i) => there.every((other, j) => i === j || kind.repels !== other.role));
}

function sliceFault(
  { hosts, slices = [], apartSlices }: PlainInstance,
  placed: readonly number[],
): string | undefined {
  const homes: number[] = [];
  for (const slice of slices) {
    const racks = [...new Set(slice.map(rank => hosts[placed[rank] ?? -1]?.rack ?? -1))];
    const [rack = -1] = racks;
    if (racks.length > 1 || rack < 0) return `slice ${slice.join()} is torn`;
    if (apartSlices && homes.includes(rack)) return `rack ${rack} has two slices`;
    homes.push(rack);
  }
  return undefined;
}

/** What is wrong with a placement. */
function faultOf(instance: PlainInstance, placed: readonly number[]): string | undefined {
  const unplaced = instance.members.findIndex((_, rank) => instance.hosts[placed[rank] ?? -1] === undefined);
  if (unplaced !== -1) return `rank ${unplaced} has no host`;
  const overfull = [...new Set(placed)].find(host => !isRightOn(instance, placed, host));
  return overfull === undefined ? sliceFault(instance, placed) : `host ${overfull} cannot take that`;
}

function demandOf({ amounts: [cpu, gpu, memoryGi], port, role, repels }: PlainKind): MemberDemand {
  const term = { topologyKey: k8s.hostname, labelSelector: { matchLabels: { role: repels ?? '' } } };
  const pod = podOf({
    name: 'm',
    gated: true,
    cpu,
    gpu,
    memoryGi,
    labels: { role },
    ...(port && { hostPort: 29500 }),
    ...(repels !== undefined && { affinity: { podAntiAffinity: { [requiredDuringScheduling]: [term] } } }),
  });
  return demandOfPod(decodePod(pod, podShare()));
}

/** The same question in the words of the search. */
function optionsOf(instance: PlainInstance): SearchOptions & { readonly domain: TopologyDomain } {
  const { hosts, kinds, members } = instance;
  const rack = labelOf('rack');
  const records = hosts.map((host, index) => {
    const [cpu, gpu, memoryGi] = host.free;
    const record = decodeNode(
      nodeOf({
        name: `n${String(index).padStart(5, '0')}`,
        cpu,
        gpu,
        memoryGi,
        pods: 500,
        ...(host.rack >= 0 && { labels: { [rack]: `r${String(host.rack).padStart(5, '0')}` } }),
      }),
    );
    const { [k8s.hostname]: _, ...labels } = record.labels;
    return host.named ? record : { ...record, labels };
  });
  const tree = buildTopologyTree([{ name: 'rack', nodeLabel: rack }], records);
  const inTreeOrder = tree.nodeNames.map(name => records.findIndex(record => record.name === name));
  const nodes = inTreeOrder.flatMap(index => {
    const record = records[index];
    if (record === undefined) return [];
    const use = { requests: new Map(), hostPorts: [], takesAccelerator: true };
    return [buildNodeInfo(record, hosts[index]?.untouched ? [] : [use], [])];
  });
  const snapshot: ClusterSnapshot = {
    tree,
    nodes: NodeList.of(nodes),
    existingPods: () => [],
    repellingPods: () => [],
    namespaceLabels: () => ({}),
  };
  const demands = kinds.map(demandOf);
  const kindOf = new Map(demands.map((demand, kind) => [demand, kind]));
  const barred = (demand: MemberDemand, node: number) =>
    kinds[kindOf.get(demand) ?? -1]?.barred.has(inTreeOrder[node] ?? -1) ?? true;
  return {
    snapshot,
    memo: new FitMemo(),
    domain: tree.root,
    members: members.flatMap((kind, rank) => {
      const demand = demands[kind];
      return demand === undefined ? [] : [{ rank, demand }];
    }),
    admits: (demand, node) => !barred(demand, node),
    apart: (a, b, node) => keepApartOnHost(snapshot, a, b)(snapshot.nodes.at(node)?.record.labels ?? {}),
    keptNodes: new Set(inTreeOrder.flatMap((index, node) => (hosts[index]?.kept ? [node] : []))),
    budget: searchBudget(),
    ...(instance.slices && {
      slices: instance.slices,
      sliceDomains: tree.domainsByLevel[0] ?? [],
      apartSlices: instance.apartSlices === true,
    }),
  };
}

type Search = (options: SearchOptions) => ReturnType<typeof searchMixed>;

/** The answer in the instance's own host numbers. */
function answerOf(
  instance: PlainInstance,
  search: Search = searchMixed,
): readonly number[] | 'none' | 'undecided' {
  const options = optionsOf(instance);
  const found = search(options);
  if (found === undefined) return 'none';
  if ('kind' in found) return 'undecided';
  return instance.members.map((_, rank) => {
    const name = options.snapshot.tree.nodeNames[found.get(rank) ?? -1];
    return name === undefined ? -1 : Number(name.slice(1));
  });
}

interface Tally {
  placed: number;
  refused: number;
  undecided: number;
}

/** What is wrong with the answer, held against every assignment there is; undefined when nothing is. */
function disagreement(instance: PlainInstance, search: Search, tally: Tally): string | undefined {
  const best = bestScore(instance);
  const answer = answerOf(instance, search);
  if (answer === 'undecided') {
    tally.undecided++;
    return 'undecided on a fleet this small';
  }
  if (answer === 'none') {
    tally.refused++;
    return best === undefined ? undefined : `refused, though ${best.join()} can be had`;
  }
  tally.placed++;
  const fault = faultOf(instance, answer);
  if (fault !== undefined) return `${answer.join(' ')}: ${fault}`;
  if (instance.slices === undefined && !isInRankOrder(instance, answer))
    return `${answer.join(' ')}: out of order`;
  if (best === undefined) return `${answer.join(' ')}, though nothing was found`;
  const score = scoreOf(instance, answer);
  return compareScores(score, best) === 0
    ? undefined
    : `scores ${score.join()} where ${best.join()} can be had`;
}

/** Of members of one kind the first ranks stand on the first hosts. */
function isInRankOrder({ members }: PlainInstance, placed: readonly number[]): boolean {
  return members.every((kind, rank) => {
    const before = members.slice(0, rank).lastIndexOf(kind);
    return before === -1 || (placed[before] ?? -1) <= (placed[rank] ?? -1);
  });
}

function compare(
  generate: (seed: number) => PlainInstance,
  count: number,
  search: Search = searchMixed,
): { readonly tally: Tally; readonly faults: readonly string[] } {
  const tally = { placed: 0, refused: 0, undecided: 0 };
  const faults: string[] = [];
  for (let seed = firstSeed; seed < firstSeed + count; seed++) {
    const fault = disagreement(generate(seed), search, tally);
    if (fault !== undefined) faults.push(`seed ${seed}: ${fault}`);
  }
  return { tally, faults };
}

interface Dice {
  readonly upTo: (n: number) => number;
  readonly chance: (p: number) => boolean;
}

function diceFor(seed: number): Dice {
  const random = mulberry32(seed);
  return { upTo: n => Math.floor(random() * (n + 1)), chance: p => random() < p };
}

const roles = ['leader', 'prefill', 'decode', 'encode'] as const;

/** Some hosts for each role. */
function barredHosts({ chance }: Dice, hosts: number): ReadonlyMap<string, ReadonlySet<number>> {
  const some = () => new Set(Array.from({ length: hosts }, (_, host) => host).filter(() => chance(0.12)));
  return new Map(roles.map(role => [role, some()]));
}

function plainKind({ upTo, chance }: Dice, barred: ReadonlyMap<string, ReadonlySet<number>>): PlainKind {
  const anyRole = () => roles[upTo(roles.length - 1)] ?? 'leader';
  const role = anyRole();
  return {
    amounts: [upTo(3), chance(0.6) ? upTo(2) : 0, upTo(2)],
    port: chance(0.12),
    role,
    repels: chance(0.15) ? anyRole() : undefined,
    barred: barred.get(role) ?? new Set(),
  };
}

/** Few enough members and hosts that every assignment can be tried, and hardly more room than they need. */
function smallInstance(seed: number): PlainInstance {
  const dice = diceFor(seed);
  const { upTo, chance } = dice;
  const hostCount = 1 + upTo(4);
  const kindCount = 3 + upTo(1);
  const barred = barredHosts(dice, hostCount);
  const kinds = Array.from({ length: kindCount }, () => plainKind(dice, barred));
  // Kinds that ask for the same and differ by what others think of them.
  if (chance(0.3))
    kinds[1] = { ...plainKind(dice, barred), amounts: kinds[0]?.amounts ?? [1, 1, 1], repels: undefined };
  const members = Array.from({ length: 3 + upTo(3) }, () => upTo(kindCount - 1));
  const roomy = chance(0.6) ? 3 : 1;
  const hosts = Array.from({ length: hostCount }, () => ({
    free: [1 + upTo(5) + roomy, upTo(4) + roomy, upTo(4) + roomy] as const,
    rack: -1,
    untouched: chance(0.5),
    kept: chance(0.1),
    named: chance(0.9),
  }));
  return { hosts, kinds, members };
}

/** The same in racks, with some members in slices. */
function slicedInstance(seed: number): PlainInstance {
  const { upTo, chance } = diceFor(seed + 1_000_000);
  const { hosts, kinds, members } = smallInstance(seed);
  const alike = chance(0.6);
  const size = 1 + upTo(2);
  const slices: number[][] = [];
  for (let rank = chance(0.5) ? 1 : 0; rank + size <= members.length; rank += size)
    slices.push(Array.from({ length: size }, (_, i) => rank + i));
  return {
    hosts: hosts.map(host => ({ ...host, kept: false, rack: chance(0.1) ? -1 : upTo(2) })),
    kinds: kinds.map(kind => ({ ...kind, port: false, repels: chance(0.5) ? undefined : kind.repels })),
    members: alike ? members.map((_, rank) => (rank === 0 ? 0 : 1 + (rank % 2))) : members,
    slices,
    apartSlices: chance(0.3),
  };
}

/** Members and hosts in numbers as they occur, of odd sizes, with little room to spare. */
function tightInstance(seed: number): PlainInstance {
  const { upTo, chance } = diceFor(seed);
  const [hostCount, kindCount, size] = [16, 4, 16];
  const kinds = Array.from(
    { length: kindCount },
    (_, kind): PlainKind => ({
      amounts: [3 + upTo(12), 1 + upTo(7), 3 + upTo(12)],
      port: chance(0.1),
      role: roles[kind] ?? 'leader',
      repels: chance(0.15) ? roles[upTo(kindCount - 1)] : undefined,
      barred: new Set(Array.from({ length: hostCount }, (_, host) => host).filter(() => chance(0.1))),
    }),
  );
  const members = Array.from({ length: size }, (_, rank) => (rank < kindCount ? rank : upTo(kindCount - 1)));
  const need = (i: number) => members.reduce((sum, kind) => sum + (kinds[kind]?.amounts[i] ?? 0), 0);
  const perCent = 110 + upTo(90);
  const weights = Array.from({ length: hostCount }, () => 50 + upTo(100));
  const weight = weights.reduce((sum, w) => sum + w, 0);
  const room = (w: number, i: number) => Math.ceil((need(i) * perCent * w) / (100 * weight));
  const hosts = weights.map(w => ({
    free: [room(w, 0), room(w, 1), room(w, 2)] as const,
    rack: -1,
    untouched: chance(0.5),
    kept: false,
    named: true,
  }));
  return { hosts, kinds, members };
}

/** Members that are known to fit: hosts are cut to measure around them, and some more are too small for most. */
function fittingInstance(seed: number, size = 16): PlainInstance & { readonly filled: number } {
  const { upTo, chance } = diceFor(seed);
  const [kindCount, filled, others] = [size > 16 ? 7 : 4, Math.ceil(size / 3) + upTo(3), upTo(9)];
  const kinds = Array.from(
    { length: kindCount },
    (): PlainKind => ({
      amounts: [3 + upTo(12), 1 + upTo(7), 3 + upTo(12)],
      port: false,
      role: 'decode',
      repels: undefined,
      barred: new Set(),
    }),
  );
  const members = Array.from({ length: size }, () => upTo(kindCount - 1));
  const at = members.map(() => upTo(filled - 1));
  const spare = chance(0.5) ? 0 : 2;
  const taken = (host: number, i: number) =>
    members.reduce((sum, kind, rank) => sum + (at[rank] === host ? (kinds[kind]?.amounts[i] ?? 0) : 0), 0);
  const hosts = Array.from({ length: filled + others }, (_, host): PlainHost => {
    const room = (i: number) => (host < filled ? taken(host, i) + upTo(spare) : upTo(9));
    return { free: [room(0), room(1), room(2)], rack: -1, untouched: false, kept: false, named: true };
  });
  return { hosts, kinds, members, filled };
}

const unsliced = 5_000;
const sliced = 2_000;
const tight = 1_500;

// Slow on a busy machine: some ten thousand searches.
t.setTimeout(120_000);

t.test('members of three and four kinds: as trying every assignment says', async t => {
  const { tally, faults } = compare(smallInstance, unsliced);
  t.comment(`seeds from ${firstSeed}: ${JSON.stringify(tally)}`);
  t.same(faults.slice(0, 5), []);
  t.ok(tally.placed > unsliced / 5 && tally.refused > unsliced / 5, 'both verdicts are well represented');
});

t.test('slices: as trying every assignment says', async t => {
  const { tally, faults } = compare(slicedInstance, sliced);
  t.comment(`seeds from ${firstSeed}: ${JSON.stringify(tally)}`);
  t.same(faults.slice(0, 5), []);
  t.ok(tally.placed > sliced / 5 && tally.refused > sliced / 5, 'both verdicts are well represented');
});

t.test('16 members of four kinds on 16 hosts with little to spare: never undecided', async t => {
  const tally = { placed: 0, refused: 0, undecided: 0 };
  const faults: string[] = [];
  for (let seed = firstSeed; seed < firstSeed + tight; seed++) {
    const instance = tightInstance(seed);
    const answer = answerOf(instance);
    if (answer === 'undecided') tally.undecided++;
    else if (answer === 'none') tally.refused++;
    else {
      tally.placed++;
      const fault = faultOf(instance, answer);
      if (fault !== undefined) faults.push(`seed ${seed}: ${fault}`);
    }
  }
  t.comment(`seeds from ${firstSeed}: ${JSON.stringify(tally)}`);
  t.same(faults, []);
  t.equal(tally.undecided, 0);
  t.ok(tally.placed > tight / 5 && tally.refused > tight / 5, 'both verdicts are well represented');
});

t.test('16 members that are known to fit exactly are always placed, on no more hosts', async t => {
  const faults: string[] = [];
  for (let seed = firstSeed; seed < firstSeed + tight; seed++) {
    const instance = fittingInstance(seed);
    const answer = answerOf(instance);
    if (typeof answer === 'string') faults.push(`seed ${seed}: ${answer}`);
    else if (new Set(answer).size > instance.filled) faults.push(`seed ${seed}: too many hosts`);
    else if (faultOf(instance, answer) !== undefined)
      faults.push(`seed ${seed}: ${faultOf(instance, answer)}`);
  }
  t.same(faults.slice(0, 5), []);
});

t.test('40 members that are known to fit exactly may be left undecided, but are never refused', async t => {
  const answers = { placed: 0, none: 0, undecided: 0 };
  for (let seed = firstSeed; seed < firstSeed + 40; seed++) {
    const answer = answerOf(fittingInstance(seed, 40));
    answers[typeof answer === 'string' ? answer : 'placed']++;
  }
  t.comment(`seeds from ${firstSeed}: ${JSON.stringify(answers)}`);
  t.equal(answers.none, 0);
  t.ok(answers.placed > answers.undecided);
});

t.test('whatever the budget, a verdict is right', async t => {
  const tally = { placed: 0, refused: 0, undecided: 0 };
  const anySmall = fc.record({ seed: fc.nat(1_000_000), trials: fc.nat(400), inSlices: fc.boolean() });
  const isRight = fc.property(anySmall, ({ seed, trials, inSlices }) => {
    const instance = inSlices ? slicedInstance(seed) : smallInstance(seed);
    const answer = answerOf(instance, options => searchMixed({ ...options, budget: { trials } }));
    if (answer === 'undecided') tally.undecided++;
    else if (answer === 'none') tally.refused++;
    else tally.placed++;
    if (answer === 'undecided') return true;
    const best = bestScore(instance);
    return answer === 'none' ? best === undefined : faultOf(instance, answer) === undefined;
  });
  t.doesNotThrow(() => fc.assert(isRight, { numRuns: 2_000, seed: firstSeed }));
  t.comment(JSON.stringify(tally));
  t.ok(tally.undecided > 100 && tally.placed > 100 && tally.refused > 100);
});

t.test('the order in which members are given does not matter', async t => {
  const shuffled = fc
    .record({ seed: fc.nat(1_000_000), inSlices: fc.boolean() })
    .map(({ seed, inSlices }) => (inSlices ? slicedInstance(seed) : smallInstance(seed)))
    .chain(instance => {
      const ranks = [...instance.members.keys()];
      const order = fc.shuffledSubarray(ranks, { minLength: ranks.length, maxLength: ranks.length });
      return order.map(inOrder => ({ instance, inOrder }));
    });
  const inAnyOrder = fc.property(shuffled, ({ instance, inOrder }) => {
    const other = answerOf(instance, options => {
      const members = inOrder.flatMap(rank => options.members.filter(member => member.rank === rank));
      return searchMixed({ ...options, members });
    });
    return String(other) === String(answerOf(instance));
  });
  t.doesNotThrow(() => fc.assert(inAnyOrder, { numRuns: 500, seed: firstSeed }));
});

t.test('of equal placements, hosts in use come before whole ones, and then the first', async t => {
  const host = (untouched: boolean): PlainHost => {
    return { free: [8, 8, 8], rack: -1, untouched, kept: false, named: true };
  };
  const kind = (gpu: number): PlainKind => {
    return { amounts: [1, gpu, 1], port: false, role: 'decode', repels: undefined, barred: new Set() };
  };
  const hostsFor = (...untouched: readonly boolean[]): readonly unknown[] => [
    ...answerOf({ hosts: untouched.map(host), kinds: [kind(2), kind(3), kind(4)], members: [0, 1, 1, 2, 2] }),
  ];
  t.same(hostsFor(false, false, false, false), [0, 0, 0, 1, 1]);
  t.same(new Set(hostsFor(true, true, true, true)), new Set([0, 1]));
  t.same(new Set(hostsFor(true, false, true, false)), new Set([1, 3]));
  t.same(new Set(hostsFor(true, true, true, false)), new Set([0, 3]));
});

t.test('groups of thousands take no long time', async t => {
  const amounts: readonly Amounts[] = [
    [1, 0, 1],
    [4, 1, 2],
    [5, 2, 3],
    [9, 4, 2],
  ];
  const noOne: ReadonlySet<number> = new Set();
  const kindOf = (asked: Amounts, role = 'decode'): PlainKind => {
    return { amounts: asked, port: false, role, repels: undefined, barred: noOne };
  };
  const fleet = (count: number, free: (host: number) => Amounts): readonly PlainHost[] =>
    Array.from({ length: count }, (_, host) => {
      const rack = Math.floor(host / 8);
      return { free: free(host), rack, untouched: true, kept: false, named: true };
    });
  const members = Array.from({ length: 10_000 }, (_, rank) => rank % 4);
  const kinds = amounts.map(asked => kindOf(asked));
  const slices = Array.from({ length: 1_250 }, (_, slice) =>
    members.slice(0, 8).map((_, i) => slice * 8 + i),
  );
  const distinct = members.map((_, rank) => kindOf([1 + (rank % 100), 1, 1 + Math.floor(rank / 100)]));
  const cases: Readonly<Record<string, { instance: PlainInstance; wanted: string }>> = {
    'four kinds with room': {
      instance: { hosts: fleet(2_500, host => [32, 8, 24 + (host % 7)]), kinds, members },
      wanted: 'placed',
    },
    'four kinds, one device short': {
      instance: { hosts: fleet(2_188, host => [60, host === 0 ? 3 : 8, 60]), kinds, members },
      wanted: 'none',
    },
    'four kinds that just fit': {
      instance: { hosts: fleet(2_188, host => [60, 8, 60 + (host % 9)]), kinds, members },
      wanted: 'placed',
    },
    'hosts that differ, hardly any room to spare': {
      instance: { hosts: fleet(2_000, host => [19 + (host % 11), 9, 9 + (host % 5)]), kinds, members },
      wanted: 'any',
    },
    'no two members alike, on few hosts': {
      instance: {
        hosts: fleet(40, () => [20_000, 300, 20_000]),
        kinds: distinct,
        members: [...distinct.keys()],
      },
      wanted: 'placed',
    },
    'no two members alike, on many hosts': {
      instance: {
        hosts: fleet(400, () => [2_000, 30, 2_000]),
        kinds: distinct,
        members: [...distinct.keys()],
      },
      wanted: 'undecided',
    },
    'slices with room': {
      instance: { hosts: fleet(2_500, () => [32, 8, 24]), kinds, members, slices },
      wanted: 'placed',
    },
  };
  for (const [name, { instance, wanted }] of Object.entries(cases)) {
    let tookMs = 0;
    const answer = answerOf(instance, options => {
      const startedAt = performance.now();
      const found = searchMixed(options);
      tookMs = performance.now() - startedAt;
      return found;
    });
    const verdict = typeof answer === 'string' ? answer : 'placed';
    t.comment(`${name}: ${verdict} in ${tookMs.toFixed(0)} ms`);
    if (wanted !== 'any') t.equal(verdict, wanted, name);
    if (typeof answer !== 'string') t.same(faultOf(instance, answer), undefined, name);
    t.ok(tookMs < 5_000, `${name}: ${tookMs.toFixed(0)} ms`);
  }
});

t.test('the comparison finds searches that are wrong', async t => {
  const withDemands =
    (change: (demand: MemberDemand) => MemberDemand): Search =>
    options => {
      const original = new Map<MemberDemand, MemberDemand>();
      const members = options.members.map(({ rank, demand }) => {
        const changed = change(demand);
        original.set(changed, demand);
        return { rank, demand: changed };
      });
      const admits = (demand: MemberDemand, node: number) =>
        options.admits(original.get(demand) ?? demand, node);
      return searchMixed({ ...options, members, admits });
    };
  const withNodes =
    (change: Partial<NodeInfo>): Search =>
    options => {
      const nodes = NodeList.of([...options.snapshot.nodes].map(node => ({ ...node, ...change })));
      return searchMixed({ ...options, snapshot: { ...options.snapshot, nodes } });
    };
  const impatient: Search = options => searchMixed({ ...options, budget: { trials: 40 } });
  const mutants: Readonly<Record<string, Search>> = {
    'lets those stand together that repel each other': options =>
      searchMixed({ ...options, apart: () => false }),
    'asks no node whether it takes the member': options => searchMixed({ ...options, admits: () => true }),
    'forgets host ports': withDemands(demand => ({ ...demand, hostPorts: [] })),
    'forgets memory': withDemands(demand => {
      const requests = new Map([...demand.requests].filter(([name]) => name !== 'memory'));
      return { ...demand, key: `${demand.key} ${[...requests].join()}`, requests };
    }),
    'takes whole hosts as gladly as others': withNodes({ untouched: true }),
    'forgets where members stay': options => searchMixed({ ...options, keptNodes: new Set() }),
    'refuses what it does not find at once': options => {
      const found = impatient(options);
      return found !== undefined && 'kind' in found ? undefined : found;
    },
    'is content with what it finds first': impatient,
  };
  const slicing: Readonly<Record<string, Search>> = {
    'tears slices': ({ slices: _, ...options }) => searchMixed(options),
    'puts slices together that are to be apart': options => searchMixed({ ...options, apartSlices: false }),
    'keeps slices apart for nothing': options => searchMixed({ ...options, apartSlices: true }),
  };
  const few = 400;
  for (const [name, mutant] of Object.entries(mutants)) {
    const { faults } = compare(smallInstance, few, mutant);
    t.ok(faults.length > 0, `one that ${name}: ${faults.length} of ${few}`);
  }
  for (const [name, mutant] of Object.entries(slicing)) {
    const { faults } = compare(slicedInstance, few, mutant);
    t.ok(faults.length > 0, `one that ${name}: ${faults.length} of ${few}`);
  }
});
