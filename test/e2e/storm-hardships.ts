import { setTimeout as delay } from 'node:timers/promises';
import type { Cluster } from '../../hack/bed/cluster.ts';
import type { FaultProxy } from './fault-proxy.ts';
import type { MortalBerth } from './mortal-berth.ts';
import { holderPid } from './replicas.ts';
import type { HardshipKind, Planned } from './storm-plan.ts';
import type { Span } from './storm-story.ts';

const configPath = '/api/v1/namespaces/berth-system/configmaps/berth-config';

/** What is done to Berth itself while others are hurt. */
export class StormHardships {
  readonly counts = { kills: 0, killsOfHolder: 0, cuts: 0, watchesCut: 0, holds: 0 };
  /** When all evictions were halted for sure. */
  readonly halts: Span[] = [];
  readonly #cluster: Cluster;
  readonly #replicas: readonly MortalBerth[];
  readonly #proxy: FaultProxy;
  readonly #dead = new Set<MortalBerth>();

  constructor(cluster: Cluster, replicas: readonly MortalBerth[], proxy: FaultProxy) {
    this.#cluster = cluster;
    this.#replicas = replicas;
    this.#proxy = proxy;
  }

  async play({ kind, lastsMs, pick }: Planned<HardshipKind>): Promise<void> {
    switch (kind) {
      case 'killed':
        return this.#kill(lastsMs, pick);
      case 'watches cut': {
        const watches = this.#proxy.cutWatches();
        this.counts.cuts += 1;
        this.counts.watchesCut += watches;
        return;
      }
      case 'watches held':
        this.#proxy.holdWatches();
        this.counts.holds += 1;
        await delay(lastsMs);
        this.#proxy.releaseWatches();
        return;
      case 'halted':
        return this.#halt(lastsMs);
    }
  }

  /** More often than not the one that acts; then it takes as long as its Lease until somebody does. */
  async #kill(forMs: number, pick: number): Promise<void> {
    const pid = await holderPid(this.#cluster);
    const alive = this.#replicas.filter(replica => !this.#dead.has(replica));
    const holdsIt = (replica: MortalBerth) => replica.process.pid === pid;
    const victim = alive.find(replica => holdsIt(replica) === pick < 0.6) ?? alive[0];
    if (victim === undefined) return;
    this.counts.kills += 1;
    if (victim.process.pid === pid) this.counts.killsOfHolder += 1;
    this.#dead.add(victim);
    await victim.kill();
    await delay(forMs);
    await victim.start();
    this.#dead.delete(victim);
  }

  async #halt(forMs: number): Promise<void> {
    const annotate = (value: string | null) =>
      this.#cluster.request('PATCH', configPath, { metadata: { annotations: { 'berth.dev/halt': value } } });
    await annotate('storm');
    const fromMs = Date.now();
    await delay(forMs);
    this.halts.push({ fromMs, toMs: Date.now() });
    await annotate(null);
  }
}
