import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type ApiConnection, libraryConnection, loadConnection } from '../../../src/kube/kube-config.ts';
import { createAuthority, issueClientCertificate } from '../../../src/kube/pki.ts';
import { plainConnection } from '../../../src/kube/plain-connection.ts';

const now = new Date('2026-01-01T00:00:00Z');
const authority = createAuthority({ commonName: 'ca', now });
const client = issueClientCertificate(authority, { commonName: 'berth', now });
const base64 = (text: string) => Buffer.from(text).toString('base64');

/** A folder with the files that kubeconfigs name, and a way to write these. */
function kubeconfigs(t: Tap) {
  const folder = t.testdir({
    'ca.crt': authority.certPem,
    'tls.crt': client.certPem,
    'tls.key': client.keyPem,
    token: 'abc\n',
  });
  const write = (name: string, user: object, cluster: object = {}) => {
    const path = join(folder, name);
    const config = {
      'current-context': 'c',
      contexts: [
        { name: 'c', context: { cluster: 'c', user: 'u', namespace: 'berth-system' } },
        { name: 'd', context: { cluster: 'c', user: 'u' } },
      ],
      clusters: [{ name: 'c', cluster: { server: 'https://10.0.0.1:6443', ...cluster } }],
      users: [{ name: 'u', user }],
    };
    writeFileSync(path, JSON.stringify(config));
    return path;
  };
  return { folder, write };
}

type Tap = Pick<typeof t, 'testdir'>;

/** Buffers and strings of the same content are the same to TLS. */
async function seen(connection: ApiConnection | undefined) {
  if (connection === undefined) return undefined;
  const { headers, tls } = await connection.credentials();
  const texts = Object.entries(tls).map(([name, value]) => [
    name,
    Buffer.isBuffer(value) ? value.toString() : value,
  ]);
  return {
    server: connection.server,
    namespace: connection.namespace,
    headers,
    tls: Object.fromEntries(texts),
  };
}

t.test('kubeconfigs with tokens and certificates are read as the client library reads them', async t => {
  const { write } = kubeconfigs(t);
  const cases: readonly (readonly [string, object, object?])[] = [
    ['a token', { token: 'abc' }],
    [
      'a certificate in files',
      { 'client-certificate': 'tls.crt', 'client-key': 'tls.key' },
      { 'certificate-authority': 'ca.crt' },
    ],
    [
      'a certificate inside',
      { 'client-certificate-data': base64(client.certPem), 'client-key-data': base64(client.keyPem) },
      { 'certificate-authority-data': base64(authority.certPem) },
    ],
    ['another server name', { token: 'abc' }, { 'tls-server-name': 'kubernetes.default' }],
    ['nobody', {}],
  ];
  for (const [i, [what, user, cluster]] of cases.entries()) {
    const path = write(`${i}.json`, user, cluster);
    for (const source of [{ kind: 'file', path } as const, { kind: 'file', path, context: 'd' } as const]) {
      const plain = await seen(await plainConnection(source));
      t.ok(plain, `${what}: no library is needed`);
      t.strictSame(plain, await seen(await libraryConnection(source)), what);
    }
  }
});

t.test('what needs more than files is left to the client library', async t => {
  const { write, folder } = kubeconfigs(t);
  const plain = async (path: string, context?: string) =>
    plainConnection({ kind: 'file', path, ...(context && { context }) });
  t.equal(await plain(write('exec.json', { exec: { command: 'login' } })), undefined, 'a plugin');
  t.equal(await plain(write('oidc.json', { 'auth-provider': { name: 'oidc' } })), undefined, 'a provider');
  t.equal(
    await plain(write('proxy.json', { token: 'abc' }, { 'proxy-url': 'socks5://h' })),
    undefined,
    'a proxy',
  );
  t.equal(await plain(write('as.json', { token: 'abc', as: 'admin' })), undefined, 'an impersonation');
  t.equal(
    await plain(write('good.json', { token: 'abc' }), 'other'),
    undefined,
    'a context that is not there',
  );
  writeFileSync(join(folder, 'broken'), '{{');
  t.equal(await plain(join(folder, 'broken')), undefined, 'what is no YAML');
  t.equal(await plain(join(folder, 'absent')), undefined, 'a file that is not there');
  const both = `${join(folder, 'good.json')}:${join(folder, 'exec.json')}`;
  t.equal(await plainConnection({ kind: 'default' }, { KUBECONFIG: both }), undefined, 'several files');
  await t.rejects(loadConnection({ kind: 'file', path: join(folder, 'good.json'), context: 'other' }), {
    code: 'NoClusterConfig',
  });
});

t.test('files are read anew each time, the kubeconfig itself when that is asked for', async t => {
  const { write, folder } = kubeconfigs(t);
  const rotating = await plainConnection({ kind: 'file', path: write('file.json', { tokenFile: 'token' }) });
  t.equal((await rotating?.credentials())?.headers['Authorization'], 'Bearer abc');
  writeFileSync(join(folder, 'token'), 'def\n');
  t.equal((await rotating?.credentials())?.headers['Authorization'], 'Bearer def');

  const path = write('inside.json', { token: 'abc' });
  const inside = await plainConnection({ kind: 'default' }, { KUBECONFIG: path });
  write('inside.json', { token: 'ghi' });
  t.equal((await inside?.credentials())?.headers['Authorization'], 'Bearer abc');
  t.equal((await inside?.credentials({ reload: true }))?.headers['Authorization'], 'Bearer ghi');
  write('inside.json', { exec: { command: 'login' } });
  t.equal(
    (await inside?.credentials({ reload: true }))?.headers['Authorization'],
    'Bearer ghi',
    'the last that could be read',
  );
});

t.test('a pod finds the API server by its environment', async t => {
  const at = async (host: string, port: string) =>
    (
      await plainConnection(
        { kind: 'in-cluster' },
        { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port },
      )
    )?.server;
  t.equal(await at('10.96.0.1', '443'), 'https://10.96.0.1:443');
  t.equal(await at('fd00::1', '443'), 'https://[fd00::1]:443');
  t.equal(await at('', ''), undefined);
});
