import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { isIPv6 } from 'node:net';
import { homedir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { parse } from 'yaml';
import type { ApiConnection, ConnectionSource, TlsMaterial } from './kube-config.ts';
import { isRecord } from './raw-object.ts';

type Fields = Readonly<Record<string, unknown>>;

/** Where the kubelet puts the token of a pod's service account. */
const serviceAccountFolder = '/var/run/secrets/kubernetes.io/serviceaccount';

/** Fields that are understood here; an entry with others is left to the client library. */
const clusterFields: ReadonlySet<string> = new Set([
  'server',
  'certificate-authority',
  'certificate-authority-data',
  'tls-server-name',
  'insecure-skip-tls-verify',
  'extensions',
]);
const userFields: ReadonlySet<string> = new Set([
  'token',
  'tokenFile',
  'client-certificate',
  'client-certificate-data',
  'client-key',
  'client-key-data',
]);

/** What a request needs, each part as text or as the path of a file that is read anew every time. */
interface PlainAccess {
  readonly server: string;
  readonly namespace: string | undefined;
  readonly token: Part;
  readonly ca: Part;
  readonly cert: Part;
  readonly key: Part;
  readonly servername: string | undefined;
  readonly skipVerify: boolean;
}

type Part = { readonly data: string } | { readonly file: string } | undefined;

/**
 * The connection of a pod's service account, or of a kubeconfig whose user has a token or a certificate: what nearly
 * every Berth in a cluster has, without the 80 MB that the client library takes. Undefined for everything else (exec
 * plugins, OIDC, proxies, several files, mistakes), which is the library's to read or to complain about.
 */
export async function plainConnection(
  source: ConnectionSource,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): Promise<ApiConnection | undefined> {
  const first = await plainAccess(source, environment);
  if (first === undefined) return undefined;
  let access = first;
  return {
    server: first.server,
    namespace: first.namespace,
    async credentials(options) {
      // Somebody may have written a new token into the kubeconfig itself.
      if (options?.reload) access = (await plainAccess(source, environment)) ?? access;
      const { servername, skipVerify } = access;
      const token = await textOf(access.token);
      const [ca, cert, key] = await Promise.all([access.ca, access.cert, access.key].map(textOf));
      const tls: TlsMaterial = {
        ...(ca !== undefined && { ca }),
        ...(cert !== undefined && { cert }),
        ...(key !== undefined && { key }),
        ...(servername !== undefined && { servername }),
        ...(skipVerify && { rejectUnauthorized: false }),
      };
      return { headers: token === undefined ? {} : { Authorization: `Bearer ${token.trim()}` }, tls };
    },
  };
}

async function plainAccess(
  source: ConnectionSource,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<PlainAccess | undefined> {
  if (source.kind === 'in-cluster') return inCluster(environment);
  if (source.kind === 'file') return ofKubeconfig(source.path, source.context);
  const path = environment['KUBECONFIG'] ?? join(homedir(), '.kube', 'config');
  if (path.includes(delimiter)) return undefined;
  if (environment['KUBECONFIG'] !== undefined || existsSync(path)) return ofKubeconfig(path, source.context);
  return existsSync(join(serviceAccountFolder, 'token')) ? inCluster(environment) : undefined;
}

async function inCluster({
  KUBERNETES_SERVICE_HOST: host,
  KUBERNETES_SERVICE_PORT: port,
}: Readonly<Record<string, string | undefined>>): Promise<PlainAccess | undefined> {
  if (!host || !port) return undefined;
  const namespace = await readFile(join(serviceAccountFolder, 'namespace'), 'utf8').catch(() => undefined);
  return {
    server: `https://${isIPv6(host) ? `[${host}]` : host}:${port}`,
    namespace: namespace?.trim(),
    token: { file: join(serviceAccountFolder, 'token') },
    ca: { file: join(serviceAccountFolder, 'ca.crt') },
    cert: undefined,
    key: undefined,
    servername: undefined,
    skipVerify: false,
  };
}

async function ofKubeconfig(path: string, wanted: string | undefined): Promise<PlainAccess | undefined> {
  const text = await readFile(path, 'utf8').catch(() => undefined);
  const config = text === undefined ? undefined : parsed(text);
  const name = wanted ?? config?.['current-context'];
  const context = entryOf(config, 'contexts', name, 'context');
  const cluster = entryOf(config, 'clusters', context?.['cluster'], 'cluster');
  const user = entryOf(config, 'users', context?.['user'], 'user');
  const server = cluster?.['server'];
  if (cluster === undefined || user === undefined || typeof server !== 'string') return undefined;
  if (!knows(clusterFields, cluster) || !knows(userFields, user)) return undefined;
  const folder = dirname(path);
  const namespace = context?.['namespace'];
  const servername = cluster['tls-server-name'];
  return {
    server,
    namespace: typeof namespace === 'string' ? namespace : undefined,
    token: partOf(user, folder, 'tokenFile') ?? dataOf(user['token']),
    ca: base64Of(cluster, 'certificate-authority') ?? partOf(cluster, folder, 'certificate-authority'),
    cert: base64Of(user, 'client-certificate') ?? partOf(user, folder, 'client-certificate'),
    key: base64Of(user, 'client-key') ?? partOf(user, folder, 'client-key'),
    servername: typeof servername === 'string' ? servername : undefined,
    skipVerify: cluster['insecure-skip-tls-verify'] === true,
  };
}

function parsed(text: string): Fields | undefined {
  try {
    const value: unknown = parse(text);
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Lists of named entries: `{name, <kind>: {..}}`. */
function entryOf(config: Fields | undefined, list: string, name: unknown, kind: string): Fields | undefined {
  const entries = config?.[list];
  if (!Array.isArray(entries) || typeof name !== 'string') return undefined;
  const found: unknown = entries.find(entry => isRecord(entry) && entry['name'] === name);
  const value = isRecord(found) ? found[kind] : undefined;
  return isRecord(value) ? value : undefined;
}

function knows(fields: ReadonlySet<string>, entry: Fields): boolean {
  return Object.keys(entry).every(field => fields.has(field));
}

function dataOf(value: unknown): Part {
  return typeof value === 'string' && value !== '' ? { data: value } : undefined;
}

function base64Of(entry: Fields, field: string): Part {
  const value = entry[`${field}-data`];
  return typeof value === 'string' && value !== ''
    ? { data: Buffer.from(value, 'base64').toString('utf8') }
    : undefined;
}

function partOf(entry: Fields, folder: string, field: string): Part {
  const value = entry[field];
  return typeof value === 'string' && value !== '' ? { file: resolve(folder, value) } : undefined;
}

async function textOf(part: Part): Promise<string | undefined> {
  if (part === undefined) return undefined;
  return 'data' in part ? part.data : readFile(part.file, 'utf8');
}
