import { shuffled } from './seeded-random.ts';

export const faultKinds = [
  'device tainted, certain',
  'device tainted, suspect',
  'device tainted, NoExecute',
  'device tainted, None',
  'spare device tainted',
  'rule about one device',
  'kubelet says Unhealthy',
  'kubelet says Unknown',
  'node tainted, NoExecute',
  'node cordoned',
  'node silent',
  'node replaced',
  'slices withdrawn',
  'generation changed',
  'member drained',
  'rank killed',
  'owner scaled',
  'owner rolled',
] as const;
export type FaultKind = (typeof faultKinds)[number];

/** What is done to Berth itself meanwhile. */
export const hardshipKinds = ['killed', 'watches cut', 'watches held', 'halted'] as const;
export type HardshipKind = (typeof hardshipKinds)[number];

export interface Planned<Kind> {
  readonly kind: Kind;
  readonly atMs: number;
  readonly lastsMs: number;
  /** From 0 to 1: which of those that it can happen to. */
  readonly pick: number;
}

export interface StormPlan {
  readonly faults: readonly Planned<FaultKind>[];
  readonly hardships: readonly Planned<HardshipKind>[];
}

interface Lasting {
  readonly leastMs: number;
  readonly mostMs: number;
}

const shortest: Lasting = { leastMs: 2_000, mostMs: 12_000 };
/** KWOK needs a while to take up a node again, so these come half as often as the others. */
const nodeAway: Lasting = { leastMs: 3_000, mostMs: 10_000 };
/** Nobody but Berth acts on these, so they stand until it had time for it, even where nobody holds the Lease for a while. */
const stubborn: Lasting = { leastMs: 8_000, mostMs: 25_000 };
const lasting: Partial<Record<FaultKind, Lasting>> = {
  'node silent': nodeAway,
  'node replaced': nodeAway,
  'device tainted, certain': stubborn,
  'device tainted, suspect': stubborn,
  'kubelet says Unhealthy': stubborn,
};

/** Once more in each round. */
const often: readonly FaultKind[] = [
  'device tainted, certain',
  'device tainted, certain',
  'kubelet says Unhealthy',
];

/** One of each kind of hardship within so long, and how long it lasts. */
const hardships: Readonly<Record<HardshipKind, Lasting & { readonly everyMs: number }>> = {
  killed: { everyMs: 25_000, leastMs: 0, mostMs: 5_000 },
  'watches cut': { everyMs: 9_000, leastMs: 0, mostMs: 0 },
  'watches held': { everyMs: 22_000, leastMs: 1_000, mostMs: 6_000 },
  halted: { everyMs: 45_000, leastMs: 5_000, mostMs: 9_000 },
};

/**
 * Which faults a seed means: all kinds take turns in random order, in bursts and at random moments. Whom they hit is
 * said by `pick`, for that depends on who is there by then.
 */
export function planStorm(random: () => number, count: number, overMs: number): StormPlan {
  const between = ({ leastMs, mostMs }: Lasting) => Math.round(leastMs + random() * (mostMs - leastMs));
  const kinds: FaultKind[] = [];
  for (let round = 0; kinds.length < count; round += 1) {
    const inTurn = faultKinds.filter(kind => round % 2 === 0 || lasting[kind] !== nodeAway);
    kinds.push(...shuffled([...inTurn, ...often], random));
  }
  const moments: number[] = [];
  while (moments.length < count) {
    const atMs = random() * overMs;
    const burst = 1 + Math.floor(random() ** 2 * 4);
    for (let i = 0; i < burst; i += 1) moments.push(Math.min(overMs, Math.round(atMs + i * random() * 500)));
  }
  const times = moments.slice(0, count).sort((a, b) => a - b);
  return {
    faults: times.map((atMs, i) => {
      const kind = kinds[i] ?? faultKinds[0];
      return { kind, atMs, lastsMs: between(lasting[kind] ?? shortest), pick: random() };
    }),
    hardships: hardshipKinds
      .flatMap(kind =>
        Array.from({ length: Math.max(1, Math.floor(overMs / hardships[kind].everyMs)) }, (_, i) => ({
          kind,
          atMs: Math.round((i + random() * 0.8) * hardships[kind].everyMs),
          lastsMs: between(hardships[kind]),
          pick: random(),
        })),
      )
      .sort((a, b) => a.atMs - b.atMs),
  };
}
