import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { Server as TlsServer } from 'node:tls';
import { type FastifyInstance, fastify, LogController } from 'fastify';
import type { Logger } from 'pino';
import { placementFrom } from '../webhooks/placement.ts';
import { podWebhook } from '../webhooks/plugin.ts';
import type {
  KubernetesObject,
  LeaderWorkerSet,
  Namespace,
  Node,
  Pod,
  PodCondition,
  StatefulSet,
} from './api/kubernetes.ts';
import { berth, lws } from './api/names.ts';
import { ClusterCache, type ObjectSink } from './cache/cluster-cache.ts';
import { decodeNode } from './cluster/node-info.ts';
import { type Config, topologyLevels } from './config.ts';
import { PlacementController } from './controller/placement-controller.ts';
import { PlacementReport, type PlacementReportSinks } from './controller/placement-report.ts';
import { placementWrites } from './controller/placement-writes.ts';
import { WaitingList } from './controller/waiting-list.ts';
import { groupKeyOf } from './group/membership.ts';
import { decodeLeaderWorkerSet, decodeNamespace, decodeStatefulSet } from './group/owner.ts';
import { decodePod, type PodInfo, podShare } from './group/pod-info.ts';
import type { ApiClient } from './kube/api-client.ts';
import { type Clock, sleep, systemClock } from './kube/clock.ts';
import { EventRecorder } from './kube/event-recorder.ts';
import { LeaseElection } from './kube/lease-election.ts';
import { Reflector } from './kube/reflector.ts';
import {
  type ServingCertificate,
  startFileCertificate,
  startSecretCertificate,
} from './kube/serving-certificate.ts';
import { WorkQueue } from './kube/work-queue.ts';
import { patchPodCondition } from './kube/writes.ts';
import { AdminServer, type Readiness } from './telemetry/admin-server.ts';
import type { Metrics } from './telemetry/metrics.ts';

export interface BerthOptions {
  readonly config: Config;
  readonly client: ApiClient;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/** A running Berth. */
export interface Berth {
  readonly identity: string;
  readonly webhookPort: number;
  readonly adminPort: number;
  /** Resolves when the whole cluster has been read. */
  readonly synced: Promise<void>;
  /** Drains: not ready at once, serves on for `shutdownDelaySeconds`, then gives the Lease up and closes. */
  stop(): Promise<void>;
}

/** Decisions made on knowledge older than this could place twice on one node; a healthy quiet watch has a bookmark every minute. */
const stalenessLimitMs = 120_000;
/** Should a change ever be missed, everything is looked at again this often. */
const reviewEveryMs = 30_000;

/** Puts the parts together: reflectors into the cache, the cache into webhook and controller, both onto their servers. */
export async function startBerth(options: BerthOptions): Promise<Berth> {
  const { config, client, metrics, log } = options;
  const clock = systemClock;
  const identity = `${hostname()}_${process.pid}_${randomUUID().slice(0, 8)}`;
  const stopping = new AbortController();
  const cache = new ClusterCache({ levels: topologyLevels(config) });
  const reflectors = makeReflectors(options, cache);
  const allSynced = () => reflectors.every(reflector => reflector.synced);
  const synced = Promise.all(reflectors.map(reflector => reflector.waitForSync(stopping.signal))).then(
    () => {},
  );
  synced.catch(() => {});
  const reading = reflectors.map(reflector => reflector.start(stopping.signal));

  const certificates = await startCertificates(options, clock, context => {
    const { server } = webhookServer;
    if (server instanceof TlsServer) server.setSecureContext(context);
  });
  const webhookServer = makeWebhookServer(options, cache, allSynced, certificates.initial);

  let acting = false;
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
        'lease given up or lost, placement stands down',
      );
      controller.standDown();
    },
  });
  const isFresh = (nowMs: number) =>
    reflectors.every(reflector => reflector.stalenessMs(nowMs) < stalenessLimitMs);
  const mayAct = () =>
    !config.observeOnly && acting && lease.isHolder(clock.nowMs()) && isFresh(clock.nowMs());
  const { controller, conditions, events } = makeController(options, cache, mayAct, clock, identity);

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
    // Lost and acquired again meanwhile: what was read may lack what another holder wrote in between.
    if (own !== takeOvers || !lease.isHolder(clock.nowMs())) return;
    acting = true;
    log.info({ identity }, 'lease acquired and cluster read, placement acts');
    controller.reviewAll();
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
      reflectors.map(r => ({
        resource: r.resource,
        synced: r.synced,
        stalenessSeconds: r.stalenessMs(clock.nowMs()) / 1000,
        objects: r.size,
      })),
    queues: () => [{ queue: 'placement', depth: controller.queueDepth }],
    isLeaseHolder: () => lease.isHolder(clock.nowMs()),
  });

  const { port: adminPort } = await admin.start();
  await webhookServer.listen({ host: config.webhook.host, port: config.webhook.port });
  const webhookPort = portOf(webhookServer);
  controller.start();
  conditions.start();
  const leading = lease.start(stopping.signal);
  const review = setInterval(() => mayAct() && controller.reviewAll(), reviewEveryMs);
  log.info({ identity, webhookPort, adminPort }, 'berth is up');

  return {
    identity,
    webhookPort,
    adminPort,
    synced,
    async stop() {
      draining = true;
      clearInterval(review);
      log.info({ seconds: config.shutdownDelaySeconds }, 'draining');
      await sleep(clock, config.shutdownDelaySeconds * 1000, new AbortController().signal);
      await controller.stop();
      stopping.abort();
      certificates.stop();
      await Promise.all([leading, ...reading, conditions.shutdown(), events.flush(2_000)]);
      await Promise.all([events.stop(), webhookServer.close(), admin.stop()]);
      log.info('stopped');
    },
  };
}

