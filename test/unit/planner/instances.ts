import type {
  Amounts,
  Instance,
  Neighbour,
  SmallDemand,
  SmallHost,
  SmallSlices,
  SmallTerm,
  Stranger,
} from './small-instance.ts';

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

/** What all parts of one instance are drawn from. */
class Draw {
  readonly random: () => number;
  readonly levels: number;
  readonly hosts: number;

  constructor(seed: number) {
    this.random = mulberry32(seed);
    this.levels = this.upTo(3);
    this.hosts = 1 + this.upTo(6);
  }

  upTo(n: number): number {
    return Math.floor(this.random() * (n + 1));
  }

  chance(p: number): boolean {
    return this.random() < p;
  }

  pick<T>(values: readonly [T, ...T[]]): T {
    return values[this.upTo(values.length - 1)] ?? values[0];
  }

  /** The whole fleet (-1) and one host (`levels`) are levels, too. */
  level(coarsest = -1): number {
    return coarsest + this.upTo(this.levels - coarsest);
  }

  maybe<T>(p: number, make: () => T): T | undefined {
    return this.chance(p) ? make() : undefined;
  }

  someHosts(): readonly number[] {
    return [...new Set(Array.from({ length: 1 + this.upTo(1) }, () => this.upTo(this.hosts - 1)))];
  }
}

/** `leader and workers` have at most two distinct demands, the leader's and the workers'. */
export type GroupMix = 'leader and workers' | 'three kinds' | 'many kinds';

/** A small fleet and group, each feature of a request in some of them. */
export function instanceOf(seed: number, mix: GroupMix): Instance {
  const draw = new Draw(seed);
  return mix === 'leader and workers' && draw.chance(0.12) ? orderly(draw, seed) : wild(draw, seed, mix);
}

/** Many domains that hold a group with no wishes, so that the objective has something to choose from. */
function orderly(draw: Draw, seed: number): Instance {
  const levels = 1 + draw.upTo(1);
  const racks = 2 + draw.upTo(1);
  const most = levels === 1 ? 1 + draw.upTo(2) : draw.upTo(1);
  const used = draw.chance(0.4) ? 0 : 0.3;
  const hosts = Array.from({ length: 7 + draw.upTo(1) }, (_, i): SmallHost => {
    const rack = draw.upTo(racks - 1);
    const path = levels === 1 ? [`r${rack}`] : [`b${rack % 2}`, `r${draw.upTo(2)}`];
    const gpus = 1 + draw.upTo(most);
    const strangers = draw.chance(used)
      ? [strangerOf(draw, false)].map(one => ({ ...one, amounts: [1, 1, 0] as const }))
      : [];
    return { ...plainHost, name: `n${i}`, path, allocatable: [9, gpus + strangers.length, 9], strangers };
  });
  const worker: SmallDemand = { ...plainDemand, amounts: [0, 1, 0] };
  return {
    ...plainInstance,
    seed,
    levels,
    hosts,
    demands: [draw.chance(0.6) ? worker : { ...worker, amounts: [1, draw.upTo(2), 0] }, worker],
    members: Array.from({ length: levels + 1 + draw.upTo(3) }, (_, rank) => (rank === 0 ? 0 : 1)),
    prefer: draw.chance(0.15) ? 'spread' : 'pack',
  };
}

const plainHost: Omit<SmallHost, 'name' | 'path' | 'allocatable' | 'strangers'> = {
  pool: '',
  hostLabel: true,
  tainted: false,
  cordoned: false,
  ready: true,
  excluded: false,
  podSlots: 9,
  shape: '',
  computeDomain: '',
};

const plainDemand: Omit<SmallDemand, 'amounts'> = {
  pool: '',
  tolerates: false,
  port: 0,
  app: 'a',
  near: [],
  away: [],
};

const plainInstance: Omit<Instance, 'seed' | 'levels' | 'hosts' | 'demands' | 'members'> = {
  required: -1,
  preferred: -1,
  samePool: false,
  fixed: new Map(),
  slices: undefined,
  neighbours: [],
  exclusive: undefined,
  spread: undefined,
  partner: undefined,
  computeDomain: '',
  tpuLevel: undefined,
  warm: [],
  prefer: 'pack',
};

