import { setTimeout as delay } from 'node:timers/promises';
import { type BerthProcess, startBerthOn } from '../bed/berth.ts';
import type { Cluster } from '../bed/cluster.ts';
import type { BenchContext } from './context.ts';
import { until } from './waiting.ts';

/** What bursts of starting and deleting leave behind is over by then. */
const settleMs = 2_000;
const leaseTimeoutMs = 60_000;

/**
 * Berth, running exactly while an arm of a comparison wants it: the stock arm is a cluster in which it does not run,
 * not one in which it looks on.
 */
export class BerthArm {
  readonly #cluster: Cluster;
  readonly #context: BenchContext;
  #running: BerthProcess | undefined;

  constructor(cluster: Cluster, context: BenchContext) {
    this.#cluster = cluster;
    this.#context = context;
  }

  /** Resolves when Berth reviews pods and places them, or when it is gone. */
  async switch(on: boolean): Promise<BerthProcess | undefined> {
    if (on) return this.#on();
    await this.#running?.stop();
    this.#running = undefined;
    await delay(settleMs);
    return undefined;
  }

  async #on(): Promise<BerthProcess> {
    if (this.#running === undefined) {
      const start = () => startBerthOn(this.#cluster, { config: { shutdownDelaySeconds: 0 } });
      this.#running = await withEnvironment(this.#context.environment, start);
      await awaitLease(this.#running);
    }
    await delay(settleMs);
    return this.#running;
  }
}

/** Waits until a Berth holds the Lease: only then it places. */
export function awaitLease(berth: BerthProcess): Promise<void> {
  return until('Berth to hold its Lease', leaseTimeoutMs, async () =>
    /^berth_lease_holder 1$/m.test(await berth.metrics()),
  );
}

/** Runs `start` so that the processes it starts find these variables in their environment. */
export async function withEnvironment<T>(
  environment: Readonly<Record<string, string>>,
  start: () => Promise<T>,
): Promise<T> {
  const before = Object.keys(environment).map(key => [key, process.env[key]] as const);
  Object.assign(process.env, environment);
  try {
    return await start();
  } finally {
    for (const [key, value] of before) {
      if (value === undefined) delete process.env[key];
      else process.env[key] = value;
    }
  }
}
