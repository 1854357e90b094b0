import type { ClusterCache } from '../cache/cluster-cache.ts';
import type { GroupView } from '../cache/group-view.ts';
import type { DeviceId } from '../cluster/devices/device.ts';
import { decodeNode } from '../cluster/node-info.ts';
import {
  type Braked,
  type BrakeFacts,
  type BrakeName,
  brakesOnBegun,
  brakesOnNew,
  isTooWide,
  needsPlan,
  rehearsed,
} from '../failure/brakes.ts';
import type { Claims } from '../failure/claim.ts';
import { whyBudgetsForbid } from '../failure/disruption.ts';
import type { DomainName } from '../failure/domains.ts';
import { type Evidence, isFaultOf, ripeInMs, tellsOf, worstOf } from '../failure/evidence.ts';
import { type HistoryQuestion, historyOf } from '../failure/history.ts';
import { type Incarnation, isServing, memberRank } from '../failure/incarnation.ts';
import type { Intent } from '../failure/intent.ts';
import { MaintenanceCalendar } from '../failure/maintenance-windows.ts';
import { type FailureMode, type FailureSettings, goesAsFarAs, leastMode } from '../failure/settings.ts';
import { isPreemption, type Sighting } from '../failure/signal.ts';
import { seeMember } from '../failure/signals.ts';
import type { Membership } from '../group/membership.ts';
import { maxUnavailableOf } from '../group/owner.ts';
import { decodePod, type PodInfo, podShare } from '../group/pod-info.ts';
import { isBadIntent } from '../kube/intent-store.ts';
import type { GroupPlan } from '../planner/plan.ts';
import { describeRejection, type Rejection, type Undecided } from '../planner/rejection.ts';
import { resourcesShortOn } from './device-facts.ts';
import type { FailureBook } from './failure-book.ts';
import { failureModeOf, isPlaced, preemptionModeOf } from './failure-facts.ts';
import type { HurtGroup } from './failure-report.ts';
import type { FailureWatch } from './failure-watch.ts';
import type { FailureWrites } from './failure-writes.ts';
import { GroupCensus } from './group-census.ts';
import { liveDevices } from './live-devices.ts';
import { liveFabric } from './live-fabric.ts';
import { isGivenByName, waitersFor } from './named-claims.ts';
import type { GroupShape } from './shapes/shape.ts';
import { shapeOf, shapes } from './shapes/shapes.ts';

export interface FailureJudgeOptions {
  readonly cache: ClusterCache;
  readonly settings: FailureSettings;
  /** Who must make room for others. */
  readonly claims: Claims;
  readonly book: FailureBook;
  readonly watch: FailureWatch;
  readonly writes: FailureWrites;
  readonly nowMs: () => number;
  readonly wallMs: () => number;
  /** As the clock on the wall is set now: what people do at night is about that, and not about how long ago. */
  readonly calendarMs: () => number;
  /** Whether everything was read once, and the age of the oldest view of any resource. */
  readonly health: () => { readonly synced: boolean; readonly stalestMs: number };
  /** Berth's own calls of the last `apiWindowSeconds`. */
  readonly apiCalls: () => { readonly total: number; readonly failed: number };
  /** Since the API server could be reached again after an outage; infinite when there was none. */
  readonly apiBackForMs: () => number;
  /** Since when this process holds the Lease. */
  readonly holderForMs: () => number;
  /** Why a device that failed is given to new claims still, or to new pods by name of the old one; undefined when it is not. */
  readonly whyInUse: (device: DeviceId, byName: boolean) => string | undefined;
  /**
   * Plans the group as if its own pods were not there, off these nodes (name -> cause) besides those excluded anyhow.
   * `leaves` tells whether a group that uses a claim with a failed device, too, will leave for it.
   */
  readonly planAgain: (
    view: GroupView,
    excluded: ReadonlyMap<string, string>,
    leaves: (group: string) => boolean,
  ) => GroupPlan | Rejection | Undecided;
}

