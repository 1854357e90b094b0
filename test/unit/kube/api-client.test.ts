import { chmodSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { TLSSocket } from 'node:tls';
import t, { type Test } from 'tap';
import { type ApiResponseInfo, HttpApiClient, resourceOfPath } from '../../../src/kube/api-client.ts';
import {
  ApiError,
  ApiGarbled,
  ApiUnreachable,
  type FailureKind,
  failureKind,
} from '../../../src/kube/api-errors.ts';
import { loadConnection } from '../../../src/kube/kube-config.ts';
import { createAuthority, issueClientCertificate, issueServerCertificate } from '../../../src/kube/pki.ts';
import { clientOf, connectionTo, respond, silentLog, status, urlOf } from './fake-api-server.ts';
import { FakeClock } from './fake-clock.ts';

async function serve(t: Test, handler: http.RequestListener): Promise<http.Server> {
  const server = http.createServer(handler);
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => close(server));
  return server;
}

async function close(server: http.Server | https.Server): Promise<void> {
  server.closeAllConnections();
  await new Promise(resolve => server.close(resolve));
}

function bodyOf(request: http.IncomingMessage): Promise<string> {
  return new Promise(resolve => {
    let text = '';
    request.setEncoding('utf8').on('data', chunk => (text += chunk));
    request.on('end', () => resolve(text));
  });
}

t.test('sends method, path, query, headers and body, and gives back raw JSON', async t => {
  const server = await serve(t, async (request, response) => {
    const { method, url, headers } = request;
    respond(response, 201, {
      method,
      url,
      type: headers['content-type'],
      who: headers.authorization,
      agent: headers['user-agent'],
      body: await bodyOf(request),
      unknown: { kept: ['ü'] },
    });
  });
  const infos: ApiResponseInfo[] = [];
  // A multiplexer such as Rancher's serves a cluster below a path of its own.
  const connection = connectionTo(`${urlOf(server)}/k8s/clusters/c-1/`, { Authorization: 'Bearer t' });
  const client = new HttpApiClient({
    connection,
    log: silentLog,
    userAgent: 'berth/1',
    onResponse: info => infos.push(info),
  });
  t.teardown(() => client.close());
  t.strictSame(
    await client.request({
      method: 'PATCH',
      path: '/api/v1/namespaces/ns/pods/p/status',
      query: { dryRun: 'All', fieldManager: 'a b', absent: undefined },
      contentType: 'application/merge-patch+json',
      body: { a: 'ä' },
    }),
    {
      method: 'PATCH',
      url: '/k8s/clusters/c-1/api/v1/namespaces/ns/pods/p/status?dryRun=All&fieldManager=a+b',
      type: 'application/merge-patch+json',
      who: 'Bearer t',
      agent: 'berth/1',
      body: '{"a":"ä"}',
      unknown: { kept: ['ü'] },
    },
  );
  t.match(infos, [{ method: 'PATCH', resource: 'pods/status', status: 201, durationMs: Number }]);
});

t.test('turns a refusal into ApiError with the facts of its Status', async t => {
  const causes = [{ reason: 'DisruptionBudget', message: 'needs 3' }];
  const answers: ((response: http.ServerResponse) => void)[] = [
    response => respond(response, 429, status(429, 'TooManyRequests', { causes, retryAfterSeconds: 10 })),
    response => respond(response, 503, '<html>', { 'Retry-After': '2' }),
    response => respond(response, 500, ''),
    response => respond(response, 200, 'ok, but not JSON'),
    response => respond(response, 200, ''),
  ];
  const server = await serve(t, (_, response) => answers.shift()?.(response));
  const client = clientOf(urlOf(server));
  t.teardown(() => client.close());
  const get = () => client.request({ method: 'GET', path: '/x' });
  await t.rejects(get(), {
    code: 'ApiError',
    status: 429,
    reason: 'TooManyRequests',
    message: 'it is TooManyRequests',
    causes,
    retryAfterMs: 10_000,
  });
  await t.rejects(get(), {
    code: 'ApiError',
    status: 503,
    reason: '',
    message: '<html>',
    retryAfterMs: 2000,
  });
  await t.rejects(get(), {
    code: 'ApiError',
    status: 500,
    message: 'HTTP status 500',
    retryAfterMs: undefined,
  });
  await t.rejects(get(), { code: 'ApiGarbled' });
  t.equal(await get(), null);
});

