import type { ClusterCache } from '../../../src/cache/cluster-cache.ts';
import { ExclusionReport } from '../../../src/controller/exclusion-report.ts';
import { FailureController } from '../../../src/controller/failure-controller.ts';
import { FailureReport } from '../../../src/controller/failure-report.ts';
import { failureWrites } from '../../../src/controller/failure-writes.ts';
import { PlacementController } from '../../../src/controller/placement-controller.ts';
import { PlacementReport } from '../../../src/controller/placement-report.ts';
import { placementWrites } from '../../../src/controller/placement-writes.ts';
import { preemptionDefaults } from '../../../src/controller/preemption.ts';
import {
  PreemptionController,
  type PreemptionControllerOptions,
} from '../../../src/controller/preemption-controller.ts';
import { PreemptionReport } from '../../../src/controller/preemption-report.ts';
import { WaitingList } from '../../../src/controller/waiting-list.ts';
import type { PreemptionMode } from '../../../src/failure/claim.ts';
import { defaultFailureSettings, type FailureSettings } from '../../../src/failure/settings.ts';
import type { ApiClient, ApiRequest } from '../../../src/kube/api-client.ts';
import { ExclusionStore } from '../../../src/kube/exclusion-store.ts';
import { IntentStore } from '../../../src/kube/intent-store.ts';
import { PreemptionStore } from '../../../src/kube/preemption-store.ts';
import { RecordMaps } from '../../../src/kube/record-maps.ts';
import { WorkQueue } from '../../../src/kube/work-queue.ts';
import type { FakeCluster } from '../failure/fake-cluster.ts';
import { silentLog } from '../kube/fake-api-server.ts';
import { FakeClock } from '../kube/fake-clock.ts';

export interface PreemptionReplicaOptions {
  readonly mode?: PreemptionMode;
  readonly settings?: Partial<PreemptionControllerOptions['settings']>;
  /** With it failures evict, too, and there is another place for whoever asks. */
  readonly failure?: Partial<FailureSettings>;
  readonly clock?: FakeClock;
}

/** One process of Berth with its own cache: placement, failure handling and preemption, put together as in Berth. */
export class PreemptionReplica {
  readonly cache: ClusterCache;
  readonly clock: FakeClock;
  readonly placement: PlacementController;
  readonly failure: FailureController;
  readonly preemption: PreemptionController;
  /** `reason: message` of every event. */
  readonly events: string[] = [];
  readonly outcomes: string[] = [];
  /** What is told on leaders that wait, by pod. */
  readonly waits = new Map<string, string>();
  readonly requests: ApiRequest[] = [];
  synced = true;
  stalestMs = 0;
  readonly #cluster: FakeCluster;
  #dead = false;

