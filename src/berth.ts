import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { FastifyInstance } from 'fastify';
import { makeAnnouncements } from './announcements.ts';
import type { BerthOptions } from './berth-options.ts';
import { ClusterCache } from './cache/cluster-cache.ts';
import { ImpossibleDemands } from './cache/impossible-demands.ts';
import { topologyLevels } from './config.ts';
import { mayAct as mayActBy } from './controller/acting.ts';
import { makeFailureResponse } from './failure-response.ts';
import { sleep, systemClock } from './kube/clock.ts';
import { LeaseElection } from './kube/lease-election.ts';
import { readServerVersion, remakesDeletedClaims } from './kube/server-version.ts';
import { makePlacement } from './placement.ts';
import { makePreemption } from './preemption-response.ts';
import { makeOptionalReflectors, makeReflectors } from './reflectors.ts';
import {
  makeExtenderServer,
  makeWebhookServer,
  portOf,
  renewCertificate,
  startCertificates,
} from './servers.ts';
import { AdminServer, type Readiness } from './telemetry/admin-server.ts';

/** A running Berth. */
export interface Berth {
  readonly identity: string;
  readonly webhookPort: number;
  /** 0 when there is no extender. */
  readonly extenderPort: number;
  readonly adminPort: number;
  /** Resolves when the whole cluster has been read. */
  readonly synced: Promise<void>;
  /** Drains: not ready at once, serves on for `shutdownDelaySeconds`, then gives the Lease up and closes. */
  stop(): Promise<void>;
}

/** Should a change ever be missed, everything is looked at again this often. */
const reviewEveryMs = 30_000;