t.test('is unreachable when nobody listens, nobody answers in time, or the connection breaks', async t => {
  const infos: ApiResponseInfo[] = [];
  const server = await serve(t, (request, response) => {
    if (request.url === '/half') {
      response.writeHead(200, { 'Content-Length': '100' });
      response.write('{"half":');
      setTimeout(() => response.destroy(), 5);
    }
    if (request.url === '/reset') request.socket.destroy();
  });
  const client = clientOf(urlOf(server), { onResponse: info => infos.push(info) });
  t.teardown(() => client.close());
  await t.rejects(client.request({ method: 'GET', path: '/silent', timeoutMs: 30 }), {
    code: 'ApiUnreachable',
  });
  await t.rejects(client.request({ method: 'GET', path: '/half' }), { code: 'ApiUnreachable' });
  await t.rejects(client.request({ method: 'POST', path: '/reset', body: {} }), {
    code: 'ApiUnreachable',
    cause: { code: 'ECONNRESET' },
  });
  t.strictSame(
    infos.map(info => info.status),
    [0, 0, 0],
  );
  const nobody = clientOf('http://127.0.0.1:1');
  await t.rejects(nobody.request({ method: 'GET', path: '/x' }), {
    code: 'ApiUnreachable',
    cause: { code: 'ECONNREFUSED' },
  });
});

