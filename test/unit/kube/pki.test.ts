import { X509Certificate } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import tls from 'node:tls';
import t from 'tap';
import type { ApiClient, ApiRequest } from '../../../src/kube/api-client.ts';
import { ApiError } from '../../../src/kube/api-errors.ts';
import type { Clock } from '../../../src/kube/clock.ts';
import {
  caBundle,
  certificateState,
  createAuthority,
  type HeldCertificates,
  issueClientCertificate,
  issueServerCertificate,
} from '../../../src/kube/pki.ts';
import {
  type SecretCertificateOptions,
  type ServingContext,
  startFileCertificate,
  startSecretCertificate,
} from '../../../src/kube/serving-certificate.ts';

const dayMs = 24 * 3600 * 1000;
const start = new Date('2026-11-23T12:00:00Z');
const serverNames = {
  dnsNames: ['berth.berth-system.svc', 'localhost'],
  ipAddresses: ['127.0.0.1', 'fd00::1'],
};

function later(days: number): Date {
  return new Date(start.getTime() + days * dayMs);
}

function buildHeld(now = start): HeldCertificates {
  const authority = createAuthority({ commonName: 'berth-ca', now });
  return {
    caKeyPem: authority.keyPem,
    caBundlePem: authority.certPem,
    server: issueServerCertificate(authority, { commonName: 'berth', names: serverNames, now }),
    serverNames,
    client: issueClientCertificate(authority, { commonName: 'berth-extender-client', now }),
  };
}

t.test('makes an authority for ten years that signs end certificates only', async t => {
  const authority = new X509Certificate(createAuthority({ commonName: 'berth-ca', now: start }).certPem);
  t.equal(authority.ca, true);
  t.match(authority.subject, /^CN=berth-ca [0-9a-f]{8}$/);
  t.equal(authority.issuer, authority.subject);
  t.ok(authority.verify(authority.publicKey));
  t.equal(authority.publicKey.asymmetricKeyDetails?.namedCurve, 'prime256v1');
  t.same(authority.validToDate, later(3650));
  t.ok(authority.validFromDate < start, 'valid a little before, for other clocks');
});

t.test('issues leaves for one year', async t => {
  const { caBundlePem, server, client } = buildHeld();
  const authority = new X509Certificate(caBundlePem);
  const serverCert = new X509Certificate(server.certPem);
  const clientCert = new X509Certificate(client.certPem);
  for (const leaf of [serverCert, clientCert]) {
    t.ok(leaf.checkIssued(authority) && leaf.verify(authority.publicKey));
    t.equal(leaf.ca, false);
    t.same(leaf.validToDate, later(365));
  }
  t.equal(
    serverCert.subjectAltName,
    'DNS:berth.berth-system.svc, DNS:localhost, IP Address:127.0.0.1, IP Address:FD00:0:0:0:0:0:0:1',
  );
  t.same(serverCert.keyUsage, ['1.3.6.1.5.5.7.3.1']);
  t.same(clientCert.keyUsage, ['1.3.6.1.5.5.7.3.2']);
  t.not(serverCert.serialNumber, clientCert.serialNumber);
});

t.test('never lets a leaf outlive its authority', async t => {
  const authority = createAuthority({ commonName: 'berth-ca', now: start });
  const leaf = issueClientCertificate(authority, { commonName: 'c', now: later(3600) });
  t.same(new X509Certificate(leaf.certPem).validToDate, later(3650));
});

interface Handshake {
  readonly serverName?: string;
  readonly client?: HeldCertificates['client'] | undefined;
  readonly trusted?: string;
}