/** Puts the parts together: reflectors into the cache, the cache into webhook and controller, both onto their servers. */
export async function startBerth(options: BerthOptions): Promise<Berth> {
  const { config, client, metrics, log } = options;
  const clock = systemClock;
  const identity = `${hostname()}_${process.pid}_${randomUUID().slice(0, 8)}`;
  const stopping = new AbortController();
  const cache = new ClusterCache({
    levels: topologyLevels(config),
    steersClaims: config.devices.steerClaims && !config.observeOnly,
  });
  const reflectors = makeReflectors(options, cache);
  const optional = makeOptionalReflectors(options, cache);
  const allSynced = () => reflectors.every(reflector => reflector.synced);
  const synced = Promise.all(reflectors.map(reflector => reflector.waitForSync(stopping.signal))).then(
    () => {},
  );
  synced.catch(() => {});
  const reading = [...reflectors, ...optional].map(reflector => reflector.start(stopping.signal));

  const certificates = await startCertificates(options, clock, context => {
    for (const server of servers) renewCertificate(server, context);
  });
  const impossible = new ImpossibleDemands(cache);
  const whyImpossible = impossible.why.bind(impossible);
  const webhookServer = makeWebhookServer(options, cache, allSynced, certificates.initial, whyImpossible);
  const extenderServer = config.extender.enabled
    ? makeExtenderServer(options, cache, allSynced, certificates.initial)
    : undefined;
  const servers: readonly FastifyInstance[] = [webhookServer, ...(extenderServer ? [extenderServer] : [])];

  let acting = false;
  /** Until the release is known nobody deletes a claim. */
  let claimsAreRemade = false;
  let takeOvers = 0;
  const lease = new LeaseElection({
    client,
    namespace: config.namespace,
    name: config.lease.name,
    identity,
    leaseDurationMs: config.lease.durationSeconds * 1000,
    renewDeadlineMs: config.lease.renewDeadlineSeconds * 1000,
    retryPeriodMs: config.lease.retryPeriodSeconds * 1000,
    log,
    clock,
    onAcquired: () => void takeOver(),
    onLost: reason => {
      acting = false;
      log[reason === 'stopped' ? 'info' : 'warn'](
        { reason },
        'lease given up or lost, this process stands down',
      );
      controller.standDown();
      failure.standDown();
      preemption.standDown();
    },
  });
  const stalestMs = () => Math.max(...reflectors.map(reflector => reflector.stalenessMs(clock.nowMs())));
  const mayAct = () =>
    mayActBy({
      observeOnly: config.observeOnly,
      hasRead: acting,
      isHolder: lease.isHolder(clock.nowMs()),
      stalestMs: stalestMs(),
    });
  const announcements = makeAnnouncements(options, cache, clock, identity);
  const { controller, waiting, explainer } = makePlacement({
    ...options,
    cache,
    announcements,
    whyImpossible,
    mayAct,
    remakesClaims: () => claimsAreRemade,
    onWaits: (key, reason) => preemption.onWaits(key, reason),
    clock,
  });
  const health = () => ({
    synced: allSynced(),
    stalestMs: stalestMs(),
  });
  const failure = makeFailureResponse({
    ...options,
    cache,
    waiting,
    announcements,
    mayAct,
    health,
    claims: { mode: config.preemption.mode, of: uid => preemption.claimOf(uid) },
    clock,
  });
  const preemption = makePreemption({
    ...options,
    cache,
    waiting,
    placement: controller,
    failure,
    announcements,
    mayAct,
    clock,
  });

  /** What the last holder wrote must be in the cache before the first decision: its plans take room. */
  async function takeOver(): Promise<void> {
    takeOvers += 1;
    const own = takeOvers;
    try {
      await synced;
      await Promise.all(reflectors.map(reflector => reflector.relist()));
    } catch (error) {
      if (!stopping.signal.aborted)
        log.error({ err: error }, 'cluster could not be read after acquiring the lease');
      return;
    }
    claimsAreRemade = await readVersion();
    // The first plan must keep off the nodes that cost a group its place under the last holder.
    await readIntents(() => own === takeOvers && lease.isHolder(clock.nowMs()));
    // Lost and acquired again meanwhile: what was read may lack what another holder wrote in between.
    if (own !== takeOvers || !lease.isHolder(clock.nowMs())) return;
    acting = true;
    log.info({ identity }, 'lease acquired and cluster read, this process acts');
    controller.reviewAll();
    preemption.takeOver();
    failure.takeOver();
  }

  async function readVersion(): Promise<boolean> {
    try {
      const version = await readServerVersion(client);
      return version !== undefined && remakesDeletedClaims(version);
    } catch (error) {
      log.warn({ err: error }, 'the release of the API server could not be read; no claim is made anew');
      return false;
    }
  }

  /** Tried again for a while; placement does not wait for ever for a right that is missing. */
  async function readIntents(mayGoOn: () => boolean): Promise<void> {
    for (let tries = 0; tries < 10 && mayGoOn(); tries += 1) {
      try {
        await failure.readIntents();
        return await preemption.readRecords();
      } catch (error) {
        log.warn({ err: error }, 'intents could not be read before the first plan');
        await sleep(clock, 1_000, stopping.signal);
      }
    }
  }

  const readiness = (): Readiness => {
    const reasons = reflectors.filter(r => !r.synced).map(r => `${r.resource}: not read completely yet`);
    if (stopping.signal.aborted || draining) reasons.push('shutting down');
    return { ready: reasons.length === 0, reasons };
  };
  let draining = false;
  const admin = new AdminServer({ ...config.admin, registry: metrics.registry, readiness, log });
  Object.assign(metrics.sources, {
    caches: () =>
      [...reflectors, ...optional].map(r => ({
        resource: r.resource,
        synced: r.synced,
        stalenessSeconds: r.stalenessMs(clock.nowMs()) / 1000,
        objects: r.size,
      })),
    queues: () => [
      { queue: 'placement', depth: controller.queueDepth },
      { queue: 'failure', depth: failure.queueDepth },
      { queue: 'service-gates', depth: failure.gatesDepth },
      { queue: 'preemption', depth: preemption.queueDepth },
    ],
    isLeaseHolder: () => lease.isHolder(clock.nowMs()),
  });

  const { port: adminPort } = await admin.start();
  await webhookServer.listen({ host: config.webhook.host, port: config.webhook.port });
  const webhookPort = portOf(webhookServer);
  await extenderServer?.listen({ host: config.extender.host, port: config.extender.port });
  const extenderPort = extenderServer === undefined ? 0 : portOf(extenderServer);
  controller.start();
  explainer.start();
  failure.start();
  preemption.start();
  announcements.start();
  const leading = lease.start(stopping.signal);
  const review = setInterval(() => {
    if (mayAct()) controller.reviewAll();
    failure.reviewAll();
    preemption.reviewAll();
  }, reviewEveryMs);
  log.info({ identity, webhookPort, extenderPort, adminPort }, 'berth is up');

  return {
    identity,
    webhookPort,
    extenderPort,
    adminPort,
    synced,
    async stop() {
      draining = true;
      clearInterval(review);
      log.info({ seconds: config.shutdownDelaySeconds }, 'draining');
      await sleep(clock, config.shutdownDelaySeconds * 1000, new AbortController().signal);
      await Promise.all([controller.stop(), explainer.stop(), failure.stop(), preemption.stop()]);
      stopping.abort();
      certificates.stop();
      await Promise.all([leading, ...reading, announcements.stop()]);
      await Promise.all([...servers.map(server => server.close()), admin.stop()]);
      log.info('stopped');
    },
  };
}