/** A hurt incarnation with all that the decision about it needs. */
export interface Hurt extends HurtGroup {
  readonly shape: GroupShape;
  readonly view: GroupView;
  readonly incarnation: Incarnation;
  readonly evidence: Evidence;
  readonly mode: FailureMode;
}

export interface Judgement {
  readonly held: readonly Braked[];
  /** Node by rank, where the next place was asked for and found. */
  readonly plan: readonly string[] | undefined;
}

/** Those that hold until somebody changes something, or for hours: a group that they hold keeps its claims. */
const lastingBrakes: ReadonlySet<BrakeName> = new Set([
  'remake',
  'mode',
  'blast-radius',
  'exclusion',
  'restart-budget',
  'disruption-budget',
  'maintenance-window',
]);

/** Decides whether a hurt group may be evicted: brings the facts together and asks the brakes. Writes nothing. */
export class FailureJudge {
  readonly #options: FailureJudgeOptions;
  readonly #share = podShare();
  readonly #maintenance: MaintenanceCalendar;
  readonly #census: GroupCensus;

  constructor(options: FailureJudgeOptions) {
    this.#options = options;
    const { cache, watch, nowMs } = options;
    this.#census = new GroupCensus({ cache, nowMs, labelsOf: node => watch.labelsOf(node) });
    this.#maintenance = new MaintenanceCalendar(options.settings.maintenanceWindows);
  }

  /** The incarnations of a group with something wrong, each with the worst of it. */
  hurtOf(key: string): readonly Hurt[] {
    const { cache, nowMs } = this.#options;
    const shape = shapeOf(cache, key);
    return shape.incarnations(cache, key, this.#intents).flatMap(incarnation => {
      const view = shape.view(cache, key, incarnation);
      if (view === undefined) return [];
      const evidence = worstOf(this.#evidenceOf(shape, view, incarnation), nowMs());
      if (evidence === undefined) return [];
      return this.#hurt(shape, view, incarnation, evidence) ?? [];
    });
  }

