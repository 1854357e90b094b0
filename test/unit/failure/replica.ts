import type { ClusterCache } from '../../../src/cache/cluster-cache.ts';
import { ExclusionReport } from '../../../src/controller/exclusion-report.ts';
import { FailureController } from '../../../src/controller/failure-controller.ts';
import { FailureReport, type FailureReportSinks } from '../../../src/controller/failure-report.ts';
import { failureWrites } from '../../../src/controller/failure-writes.ts';
import { PlacementController } from '../../../src/controller/placement-controller.ts';
import { PlacementReport } from '../../../src/controller/placement-report.ts';
import { placementWrites } from '../../../src/controller/placement-writes.ts';
import { WaitingList } from '../../../src/controller/waiting-list.ts';
import { noClaims } from '../../../src/failure/claim.ts';
import { defaultFailureSettings, type FailureSettings } from '../../../src/failure/settings.ts';
import type { ApiClient } from '../../../src/kube/api-client.ts';
import { ExclusionStore } from '../../../src/kube/exclusion-store.ts';
import { IntentStore } from '../../../src/kube/intent-store.ts';
import { WorkQueue } from '../../../src/kube/work-queue.ts';
import { silentLog } from '../kube/fake-api-server.ts';
import { FakeClock } from '../kube/fake-clock.ts';
import type { FakeCluster } from './fake-cluster.ts';

export interface ReplicaOptions {
  readonly settings?: Partial<FailureSettings>;
  readonly clock?: FakeClock;
  /** Time that passes with every look at the clock, as it does in a busy process. */
  readonly msPerLook?: number;
  /** Places groups, too: gated pods get their plan and pin from it. */
  readonly places?: boolean;
  /** Keys of groups without whose leaving a group has no other place. */
  readonly sharers?: (group: string) => readonly string[];
}

/** One process of Berth with its own cache, as far as failure handling goes. */
export class Replica {
  readonly controller: FailureController;
  readonly cache: ClusterCache;
  readonly clock: FakeClock;
  /** `reason: message` of every event, on pods and owners. */
  readonly events: string[] = [];
  readonly outcomes: string[] = [];
  /** Seconds of each step of the last recovery. */
  readonly steps = new Map<string, number>();
  /** Open evictions by phase. */
  phases: ReadonlyMap<string, number> = new Map();
  readonly brakes: string[] = [];
  /** `reason: message` of what was told to owners about devices. */
  readonly told: string[] = [];
  /** By driver. */
  excluded: ReadonlyMap<string, number> = new Map();
  poisonous = 0;
  holds = true;
  synced = true;
  stalestMs = 0;
  calls = { total: 0, failed: 0 };
  apiBackForMs = Number.POSITIVE_INFINITY;
  room = true;
  readonly #cluster: FakeCluster;
  #dead = false;

