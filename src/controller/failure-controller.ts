import type { CacheChange } from '../cache/cache-changes.ts';
import type { ClusterCache } from '../cache/cluster-cache.ts';
import type { GroupView } from '../cache/group-view.ts';
import type { DeviceId } from '../cluster/devices/device.ts';
import { type Braked, rehearsed } from '../failure/brakes.ts';
import { byUrgency, EvictionLine, type Urgency, type Waiter } from '../failure/eviction-line.ts';
import type { Evidence } from '../failure/evidence.ts';
import { type FailureMode, goesAsFarAs } from '../failure/settings.ts';
import { isPreemption } from '../failure/signal.ts';
import { plansGroups } from '../group/owner.ts';
import type { PodInfo } from '../group/pod-info.ts';
import { failureKind } from '../kube/api-errors.ts';
import { isBadIntent } from '../kube/intent-store.ts';
import type { WorkQueue } from '../kube/work-queue.ts';
import { ApiPatience } from './api-patience.ts';
import { DeviceExclusions, type DeviceExclusionsOptions } from './device-exclusions.ts';
import { FailureBook, type IntentStorePort } from './failure-book.ts';
import { FailureEvictor, type FailureEvictorOptions } from './failure-evictor.ts';
import { FailureJudge, type FailureJudgeOptions, type Hurt, type Judgement } from './failure-judge.ts';
import type { FailureReport } from './failure-report.ts';
import { FailureWatch } from './failure-watch.ts';
import { ServiceGates, type ServiceGatesOptions } from './service-gates.ts';
import { SteadyTime } from './steady-time.ts';

export interface FailureControllerOptions
  extends Omit<FailureJudgeOptions, 'book' | 'watch' | 'calendarMs' | 'holderForMs' | 'whyInUse'>,
    Pick<FailureEvictorOptions, 'devicesFor'>,
    Pick<DeviceExclusionsOptions, 'exclusionStore' | 'exclusionReport' | 'log'> {
  readonly cache: ClusterCache;
  readonly store: IntentStorePort;
  readonly report: FailureReport;
  /** Whether this process holds the Lease and knows the whole cluster; asked right before every write. */
  readonly mayAct: () => boolean;
  /** One key at a time: budgets are counted between two evictions, not beside each other. */
  readonly makeQueue: (process: (key: string) => Promise<void>) => WorkQueue;
  /** Many at a time: after an outage of Berth whole groups wait for it. */
  readonly makeGateQueue: ServiceGatesOptions['makeQueue'];
}

const reviewKey = 'review';
const nodesKey = 'nodes';
const devicesKey = 'devices';
const outageKey = 'outage';
const publishKey = 'publish';
/** Devices are looked at so seldom, however many signals come: a look takes all of them, and longer when many are known. */
const devicesMs = 100;
const devicesMsForEach = 0.15;
/** All pods of a controller are looked at for each of them that changes: the more there are, the seldomer. */
const singlesMsForEach = 1;
/** So old may the metrics be: they count all groups that are hurt. */
const publishMs = 200;
/** So soon a group asks again that has let a worse one go first. */
const yieldMs = 200;
/** A brake may come off without any change that would bring the group back. */
const longestWaitMs = 10_000;
const shortestWaitMs = 50;

/**
 * Evicts whole groups whose device or node has failed, so that placement can give them another place. Gathers evidence in
 * every replica; only the holder of the Lease decides, and only from intents that it has read since it took over.
 */
export class FailureController {
  readonly #options: FailureControllerOptions;
  readonly #queue: WorkQueue;
  readonly #watch: FailureWatch;
  readonly #exclusions: DeviceExclusions;
  readonly #book: FailureBook;
  readonly #judge: FailureJudge;
  readonly #evictor: FailureEvictor;
  readonly #gates: ServiceGates;
  readonly #time: SteadyTime;
  readonly #patience = new ApiPatience();
  readonly #line = new EvictionLine();
  #holderSinceMs: number | undefined;