function wild(draw: Draw, seed: number, mix: GroupMix): Instance {
  const size = mix === 'leader and workers' ? 1 + draw.upTo(4) : 3 + draw.upTo(2);
  const tpuLevel = draw.levels > 0 && draw.chance(0.08) ? draw.upTo(draw.levels - 1) : undefined;
  const withTerms = tpuLevel === undefined && draw.chance(0.25);
  const demands = demandsOf(draw, mix, withTerms);
  const required = draw.chance(0.45) ? -1 : draw.level();
  const fixed = new Map<number, number>();
  const keeps = draw.chance(0.15);
  const members = Array.from({ length: size }, (_, rank) => memberOf(draw, mix, rank));
  if (keeps)
    for (const rank of members.keys()) if (draw.chance(0.4)) fixed.set(rank, draw.upTo(draw.hosts - 1));
  const withNeighbours = draw.chance(0.3);
  const plain: Instance = {
    seed,
    levels: draw.levels,
    hosts: hostsOf(draw, withTerms),
    demands,
    members,
    required,
    preferred: draw.level(),
    samePool: draw.chance(0.12),
    fixed,
    slices: size > 1 ? draw.maybe(0.3, () => slicesOf(draw, size, required)) : undefined,
    neighbours: withNeighbours ? Array.from({ length: 1 + draw.upTo(2) }, () => neighbourOf(draw)) : [],
    exclusive: withNeighbours ? draw.maybe(0.25, () => draw.level(0)) : undefined,
    spread: draw.maybe(withNeighbours ? 0.5 : 0.03, () => ({
      level: draw.level(0),
      required: draw.chance(0.4),
    })),
    partner: withNeighbours ? draw.maybe(0.25, () => draw.level(0)) : undefined,
    computeDomain: draw.chance(0.05) ? 'cd-1' : '',
    tpuLevel,
    warm: draw.chance(0.2) ? draw.someHosts() : [],
    prefer: draw.chance(0.1) ? 'spread' : 'pack',
  };
  return tpuLevel === undefined ? plain : withTpus(draw, plain, tpuLevel);
}

function memberOf(draw: Draw, mix: GroupMix, rank: number): number {
  switch (mix) {
    case 'leader and workers':
      return rank === 0 ? 0 : 1;
    case 'three kinds':
      return draw.upTo(2);
    case 'many kinds':
      return rank;
  }
}

function demandsOf(draw: Draw, mix: GroupMix, withTerms: boolean): readonly SmallDemand[] {
  const kinds = { 'leader and workers': 2, 'three kinds': 3, 'many kinds': 5 }[mix];
  const onlyOthers = draw.chance(0.3);
  const demands = Array.from({ length: kinds }, () => demandOf(draw, withTerms && !onlyOthers));
  // Members that ask for the same may still bear other labels.
  const alike = draw.chance(withTerms && onlyOthers ? 0.6 : 0.25);
  const [first] = demands;
  if (!alike || first === undefined) return demands;
  return demands.map(({ app }) => ({ ...first, app: draw.chance(0.5) ? app : first.app }));
}

function demandOf(draw: Draw, withTerms: boolean): SmallDemand {
  const app = draw.pick(['a', 'a', 'b', 'c']);
  return {
    amounts: [draw.upTo(3), draw.chance(0.6) ? draw.upTo(2) : 0, draw.upTo(2)],
    pool: draw.chance(0.12) ? 'p' : '',
    tolerates: draw.chance(0.4),
    port: draw.chance(0.12) ? 1 + draw.upTo(1) : 0,
    app,
    near: withTerms && draw.chance(0.2) ? [termOf(draw, ['s', 't', app])] : [],
    away: withTerms ? awayOf(draw, app) : [],
  };
}

/** Away from others over any label; from members of the group as a rule over the host name. */
function awayOf(draw: Draw, app: string): readonly SmallTerm[] {
  const terms: SmallTerm[] = [];
  if (draw.chance(0.25)) terms.push(termOf(draw, ['s', 't']));
  if (draw.chance(0.35)) terms.push({ key: draw.levels, app: draw.pick([app, 'a', 'b']) });
  if (draw.chance(0.03)) terms.push(termOf(draw, [app]));
  return terms;
}

function termOf(draw: Draw, apps: readonly [string, ...string[]]): SmallTerm {
  return { key: draw.chance(0.15) ? 'pool' : draw.level(0), app: draw.pick(apps) };
}

function hostsOf(draw: Draw, withTerms: boolean): readonly SmallHost[] {
  const roomy = draw.chance(0.6);
  return Array.from({ length: draw.hosts }, (_, i): SmallHost => {
    const more = roomy ? 2 : 0;
    return {
      name: `n${(i * 5) % 7}`,
      path: Array.from({ length: draw.levels }, () => (draw.chance(0.1) ? '' : draw.pick(['x', 'y']))),
      pool: draw.chance(0.2) ? '' : draw.pick(['p', 'q']),
      hostLabel: draw.chance(0.95),
      tainted: draw.chance(0.15),
      cordoned: draw.chance(0.05),
      ready: draw.chance(0.97),
      excluded: draw.chance(0.05),
      allocatable: [draw.upTo(6) + more + 1, draw.upTo(4) + more, draw.upTo(5) + more],
      podSlots: draw.chance(0.2) ? draw.upTo(3) : 9,
      strangers: draw.chance(0.4)
        ? Array.from({ length: 1 + draw.upTo(1) }, () => strangerOf(draw, withTerms))
        : [],
      shape: '',
      computeDomain: draw.chance(0.1) ? draw.pick(['cd-1', 'cd-2']) : '',
    };
  });
}

