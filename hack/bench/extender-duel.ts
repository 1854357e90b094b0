import { isDeepStrictEqual } from 'node:util';
import type { ExtenderClient } from './extender-client.ts';
import type { Kind } from './extender-kinds.ts';
import { cpuSecondsOf } from './process-facts.ts';
import type { TimedAnswer } from './tls-client.ts';
import { until } from './waiting.ts';

/** One who answers: Berth, or the extender that parses all. */
export interface Party {
  readonly client: ExtenderClient;
  readonly pid: number;
}

export type ByParty<T> = Readonly<Record<'berth' | 'plain', T>>;

/** What calls of one kind to one party have cost. */
export class Cost {
  readonly ms: number[] = [];
  /** The server's processor time for one call, by round. */
  readonly cpuMs: number[] = [];

  /** A round of calls one after the other, as kube-scheduler makes them. */
  async add({ verb, bodies }: Kind, { client, pid }: Party, calls: number): Promise<void> {
    const before = cpuSecondsOf(pid);
    for (let call = 0; call < calls; call++) {
      const body = bodies[call % bodies.length];
      if (body !== undefined) this.ms.push((await client.call(verb, body)).ms);
    }
    this.cpuMs.push(((cpuSecondsOf(pid) - before) * 1000) / calls);
  }
}

export interface Duel {
  readonly costs: ReadonlyMap<Kind, ByParty<Cost>>;
  /** The plain extender's, where it throws away what it is sent. */
  readonly floor: Cost;
}

const parties = ['berth', 'plain'] as const;
const agreeTimeoutMs = 30_000;

/** What cannot be measured is a quick wrong answer: both must say the same of every pod, each from what it knows. */
export async function agree({ name, verb, bodies }: Kind, { berth, plain }: ByParty<Party>): Promise<void> {
  for (const body of bodies) {
    const expected = parsed(await plain.client.call(verb, body));
    await until(`Berth to answer as expected for: ${name}`, agreeTimeoutMs, async () =>
      isDeepStrictEqual(parsed(await berth.client.call(verb, body)), expected),
    );
  }
}

/** Kinds and parties by turns, each party as often first, so that all meet the same weather. */
export async function askByTurns(
  kinds: readonly Kind[],
  both: ByParty<Party>,
  { rounds, calls, floor }: { readonly rounds: number; readonly calls: number; readonly floor: Kind },
): Promise<Duel> {
  const duel = { costs: new Map(kinds.map(kind => [kind, newCosts()])), floor: new Cost() };
  for (let round = 0; round < rounds; round++) {
    const order = round % 2 === 0 ? parties : parties.toReversed();
    for (const [kind, cost] of duel.costs) {
      for (const party of order) await cost[party].add(kind, both[party], calls);
    }
    await duel.floor.add(floor, both.plain, calls);
  }
  return duel;
}

/** One call to each party after each change. */
export async function askAfterChanges(
  kind: Kind,
  both: ByParty<Party>,
  calls: number,
  change: (index: number) => Promise<void>,
): Promise<ByParty<Cost>> {
  const costs = newCosts();
  for (let call = 0; call < calls; call++) {
    await change(call);
    for (const party of parties) await costs[party].add(kind, both[party], 1);
  }
  return costs;
}

export function parsed({ body }: TimedAnswer) {
  return JSON.parse(body.toString());
}

function newCosts(): ByParty<Cost> {
  return { berth: new Cost(), plain: new Cost() };
}
