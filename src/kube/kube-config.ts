import type { Agent } from 'node:http';
import type { RequestOptions } from 'node:https';
import type { KubeConfig } from '@kubernetes/client-node';
import { plainConnection } from './plain-connection.ts';

/** What one request needs besides its own content. */
export interface ApiCredentials {
  readonly headers: Readonly<Record<string, string>>;
  readonly tls: TlsMaterial;
  /** Set only when the cluster is reached through a proxy: then this agent is used for everything. */
  readonly proxyAgent?: Agent | undefined;
}

export type TlsMaterial = Pick<
  RequestOptions,
  'ca' | 'cert' | 'key' | 'pfx' | 'passphrase' | 'servername' | 'rejectUnauthorized'
>;

export interface ApiConnection {
  /** Base URL; may have a path (Rancher and other multiplexers). */
  readonly server: string;
  /** Namespace of the current context, or of our own pod. */
  readonly namespace?: string | undefined;
  /**
   * Reads tokens and certificates anew where they are files; may run an exec plugin. `reload` starts from nothing:
   * for use after a 401, because exec credentials without an expiry are otherwise kept for ever.
   */
  credentials(options?: { readonly reload?: boolean }): Promise<ApiCredentials>;
}

export type ConnectionSource =
  | { readonly kind: 'in-cluster' }
  | { readonly kind: 'file'; readonly path: string; readonly context?: string | undefined }
  /** KUBECONFIG, then ~/.kube/config, then the pod's service account. */
  | { readonly kind: 'default'; readonly context?: string | undefined };

/** There is no usable cluster or context in the kubeconfig. */
export class NoClusterConfig extends Error {
  override readonly name = 'NoClusterConfig';
  readonly code = 'NoClusterConfig';
}

/** Connection by kubeconfig or service account. */
export async function loadConnection(source: ConnectionSource): Promise<ApiConnection> {
  return (await plainConnection(source)) ?? libraryConnection(source);
}

/**
 * The same by client-node, which knows every way to authenticate. It is imported only here and only now: its import costs
 * about half a second and 80 MB, which nobody who has a token or a certificate should pay.
 */
export async function libraryConnection(source: ConnectionSource): Promise<ApiConnection> {
  const { KubeConfig } = await import('@kubernetes/client-node');
  const load = () => readConfig(new KubeConfig(), source);
  let config = load();
  const cluster = config.getCurrentCluster();
  if (!cluster) throw new NoClusterConfig(`context "${config.currentContext}" names no cluster`);
  const context = config.getContextObject(config.currentContext);
  return {
    server: cluster.server,
    namespace: context?.namespace,
    credentials(options) {
      if (options?.reload) config = load();
      return readCredentials(config);
    },
  };
}

function readConfig(config: KubeConfig, source: ConnectionSource): KubeConfig {
  if (source.kind === 'in-cluster') {
    config.loadFromCluster();
    return config;
  }
  if (source.kind === 'file') config.loadFromFile(source.path);
  else config.loadFromDefault();
  if (source.context !== undefined) config.setCurrentContext(source.context);
  // What client-node falls back to when it finds no configuration at all; nobody who runs a cluster means it.
  if (
    config.currentContext === 'loaded-context' &&
    config.getCurrentCluster()?.server === 'http://localhost:8080'
  ) {
    throw new NoClusterConfig('no kubeconfig and no service account found; set KUBECONFIG or run in a pod');
  }
  return config;
}

async function readCredentials(config: KubeConfig): Promise<ApiCredentials> {
  // client-node's service account authenticator writes into `headers` without looking whether it is there.
  const options: RequestOptions & { headers: Record<string, string> } = { headers: {} };
  await config.applyToHTTPSOptions(options);
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(options.headers)) headers[name] = value.trim();
  if (typeof options.auth === 'string') {
    headers['Authorization'] = `Basic ${Buffer.from(options.auth).toString('base64')}`;
  }
  const proxied = config.getCurrentCluster()?.proxyUrl;
  const agent = options.agent;
  return {
    headers,
    tls: tlsMaterial(options),
    ...(proxied && typeof agent === 'object' ? { proxyAgent: agent } : {}),
  };
}

function tlsMaterial(options: RequestOptions): TlsMaterial {
  const { ca, cert, key, pfx, passphrase, servername, rejectUnauthorized } = options;
  const entries = Object.entries({ ca, cert, key, pfx, passphrase, servername, rejectUnauthorized });
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined && value !== null));
}
