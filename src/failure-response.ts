import type { Announcements } from './announcements.ts';
import { berth } from './api/names.ts';
import type { BerthOptions } from './berth-options.ts';
import { claimsWithout } from './cache/claim-users.ts';
import type { ClusterCache } from './cache/cluster-cache.ts';
import { describeNext } from './cache/group-source.ts';
import type { GroupView } from './cache/group-view.ts';
import { ExclusionReport, type ExclusionSinks } from './controller/exclusion-report.ts';
import { FailureController } from './controller/failure-controller.ts';
import { FailureReport, type FailureReportSinks } from './controller/failure-report.ts';
import { failureWrites } from './controller/failure-writes.ts';
import type { WaitingList } from './controller/waiting-list.ts';
import type { Claims } from './failure/claim.ts';
import { isObstacle } from './group/group-info.ts';
import type { SeatDevices } from './group/planned-devices.ts';
import type { Clock } from './kube/clock.ts';
import { ExclusionStore } from './kube/exclusion-store.ts';
import { IntentStore } from './kube/intent-store.ts';
import { WorkQueue } from './kube/work-queue.ts';
import type { GroupPlan } from './planner/plan.ts';
import type { Rejection, Undecided } from './planner/rejection.ts';
import { setCounts } from './telemetry/metrics.ts';

export interface FailureParts extends BerthOptions {
  readonly cache: ClusterCache;
  readonly waiting: WaitingList;
  readonly announcements: Announcements;
  readonly mayAct: () => boolean;
  readonly health: () => { readonly synced: boolean; readonly stalestMs: number };
  readonly claims: Claims;
  readonly clock: Clock;
}

/** The failure controller with all that it plans with and reports through. */
export function makeFailureResponse(parts: FailureParts): FailureController {
  const { config, client, apiCalls, apiOutage, log, cache, claims, mayAct, health, clock } = parts;
  const nowMs = () => clock.nowMs();
  return new FailureController({
    cache,
    settings: config.failure,
    claims,
    store: new IntentStore({
      client,
      namespace: config.namespace,
      configMapName: config.configMapName,
      timeoutMs: 10_000,
    }),
    writes: failureWrites(client),
    report: new FailureReport({ cache, sinks: sinksOf(parts), log }),
    exclusionStore: new ExclusionStore(client, 10_000),
    exclusionReport: new ExclusionReport(cache, exclusionSinks(parts), log),
    log,
    planAgain: (view, excluded, leaves) => planAgain(parts, view, excluded, leaves),
    devicesFor: (view, nodes) => devicesFor(parts, view, nodes),
    health,
    apiCalls: () => apiCalls.counts(nowMs()),
    apiBackForMs: () => apiOutage.backForMs(nowMs()),
    mayAct,
    nowMs,
    wallMs: () => clock.wallMs(),
    makeQueue: process =>
      new WorkQueue({
        name: 'failure',
        process,
        log,
        clock,
        concurrency: 1,
        backoff: { baseMs: 1_000, maxMs: 60_000 },
      }),
    makeGateQueue: process => new WorkQueue({ name: 'service-gates', process, log, clock, concurrency: 8 }),
  });
}

/** Where a group would go if it left now: its own places are free, failing nodes are not. `leaves`: see claimsWithout. */
function planAgain(
  { cache, waiting }: FailureParts,
  view: GroupView,
  excluded: ReadonlyMap<string, string>,
  leaves: (group: string) => boolean,
): GroupPlan | Rejection | Undecided {
  const { key, leader, members, leaving, others } = view;
  if (leader === undefined) return { kind: 'undecided', reason: 'its leader is gone' };
  const { source, released } = claimsWithout(cache, view, leaves);
  const info = describeNext(cache, view, leader, source);
  if (isObstacle(info)) return { kind: 'undecided', reason: info.message };
  const own = new Set([...members.values(), ...leaving.values(), ...others]);
  return waiting.plan({
    key,
    demands: info.demands,
    topology: info.topology,
    excludedNodes: new Map([...waiting.excludedNodes(key), ...excluded]),
    snapshot: cache.snapshotWithout(own, [key], released),
  });
}

/** Devices of the place that was planned for a group, as if it had left: whoever uses its claims was asked about then. */
function devicesFor(
  { cache, waiting }: FailureParts,
  view: GroupView,
  nodes: readonly string[],
): readonly SeatDevices[] | undefined {
  const { key, leader, members, leaving, others } = view;
  const { source, released } = claimsWithout(cache, view, () => true);
  const info = leader === undefined ? undefined : describeNext(cache, view, leader, source);
  if (info === undefined || isObstacle(info) || info.demands.length !== nodes.length) return undefined;
  const own = new Set([...members.values(), ...leaving.values(), ...others]);
  return waiting.devicesOn(info, nodes, cache.snapshotWithout(own, [key], released));
}

function exclusionSinks({ announcements, metrics }: FailureParts): ExclusionSinks {
  const { devicesExcluded, devicesInUse, poisonGroups } = metrics;
  return {
    ownerEvent: (owner, type, reason, message) => announcements.ownerEvent(owner, type, reason, message),
    setExcluded: counts => setCounts(devicesExcluded, counts),
    setInUse: counts => setCounts(devicesInUse, counts),
    setPoisonous: groups => poisonGroups.set(groups),
  };
}

function sinksOf({ announcements, metrics }: FailureParts): FailureReportSinks {
  const { evictions, brakes, intentsOpen, recovery, failures, serviceGates } = metrics;
  return {
    event: (pod, type, reason, message) => announcements.podEvent(pod, type, reason, message),
    ownerEvent: (owner, type, reason, message) => announcements.ownerEvent(owner, type, reason, message),
    condition: (pod, status, reason, message) =>
      announcements.condition(pod, { type: berth.failureCondition, status, reason, message }),
    countEviction: (signalClass, outcome) => evictions.inc({ class: signalClass, outcome }),
    observeRecovery: (step, seconds) => recovery.observe({ step }, seconds),
    setBrakes: groups => setCounts(brakes, groups),
    setOpenIntents: counts => setCounts(intentsOpen, counts),
    countGate: status => serviceGates.inc({ status }),
    setFailures: groups => setCounts(failures, groups),
  };
}
