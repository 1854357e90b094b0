import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createSecureContext } from 'node:tls';
import type { ApiClient } from './api-client.ts';
import { failureKind } from './api-errors.ts';
import type { Clock, Timer } from './clock.ts';
import {
  caBundle,
  certificateState,
  createAuthority,
  type HeldCertificates,
  issueClientCertificate,
  issueServerCertificate,
  type ServerNames,
} from './pki.ts';

/** What an https server needs; fits `tls.Server.setSecureContext`. All PEM. */
export interface ServingContext {
  readonly cert: string;
  readonly key: string;
  /** Authorities whose client certificates are accepted, and that clients may trust for `cert`. */
  readonly ca: string;
}

/** The part of pino that is used here. */
export interface CertificateLog {
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
}

interface KeeperOptions {
  /** Called with every context but the first, which `startServingCertificate` returns. */
  readonly onRotate: (context: ServingContext) => void;
  readonly clock: Clock;
  readonly log: CertificateLog;
  /** Default: one hour for a Secret, one minute for files. */
  readonly checkEveryMs?: number;
}

export interface SecretCertificateOptions extends KeeperOptions {
  readonly api: Pick<ApiClient, 'request'>;
  readonly namespace: string;
  /** Default `berth-tls`. */
  readonly secretName?: string;
  readonly serverNames: ServerNames;
  /** MutatingWebhookConfiguration that gets the caBundle; undefined where no webhooks are deployed. */
  readonly webhookConfiguration?: string | undefined;
}

export interface FileCertificateOptions extends KeeperOptions {
  /** Holds `tls.crt`, `tls.key` and `ca.crt`, as a Secret of cert-manager is mounted. */
  readonly certDir: string;
}

/** A certificate that is kept fresh until `stop`. */
export interface ServingCertificate {
  readonly initial: ServingContext;
  /** Looks for changes now; the timer does the same. */
  check(): Promise<void>;
  stop(): void;
}

const hourMs = 3600 * 1000;
const minuteMs = 60 * 1000;
/** Other replicas write the same objects, each at most a few times. */
const attempts = 8;

/** Keys of the Secret. The client certificate is the one that kube-scheduler shows to the extender. */
const secretKeys = {
  caBundle: 'ca.crt',
  caKey: 'ca.key',
  serverCert: 'tls.crt',
  serverKey: 'tls.key',
  clientCert: 'extender-client.crt',
  clientKey: 'extender-client.key',
} as const;

/**
 * Keeps authority, server and client certificate in a Secret that all replicas share, and the caBundle of the webhook
 * configuration in step with it. A new authority is published long before it signs anything that is in use: leaves stay
 * until their own two thirds are over, so neither the API server nor kube-scheduler meets a stranger.
 * @throws when the API server cannot be reached or refuses: without a certificate there is nothing to serve
 */
export async function startSecretCertificate(options: SecretCertificateOptions): Promise<ServingCertificate> {
  const read = () => syncSecret(options);
  return keep(read, { ...options, checkEveryMs: options.checkEveryMs ?? hourMs });
}

/** Serves a certificate that somebody else renews, cert-manager for one; its caBundle is theirs to write, too. */
export async function startFileCertificate(options: FileCertificateOptions): Promise<ServingCertificate> {
  const read = () => readFiles(options.certDir);
  return keep(read, { ...options, checkEveryMs: options.checkEveryMs ?? minuteMs });
}

async function keep(
  read: () => Promise<ServingContext>,
  { onRotate, clock, log, checkEveryMs }: KeeperOptions & { readonly checkEveryMs: number },
): Promise<ServingCertificate> {
  const initial = usable(await read());
  let current = initial;
  let timer: Timer | undefined;
  let stopped = false;

  async function check(): Promise<void> {
    const next = usable(await read());
    if (stopped || isSame(current, next)) return;
    onRotate(next);
    current = next;
    log.info({}, 'serving certificate rotated');
  }

  function schedule(delayMs: number): void {
    if (stopped) return;
    timer = clock.setTimer(delayMs, async () => schedule(await nextDelay()));
  }

  async function nextDelay(): Promise<number> {
    try {
      await check();
      return checkEveryMs;
    } catch (error) {
      log.warn({ err: error }, 'serving certificate could not be checked, the old one stays in use');
      return Math.min(checkEveryMs, minuteMs);
    }
  }

  schedule(checkEveryMs);
  return {
    initial,
    check,
    stop: () => {
      stopped = true;
      timer?.cancel();
    },
  };
}

/**
 * Files are not replaced all at once, so key and certificate may be of different age: OpenSSL refuses that. Without
 * authorities Node would accept client certificates of every public one.
 */
function usable(context: ServingContext): ServingContext {
  if (context.ca.trim() === '') throw new Error('ca.crt is empty');
  createSecureContext(context);
  return context;
}

function isSame(a: ServingContext, b: ServingContext): boolean {
  return a.cert === b.cert && a.key === b.key && a.ca === b.ca;
}

async function readFiles(certDir: string): Promise<ServingContext> {
  const [cert, key, ca] = await Promise.all([
    readFile(join(certDir, 'tls.crt'), 'utf8'),
    readFile(join(certDir, 'tls.key'), 'utf8'),
    readFile(join(certDir, 'ca.crt'), 'utf8'),
  ]);
  return { cert, key, ca };
}

/** Ends when Secret and webhook configuration agree with each other and nothing is due. */
async function syncSecret(options: SecretCertificateOptions): Promise<ServingContext> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await syncOnce(options);
    } catch (error) {
      if (attempt === attempts || !isLostRace(error)) throw error;
    }
  }
}

function isLostRace(error: unknown): boolean {
  const kind = failureKind(error);
  return kind === 'exists' || kind === 'conflict' || kind === 'changed';
}

