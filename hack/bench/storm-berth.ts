import { setImmediate as nextTurn } from 'node:timers/promises';
import { pino } from 'pino';
import { makeAnnouncements } from '../../src/announcements.ts';
import { ClusterCache } from '../../src/cache/cluster-cache.ts';
import { ImpossibleDemands } from '../../src/cache/impossible-demands.ts';
import { readConfig, topologyLevels } from '../../src/config.ts';
import { CallWindow } from '../../src/failure/call-window.ts';
import { Outage } from '../../src/failure/outage.ts';
import { makeFailureResponse } from '../../src/failure-response.ts';
import type { Clock } from '../../src/kube/clock.ts';
import { makePlacement } from '../../src/placement.ts';
import { makePreemption } from '../../src/preemption-response.ts';
import { makeReflectors } from '../../src/reflectors.ts';
import { createMetrics, type Metrics } from '../../src/telemetry/metrics.ts';
import type { StormClient } from './storm-client.ts';

/** Berth but for its servers and its Lease, on a clock of the bench. */
export interface StormBerth {
  readonly metrics: Metrics;
  /** Resolves when nothing is left to do at this moment. */
  settle(): Promise<void>;
}

const config = `
failure: { mode: evict }
topology: { levels: [{ name: rack, nodeLabel: example.com/rack }] }
`;
/** As in src/berth.ts. */
const reviewEveryMs = 30_000;
/** Turns without anything to do after which nothing comes any more. */
const quietTurns = 3;

/** Puts the parts together as src/berth.ts does, reads the cluster and takes over. */
export async function startStormBerth(client: StormClient, clock: Clock): Promise<StormBerth> {
  const options = {
    config: readConfig(config, 'storm.yaml'),
    client,
    apiCalls: new CallWindow(60_000),
    apiOutage: new Outage(60_000, clock.nowMs()),
    metrics: createMetrics(),
    log: pino({ level: 'info' }, pino.destination('/dev/null')),
  };
  const cache = new ClusterCache({ levels: topologyLevels(options.config), steersClaims: true });
  const reflectors = makeReflectors(options, cache);
  const impossible = new ImpossibleDemands(cache);
  const announcements = makeAnnouncements(options, cache, clock, 'storm');
  const mayAct = () => true;
  const shared = { ...options, cache, announcements, mayAct, clock };
  const { controller, waiting, explainer } = makePlacement({
    ...shared,
    whyImpossible: impossible.why.bind(impossible),
    remakesClaims: () => true,
    onWaits: (key, reason) => preemption.onWaits(key, reason),
  });
  const failure = makeFailureResponse({
    ...shared,
    waiting,
    // Watches here are never late.
    health: () => ({ synced: true, stalestMs: 0 }),
    claims: { mode: options.config.preemption.mode, of: uid => preemption.claimOf(uid) },
  });
  const preemption = makePreemption({ ...shared, waiting, placement: controller, failure });
  const { signal } = new AbortController();
  for (const reflector of reflectors) void reflector.start(signal);
  await Promise.all(reflectors.map(reflector => reflector.waitForSync(signal)));
  await failure.readIntents();
  for (const part of [controller, explainer, failure, preemption, announcements]) part.start();
  const reviewAll = () => {
    controller.reviewAll();
    failure.reviewAll();
    preemption.reviewAll();
    clock.setTimer(reviewEveryMs, reviewAll);
  };
  reviewAll();
  preemption.takeOver();
  failure.takeOver();
  const depth = () => client.pending + controller.queueDepth + failure.queueDepth + preemption.queueDepth;
  return {
    metrics: options.metrics,
    async settle() {
      for (let quiet = 0; quiet < quietTurns; quiet = depth() === 0 ? quiet + 1 : 0) await nextTurn();
    },
  };
}
