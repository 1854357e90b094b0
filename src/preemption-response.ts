import type { Announcements } from './announcements.ts';
import type { BerthOptions } from './berth-options.ts';
import type { ClusterCache } from './cache/cluster-cache.ts';
import type { FailureController } from './controller/failure-controller.ts';
import { failureWrites } from './controller/failure-writes.ts';
import type { PlacementController } from './controller/placement-controller.ts';
import { PreemptionController } from './controller/preemption-controller.ts';
import { PreemptionReport, type PreemptionReportSinks } from './controller/preemption-report.ts';
import type { WaitingList } from './controller/waiting-list.ts';
import type { Clock } from './kube/clock.ts';
import { IntentStore } from './kube/intent-store.ts';
import { PreemptionStore } from './kube/preemption-store.ts';
import { RecordMaps } from './kube/record-maps.ts';
import { WorkQueue } from './kube/work-queue.ts';

export interface PreemptionParts extends BerthOptions {
  readonly cache: ClusterCache;
  readonly waiting: WaitingList;
  readonly placement: PlacementController;
  readonly failure: FailureController;
  readonly announcements: Announcements;
  readonly mayAct: () => boolean;
  readonly clock: Clock;
}

/** The preemption controller with all that it evicts with and reports through. */
export function makePreemption(parts: PreemptionParts): PreemptionController {
  const { config, client, log, cache, waiting, placement, failure, mayAct, clock } = parts;
  const { mode, ...settings } = config.preemption;
  const place = { client, namespace: config.namespace, timeoutMs: 10_000 };
  const halts = new IntentStore({ ...place, configMapName: config.configMapName });
  return new PreemptionController({
    cache,
    mode,
    settings,
    dryRun: config.failure.dryRun,
    limits: config.failure,
    store: new PreemptionStore(new RecordMaps(place)),
    writes: failureWrites(client),
    report: new PreemptionReport({ cache, sinks: sinksOf(parts), log }),
    questionOf: key => waiting.questionOf(key),
    whyGroupKept: (view, begun) => failure.whyKept(view, begun),
    brakesOnPod: (pod, wanted, halted) => failure.brakesOnPod(pod, wanted, halted),
    lookAtGroup: key => failure.lookAt(key),
    serveLine: () => placement.serveLine(),
    isHalted: () => halts.isHalted(),
    mayAct,
    nowMs: () => clock.nowMs(),
    wallMs: () => clock.wallMs(),
    makeQueue: process =>
      new WorkQueue({
        name: 'preemption',
        process,
        log,
        clock,
        concurrency: 1,
        backoff: { baseMs: 1_000, maxMs: 60_000 },
      }),
  });
}

function sinksOf({ announcements, metrics }: PreemptionParts): PreemptionReportSinks {
  return {
    event: (pod, type, reason, message) => announcements.podEvent(pod, type, reason, message),
    ownerEvent: (owner, type, reason, message) => announcements.ownerEvent(owner, type, reason, message),
    countPreemption: outcome => metrics.preemptions.inc({ outcome }),
    countVictim: kind => metrics.preemptionVictims.inc({ kind }),
  };
}