/** One mutual TLS handshake; the common name that the server saw, or the error code of either side. */
async function shakeHands(
  context: ServingContext,
  { serverName = 'localhost', client, trusted = context.ca }: Handshake,
) {
  const server = tls.createServer({ ...context, requestCert: true, rejectUnauthorized: true });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  try {
    return await new Promise<string>(resolve => {
      server.once('tlsClientError', error => resolve('code' in error ? String(error.code) : error.message));
      server.once('secureConnection', socket => {
        resolve(String(socket.getPeerCertificate().subject.CN));
        socket.end();
      });
      const socket = tls.connect({
        host: '127.0.0.1',
        port,
        servername: serverName,
        ca: trusted,
        ...(client && { cert: client.certPem, key: client.keyPem }),
      });
      socket.once('error', error => resolve('code' in error ? String(error.code) : error.message));
      socket.resume();
    });
  } finally {
    server.close();
  }
}

t.test('serves TLS with the certificates of today', async t => {
  const now = new Date();
  const held = buildHeld(now);
  const context = { cert: held.server.certPem, key: held.server.keyPem, ca: held.caBundlePem };
  t.equal(await shakeHands(context, { client: held.client }), 'berth-extender-client');
  t.equal(await shakeHands(context, {}), 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE');
  t.equal(
    await shakeHands(context, { client: held.client, serverName: 'other' }),
    'ERR_TLS_CERT_ALTNAME_INVALID',
  );
  t.not(
    await shakeHands(context, { client: held.server }),
    'berth',
    'a server certificate is no client certificate',
  );
  t.not(
    await shakeHands(context, { client: buildHeld(now).client }),
    'berth-extender-client',
    'nor a stranger’s',
  );
  const replaced = createAuthority({ commonName: 'berth-ca', now });
  const overlap = caBundle(now, replaced.certPem, held.caBundlePem);
  t.equal(await shakeHands({ ...context, ca: overlap }, { client: held.client }), 'berth-extender-client');
});

t.test('says what is due', async t => {
  const held = buildHeld();
  const other = buildHeld();
  const cases: [string, Date, Partial<HeldCertificates>, string][] = [
    ['new certificates', start, {}, 'fresh'],
    ['just before two thirds of a year', later(243), {}, 'fresh'],
    ['after two thirds of a year', later(244), {}, 'renew-leaf'],
    ['after a year', later(366), {}, 'renew-leaf'],
    ['after two thirds of ten years', later(2434), {}, 'renew-ca'],
    ['a clock before the beginning', later(-1), {}, 'renew-ca'],
    ['nothing at all', start, { caBundlePem: '', caKeyPem: '' }, 'renew-ca'],
    ['an authority that is no certificate', start, { caBundlePem: 'x' }, 'renew-ca'],
    ['an authority without its key', start, { caKeyPem: '' }, 'renew-ca'],
    ['an authority with another key', start, { caKeyPem: other.caKeyPem }, 'renew-ca'],
    ['no server certificate', start, { server: { certPem: '', keyPem: '' } }, 'renew-leaf'],
    [
      'a server certificate with another key',
      start,
      { server: { ...held.server, keyPem: other.server.keyPem } },
      'renew-leaf',
    ],
    ['a server certificate of another authority', start, { server: other.server }, 'renew-leaf'],
    ['a client certificate of another authority', start, { client: other.client }, 'renew-leaf'],
    ['one more name', start, { serverNames: { ...serverNames, dnsNames: ['new.svc'] } }, 'renew-leaf'],
    ['one more address', start, { serverNames: { ...serverNames, ipAddresses: ['10.0.0.1'] } }, 'renew-leaf'],
    ['one name less', start, { serverNames: { dnsNames: ['localhost'], ipAddresses: [] } }, 'fresh'],
    [
      'leaves of an authority that has been replaced',
      start,
      { caKeyPem: other.caKeyPem, caBundlePem: caBundle(start, other.caBundlePem, held.caBundlePem) },
      'fresh',
    ],
  ];
  for (const [name, now, part, want] of cases)
    t.equal(certificateState(now, { ...held, ...part }), want, name);
});

t.test('keeps old authorities in the bundle until they expire', async t => {
  const first = createAuthority({ commonName: 'a', now: start }).certPem;
  const second = createAuthority({ commonName: 'b', now: later(2500) }).certPem;
  t.equal(caBundle(later(2500), second, first), second + first);
  t.equal(caBundle(later(3651), second, first), second);
  t.equal(caBundle(start, first, `${first}garbage`), first);
});

/** An API server with a Secret and a webhook configuration, each write checked as the real one does. */
class FakeApi implements Pick<ApiClient, 'request'> {
  secret: { metadata: { resourceVersion: string }; data: Record<string, string> } | undefined;
  configuration:
    | { metadata: { resourceVersion: string }; webhooks: { clientConfig: { caBundle?: string } }[] }
    | undefined = {
    metadata: { resourceVersion: '1' },
    webhooks: [{ clientConfig: {} }, { clientConfig: { caBundle: 'Cg==' } }],
  };
  readonly writes: string[] = [];
  /** Runs once before the next write. */
  beforeWrite: (() => Promise<void>) | undefined;
  #version = 1;

  async request<T>(request: ApiRequest): Promise<T> {
    if (request.method !== 'GET') {
      const hook = this.beforeWrite;
      this.beforeWrite = undefined;
      await hook?.();
    }
    const answer = request.path.includes('/secrets') ? this.#secrets(request) : this.#configurations(request);
    return structuredClone(answer) as T;
  }

  #secrets({ method, path, body }: ApiRequest): unknown {
    if (method === 'POST') {
      if (path !== '/api/v1/namespaces/berth-system/secrets')
        throw new ApiError({ status: 404, message: path });
      if (this.secret) throw new ApiError({ status: 409, reason: 'AlreadyExists', message: 'exists' });
    } else {
      if (path !== '/api/v1/namespaces/berth-system/secrets/berth-tls' || !this.secret) {
        throw new ApiError({ status: 404, reason: 'NotFound', message: path });
      }
      if (method === 'GET') return this.secret;
    }
    const sent = body as { metadata: { resourceVersion?: string }; data: Record<string, string> };
    if (method === 'PUT' && sent.metadata.resourceVersion !== this.secret?.metadata.resourceVersion) {
      throw new ApiError({ status: 409, reason: 'Conflict', message: 'conflict' });
    }
    this.writes.push(`${method} secret`);
    this.secret = {
      ...structuredClone(sent),
      metadata: { ...sent.metadata, resourceVersion: String(++this.#version) },
    };
    return this.secret;
  }

  #configurations({ method, body, contentType }: ApiRequest): unknown {
    if (!this.configuration) throw new ApiError({ status: 404, reason: 'NotFound', message: 'none' });
    if (method === 'GET') return this.configuration;
    if (contentType !== 'application/json-patch+json')
      throw new ApiError({ status: 415, message: 'content type' });
    for (const { op, path, value } of body as { op: string; path: string; value: string }[]) {
      if (op === 'test' && value !== this.configuration.metadata.resourceVersion) {
        throw new ApiError({ status: 422, message: 'the test failed' });
      }
      const [, index] = /^\/webhooks\/(\d)\/clientConfig\/caBundle$/.exec(path) ?? [];
      const webhook = this.configuration.webhooks[Number(index)];
      if (webhook) webhook.clientConfig.caBundle = value;
    }
    this.writes.push('PATCH configuration');
    this.configuration.metadata.resourceVersion = String(++this.#version);
    return this.configuration;
  }

  text(key: string): string {
    return Buffer.from(this.secret?.data[key] ?? '', 'base64').toString();
  }

  published(): readonly (string | undefined)[] {
    return (this.configuration?.webhooks ?? []).map(({ clientConfig }) =>
      Buffer.from(clientConfig.caBundle ?? '', 'base64').toString(),
    );
  }
}

/** A clock that is moved by hand; timers fire when they are told to. */
class ManualClock implements Clock {
  now = start;
  pending: { delayMs: number; fire: () => unknown }[] = [];
  nowMs = () => this.now.getTime();
  wallMs = () => this.now.getTime();

  setTimer(delayMs: number, fire: () => unknown) {
    const timer = { delayMs, fire };
    this.pending.push(timer);
    return {
      cancel: () => {
        this.pending = this.pending.filter(other => other !== timer);
      },
    };
  }

  async fire(): Promise<number> {
    const [timer] = this.pending.splice(0, 1);
    await timer?.fire();
    return timer?.delayMs ?? -1;
  }
}

function buildKeeper(api = new FakeApi(), clock = new ManualClock()) {
  const rotated: ServingContext[] = [];
  const warned: string[] = [];
  const options: SecretCertificateOptions = {
    api,
    namespace: 'berth-system',
    serverNames,
    webhookConfiguration: 'zz-berth',
    onRotate: context => rotated.push(context),
    clock,
    log: { info: () => {}, warn: (_facts, message) => warned.push(message) },
  };
  return { api, clock, rotated, warned, options };
}

t.test('makes Secret and caBundle once, and leaves them alone afterwards', async t => {
  const { api, rotated, options } = buildKeeper();
  const certificate = await startSecretCertificate(options);
  t.same(Object.keys(api.secret?.data ?? {}).sort(), [
    'ca.crt',
    'ca.key',
    'extender-client.crt',
    'extender-client.key',
    'tls.crt',
    'tls.key',
  ]);
  t.match(api.secret, { kind: 'Secret', type: 'kubernetes.io/tls' });
  t.same(certificate.initial, {
    cert: api.text('tls.crt'),
    key: api.text('tls.key'),
    ca: api.text('ca.crt'),
  });
  t.same(api.published(), [certificate.initial.ca, certificate.initial.ca]);
  await certificate.check();
  const second = await startSecretCertificate(buildKeeper(api).options);
  t.same(second.initial, certificate.initial, 'another replica serves the same');
  t.same(api.writes, ['POST secret', 'PATCH configuration']);
  t.same(rotated, []);
  certificate.stop();
  second.stop();
});

t.test('fills a Secret that was deployed empty and keeps what else is in it', async t => {
  const { api, options } = buildKeeper();
  api.secret = { metadata: { resourceVersion: '7' }, data: { note: 'bm90ZQ==' } };
  await startSecretCertificate(options);
  t.equal(api.text('note'), 'note');
  t.same(api.writes, ['PUT secret', 'PATCH configuration']);
});

t.test('agrees with a replica that starts at the same moment', async t => {
  const { api, options } = buildKeeper();
  const other: { certificate?: Awaited<ReturnType<typeof startSecretCertificate>> } = {};
  api.beforeWrite = async () => {
    other.certificate = await startSecretCertificate(buildKeeper(api).options);
  };
  const mine = await startSecretCertificate(options);
  t.same(mine.initial, other.certificate?.initial);
  t.same(api.writes, ['POST secret', 'PATCH configuration']);
});

t.test('agrees with a replica that renews at the same moment', async t => {
  const { api, clock, options, rotated } = buildKeeper();
  const mine = await startSecretCertificate(options);
  clock.now = later(2434);
  const theirs = buildKeeper(api, clock);
  api.beforeWrite = async () => void (await startSecretCertificate(theirs.options));
  await mine.check();
  t.same(rotated, [{ cert: api.text('tls.crt'), key: api.text('tls.key'), ca: api.text('ca.crt') }]);
  t.same(api.published(), [api.text('ca.crt'), api.text('ca.crt')]);
  t.equal(api.writes.filter(write => write === 'PUT secret').length, 1);
});

t.test('does not publish a bundle that is older than the one published', async t => {
  const { api, clock, options } = buildKeeper();
  const mine = await startSecretCertificate(options);
  for (const webhook of api.configuration?.webhooks ?? []) webhook.clientConfig.caBundle = 'Cg==';
  const theirs = buildKeeper(api, clock);
  api.beforeWrite = async () => {
    clock.now = later(2434);
    await startSecretCertificate(theirs.options);
  };
  await mine.check();
  t.same(api.published(), [api.text('ca.crt'), api.text('ca.crt')]);
  t.equal(api.text('ca.crt').match(/BEGIN/g)?.length, 2);
});

t.test(
  'rotates leaves after eight months and the authority after seven years, without a stranger',
  async t => {
    const { api, clock, options, rotated } = buildKeeper();
    const certificate = await startSecretCertificate(options);
    const { initial } = certificate;
    clock.now = later(244);
    t.equal(await clock.fire(), 3600 * 1000, 'checked every hour');
    t.equal(rotated.length, 1);
    t.not(rotated[0]?.cert, initial.cert);
    t.equal(rotated[0]?.ca, initial.ca, 'of the same authority');

    clock.now = later(2430);
    await clock.fire();
    clock.now = later(2434);
    await clock.fire();
    t.equal(rotated.length, 3);
    t.equal(rotated[2]?.cert, rotated[1]?.cert, 'the leaf stays while it is young');
    t.ok(rotated[2]?.ca.endsWith(initial.ca), 'and so does the authority that has signed it');
    t.same(api.published(), [rotated[2]?.ca, rotated[2]?.ca]);

    clock.now = later(2680);
    await clock.fire();
    const leaf = new X509Certificate(rotated[3]?.cert ?? '');
    t.ok(
      leaf.verify(new X509Certificate(rotated[3]?.ca ?? '').publicKey),
      'the next leaf is of the new authority',
    );
    certificate.stop();
    t.same(clock.pending, []);
  },
);

t.test('serves on with the old certificate while the API server cannot be asked', async t => {
  const { api, clock, options, rotated, warned } = buildKeeper();
  const certificate = await startSecretCertificate(options);
  const answering = api.request;
  api.request = async () => {
    throw new ApiError({ status: 503, message: 'down' });
  };
  clock.now = later(244);
  await clock.fire();
  t.same([rotated.length, warned.length], [0, 1]);
  t.match(warned, [/could not be checked/]);
  api.request = answering;
  t.equal(await clock.fire(), 60 * 1000, 'tried again after a minute');
  t.equal(rotated.length, 1);
  certificate.stop();
});

t.test('does not start without an answer', async t => {
  const { api, options } = buildKeeper();
  api.request = async () => {
    throw new ApiError({ status: 403, reason: 'Forbidden', message: 'no' });
  };
  await t.rejects(startSecretCertificate(options), { code: 'ApiError', message: 'no' });
});

t.test('starts before its webhook configuration is there', async t => {
  const { api, clock, options, warned } = buildKeeper();
  const { configuration } = api;
  api.configuration = undefined;
  const certificate = await startSecretCertificate(options);
  t.match(warned, [/no such webhook configuration/]);
  api.configuration = configuration;
  await clock.fire();
  t.same(api.published(), [certificate.initial.ca, certificate.initial.ca]);
  certificate.stop();
});

t.test('serves certificates from files and reads them again when they change', async t => {
  const certDir = t.testdir({});
  const write = ({ server, caBundlePem }: HeldCertificates, ...names: string[]) => {
    const files = { 'tls.crt': server.certPem, 'tls.key': server.keyPem, 'ca.crt': caBundlePem };
    for (const [name, text] of Object.entries(files))
      if (names.includes(name)) writeFileSync(join(certDir, name), text);
  };
  const { clock, options, rotated, warned } = buildKeeper();
  await t.rejects(startFileCertificate({ ...options, certDir }), { code: 'ENOENT' });
  const [first, second] = [buildHeld(), buildHeld()];
  write(first, 'tls.crt', 'tls.key', 'ca.crt');
  const certificate = await startFileCertificate({ ...options, certDir });
  t.equal(certificate.initial.cert, first.server.certPem);
  t.equal(await clock.fire(), 60 * 1000, 'looked at every minute');
  t.same(rotated, []);
  write(second, 'tls.crt');
  await clock.fire();
  t.same([rotated.length, warned.length], [0, 1], 'half a change is not served');
  write(second, 'tls.key', 'ca.crt');
  await clock.fire();
  t.same(rotated, [{ cert: second.server.certPem, key: second.server.keyPem, ca: second.caBundlePem }]);
  writeFileSync(join(certDir, 'ca.crt'), '');
  await clock.fire();
  t.equal(rotated.length, 1, 'nor without authorities');
  certificate.stop();
});