  constructor(
    cluster: FakeCluster,
    { mode = 'evict', settings = {}, failure, clock = new FakeClock() }: PreemptionReplicaOptions = {},
  ) {
    this.#cluster = cluster;
    this.clock = clock;
    this.cache = cluster.cache();
    const { cache } = this;
    const client: ApiClient = {
      request: request => {
        // A killed process reaches nobody any more, whatever it was about to do.
        if (this.#dead) return new Promise(() => {});
        this.requests.push(request);
        return cluster.request(request);
      },
      stream: () => cluster.stream(),
    };
    const time = { nowMs: () => clock.nowMs(), wallMs: () => clock.wallMs() };
    const mayAct = () => !this.#dead;
    const makeQueue = (process: (key: string) => Promise<void>) =>
      new WorkQueue({ name: 'test', process, log: silentLog, clock });
    const told = {
      event: (_: unknown, __: unknown, reason: string, message: string) =>
        void this.events.push(`${reason}: ${message}`),
      ownerEvent: () => {},
    };
    const waiting = new WaitingList({
      cache,
      ...time,
      agedAfterMs: 600_000,
      membersLateAfterMs: 5_000,
      onPlanned: () => {},
    });
    const place = { client, namespace: 'berth-system', timeoutMs: 1_000 };
    const intents = new IntentStore({ ...place, configMapName: 'berth-config' });
    const ignore = () => {};
    this.placement = new PlacementController({
      cache,
      waiting,
      writes: placementWrites(client),
      report: new PlacementReport({
        cache,
        log: silentLog,
        ...time,
        sinks: {
          ...told,
          condition: (pod, _, __, message) => void this.waits.set(pod.name, message),
          setWaiting: ignore,
          countPlaced: ignore,
          countSingle: ignore,
          countStranded: ignore,
          countReplan: ignore,
          countInvalid: ignore,
          countAlignment: () => {},
          countClaimRemade: () => {},
          refused: ignore,
        },
      }),
      nowMs: time.nowMs,
      mayAct,
      remakesClaims: () => true,
      strandedAfterMs: 10_000,
      replanBudget: { perGroup: 5, windowMs: 600_000 },
      membersLateAfterMs: 5_000,
      onWaits: (key, reason) => this.preemption.onWaits(key, reason),
      makeQueue,
    });
    this.failure = new FailureController({
      cache,
      settings: { ...defaultFailureSettings, newHolderSeconds: 0, ...failure },
      claims: { mode, of: uid => this.preemption.claimOf(uid) },
      store: intents,
      exclusionStore: new ExclusionStore(client, 1_000),
      exclusionReport: new ExclusionReport(
        cache,
        { ownerEvent: ignore, setExcluded: ignore, setInUse: ignore, setPoisonous: ignore },
        silentLog,
      ),
      log: silentLog,
      writes: failureWrites(client),
      report: new FailureReport({
        cache,
        log: silentLog,
        sinks: {
          ...told,
          condition: ignore,
          countEviction: ignore,
          setBrakes: ignore,
          setOpenIntents: ignore,
          observeRecovery: ignore,
          setFailures: ignore,
          countGate: ignore,
        },
      }),
      ...time,
      health: () => ({ synced: this.synced, stalestMs: this.stalestMs }),
      apiCalls: () => ({ total: 0, failed: 0 }),
      apiBackForMs: () => Number.POSITIVE_INFINITY,
      mayAct,
      planAgain: ({ membership }) =>
        failure === undefined
          ? { kind: 'undecided', reason: 'nobody asks' }
          : { kind: 'plan', nodes: Array(membership.size).fill('spare'), level: 0, domain: [] },
      makeQueue,
      makeGateQueue: makeQueue,
    });
    const { enabled: _enabled, dryRun: _dryRun, ...defaults } = preemptionDefaults;
    this.preemption = new PreemptionController({
      cache,
      mode,
      settings: { ...defaults, afterSeconds: 5, keepPlaceSeconds: 120, ...settings },
      dryRun: false,
      limits: { keepClosedHours: 48, keepClosedCount: 1_000 },
      store: new PreemptionStore(new RecordMaps(place)),
      writes: failureWrites(client),
      report: new PreemptionReport({
        cache,
        log: silentLog,
        sinks: {
          ...told,
          countPreemption: outcome => void this.outcomes.push(outcome),
          countVictim: ignore,
        },
      }),
      questionOf: key => waiting.questionOf(key),
      whyGroupKept: (view, begun) => this.failure.whyKept(view, begun),
      brakesOnPod: (pod, wanted, halted) => this.failure.brakesOnPod(pod, wanted, halted),
      lookAtGroup: key => this.failure.lookAt(key),
      serveLine: () => this.placement.serveLine(),
      isHalted: () => intents.isHalted(),
      mayAct,
      ...time,
      makeQueue,
    });
    for (const controller of [this.placement, this.failure, this.preemption]) controller.start();
    this.placement.reviewAll();
    this.preemption.takeOver();
    this.failure.takeOver();
  }

  /** Moves the cluster and this process, the cache following at once. */
  async run(forMs: number, stepMs = 250): Promise<void> {
    for (let passed = 0; passed < forMs; passed += stepMs) {
      this.#cluster.tick(stepMs);
      this.#cluster.show(this.cache);
      await this.clock.advance(stepMs);
    }
  }

  /** Another holder acts now, or none. */
  standDown(): void {
    this.#dead = true;
    for (const controller of [this.placement, this.preemption, this.failure]) controller.standDown();
  }

  /** kill -9: nothing it was doing goes on. */
  kill(): void {
    this.#dead = true;
  }

  get isDead(): boolean {
    return this.#dead;
  }
}