t.test("gives the caller's reason back when its signal aborts, and lets go of the connection", async t => {
  const sockets = new Set<Socket>();
  const server = await serve(t, () => {});
  server.on('connection', socket => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  const client = clientOf(urlOf(server));
  t.teardown(() => client.close());
  const stop = new AbortController();
  const request = client.request({ method: 'GET', path: '/x', signal: stop.signal });
  setTimeout(() => stop.abort(new Error('enough')), 20);
  await t.rejects(request, { message: 'enough' });
  await t.rejects(client.request({ method: 'GET', path: '/x', signal: stop.signal }), { message: 'enough' });
  await new Promise(resolve => setTimeout(resolve, 20));
  t.equal(sockets.size, 0);
});

t.test('keeps connections, and repeats a GET that met one the server had just closed', async t => {
  let connections = 0;
  let requests = 0;
  const server = await serve(t, (request, response) => {
    requests += 1;
    if (requests === 2 || requests === 4) request.socket.destroy();
    else respond(response, 200, { requests });
  });
  server.on('connection', () => (connections += 1));
  const client = clientOf(urlOf(server));
  t.teardown(() => client.close());
  await client.request({ method: 'GET', path: '/x' });
  t.strictSame(await client.request({ method: 'GET', path: '/x' }), { requests: 3 });
  t.equal(connections, 2);
  await t.rejects(
    client.request({ method: 'POST', path: '/x', body: {} }),
    { code: 'ApiUnreachable', detail: 'stale-connection' },
    'a write is never sent twice',
  );
  t.equal(requests, 4);
});

t.test('watches never take connections from requests', async t => {
  const server = await serve(t, (request, response) => {
    if (request.url === '/watch') response.writeHead(200).flushHeaders();
    else respond(response, 200, {});
  });
  const client = clientOf(urlOf(server), { maxSockets: 1 });
  t.teardown(() => client.close());
  const stop = new AbortController();
  const watches = Array.from({ length: 10 }, async () => {
    for await (const _ of client.stream({ path: '/watch', inactivityTimeoutMs: 5000, signal: stop.signal }));
  });
  const outcomes = Promise.allSettled(watches);
  for (let n = 0; n < 5; n += 1) await client.request({ method: 'GET', path: '/x', timeoutMs: 2000 });
  stop.abort();
  t.ok(
    (await outcomes).every(
      outcome => outcome.status === 'rejected' && failureKind(outcome.reason) === 'aborted',
    ),
  );
});

t.test('streams lines, ends at a clean end, and fails when cut, silent or refused', async t => {
  const server = await serve(t, (request, response) => {
    if (request.url === '/refused') {
      respond(response, 410, status(410, 'Expired'));
      return;
    }
    response.writeHead(200);
    response.write('{"n":1}\n\n{"n":');
    if (request.url === '/clean') response.end('2}\n');
    if (request.url === '/half') response.end();
    if (request.url === '/garbled') response.end('two\n');
    if (request.url === '/cut') setTimeout(() => response.destroy(), 10);
    if (request.url === '/endless') response.write('2}\n');
  });
  const infos: ApiResponseInfo[] = [];
  const client = clientOf(urlOf(server), { onResponse: info => infos.push(info) });
  t.teardown(() => client.close());
  const collect = async (path: string, into: unknown[]) => {
    for await (const value of client.stream({ path, inactivityTimeoutMs: 60 })) into.push(value);
  };
  const seen: unknown[] = [];
  await collect('/clean', seen);
  t.strictSame(seen, [{ n: 1 }, { n: 2 }]);
  for (const [path, detail] of [['/half'], ['/cut'], ['/silent', 'silence']] as const) {
    seen.length = 0;
    await t.rejects(collect(path, seen), { code: 'ApiUnreachable', detail }, path);
    t.strictSame(seen, [{ n: 1 }]);
  }
  await t.rejects(collect('/garbled', []), { code: 'ApiGarbled' });
  await t.rejects(collect('/refused', []), { code: 'ApiError', status: 410, reason: 'Expired' });
  t.strictSame(
    infos.map(info => `${info.method} ${info.status}`),
    ['WATCH 200', 'WATCH 200', 'WATCH 200', 'WATCH 200', 'WATCH 200', 'WATCH 410'],
  );

  for await (const _ of client.stream({ path: '/endless', inactivityTimeoutMs: 5000 })) break;
  await new Promise(resolve => setTimeout(resolve, 20));
  const open = await new Promise(resolve => server.getConnections((_, count) => resolve(count)));
  t.ok(Number(open) <= 1, 'leaving the loop closes the connection of the stream');
});

t.test(
  'reads credentials anew twice a minute, keeps old ones when that fails, and at once after a 401',
  async t => {
    const valid = new Set(['token-1']);
    const server = await serve(t, (request, response) => {
      const token = request.headers.authorization ?? '';
      if (valid.has(token)) respond(response, 200, { token });
      else respond(response, 401, status(401, 'Unauthorized'));
    });
    const clock = new FakeClock();
    let current = 'token-1';
    let failing = false;
    const reads: boolean[] = [];
    const client = new HttpApiClient({
      clock,
      log: silentLog,
      connection: {
        server: urlOf(server),
        async credentials(options) {
          reads.push(options?.reload ?? false);
          if (failing) throw new Error('plugin crashed');
          return { headers: { Authorization: current }, tls: {} };
        },
      },
    });
    t.teardown(() => client.close());
    const ask = () => client.request<{ token: string }>({ method: 'GET', path: '/x' });
    await Promise.all([ask(), ask(), ask()]);
    t.strictSame(reads, [false], 'requests of one moment share one reading');
    clock.freeze(31_000);
    failing = true;
    t.strictSame(await ask(), { token: 'token-1' });
    failing = false;

    current = 'token-2';
    valid.clear();
    valid.add('token-2');
    t.strictSame(
      await Promise.all([ask(), ask(), ask()]),
      Array.from({ length: 3 }, () => ({ token: 'token-2' })),
      'the rotated token is found by the very requests that fail',
    );
    t.equal(reads.filter(reload => reload).length, 1);
    valid.clear();
    clock.freeze(11_000);
    const before = reads.length;
    await t.rejects(ask(), { code: 'ApiError', status: 401 });
    await t.rejects(ask(), { code: 'ApiError', status: 401 });
    t.strictSame(
      reads.slice(before),
      [true],
      'a server that always says 401 costs one reload in ten seconds',
    );
  },
);

t.test('is unreachable without credentials, and refuses plain http to another machine', async t => {
  const connection = {
    server: 'https://127.0.0.1:1',
    credentials: () => Promise.reject(new Error('no plugin')),
  };
  const client = new HttpApiClient({ connection, log: silentLog });
  await t.rejects(client.request({ method: 'GET', path: '/x' }), {
    code: 'ApiUnreachable',
    cause: { message: 'no plugin' },
  });
  t.throws(() => clientOf('http://10.0.0.1:8080'), { name: 'TypeError' });
  t.throws(() => clientOf('http://localhost.example.org'), { name: 'TypeError' });
  t.doesNotThrow(() => clientOf('http://[::1]:8080').close());
});

t.test('names the class of a path without any name in it', async t => {
  for (const [path, want] of [
    ['/api/v1/pods', 'pods'],
    ['/api/v1/namespaces', 'namespaces'],
    ['/api/v1/namespaces/ns', 'namespaces'],
    ['/api/v1/namespaces/ns/pods', 'pods'],
    ['/api/v1/namespaces/ns/pods/p', 'pods'],
    ['/api/v1/namespaces/ns/pods/p/eviction', 'pods/eviction'],
    ['/api/v1/nodes/n/status', 'nodes/status'],
    ['/apis/apps/v1/namespaces/ns/statefulsets/s/scale', 'statefulsets/scale'],
    ['/apis/resource.k8s.io/v1/resourceslices', 'resourceslices'],
    ['/version', 'version'],
    ['/apis', 'apis'],
  ] as const) {
    t.equal(resourceOfPath(path), want, path);
  }
});

t.test('tells what a failure means', async t => {
  const api = (code: number, reason = '', causes: { reason?: string; field?: string }[] = []) =>
    new ApiError({ status: code, reason, message: 'm', causes });
  const table: [unknown, FailureKind][] = [
    [api(404, 'NotFound'), 'gone'],
    [api(409, 'AlreadyExists'), 'exists'],
    [api(409, 'Conflict'), 'conflict'],
    [api(410, 'Expired'), 'expired'],
    [api(500, 'Expired'), 'expired'],
    [api(422, 'Invalid'), 'changed'],
    [api(422, 'Invalid', [{ reason: 'FieldValueInvalid', field: 'metadata.uid' }]), 'changed'],
    [api(422, 'Invalid', [{ reason: 'FieldValueInvalid', field: 'spec.x' }]), 'invalid'],
    [api(400, 'BadRequest'), 'invalid'],
    [api(429, 'TooManyRequests'), 'throttled'],
    [api(429, 'TooManyRequests', [{ reason: 'DisruptionBudget' }]), 'budget'],
    [api(403, 'Forbidden', [{ reason: 'DisruptionBudget' }]), 'budget'],
    [api(403, 'Forbidden'), 'forbidden'],
    [api(401), 'forbidden'],
    [api(503), 'unavailable'],
    [api(302), 'unknown'],
    [new ApiUnreachable('m'), 'unavailable'],
    [new ApiGarbled('m'), 'unavailable'],
    [AbortSignal.abort().reason, 'aborted'],
    [new Error('m'), 'unknown'],
    [undefined, 'unknown'],
  ];
  for (const [error, want] of table) t.equal(failureKind(error), want, `${error}`);
});

t.test('with a kubeconfig', async t => {
  const now = new Date();
  const names = { dnsNames: [], ipAddresses: ['127.0.0.1'] };
  const authority = createAuthority({ commonName: 'ca', now });
  const { certPem: cert, keyPem: key } = issueServerCertificate(authority, { commonName: 'api', names, now });
  let valid = 'Bearer from-file-1';
  const tls = { key, cert, ca: authority.certPem, requestCert: true, rejectUnauthorized: false };
  const server = https.createServer(tls, (request, response) => {
    const isKnown = request.socket instanceof TLSSocket && request.socket.authorized;
    if (isKnown || request.headers.authorization === valid) respond(response, 200, { ok: true });
    else respond(response, 401, status(401, 'Unauthorized'));
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => close(server));
  const folder = t.testdir({ 'ca.crt': authority.certPem, token: 'from-file-1\n' });
  const url = urlOf(server).replace('http:', 'https:');
  const write = (name: string, user: unknown, cluster: object = {}) => {
    const path = join(folder, name);
    const config = {
      'current-context': 'c',
      contexts: [{ name: 'c', context: { cluster: 'c', user: 'u', namespace: 'berth-system' } }],
      clusters: [{ name: 'c', cluster: { server: url, 'certificate-authority': 'ca.crt', ...cluster } }],
      users: [{ name: 'u', user }],
    };
    writeFileSync(path, JSON.stringify(config));
    return path;
  };
  const ask = async (path: string) => {
    const connection = await loadConnection({ kind: 'file', path });
    const client = new HttpApiClient({ connection, log: silentLog });
    t.teardown(() => client.close());
    return () => client.request({ method: 'GET', path: '/version' });
  };

  t.test('trusts its CA and no other', async t => {
    const good = write('token.json', { token: 'from-file-1' });
    t.equal((await loadConnection({ kind: 'file', path: good })).namespace, 'berth-system');
    t.strictSame(await (await ask(good))(), { ok: true });
    const foreign = createAuthority({ commonName: 'other', now }).certPem;
    const bad = write(
      'foreign.json',
      { token: 'from-file-1' },
      {
        'certificate-authority': undefined,
        'certificate-authority-data': Buffer.from(foreign).toString('base64'),
      },
    );
    await t.rejects((await ask(bad))(), { code: 'ApiUnreachable' });
  });

  t.test('shows its client certificate', async t => {
    const client = issueClientCertificate(authority, { commonName: 'berth', now });
    const path = write('certificate.json', { 'client-certificate': 'tls.crt', 'client-key': 'tls.key' });
    writeFileSync(join(folder, 'tls.crt'), client.certPem);
    writeFileSync(join(folder, 'tls.key'), client.keyPem);
    t.strictSame(await (await ask(path))(), { ok: true });
  });

  t.test('follows a token file that is rotated', async t => {
    const tokenFile = join(folder, 'token');
    const request = await ask(
      write('rotating.json', { 'auth-provider': { name: 'tokenFile', config: { tokenFile } } }),
    );
    t.strictSame(await request(), { ok: true });
    writeFileSync(tokenFile, 'from-file-2\n');
    valid = 'Bearer from-file-2';
    t.strictSame(await request(), { ok: true });
  });

  t.test('runs an exec plugin, and again after a 401', async t => {
    const plugin = join(folder, 'plugin.sh');
    const head =
      '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"run-';
    const script = [
      '#!/bin/sh',
      `echo run >> ${folder}/runs`,
      `n=$(wc -l < ${folder}/runs | tr -d ' ')`,
      `printf '%s%s"}}' '${head}' "$n"`,
    ].join('\n');
    writeFileSync(plugin, script);
    chmodSync(plugin, 0o755);
    const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: plugin, interactiveMode: 'Never' };
    valid = 'Bearer run-1';
    const request = await ask(write('exec.json', { exec }));
    t.strictSame(await request(), { ok: true });
    valid = 'Bearer run-2';
    t.strictSame(await request(), { ok: true });
  });

  t.test('names what is missing', async t => {
    const path = write('lost.json', {});
    await t.rejects(loadConnection({ kind: 'file', path, context: 'other' }), { code: 'NoClusterConfig' });
  });
});
