import type { SecureContextOptions, TlsOptions } from 'node:tls';
import { Server as TlsServer } from 'node:tls';
import { type FastifyInstance, fastify, LogController } from 'fastify';
import type { Logger } from 'pino';
import { claimWebhook } from '../webhooks/claim-plugin.ts';
import { seatLookup } from '../webhooks/claim-seat.ts';
import type { ImpossiblePolicy } from '../webhooks/device-refusal.ts';
import { ownerWebhook } from '../webhooks/owner-plugin.ts';
import { placementFrom } from '../webhooks/placement.ts';
import { podWebhook } from '../webhooks/plugin.ts';
import type { Pod } from './api/kubernetes.ts';
import type { BerthOptions } from './berth-options.ts';
import type { ClusterCache } from './cache/cluster-cache.ts';
import { driverPolicy } from './cluster/devices/steering/driver-policy.ts';
import { offeredBy } from './cluster/devices/steering/offered.ts';
import { extenderRoutes } from './extender/plugin.ts';
import { groupKeyOf } from './group/membership.ts';
import { type Clock, systemClock } from './kube/clock.ts';
import {
  type ServingCertificate,
  type ServingContext,
  startFileCertificate,
  startSecretCertificate,
} from './kube/serving-certificate.ts';
import { getPod } from './kube/writes.ts';

/** From files of somebody else's making, or made and renewed by Berth. */
export function startCertificates(
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

/** Serves the mutating webhook. The API server shows no certificate; what it asks changes nothing by itself. */
export function makeWebhookServer(
  { config, client, metrics, log }: BerthOptions,
  cache: ClusterCache,
  synced: () => boolean,
  { cert, key }: ServingCertificate['initial'],
  whyImpossible: ImpossiblePolicy['why'],
): FastifyInstance {
  const server = tlsServer({ cert, key }, log.child({ server: 'webhook' }));
  const impossible = { policy: config.devices.impossible, why: whyImpossible };
  server.register(podWebhook, {
    deps: {
      namespaceMode: name => cache.namespace(name)?.mode,
      gateSingles: name => cache.namespace(name)?.pinsSingles ?? false,
      placement: placementFrom(cache, synced, impossible),
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
  server.register(ownerWebhook, {
    deps: { namespaceMode: name => cache.namespace(name)?.mode, synced, claims: cache.claims, impossible },
    observe: (outcome, seconds) =>
      metrics.admissionDuration.observe({ webhook: 'leaderworkersets', outcome }, seconds),
    onDenied: field => metrics.invalidRequests.inc({ field: fieldLabel(field) }),
  });
  server.register(claimWebhook, {
    deps: {
      enabled: () => config.devices.steerClaims && !config.observeOnly,
      namespaceMode: name => cache.namespace(name)?.mode,
      namespaceSteers: name => cache.claims.steers(name),
      seatOf: seatLookup({
        cache,
        synced,
        readPod: podReader(client),
        sleep: ms => new Promise(resolve => setTimeout(resolve, ms)),
      }),
      devicesOfNode: node => cache.devicesOn(node),
      driverPolicy,
      offers: (body, device) => {
        const { selectors, classes } = cache.deviceCatalog;
        return offeredBy(selectors, classes)(body, device);
      },
    },
    observe: (outcome, seconds) => metrics.admissionDuration.observe({ webhook: 'claims', outcome }, seconds),
    onSteered: requests => metrics.claimsSteered.inc(requests),
    onUnsteered: reason => metrics.claimsUnsteered.inc({ reason }),
  });
  return server;
}

/** The webhook has two seconds in all. */
const readPodMs = 1_000;

/** A pod as it is now; undefined for one that is not there, and where the API server takes too long. */
function podReader(client: BerthOptions['client']) {
  return async (namespace: string, name: string): Promise<Pod | undefined> => {
    try {
      return await getPod(client, { namespace, name }, AbortSignal.timeout(readPodMs));
    } catch {
      return undefined;
    }
  };
}

/** A few values only: keys of labels and annotations are ours, but names of resources are the user's. */
function fieldLabel(field: string): string {
  return field.startsWith('metadata.') ? field : (field.split('[')[0] ?? '');
}

/**
 * Serves kube-scheduler, and nobody who has no certificate of Berth's authority: the answers tell what is held for whom,
 * and a caller could make Berth busy on the scheduler's time.
 */
export function makeExtenderServer(
  { config, metrics, log }: BerthOptions,
  cache: ClusterCache,
  synced: () => boolean,
  { cert, key, ca }: ServingContext,
): FastifyInstance {
  const demandsCertificate = { requestCert: true, rejectUnauthorized: true };
  const server = tlsServer({ cert, key, ca, ...demandsCertificate }, log.child({ server: 'extender' }));
  const durations = {
    filter: metrics.filterDuration,
    prioritize: metrics.prioritizeDuration,
    preempt: metrics.preemptDuration,
  };
  server.register(extenderRoutes, {
    cache,
    synced,
    nowMs: () => systemClock.nowMs(),
    observeOnly: config.observeOnly,
    observe: (verb, outcome, seconds) => durations[verb].observe({ outcome }, seconds),
  });
  return server;
}

/** Takes over a renewed certificate: connections that stand keep the old one. */
export function renewCertificate(server: FastifyInstance, context: SecureContextOptions): void {
  if (server.server instanceof TlsServer) server.server.setSecureContext(context);
}

export function portOf(server: FastifyInstance): number {
  const address = server.server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

function tlsServer(options: TlsOptions, log: Logger): FastifyInstance {
  return fastify({
    https: { ...options, minVersion: 'TLSv1.2' },
    loggerInstance: log,
    logController: new LogController({ disableRequestLogging: true }),
    // API server and scheduler keep connections for 90 s; one that we close first loses a request now and then.
    keepAliveTimeout: 120_000,
    forceCloseConnections: 'idle',
  }) as unknown as FastifyInstance;
}