function makeReflectors({ client, metrics, log }: BerthOptions, cache: ClusterCache) {
  const share = podShare();
  const reflect = <Raw extends KubernetesObject, T>(
    resource: string,
    path: string,
    decode: (raw: Raw) => T,
    sink: ObjectSink<T>,
    query?: Readonly<Record<string, string>>,
  ) =>
    new Reflector<T, Raw>({
      client,
      path,
      resource,
      decode,
      sink,
      log,
      ...(query && { query }),
      onList: cause => metrics.reflectorRelists.inc({ resource, cause }),
      onDecodeError: () => metrics.decodeErrors.inc({ resource }),
    });
  return [
    reflect<Node, ReturnType<typeof decodeNode>>('nodes', '/api/v1/nodes', decodeNode, cache.nodes),
    reflect<Namespace, ReturnType<typeof decodeNamespace>>(
      'namespaces',
      '/api/v1/namespaces',
      namespace => {
        const record = decodeNamespace(namespace);
        if (record.invalidMode !== undefined) {
          metrics.invalidRequests.inc({ field: `metadata.labels[${berth.mode}]` });
          log.warn(
            { namespace: record.name, mode: record.invalidMode },
            'unknown placement mode, only observed',
          );
        }
        return record;
      },
      cache.namespaces,
    ),
    reflect<LeaderWorkerSet, LeaderWorkerSet>(
      'leaderworkersets',
      `/apis/${lws.apiVersion}/leaderworkersets`,
      decodeLeaderWorkerSet,
      cache.leaderWorkerSets,
    ),
    reflect<StatefulSet, ReturnType<typeof decodeStatefulSet>>(
      'statefulsets',
      '/apis/apps/v1/statefulsets',
      decodeStatefulSet,
      cache.statefulSets,
      {
        labelSelector: lws.name,
      },
    ),
    reflect<Pod, PodInfo>('pods', '/api/v1/pods', pod => decodePod(pod, share), cache.pods),
  ];
}

function startCertificates(
  { config, client, log }: BerthOptions,
  clock: Clock,
  onRotate: (context: ServingCertificate['initial']) => void,
): Promise<ServingCertificate> {
  const { certDir, configurationName, dnsNames, ipAddresses } = config.webhook;
  if (certDir !== undefined) return startFileCertificate({ certDir, onRotate, clock, log });
  return startSecretCertificate({
    api: client,
    namespace: config.namespace,
    serverNames: { dnsNames, ipAddresses },
    webhookConfiguration: config.observeOnly ? undefined : configurationName,
    // Whoever makes the webhook configuration anew takes the caBundle out of it: it must not stay away for long.
    checkEveryMs: 60_000,
    onRotate,
    clock,
    log,
  });
}