/**
 * The webhook configuration is read before the Secret and written under its resourceVersion: a replica that has seen an
 * older Secret than the one whose bundle is published then loses the race, instead of taking the new authority out.
 */
async function syncOnce(options: SecretCertificateOptions): Promise<ServingContext> {
  const configuration = await readWebhookConfiguration(options);
  const held = await holdCertificates(options);
  if (configuration !== undefined) await publishBundle(options, configuration, held.caBundlePem);
  return { cert: held.server.certPem, key: held.server.keyPem, ca: held.caBundlePem };
}

interface SecretObject {
  readonly metadata: { readonly resourceVersion?: string };
  /** Base64. */
  readonly data?: Readonly<Record<string, string>>;
}

async function holdCertificates(options: SecretCertificateOptions): Promise<HeldCertificates> {
  const { api, namespace, clock, secretName = 'berth-tls' } = options;
  const collection = `/api/v1/namespaces/${namespace}/secrets`;
  const path = `${collection}/${secretName}`;
  const found = await orAbsent(api.request<SecretObject>({ method: 'GET', path }));
  const stored = readHeld(found?.data ?? {}, options.serverNames);
  const held = renew(new Date(clock.wallMs()), stored, options);
  if (held === stored) return held;
  const data = { ...found?.data, ...writeHeld(held) };
  if (found === undefined) {
    const metadata = { name: secretName, namespace, labels: { 'app.kubernetes.io/name': 'berth' } };
    const body = { apiVersion: 'v1', kind: 'Secret', metadata, type: 'kubernetes.io/tls', data };
    await api.request({ method: 'POST', path: collection, body });
  } else {
    // With the resourceVersion that was read: a replica that renewed meanwhile answers 409.
    await api.request({ method: 'PUT', path, body: { ...found, data } });
  }
  return held;
}

/** Does all that is due, in memory. The same object comes back when nothing is. */
function renew(now: Date, stored: HeldCertificates, { log }: SecretCertificateOptions): HeldCertificates {
  let held = stored;
  if (certificateState(now, held) === 'renew-ca') {
    const authority = createAuthority({ commonName: 'berth-ca', now });
    const caBundlePem = caBundle(now, authority.certPem, held.caBundlePem);
    held = { ...held, caKeyPem: authority.keyPem, caBundlePem };
    log.info({}, 'certificate authority made');
  }
  if (certificateState(now, held) === 'renew-leaf') {
    const authority = { certPem: held.caBundlePem, keyPem: held.caKeyPem };
    const names = held.serverNames;
    held = {
      ...held,
      server: issueServerCertificate(authority, { commonName: 'berth', names, now }),
      client: issueClientCertificate(authority, { commonName: 'berth-extender-client', now }),
    };
    log.info({ dnsNames: names.dnsNames, ipAddresses: names.ipAddresses }, 'certificates issued');
  }
  return held;
}

function readHeld(data: Readonly<Record<string, string>>, serverNames: ServerNames): HeldCertificates {
  const text = (key: string) => Buffer.from(data[key] ?? '', 'base64').toString();
  return {
    caBundlePem: text(secretKeys.caBundle),
    caKeyPem: text(secretKeys.caKey),
    server: { certPem: text(secretKeys.serverCert), keyPem: text(secretKeys.serverKey) },
    client: { certPem: text(secretKeys.clientCert), keyPem: text(secretKeys.clientKey) },
    serverNames,
  };
}

function writeHeld(held: HeldCertificates): Readonly<Record<string, string>> {
  return {
    [secretKeys.caBundle]: base64(held.caBundlePem),
    [secretKeys.caKey]: base64(held.caKeyPem),
    [secretKeys.serverCert]: base64(held.server.certPem),
    [secretKeys.serverKey]: base64(held.server.keyPem),
    [secretKeys.clientCert]: base64(held.client.certPem),
    [secretKeys.clientKey]: base64(held.client.keyPem),
  };
}

interface WebhookConfiguration {
  readonly metadata: { readonly resourceVersion?: string };
  readonly webhooks?: readonly { readonly clientConfig: { readonly caBundle?: string } }[];
}

function configurationPath(name: string): string {
  return `/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/${name}`;
}

async function readWebhookConfiguration(
  options: SecretCertificateOptions,
): Promise<WebhookConfiguration | undefined> {
  const { api, webhookConfiguration: name, log } = options;
  if (name === undefined) return undefined;
  const path = configurationPath(name);
  const found = await orAbsent(api.request<WebhookConfiguration>({ method: 'GET', path }));
  if (found === undefined)
    log.warn({ name }, 'no such webhook configuration, nothing calls the webhooks yet');
  return found;
}

async function publishBundle(
  { api, webhookConfiguration: name = '', log }: SecretCertificateOptions,
  { metadata, webhooks = [] }: WebhookConfiguration,
  bundlePem: string,
): Promise<void> {
  const wanted = base64(bundlePem);
  const ops = webhooks.flatMap(({ clientConfig }, index) =>
    clientConfig.caBundle === wanted
      ? []
      : [{ op: 'add', path: `/webhooks/${index}/clientConfig/caBundle`, value: wanted }],
  );
  if (ops.length === 0) return;
  const unchanged = { op: 'test', path: '/metadata/resourceVersion', value: metadata.resourceVersion };
  const path = configurationPath(name);
  const contentType = 'application/json-patch+json';
  await api.request({ method: 'PATCH', path, body: [unchanged, ...ops], contentType });
  log.info({ name, webhooks: ops.length }, 'caBundle published');
}

async function orAbsent<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (failureKind(error) === 'gone') return undefined;
    throw error;
  }
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}
