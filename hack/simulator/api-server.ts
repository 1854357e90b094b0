import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { KubernetesObject } from '../../src/api/kubernetes.ts';
import { createAuthority, issueServerCertificate } from '../../src/kube/pki.ts';
import { type ApiPath, parseApiPath, resourcesAt, resourceTypes } from './api-paths.ts';
import { readDeleteOptions, readEviction } from './delete-options.ts';
import { evict } from './eviction.ts';
import { fieldsSelectedBy } from './field-query.ts';
import { selectedBy } from './label-query.ts';
import type { ObjectName } from './object-store.ts';
import { notFound, Refusal, statusOf } from './refusal.ts';
import type { ResourceApi } from './resource-api.ts';
import { serveWatch } from './watch-stream.ts';

export interface ApiRequest {
  readonly method: string;
  /** With query. */
  readonly path: string;
  readonly contentType: string;
  readonly body: unknown;
}

/** A listening API server of one process and one user. */
export interface ApiServer {
  readonly url: string;
  readonly caPem: string;
  close(): Promise<void>;
}

const address = '127.0.0.1';
const success = { apiVersion: 'v1', kind: 'Status', status: 'Success', metadata: {} };

/** Serves the API over HTTPS, with a certificate of its own authority, to whoever brings the token. */
export async function startApiServer(api: ResourceApi, token: string): Promise<ApiServer> {
  const at = new Date();
  const authority = createAuthority({ commonName: 'simulated-cluster-ca', now: at });
  const names = { dnsNames: ['localhost'], ipAddresses: [address] };
  const serving = issueServerCertificate(authority, { commonName: 'simulated-apiserver', names, now: at });
  const server = createServer({ cert: serving.certPem, key: serving.keyPem }, (request, response) => {
    void serve(api, token, request, response);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, address, resolve);
  });
  return {
    url: `https://${address}:${portOf(server)}`,
    caPem: authority.certPem,
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/**
 * Answers one request that is not a watch.
 *
 * @throws Refusal
 */
export async function answer(api: ResourceApi, request: ApiRequest): Promise<KubernetesObject> {
  const url = new URL(request.path, 'https://simulated');
  const path = parseApiPath(url.pathname);
  if (path === undefined) return discovery(url.pathname);
  const { type, namespace } = path;
  if (path.name === undefined) {
    if (request.method === 'GET') return listOf(api, path, url);
    if (request.method !== 'POST') throw notAllowed(request.method);
    const dryRun = url.searchParams.get('dryRun') === 'All';
    return api.create(type, objectOf(request.body), { namespace, dryRun });
  }
  const name: ObjectName = { namespace, name: path.name };
  if (path.subresource === 'eviction' && type === resourceTypes.pods) {
    if (request.method !== 'POST') throw notAllowed(request.method);
    evict(api, name, readEviction(request.body));
    return success;
  }
  const { subresource } = path;
  const isStatus = subresource === 'status';
  if (subresource !== undefined && !(isStatus && request.method === 'PATCH')) throw notFound(url.pathname);
  switch (request.method) {
    case 'GET':
      return api.get(type, name);
    case 'PUT':
      return api.replace(type, name, objectOf(request.body));
    case 'PATCH': {
      const { contentType, body } = request;
      return api.patch(type, name, { contentType, body }, isStatus ? 'status' : undefined);
    }
    case 'DELETE':
      api.remove(type, name, readDeleteOptions(request.body));
      return success;
    default:
      throw notAllowed(request.method);
  }
}

async function serve(
  api: ResourceApi,
  token: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  try {
    if (request.headers.authorization !== `Bearer ${token}`) {
      throw new Refusal(401, 'Unauthorized', 'Unauthorized');
    }
    const url = new URL(request.url ?? '/', 'https://simulated');
    const path = parseApiPath(url.pathname);
    if (path !== undefined && ['1', 'true'].includes(url.searchParams.get('watch') ?? '')) {
      serveWatch(api.store, path, url.searchParams, response);
      return;
    }
    const { method = 'GET', headers } = request;
    const body = await bodyOf(request);
    const contentType = headers['content-type'] ?? '';
    const object = await answer(api, { method, path: request.url ?? '/', contentType, body });
    send(response, method === 'POST' ? 201 : 200, object);
  } catch (error) {
    const refusal =
      error instanceof Refusal ? error : new Refusal(500, 'InternalError', `simulator: ${String(error)}`);
    send(response, refusal.status, statusOf(refusal));
  }
}

/** @throws Refusal 404 where nothing is served */
function discovery(path: string): KubernetesObject {
  const types = resourcesAt(path);
  if (types.length === 0) throw notFound(path);
  const resources = types.map(({ resource: name, kind, namespaced }) => ({ name, kind, namespaced }));
  const list = { apiVersion: 'v1', kind: 'APIResourceList', metadata: {}, resources };
  return list;
}

/** Everything in one page, whatever limit was asked for: the API server may do so, too. */
function listOf(api: ResourceApi, { type, namespace }: ApiPath, url: URL): KubernetesObject {
  const isSelected = selectedBy(url.searchParams.get('labelSelector'));
  const hasFields = fieldsSelectedBy(url.searchParams.get('fieldSelector'));
  const items = api.store
    .list(type.resource, namespace)
    .filter(object => isSelected(object) && hasFields(object));
  const list = {
    apiVersion: type.apiVersion,
    kind: `${type.kind}List`,
    metadata: { resourceVersion: String(api.store.resourceVersion) },
    items,
  };
  return list;
}

async function bodyOf(request: IncomingMessage): Promise<unknown> {
  let text = '';
  for await (const chunk of request.setEncoding('utf8')) text += chunk;
  if (text === '') return undefined;
  try {
    return JSON.parse(text);
  } catch {
    throw new Refusal(400, 'BadRequest', 'the body is not JSON');
  }
}

function send(response: ServerResponse, status: number, body: object): void {
  const text = JSON.stringify(body);
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(text);
}

function objectOf(body: unknown): KubernetesObject {
  if (!isObject(body)) throw new Refusal(400, 'BadRequest', 'the body is not an object with metadata');
  return body;
}

function isObject(body: unknown): body is KubernetesObject {
  return (
    typeof body === 'object' &&
    body !== null &&
    'metadata' in body &&
    typeof body.metadata === 'object' &&
    body.metadata !== null
  );
}

function notAllowed(method: string): Refusal {
  return new Refusal(405, 'MethodNotAllowed', `${method} is not served here`);
}

function portOf(server: Server): number {
  const bound = server.address();
  return typeof bound === 'object' && bound !== null ? bound.port : 0;
}