function makeWebhookServer(
  { metrics, log }: BerthOptions,
  cache: ClusterCache,
  synced: () => boolean,
  { cert, key }: ServingCertificate['initial'],
): FastifyInstance {
  const server = fastify({
    https: { cert, key, minVersion: 'TLSv1.2' },
    loggerInstance: log.child({ server: 'webhook' }),
    logController: new LogController({ disableRequestLogging: true }),
    // The API server keeps connections for 90 s; a connection that we close first loses a request now and then.
    keepAliveTimeout: 120_000,
    forceCloseConnections: 'idle',
  }) as unknown as FastifyInstance;
  server.register(podWebhook, {
    deps: {
      namespaceMode: name => cache.namespace(name)?.mode,
      gateSingles: name => cache.namespace(name)?.pinsSingles ?? false,
      placement: placementFrom(cache, synced),
      leaderOf: membership => {
        const leader = cache.group(groupKeyOf(membership))?.leader;
        if (leader === undefined) return undefined;
        const { name, hostname, subdomain } = leader;
        return {
          name,
          ...(hostname !== undefined && { hostname }),
          ...(subdomain !== undefined && { subdomain }),
        };
      },
    },
    observe: (outcome, seconds) => metrics.admissionDuration.observe({ webhook: 'pods', outcome }, seconds),
    onDenied: field => metrics.invalidRequests.inc({ field: fieldLabel(field) }),
  });
  return server;
}

/** A few values only: keys of labels and annotations are ours, but names of resources are the user's. */
function fieldLabel(field: string): string {
  return field.startsWith('metadata.') ? field : (field.split('[')[0] ?? '');
}

function makeController(
  { config, client, metrics, log }: BerthOptions,
  cache: ClusterCache,
  mayAct: () => boolean,
  clock: Clock,
  identity: string,
) {
  const events = new EventRecorder({
    client,
    component: 'berth',
    instance: identity,
    log,
    clock,
    onDrop: () => metrics.eventsDropped.inc(),
  });
  const wanted = new Map<string, { readonly pod: PodInfo; readonly condition: PodCondition }>();
  const conditions = new WorkQueue({
    name: 'conditions',
    log,
    clock,
    concurrency: 4,
    async process(uid) {
      const next = wanted.get(uid);
      wanted.delete(uid);
      if (next === undefined || cache.pod(uid) === undefined) return;
      try {
        await patchPodCondition(client, next.pod, next.condition);
      } catch (error) {
        // Only words for people: what is lost is said again with the next change.
        log.debug(
          { err: error, pod: `${next.pod.namespace}/${next.pod.name}` },
          'condition could not be written',
        );
      }
    },
  });
  const sinks: PlacementReportSinks = {
    event: (pod, type, reason, message) => {
      const { namespace, name, uid } = pod;
      events.record({
        involved: { apiVersion: 'v1', kind: 'Pod', namespace, name, uid },
        type,
        reason,
        message,
      });
    },
    ownerEvent: (involved, type, reason, message) => events.record({ involved, type, reason, message }),
    condition: (pod, status, reason, message) => {
      const lastTransitionTime = new Date(clock.wallMs()).toISOString().replace(/\.\d+Z$/, 'Z');
      wanted.set(pod.uid, {
        pod,
        condition: { type: berth.placedCondition, status, reason, message, lastTransitionTime },
      });
      conditions.add(pod.uid);
    },
    setWaiting: counts => {
      metrics.groupsWaiting.reset();
      for (const [reason, count] of counts) metrics.groupsWaiting.set({ reason }, count);
    },
    countPlaced: seconds => {
      metrics.groupsPlaced.inc();
      metrics.placement.observe(seconds);
    },
    countSingle: () => metrics.singlesPinned.inc(),
    countStranded: reason => metrics.pinsStranded.inc({ reason }),
    countReplan: (scope, outcome) => metrics.replans.inc({ scope, outcome }),
    countInvalid: field => metrics.invalidRequests.inc({ field }),
  };
  const { agedAfterSeconds, strandedAfterSeconds, membersLateAfterSeconds, replanBudget } = config.placement;
  const time = { nowMs: () => clock.nowMs(), wallMs: () => clock.wallMs() };
  const waiting = new WaitingList({
    cache,
    ...time,
    agedAfterMs: agedAfterSeconds * 1000,
    membersLateAfterMs: membersLateAfterSeconds * 1000,
    onPlanned: (seconds, outcome) => metrics.planDuration.observe({ outcome }, seconds),
  });
  const controller = new PlacementController({
    cache,
    waiting,
    writes: placementWrites(client),
    report: new PlacementReport({ cache, sinks, log, ...time }),
    nowMs: time.nowMs,
    mayAct,
    strandedAfterMs: strandedAfterSeconds * 1000,
    replanBudget: { perGroup: replanBudget.perGroup, windowMs: replanBudget.perMinutes * 60_000 },
    membersLateAfterMs: membersLateAfterSeconds * 1000,
    makeQueue: process => new WorkQueue({ name: 'placement', process, log, clock, concurrency: 24 }),
  });
  return { controller, conditions, events };
}

function portOf(server: FastifyInstance): number {
  const address = server.server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}
