import type { Announcements } from './announcements.ts';
import { berth } from './api/names.ts';
import type { BerthOptions } from './berth-options.ts';
import type { ClusterCache } from './cache/cluster-cache.ts';
import type { ImpossibleDemands } from './cache/impossible-demands.ts';
import { PlacementController } from './controller/placement-controller.ts';
import { PlacementReport, type PlacementReportSinks } from './controller/placement-report.ts';
import { placementWrites } from './controller/placement-writes.ts';
import { RefusalExplainer } from './controller/refusal-explainer.ts';
import { WaitingList } from './controller/waiting-list.ts';
import type { Clock } from './kube/clock.ts';
import { WorkQueue } from './kube/work-queue.ts';
import { setCounts } from './telemetry/metrics.ts';

export interface PlacementParts extends BerthOptions {
  readonly cache: ClusterCache;
  readonly announcements: Announcements;
  readonly whyImpossible: ImpossibleDemands['why'];
  readonly mayAct: () => boolean;
  readonly remakesClaims: () => boolean;
  /** Hears of every group that waits, with the reason; what it answers is added to why. */
  readonly onWaits: (key: string, reason: string) => string | undefined;
  readonly clock: Clock;
}

export interface Placement {
  readonly controller: PlacementController;
  readonly waiting: WaitingList;
  readonly explainer: RefusalExplainer;
}

/** The placement controller with all that it reports through. */
export function makePlacement({
  config,
  client,
  metrics,
  log,
  cache,
  announcements,
  whyImpossible,
  mayAct,
  remakesClaims,
  onWaits,
  clock,
}: PlacementParts): Placement {
  const sinks: PlacementReportSinks = {
    event: (pod, type, reason, message) => announcements.podEvent(pod, type, reason, message),
    ownerEvent: (owner, type, reason, message) => announcements.ownerEvent(owner, type, reason, message),
    condition: (pod, status, reason, message) =>
      announcements.condition(pod, { type: berth.placedCondition, status, reason, message }),
    setWaiting: counts => setCounts(metrics.groupsWaiting, counts),
    countPlaced: seconds => {
      metrics.groupsPlaced.inc();
      metrics.placement.observe(seconds);
    },
    countSingle: () => metrics.singlesPinned.inc(),
    countStranded: reason => metrics.pinsStranded.inc({ reason }),
    countReplan: (scope, outcome) => metrics.replans.inc({ scope, outcome }),
    countInvalid: field => metrics.invalidRequests.inc({ field }),
    countAlignment: rung => metrics.alignmentReached.inc({ rung }),
    countClaimRemade: () => metrics.claimsRemade.inc(),
    refused: key => explainer.refused(key),
  };
  const { agedAfterSeconds, strandedAfterSeconds, membersLateAfterSeconds, replanBudget } = config.placement;
  const { prefer, warmHosts } = config.placement;
  const time = { nowMs: () => clock.nowMs(), wallMs: () => clock.wallMs() };
  const waiting = new WaitingList({
    cache,
    ...time,
    agedAfterMs: agedAfterSeconds * 1000,
    membersLateAfterMs: membersLateAfterSeconds * 1000,
    objective: { prefer, warmHosts },
    whyImpossible,
    onPlanned: (seconds, outcome) => metrics.planDuration.observe({ outcome }, seconds),
  });
  const report = new PlacementReport({ cache, sinks, log, ...time });
  const explainer = new RefusalExplainer({
    cache,
    waiting,
    tell: explained => report.explained(explained),
    nowMs: time.nowMs,
    mayAct,
    makeQueue: process => new WorkQueue({ name: 'explanation', process, log, clock, concurrency: 1 }),
  });
  const controller = new PlacementController({
    cache,
    waiting,
    writes: placementWrites(client),
    report,
    nowMs: time.nowMs,
    mayAct,
    remakesClaims,
    strandedAfterMs: strandedAfterSeconds * 1000,
    replanBudget: { perGroup: replanBudget.perGroup, windowMs: replanBudget.perMinutes * 60_000 },
    membersLateAfterMs: membersLateAfterSeconds * 1000,
    onWaits,
    makeQueue: process => new WorkQueue({ name: 'placement', process, log, clock, concurrency: 24 }),
  });
  return { controller, waiting, explainer };
}
