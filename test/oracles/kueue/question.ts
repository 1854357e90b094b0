import { mulberry32 } from '../../unit/planner/instances.ts';

/** CPUs, GPUs, GiB of memory. */
export type Amounts = readonly [number, number, number];

export interface QuestionHost {
  readonly name: string;
  /** Value by level, coarse to fine; empty where the node lacks the label. */
  readonly path: readonly string[];
  /** Value of the label `pool`. */
  readonly pool: string;
  readonly tainted: boolean;
  readonly cordoned: boolean;
  readonly allocatable: Amounts;
  readonly podSlots: number;
  /** What each pod takes that is there already. */
  readonly used: readonly Amounts[];
}

export interface QuestionDemand {
  readonly amounts: Amounts;
  /** The pool it wants; empty for any. */
  readonly pool: string;
  readonly tolerates: boolean;
}

/** Where a group wants to be, in words that both planners know. */
export type Wish =
  | { readonly kind: 'anywhere' }
  /** `level` counts the levels from the coarsest; the number of levels stands for one host. */
  | { readonly kind: 'required' | 'preferred'; readonly level: number };

/** A fleet and one group. */
export interface Question {
  readonly levels: number;
  readonly hosts: readonly QuestionHost[];
  readonly size: number;
  readonly worker: QuestionDemand;
  /** The leader, one of `size`, when it is not like the workers. */
  readonly leader: QuestionDemand | undefined;
  readonly wish: Wish;
  /** Each `size` members whole in one domain of the level. */
  readonly slice: { readonly size: number; readonly level: number } | undefined;
}

/** The same question for the same seed, on every machine. */
export function generateQuestion(seed: number): Question {
  const dice = diceOf(seed);
  const levels = dice.upTo(3);
  const worker = generateDemand(dice, 0.15);
  const sliced = dice.chance(0.3);
  const leader = sliced || dice.chance(0.4) ? undefined : generateDemand(dice, 0.15);
  const sliceSize = 1 + dice.upTo(2);
  const size = sliced ? sliceSize * (1 + dice.upTo(3)) : (leader === undefined ? 1 : 2) + dice.upTo(5);
  const wish = generateWish(dice, levels);
  const coarsest = wish.kind === 'anywhere' ? 0 : wish.level;
  const slice = sliced ? { size: sliceSize, level: coarsest + dice.upTo(levels - coarsest) } : undefined;
  return { levels, hosts: generateHosts(dice, levels), size, worker, leader, wish, slice };
}

/** A leader and workers in one rack, of which parts are in use, with nothing that keeps anybody off a host. */
export function generateRack(seed: number): Question {
  const dice = diceOf(seed);
  const anyPool = { pool: '', tolerates: false };
  const hosts = Array.from({ length: 4 + dice.upTo(4) }, (_, index): QuestionHost => {
    const host = { name: `n${index}`, path: ['rack'], pool: '', tainted: false, cordoned: false };
    return { ...host, allocatable: [32, 8, 64], podSlots: 40, used: [[dice.upTo(28), dice.upTo(8), 0]] };
  });
  return {
    levels: 1,
    hosts,
    size: 2 + dice.upTo(5),
    worker: { amounts: [4, 1 + dice.upTo(3), 1], ...anyPool },
    leader: { amounts: [8 + dice.upTo(24), 0, 1], ...anyPool },
    wish: { kind: 'required', level: 0 },
    slice: undefined,
  };
}

interface Dice {
  /** An integer from 0 to `largest`. */
  readonly upTo: (largest: number) => number;
  readonly chance: (likelihood: number) => boolean;
}

function diceOf(seed: number): Dice {
  const random = mulberry32(seed);
  return {
    upTo: largest => Math.floor(random() * (largest + 1)),
    chance: likelihood => random() < likelihood,
  };
}

function generateWish({ upTo, chance }: Dice, levels: number): Wish {
  if (chance(0.15)) return { kind: 'anywhere' };
  return { kind: chance(0.6) ? 'required' : 'preferred', level: upTo(levels) };
}

function generateDemand({ upTo, chance }: Dice, picky: number): QuestionDemand {
  return {
    amounts: [upTo(3), chance(0.7) ? upTo(3) : 0, upTo(2)],
    pool: chance(picky) ? 'p' : '',
    tolerates: chance(0.5),
  };
}

/** An uneven tree: each host opens a domain of its own on some level, or joins the one before it. */
function generateHosts(dice: Dice, levels: number): readonly QuestionHost[] {
  const unlabelled = levels > 0 && dice.chance(0.15);
  const path = Array.from({ length: levels }, () => 0);
  return Array.from({ length: 1 + dice.upTo(11) }, (_, index) => {
    if (levels > 0 && dice.chance(0.4)) openDomain(path, dice.upTo(levels - 1));
    const lacking = unlabelled && dice.chance(0.2) ? dice.upTo(levels - 1) : -1;
    return generateHost(
      dice,
      `n${String((index * 7) % 13).padStart(2, '0')}`,
      path.map((value, level) => (level === lacking ? '' : `d${value}`)),
    );
  });
}

/** The counters below begin anew, so that domains of one name are in different parents. */
function openDomain(path: number[], level: number): void {
  path[level] = (path[level] ?? 0) + 1;
  path.fill(0, level + 1);
}

function generateHost({ upTo, chance }: Dice, name: string, path: readonly string[]): QuestionHost {
  return {
    name,
    path,
    pool: chance(0.7) ? 'p' : 'q',
    tainted: chance(0.15),
    cordoned: chance(0.05),
    allocatable: [2 + upTo(8), upTo(8), 1 + upTo(6)],
    podSlots: chance(0.15) ? upTo(3) : 20,
    used: Array.from({ length: chance(0.4) ? 1 + upTo(1) : 0 }, (): Amounts => [upTo(2), upTo(3), upTo(1)]),
  };
}