  constructor(given: FailureControllerOptions) {
    this.#time = new SteadyTime(given.nowMs, given.wallMs);
    const options = { ...given, wallMs: () => this.#time.wallMs() };
    this.#options = options;
    const { cache, settings, claims, store, nowMs, wallMs, mayAct, health } = options;
    const watch = new FailureWatch({
      cache,
      settings,
      claims,
      nowMs,
      intents: () => this.#book.intents,
    });
    const book = new FailureBook({
      store,
      settings,
      wallMs,
      mayAct,
      readings: now => watch.readings(now),
      isFresh: () => {
        const { synced, stalestMs } = health();
        return synced && stalestMs <= settings.staleAfterSeconds * 1000;
      },
      onReset: name => watch.acknowledge(name),
    });
    const holderForMs = () => (this.#holderSinceMs === undefined ? 0 : nowMs() - this.#holderSinceMs);
    const exclusions = new DeviceExclusions({
      ...options,
      acts: () => this.#acts() && book.isRead,
      isHalted: () => store.isHalted(),
    });
    const whyInUse = (device: DeviceId, byName: boolean) => exclusions.whyInUse(device, byName);
    const judge = new FailureJudge({
      ...options,
      book,
      watch,
      calendarMs: given.wallMs,
      holderForMs,
      whyInUse,
    });
    this.#exclusions = exclusions;
    this.#watch = watch;
    this.#book = book;
    this.#judge = judge;
    this.#gates = new ServiceGates({
      ...options,
      book,
      acts: () => this.#acts(),
      countWrite: status => options.report.gateSet(status),
      makeQueue: options.makeGateQueue,
    });
    this.#evictor = new FailureEvictor({
      ...options,
      book,
      judge,
      isHalted: () => store.isHalted(),
      lookAtGates: intent => this.#gates.lookAt(intent),
    });
    this.#queue = options.makeQueue(key => this.#process(key));
    cache.subscribe(change => this.#changed(change));
  }

  start(): void {
    this.#queue.start();
    this.#gates.start();
  }

  async stop(): Promise<void> {
    await Promise.all([this.#queue.shutdown(), this.#gates.stop()]);
  }

  get queueDepth(): number {
    return this.#queue.depth;
  }

  /** Pods whose readiness gate is to be set. */
  get gatesDepth(): number {
    return this.#gates.depth;
  }

  /** Reads what the last holder has decided, so that no plan uses a node that an intent avoids. Before `takeOver`. */
  async readIntents(): Promise<void> {
    const { settings, claims } = this.#options;
    if (!goesAsFarAs(settings.mode, 'cordon') && claims.mode === 'off') return;
    await this.#book.refresh();
    this.#excludeDevices();
    this.#excludeNodes();
  }

  /** This process holds the Lease and has read the cluster. Nothing new is evicted for `newHolderSeconds`. */
  takeOver(): void {
    this.#book.expire();
    // Nothing of this process is waited for now.
    this.#time.setRight();
    this.#holderSinceMs = this.#options.nowMs();
    this.#queue.add(reviewKey);
    this.#exclusions.takeOver();
    this.#gates.reviewAll();
  }

  /** Looks at everything, now and then, should a change ever have been missed. Cheap in a replica that does not act. */
  reviewAll(): void {
    this.#queue.add(reviewKey);
  }

  /** Something outside the cluster has changed about a group: others need its place, or do not any more. */
  lookAt(group: string): void {
    this.#queue.add(`group:${group}`);
  }

  /** Why a group cannot be evicted for others; see FailureJudge. */
  whyKept(view: GroupView, begun: boolean): string | undefined {
    return this.#judge.whyKept(view, begun);
  }

  /** What holds the eviction of a pod outside groups; `halted` as it was read live. */
  brakesOnPod(pod: PodInfo, mode: FailureMode, halted: boolean): readonly Braked[] {
    return this.#judge.judgePod(pod, mode, halted);
  }

  /** Another holder decides now; evidence is kept. */
  standDown(): void {
    this.#holderSinceMs = undefined;
    this.#evictor.standDown();
    this.#patience.clear();
    this.#line.clear();
    this.#book.expire();
    this.#options.report.clear();
  }

  #changed(change: CacheChange): void {
    if (change.kind === 'group') this.#queue.add(`group:${change.key}`);
    if (change.kind === 'singles' && this.#isOptedIn(change.key)) {
      const waitMs = singlesMsForEach * this.#options.cache.singles(change.key).size;
      this.#queue.addAfter(`group:${change.key}`, Math.min(longestWaitMs, waitMs));
    }
    if (change.kind === 'pool') {
      for (const group of this.#watch.lookAtPool(change.driver, change.pool))
        this.#queue.add(`group:${group}`);
      this.#lookAtDevicesAfter(devicesMs);
    }
    if (change.kind !== 'node') return;
    // Most changes of nodes are reports of well ones, and a look takes all nodes.
    if (this.#watch.nodesAreOut || this.#options.cache.node(change.name)?.ready === false)
      this.#queue.add(outageKey);
    if (this.#watch.wishHasChanged(change.name)) this.#lookAtDevicesAfter(devicesMs);
    for (const group of this.#watch.lookAtNode(change.name)) this.#queue.add(`group:${group}`);
    this.#queue.add(nodesKey);
  }

  /** Pods outside groups are looked at where Berth places anything; elsewhere there may be very many. */
  #isOptedIn(singleKey: string): boolean {
    const { cache } = this.#options;
    const namespace = cache.namespace(singleKey.slice(0, singleKey.indexOf('/')));
    return plansGroups(namespace?.mode ?? 'observe') || this.#watch.hasEvidence(singleKey);
  }

  async #process(key: string): Promise<void> {
    if (key === reviewKey) return this.#review();
    if (key === nodesKey) return this.#excludeNodes();
    if (key === outageKey) return this.#watch.lookForOutage();
    if (key === devicesKey) return this.#lookAtDevices();
    if (key === publishKey) return this.#acts() ? this.#publish() : undefined;
    await this.#processGroup(key.slice('group:'.length));
  }

  async #review(): Promise<void> {
    const { cache, report } = this.#options;
    this.#watch.lookAtAll();
    for (const key of cache.groupKeys()) this.#queue.add(`group:${key}`);
    for (const key of cache.singleKeys()) if (this.#isOptedIn(key)) this.#queue.add(`group:${key}`);
    const holds = this.#acts();
    this.#excludeNodes();
    await this.#book.refresh();
    // Every replica answers admission and the scheduler, so every one must know what to keep off.
    this.#excludeNodes();
    this.#evictor.keepPlaces(this.#book.open);
    this.#queue.add(devicesKey);
    if (!holds) return;
    if (!this.#acts()) return this.standDown();
    this.#gates.reviewAll();
    for (const bad of this.#book.bad) report.badIntent(bad);
    for (const key of this.#book.openGroups()) this.#queue.add(`group:${key}`);
    this.#publish();
    await this.#book.prune();
  }

  async #lookAtDevices(): Promise<void> {
    this.#excludeDevices();
    // What a group is told to be poisonous for may be nodes.
    this.#excludeNodes();
    const afterMs = await this.#exclusions.write();
    if (afterMs !== undefined) this.#lookAtDevicesAfter(afterMs);
  }

  #lookAtDevicesAfter(ms: number): void {
    this.#queue.addAfter(devicesKey, Math.max(ms, devicesMsForEach * this.#exclusions.knownDevices));
  }

  #excludeDevices(): void {
    const dueInMs = this.#exclusions.look({
      troubles: this.#watch.deviceTroubles(),
      totals: this.#watch.deviceTotals,
      intents: this.#book.intents,
    });
    if (dueInMs !== undefined) this.#lookAtDevicesAfter(Math.max(shortestWaitMs, dueInMs));
  }

  async #processGroup(key: string): Promise<void> {
    const { changed, tellsOfNodes, unripeMs } = this.#watch.lookAtGroup(key);
    if (tellsOfNodes) this.#excludeNodes();
    if (changed) this.#lookAtDevicesAfter(devicesMs);
    if (unripeMs !== undefined) this.#again(key, unripeMs);
    if (!this.#acts() || !this.#book.isRead) return;
    const waitMs = this.#patience.waitMs(key, this.#options.nowMs());
    if (waitMs > 0) return this.#again(key, waitMs);
    try {
      for (const stored of this.#book.openOf(key)) {
        const afterMs = await this.#evictor.advance(stored);
        if (afterMs !== undefined) this.#again(key, afterMs);
        if (!this.#acts()) return;
      }
      this.#line.leave(key);
      const hurts = this.#judge.hurtOf(key).toSorted((a, b) => byUrgency(urgencyOf(a), urgencyOf(b)));
      for (const hurt of hurts) await this.#decide(hurt);
      this.#patience.succeeded(key);
    } catch (error) {
      const kind = failureKind(error);
      this.#patience.failed(key, error, kind, this.#options.nowMs());
      // Somebody else has written or deleted an intent: what it says now counts.
      if (kind !== 'conflict' && kind !== 'gone') throw error;
      await this.#book.refresh();
      this.#again(key, 1_000);
    }
    this.#queue.addAfter(publishKey, publishMs);
  }

  /** What was held and is well by now, and how things stand. */
  #publish(): void {
    const { report } = this.#options;
    const isWell = ({ sighting }: Evidence) => sighting.class === 'info';
    for (const uid of report.heldLeaders()) if (this.#watch.evidenceOf(uid).every(isWell)) report.healed(uid);
    report.publish(this.#book.intents, this.#watch.countsBySignal());
  }

  async #decide(hurt: Hurt): Promise<void> {
    const { report, store, mayAct } = this.#options;
    if (hurt.mode === 'off') return report.healed(hurt.leaderUid);
    // Berth's own eviction looks like a disruption by others, too.
    if (this.#isDone(hurt)) return;
    const isRipe = this.#judge.isRipe(hurt);
    if (isRipe) report.detected(hurt);
    if (this.#holds(hurt, this.#judge.judgeNew(hurt, false))) return this.#book.keepTripped();
    // Before anything is read: all that wait for the rate are woken by it at once.
    if (this.#yields(hurt)) return;
    // Nothing seen so far holds it: now with what the API server says at this moment.
    const halted = await store.isHalted();
    if (halted && this.#holds(hurt, this.#judge.judgeNew(hurt, true))) return;
    await this.#book.refresh();
    if (this.#isDone(hurt) || !(await this.#judge.stillStands(hurt))) return this.#again(hurt.key, 1_000);
    // A quorum read of the intents and the live looks took a while: what is decided on must be true after them.
    const current = this.#judge.hurtOf(hurt.key).find(({ leaderUid }) => leaderUid === hurt.leaderUid);
    if (current === undefined || this.#isDone(current)) return;
    const judgement = this.#judge.judgeNew(current, halted);
    if (this.#holds(current, judgement)) return;
    if (!mayAct()) return;
    // Its time may have come while it was judged.
    report.detected(current);
    const intent = this.#judge.intentOf(current, judgement.plan);
    const known = this.#book.of(hurt.leaderUid);
    const { stored } =
      known === undefined || isBadIntent(known)
        ? await this.#book.create(intent)
        : { stored: await this.#book.update(known, intent) };
    if (isBadIntent(stored)) return report.badIntent(stored, hurt);
    if (!mayAct()) return;
    const afterMs = await this.#evictor.advance(stored);
    if (afterMs !== undefined) this.#again(hurt.key, afterMs);
  }

  /** There is an intent for this incarnation. One that was closed before anything was evicted may be opened again. */
  #isDone(hurt: Hurt): boolean {
    const known = this.#book.of(hurt.leaderUid);
    if (known === undefined) return false;
    if (isBadIntent(known)) {
      this.#options.report.badIntent(known, hurt);
      return true;
    }
    const { phase, times, outcome } = known.intent;
    return phase !== 'closed' || times.evicted !== undefined || outcome === 'failed';
  }

  /** Tells what the brakes say; false when none holds. */
  #holds(hurt: Hurt, { held }: Judgement): boolean {
    const { report, nowMs } = this.#options;
    const [first] = held;
    const onlyRate = held.length > 0 && held.every(({ brake }) => brake === 'rate');
    if (onlyRate) this.#line.wait(this.#waiterOf(hurt), nowMs());
    if (first === undefined) return false;
    if (this.#judge.isRipe(hurt)) {
      if (first.brake === 'mode' && !goesAsFarAs(hurt.mode, 'evict')) report.wouldEvict(hurt, first.message);
      if (rehearsed.includes(first.brake)) report.wouldEvict(hurt, first.message);
    }
    report.held(hurt, held);
    this.#again(hurt.key, Math.max(...held.map(({ retryAfterMs }) => retryAfterMs)));
    return true;
  }

  /** Lets groups go first that wait for the rate as this one would, and are worse off. Preemptions have rates of their own. */
  #yields(hurt: Hurt): boolean {
    if (isPreemption(hurt.fault.signal)) return false;
    const before = this.#line.before(this.#waiterOf(hurt), this.#options.nowMs());
    if (before.size === 0) return false;
    for (const group of before) this.#queue.add(`group:${group}`);
    this.#again(hurt.key, yieldMs);
    return true;
  }

  #waiterOf(hurt: Hurt): Waiter {
    const { key, leaderUid, incarnation, view } = hurt;
    const serving = this.#judge.serves(incarnation, view.membership.size);
    return { group: key, leaderUid, serving, ...urgencyOf(hurt) };
  }

  #excludeNodes(): void {
    const dueInMs = this.#watch.excludeNodes(this.#book.intents, this.#options.wallMs(), (group, node) =>
      this.#exclusions.isPoisoned(group, node),
    );
    if (dueInMs !== undefined) this.#queue.addAfter(nodesKey, Math.max(shortestWaitMs, dueInMs));
  }

  #again(key: string, afterMs: number): void {
    this.#queue.addAfter(`group:${key}`, Math.min(longestWaitMs, Math.max(shortestWaitMs, afterMs)));
  }

  #acts(): boolean {
    return this.#holderSinceMs !== undefined && this.#options.mayAct();
  }
}

function urgencyOf({ evidence }: Hurt): Urgency {
  return { class: evidence.sighting.class, firstSeenMs: evidence.firstSeenMs };
}