function strangerOf(draw: Draw, withTerms: boolean): Stranger {
  return {
    amounts: [draw.upTo(2), draw.upTo(2), draw.upTo(1)],
    app: draw.pick(['s', 't']),
    port: draw.chance(0.1) ? 1 + draw.upTo(1) : 0,
    away: withTerms && draw.chance(0.2) ? [termOf(draw, ['a', 'b', 'c'])] : [],
  };
}

function neighbourOf(draw: Draw): Neighbour {
  return {
    owner: draw.pick(['own', 'partner', 'other']),
    hosts: draw.someHosts(),
    exclusive: draw.maybe(0.25, () => draw.level(0)),
  };
}

type SliceForm = 'even' | 'leader on top' | 'leader outside' | 'uneven';

/** The forms that LWS knows, and free ones. */
function slicesOf(draw: Draw, size: number, required: number): SmallSlices {
  const form = draw.pick<SliceForm>(['even', 'leader on top', 'leader outside', 'uneven']);
  const ranks = form === 'uneven' ? unevenRanks(draw, size) : evenRanks(draw, size, form);
  return { level: draw.level(Math.max(0, required)), ranks, apart: draw.chance(0.35) };
}

function evenRanks(
  draw: Draw,
  size: number,
  form: Exclude<SliceForm, 'uneven'>,
): readonly (readonly number[])[] {
  const start = form === 'even' ? 0 : 1;
  const sliced = Array.from({ length: size - start }, (_, at) => start + at);
  const divisors = sliced.map((_, at) => at + 1).filter(length => sliced.length % length === 0);
  const length = divisors[draw.upTo(divisors.length - 1)] ?? 1;
  const ranks = Array.from({ length: sliced.length / length }, (_, at) =>
    sliced.slice(at * length, (at + 1) * length),
  );
  return form === 'leader on top' ? ranks.map((slice, at) => (at === 0 ? [0, ...slice] : slice)) : ranks;
}

function unevenRanks(draw: Draw, size: number): readonly (readonly number[])[] {
  const slices: number[][] = [[], [], []];
  for (let rank = 0; rank < size; rank++) slices[draw.upTo(3)]?.push(rank);
  const ranks = slices.filter(slice => slice.length > 0);
  return ranks.length > 0 ? ranks : [[0]];
}

/** Hosts become those of TPU slices, and members take whole hosts of them as a rule. */
function withTpus(draw: Draw, instance: Instance, tpuLevel: number): Instance {
  const chips: Amounts = [1, draw.chance(0.9) ? 2 : 1, 0];
  const hosts = instance.hosts.map(host => ({
    ...host,
    shape: draw.chance(0.1) ? '' : draw.pick(['1x2', '2x2', '2x2', '2x3', '2x4', '1x3']),
    allocatable: [8, draw.chance(0.85) ? 2 : draw.upTo(2), 8] as const,
    podSlots: 9,
    strangers: draw.chance(0.6) ? [] : host.strangers,
  }));
  const sliceOf = ({ path }: SmallHost) => path.slice(0, tpuLevel + 1).join('/');
  const alike = Object.fromEntries(
    [...Map.groupBy(hosts, sliceOf)].map(([slice, own]) => [
      slice,
      draw.chance(0.6) ? `${own.length}x2` : (own[0]?.shape ?? ''),
    ]),
  );
  const shaped = hosts.map(host => {
    const shape = alike[sliceOf(host)] ?? '';
    return draw.chance(0.95) ? { ...host, shape } : host;
  });
  const demands = instance.demands.map((demand, at) => {
    const plain = { ...demand, port: 0, pool: '' };
    return at === 0 && draw.chance(0.4)
      ? { ...plain, amounts: [1, 0, 1] as const }
      : { ...plain, amounts: chips };
  });
  return { ...instance, hosts: shaped, demands, slices: tpuSlices(instance, tpuLevel) };
}

/** Slices as a size alone says them, on the level of TPU slices or below. */
function tpuSlices({ slices, members }: Instance, tpuLevel: number): SmallSlices | undefined {
  if (slices === undefined || slices.level < tpuLevel) return undefined;
  const [first = []] = slices.ranks;
  const equal = slices.ranks.every(ranks => ranks.length === first.length);
  const all = slices.ranks.flat().every((rank, at) => rank === at);
  return equal && all && slices.ranks.flat().length === members.length
    ? { ...slices, apart: false }
    : undefined;
}