  /**
   * What can be acted on. What may not evict, as on a Node that is opted out, must not hide what may; and what is held for
   * its own sake, maybe for hours, must not hide what is not.
   */
  #evidenceOf(shape: GroupShape, view: GroupView, incarnation: Incarnation): readonly Evidence[] {
    const evidence = this.#options.watch
      .evidenceOf(incarnation.leaderUid)
      .filter(({ sighting }) => sighting.class !== 'info');
    const evicts = evidence.filter(({ sighting }) =>
      goesAsFarAs(this.#modeOf(sighting, shape, view, incarnation), 'evict'),
    );
    if (evicts.length <= 1) return evicts.length === 0 ? evidence : evicts;
    const free = evicts.filter(({ sighting }) => !this.#isHeldItself(sighting, shape, incarnation));
    return free.length === 0 ? evicts : free;
  }

  /** Whether a brake that is about this fault alone holds it. */
  #isHeldItself({ device, origin }: Sighting, shape: GroupShape, incarnation: Incarnation): boolean {
    const { cache, settings, whyInUse } = this.#options;
    if (origin !== undefined && isTooWide(this.#census.blastOf(origin), this.#groupsAs(shape), settings))
      return true;
    return device !== undefined && whyInUse(device, isGivenByName(cache, incarnation, device)) !== undefined;
  }

  /** Of how many groups there are a share is reckoned: it is not the larger for single pods, of which there may be thousands. */
  #groupsAs({ kind }: GroupShape): number {
    return kind === 'single' ? this.#census.groups + this.#census.singles : this.#census.groups;
  }

  isRipe({ evidence }: Hurt): boolean {
    return ripeInMs(evidence, this.#options.nowMs()) === 0;
  }

  /**
   * The incarnation that an intent is about, as long as it is hurt. Where others took a member away and it is gone by
   * now, the group is not whole for that.
   */
  hurtOfIntent(intent: Intent): Hurt | undefined {
    const { cache, nowMs } = this.#options;
    const known = this.hurtOf(intent.group).find(({ leaderUid }) => leaderUid === intent.leaderUid);
    if (known !== undefined || intent.signal !== 'Foreign') return known;
    const shape = shapes[intent.shape];
    const incarnation = shape
      .incarnations(cache, intent.group, this.#intents)
      .find(({ leaderUid }) => leaderUid === intent.leaderUid);
    if (incarnation?.leader === undefined) return undefined;
    const view = shape.view(cache, intent.group, incarnation);
    const present = new Set(incarnation.pods.map(({ uid }) => uid));
    const lost = intent.members.find(({ uid }) => !present.has(uid));
    if (view === undefined || lost === undefined) return undefined;
    const sighting: Sighting = {
      signal: intent.signal,
      class: intent.class,
      entity: lost.uid,
      nodeName: lost.node,
      nodeUid: undefined,
      blamesNode: false,
      podUid: lost.uid,
      cause: intent.cause,
      debounceMs: 0,
    };
    return this.#hurt(shape, view, incarnation, { sighting, firstSeenMs: nowMs() });
  }

  /**
   * Whether an intent was decided for what is wrong now, or for its like that stands still: which of two is told may change
   * with the process. Any other must stand for its own time first, and the next place may have it, too.
   */
  stillCallsFor(intent: Intent, { shape, view, incarnation, fault }: Hurt): boolean {
    const alike = this.#evidenceOf(shape, view, incarnation)
      .map(({ sighting }) => sighting)
      .filter(sighting => sighting.signal === fault.signal && sighting.class === fault.class);
    return [fault, ...alike].some(sighting => isFaultOf(sighting, intent));
  }

  readonly #intents = () => this.#options.book.intents;

  #hurt(shape: GroupShape, view: GroupView, incarnation: Incarnation, evidence: Evidence): Hurt | undefined {
    const pod = incarnation.leader ?? incarnation.pods[0];
    if (pod === undefined) return undefined;
    return {
      shape,
      key: view.key,
      leaderUid: incarnation.leaderUid,
      pod,
      owner: shape.ownerOf(this.#options.cache, view),
      fault: evidence.sighting,
      view,
      incarnation,
      evidence,
      mode: this.#modeOf(evidence.sighting, shape, view, incarnation),
    };
  }

  /** May a new eviction begin? The planner is asked last, when nothing else holds. */
  judgeNew(hurt: Hurt, halted: boolean): Judgement {
    const facts = this.#facts(hurt, halted);
    const held = brakesOnNew(facts);
    const others = held.filter(({ brake }) => brake !== 'plan-first');
    if (others.some(({ brake }) => !rehearsed.includes(brake))) return { held: others, plan: undefined };
    if (!needsPlan(facts) || facts.doomed) return { held, plan: undefined };
    const result = this.#options.planAgain(hurt.view, this.#avoidOf(hurt), group => this.#leavesToo(group));
    const plan =
      result.kind === 'plan'
        ? ({ found: true } as const)
        : { found: false as const, why: this.#whyNot(result) };
    return {
      held: brakesOnNew({ ...facts, plan }),
      plan: result.kind === 'plan' ? result.nodes : undefined,
    };
  }

  /**
   * May the eviction of an intent that is there still be made?
   * @param drains its members were taken out of traffic: budgets count them as gone already, or are about to
   */
  judgeBegun(hurt: Hurt, halted: boolean, drains = false): readonly Braked[] {
    const facts = this.#facts(hurt, halted, hurt.leaderUid);
    if (!drains) return brakesOnBegun(facts);
    const { namespace } = hurt.view.membership;
    const pods = hurt.incarnation.pods.map(pod =>
      pod.inService === undefined ? pod : { ...pod, ready: false },
    );
    const budgetsForbid = whyBudgetsForbid(pods, this.#options.cache.disruptionBudgets(namespace));
    return brakesOnBegun({ ...facts, budgetsForbid });
  }

  /** Whether a group has something to lose. A pod goes on to say Ready for a minute after its Node is gone. */
  serves(incarnation: Incarnation, size: number): boolean {
    const { cache } = this.#options;
    return (
      isServing(incarnation, size) &&
      incarnation.pods.every(({ nodeName }) => nodeName === undefined || cache.node(nodeName) !== undefined)
    );
  }

  intentOf(hurt: Hurt, plan: readonly string[] | undefined): Intent {
    const { nowMs, wallMs, watch, cache } = this.#options;
    const { incarnation, evidence, view, fault, shape } = hurt;
    const now = wallMs();
    const avoid = new Map<string, Sighting>();
    for (const { sighting } of watch.evidenceOf(incarnation.leaderUid))
      if (sighting.blamesNode && sighting.class !== 'info') avoid.set(sighting.nodeName, sighting);
    return {
      shape: shape.kind,
      group: hurt.key,
      owner: { name: view.membership.owner, uid: hurt.owner?.uid ?? '' },
      remakers: shape.remakers(cache, view, incarnation),
      leaderName: shape.kind === 'lws' ? view.membership.name : (incarnation.leader?.name ?? ''),
      leaderUid: incarnation.leaderUid,
      workerSetUid: incarnation.workerSetUid ?? '',
      members: incarnation.pods.map(pod => ({
        rank: memberRank(pod) ?? 0,
        name: pod.name,
        uid: pod.uid,
        node: pod.nodeName ?? '',
      })),
      domains: this.#domainsOf(incarnation),
      avoid: [...avoid.values()].map(({ nodeName, cause }) => ({
        node: nodeName,
        nodeUid: cache.node(nodeName)?.uid ?? '',
        cause,
      })),
      plan: shape.keepsPlace ? plan : undefined,
      class: fault.class,
      signal: fault.signal,
      cause: fault.cause,
      entity: fault.entity,
      device: fault.device,
      serving: this.serves(incarnation, view.membership.size),
      phase: 'evicting',
      hold: undefined,
      outcome: undefined,
      nextUid: undefined,
      times: {
        signal: Math.round(now - (nowMs() - evidence.firstSeenMs)),
        intent: Math.round(now),
        drain: undefined,
        evicted: undefined,
        gone: undefined,
        bound: undefined,
        ready: undefined,
      },
    };
  }

  /**
   * Looks live at what the decision hangs on: the member and its node show the same fault, and the owner still wants the
   * group. The watch may lag behind a fault that has passed.
   */
  async stillStands({ fault, incarnation, view, shape }: Hurt): Promise<boolean> {
    const { cache, writes, settings, claims, watch } = this.#options;
    const members = watch.factsOf(shape, view, incarnation);
    const member = members.find(({ pod }) => pod.uid === fault.podUid);
    const [pod, node, isWanted] = await Promise.all([
      member === undefined ? undefined : writes.livePod(member.pod),
      member === undefined ? undefined : writes.liveNode(member.nodeName),
      shape.isWantedNow(cache, writes, view, incarnation),
    ]);
    if (!isWanted) return false;
    // A member that others deleted does not come back by being gone.
    if (member === undefined || pod?.metadata.uid !== member.pod.uid) return fault.signal === 'Foreign';
    const now = decodePod(pod, this.#share);
    const stays = member.stays && !now.terminating && !now.terminal;
    // The place may have become needless while the API server was asked.
    const claim = claims.of(incarnation.leaderUid);
    const { device } = fault;
    const record = node === undefined ? undefined : decodeNode(node);
    const facts = {
      ...member,
      pod: now,
      node: record,
      shortOf: resourcesShortOn(cache, member.nodeName, record?.allocatable),
      ...(device && { devices: watch.withMemory(await liveDevices(cache, writes, now, device)) }),
      ...(await liveFabric(cache, writes, { member, signal: fault.signal, incarnation })),
      stays,
      claim,
    };
    return seeMember(facts, settings).some(sighting => tellsOf(sighting, fault));
  }

  /** May a pod outside groups be evicted for others? The claim on it is its caller's affair. */
  judgePod(pod: PodInfo, mode: FailureMode, halted: boolean): readonly Braked[] {
    const { cache } = this.#options;
    const { namespace, uid } = pod;
    const question = { group: `${namespace}/${pod.name}`, namespace, owner: uid, serving: pod.ready };
    return brakesOnNew({
      ...this.#clusterFacts(question, halted),
      domains: [],
      ownerCanSpare: 1,
      mode,
      signal: 'Preempted',
      blast: undefined,
      claimed: true,
      placed: true,
      whyNotRemade: undefined,
      class: 'certain',
      ripeInMs: 0,
      doomed: false,
      budgetsForbid: whyBudgetsForbid([pod], cache.disruptionBudgets(namespace)),
    });
  }

  /**
   * Why a group cannot be evicted for others, whatever their priority; undefined when nothing is known against it.
   * @param begun its eviction may have begun for that very purpose: earlier ones do not count
   */
  whyKept(view: GroupView, begun: boolean): string | undefined {
    const { cache, claims, book, settings, wallMs } = this.#options;
    const { key, leader, membership } = view;
    const { namespace, owner } = membership;
    if (membership.kind !== 'lws') return 'only groups of a LeaderWorkerSet can be evicted whole for others';
    const shape = shapes.lws;
    const incarnation = shape
      .incarnations(cache, key, this.#intents)
      .find(({ leaderUid }) => leaderUid === leader?.uid);
    if (leader === undefined || incarnation === undefined) return 'its leader is gone';
    const notRemade = shape.whyNotRemade(view, incarnation);
    if (notRemade !== undefined) return notRemade;
    if (preemptionModeOf(cache, claims, shape, view, incarnation) === 'off')
      return 'it has opted out of evictions';
    if (!isPlaced(cache, view, incarnation)) return 'Berth does not place it';
    if (!shape.isWanted(cache, view, incarnation)) return 'its LeaderWorkerSet is about to end it';
    if (leader.nodeName === undefined) return 'it is on its way to its nodes';
    if (begun) return undefined;
    if (!book.isRead) return 'the records of evictions have not been read yet';
    const known = book.of(leader.uid);
    const isOpen = known !== undefined && (isBadIntent(known) || known.intent.outcome === 'failed');
    if (isOpen || book.openOf(key).length > 0) return 'an eviction of it is not over';
    const question = { group: key, namespace, owner, serving: true, nowMs: wallMs() };
    const { restarts } = historyOf(book.intents, question, settings);
    return restarts.kind === 'free' ? undefined : 'it was evicted often of late';
  }

  /**
   * Whether a group that shares a claim with a failed device will leave for it, too, sooner or later: nothing holds it that
   * would hold it for long. It must have a place of its own by now, for when the first of them has gone the others follow
   * without being asked about theirs again.
   */
  #leavesToo(key: string): boolean {
    const { book, planAgain } = this.#options;
    if (book.openOf(key).some(({ intent }) => intent.phase === 'leaving')) return true;
    return this.hurtOf(key).some(hurt => {
      const facts = this.#facts(hurt, false);
      if (brakesOnNew(facts).some(({ brake }) => lastingBrakes.has(brake))) return false;
      return (
        facts.doomed ||
        !needsPlan(facts) ||
        planAgain(hurt.view, this.#avoidOf(hurt), () => true).kind === 'plan'
      );
    });
  }

  #facts(hurt: Hurt, halted: boolean, begun?: string): BrakeFacts {
    const { cache, claims, book, whyInUse, nowMs } = this.#options;
    const { incarnation, view, evidence, fault, mode, key, shape } = hurt;
    const { namespace, owner, size } = view.membership;
    const open = book.open.map(({ intent }) => intent);
    const waiters = waitersFor(cache, open, incarnation, key);
    const question = { group: key, namespace, owner, serving: this.serves(incarnation, size), waiters };
    const ofCluster = this.#clusterFacts(question, halted, begun);
    return {
      ...ofCluster,
      groups: this.#groupsAs(shape),
      ownerCanSpare: this.#ownerCanSpare(view.membership),
      domains: this.#census.domainFacts(this.#domainsOf(incarnation), ofCluster.history.inFlightByDomain),
      mode,
      awaited: waiters.size > 0,
      signal: fault.signal,
      claimed: claims.of(incarnation.leaderUid) !== undefined,
      placed: isPlaced(cache, view, incarnation),
      whyNotRemade: shape.whyNotRemade(view, incarnation),
      class: fault.class,
      blast: fault.origin && this.#census.blastOf(fault.origin),
      inUse:
        (fault.device && whyInUse(fault.device, isGivenByName(cache, incarnation, fault.device))) ??
        shape.whyComesBack(cache, view, fault),
      ripeInMs: ripeInMs(evidence, nowMs()),
      doomed: incarnation.leader === undefined || incarnation.leader.terminating,
      budgetsForbid: whyBudgetsForbid(incarnation.pods, cache.disruptionBudgets(namespace)),
    };
  }

  /** What holds for whoever is to be evicted, and what is known of earlier evictions. */
  #clusterFacts(question: Omit<HistoryQuestion, 'nowMs'>, halted: boolean, begun?: string) {
    const { settings, book, watch, wallMs, calendarMs, health, apiCalls } = this.#options;
    const { holderForMs, apiBackForMs } = this.#options;
    const breakers = book.breakerStates(begun);
    return {
      settings,
      halted,
      ...health(),
      holderForMs: holderForMs(),
      apiBackForMs: apiBackForMs(),
      nodesBackForMs: watch.nodesBackForMs(),
      calls: apiCalls(),
      maintenanceForMs: this.#maintenance.openForMs(calendarMs()),
      domainFailure: breakers['domain-failure'],
      massFailure: breakers['mass-failure'],
      deviceFailure: breakers['device-failure'],
      deviceMass: breakers['device-mass'],
      serving: question.serving,
      history: historyOf(book.intents, { ...question, nowMs: wallMs() }, settings),
      groups: this.#census.groups,
      plan: undefined,
    };
  }

  #domainsOf({ pods }: Incarnation): readonly DomainName[] {
    return this.#census.domainsOf(pods.map(({ nodeName }) => nodeName));
  }

  #ownerCanSpare({ kind, namespace, owner }: Membership): number {
    const set = kind === 'lws' ? this.#options.cache.leaderWorkerSet(namespace, owner) : undefined;
    return set === undefined ? 1 : maxUnavailableOf(set);
  }

  #modeOf(
    { signal, class: signalClass, nodeName }: Sighting,
    shape: GroupShape,
    view: GroupView,
    incarnation: Incarnation,
  ): FailureMode {
    const { cache, settings, claims } = this.#options;
    if (isPreemption(signal)) return preemptionModeOf(cache, claims, shape, view, incarnation);
    const mode = failureModeOf(cache, settings, shape, view, incarnation);
    const ofNode = cache.node(nodeName)?.failureWish;
    return leastMode(mode, signalClass === 'suspect' ? [settings.suspectMode, ofNode] : [ofNode]);
  }

  #avoidOf({ incarnation }: Hurt): ReadonlyMap<string, string> {
    const evidence = this.#options.watch.evidenceOf(incarnation.leaderUid);
    return new Map(
      evidence
        .filter(({ sighting }) => sighting.blamesNode && sighting.class !== 'info')
        .map(({ sighting }) => [sighting.nodeName, sighting.cause]),
    );
  }

  #whyNot(result: Rejection | Undecided): string {
    if (result.kind === 'undecided') return result.reason;
    return describeRejection(result, this.#options.cache.levels);
  }
}