  constructor(
    cluster: FakeCluster,
    {
      settings,
      clock = new FakeClock(),
      msPerLook = 0,
      places = false,
      sharers = () => [],
    }: ReplicaOptions = {},
  ) {
    this.#cluster = cluster;
    this.clock = clock;
    this.cache = cluster.cache();
    // A killed process reaches nobody any more, whatever it was about to do.
    const client: ApiClient = {
      request: request => (this.#dead ? new Promise(() => {}) : cluster.request(request)),
      stream: () => cluster.stream(),
    };
    const sinks: FailureReportSinks = {
      event: (_, __, reason, message) => this.events.push(`${reason}: ${message}`),
      ownerEvent: () => {},
      condition: () => {},
      countEviction: (_, outcome) => this.outcomes.push(outcome),
      setBrakes: counts => this.brakes.splice(0, this.brakes.length, ...counts.keys()),
      setOpenIntents: counts => {
        this.phases = counts;
      },
      observeRecovery: (step, seconds) => this.steps.set(step, seconds),
      setFailures: () => {},
      countGate: () => {},
    };
    let looked = 0;
    const nowMs = () => clock.nowMs() + msPerLook * looked++;
    const time = { nowMs, wallMs: () => clock.wallMs() };
    this.controller = new FailureController({
      cache: this.cache,
      settings: { ...defaultFailureSettings, mode: 'evict', newHolderSeconds: 0, ...settings },
      claims: noClaims,
      store: new IntentStore({
        client,
        namespace: 'berth-system',
        configMapName: 'berth-config',
        timeoutMs: 1_000,
      }),
      writes: failureWrites(client),
      report: new FailureReport({ cache: this.cache, sinks, log: silentLog }),
      exclusionStore: new ExclusionStore(client, 1_000),
      exclusionReport: new ExclusionReport(
        this.cache,
        {
          ownerEvent: (_, __, reason, message) => this.told.push(`${reason}: ${message}`),
          setExcluded: counts => {
            this.excluded = counts;
          },
          setInUse: () => {},
          setPoisonous: groups => {
            this.poisonous = groups;
          },
        },
        silentLog,
      ),
      log: silentLog,
      ...time,
      health: () => ({ synced: this.synced, stalestMs: this.stalestMs }),
      apiCalls: () => this.calls,
      apiBackForMs: () => this.apiBackForMs,
      mayAct: () => this.holds && !this.#dead,
      planAgain: (view, _, leaves) =>
        this.room && sharers(view.key).every(leaves)
          ? {
              kind: 'plan',
              nodes: Array.from({ length: view.membership.size }, (_, i) => `spare${i}`),
              level: 0,
              domain: [],
            }
          : { kind: 'undecided', reason: 'no room' },
      makeQueue: process => new WorkQueue({ name: 'failure', process, log: silentLog, clock }),
      makeGateQueue: process =>
        new WorkQueue({ name: 'service-gates', process, log: silentLog, clock, concurrency: 8 }),
    });
    if (places) startPlacement(this.cache, client, clock, () => !this.#dead);
    this.controller.start();
    this.controller.takeOver();
  }

  /** Moves the cluster and this process, the cache following at once. */
  async run(forMs: number, stepMs = 250): Promise<void> {
    for (let passed = 0; passed < forMs; passed += stepMs) {
      this.#cluster.tick(stepMs);
      this.#cluster.show(this.cache);
      await this.clock.advance(stepMs);
    }
    this.#cluster.show(this.cache);
    await this.clock.advance(0);
  }

  /** kill -9: nothing it was doing goes on. */
  kill(): void {
    this.#dead = true;
  }

  get isDead(): boolean {
    return this.#dead;
  }
}

function startPlacement(
  cache: ClusterCache,
  client: ApiClient,
  clock: FakeClock,
  mayAct: () => boolean,
): void {
  const time = { nowMs: () => clock.nowMs(), wallMs: () => clock.wallMs() };
  const ignore = () => {};
  const waiting = new WaitingList({
    cache,
    ...time,
    agedAfterMs: 600_000,
    membersLateAfterMs: 5_000,
    onPlanned: ignore,
  });
  const placement = new PlacementController({
    cache,
    waiting,
    writes: placementWrites(client),
    report: new PlacementReport({
      cache,
      log: silentLog,
      ...time,
      sinks: {
        event: ignore,
        ownerEvent: ignore,
        condition: ignore,
        setWaiting: ignore,
        countPlaced: ignore,
        countSingle: ignore,
        countStranded: ignore,
        countReplan: ignore,
        countInvalid: ignore,
        countAlignment: ignore,
        countClaimRemade: ignore,
        refused: ignore,
      },
    }),
    nowMs: time.nowMs,
    mayAct,
    remakesClaims: () => true,
    strandedAfterMs: 10_000,
    replanBudget: { perGroup: 5, windowMs: 600_000 },
    membersLateAfterMs: 5_000,
    onWaits: () => undefined,
    makeQueue: process => new WorkQueue({ name: 'placement', process, log: silentLog, clock }),
  });
  placement.start();
  placement.reviewAll();
}
