import { readFile, writeFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Agent, createServer, request as httpsRequest } from 'node:https';
import { dirname, join } from 'node:path';
import type { Test } from 'tap';
import { idleSocketMs } from '../../hack/bed/api-client.ts';
import { serviceAccount } from '../../hack/bed/berth.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { freePorts } from '../../hack/bed/ports.ts';

export interface ProxiedRequest {
  readonly method: string;
  /** With the query. */
  readonly path: string;
  readonly atMs: number;
}

/**
 * What becomes of a request: an answer that the API server never gave, or its own after it has done what was asked, but the
 * connection is cut (`lost`) or stays silent (`silent`).
 */
export type ProxyAnswer =
  | { readonly status: number; readonly reason: string; readonly retryAfterSeconds?: number }
  | 'lost'
  | 'silent';

export interface ProxyFault {
  /** Asked once for each request that is no watch, the first fault that says yes meets it. */
  readonly meets: (request: Pick<ProxiedRequest, 'method' | 'path'>) => boolean;
  readonly answer: ProxyAnswer;
  readonly times: number;
}

/** Requests that a fault has met so far. */
export interface MetRequests {
  met(): readonly ProxiedRequest[];
}

/**
 * Stands between Berth and the API server, and can keep back what watches tell while ordinary requests pass: then Berth's
 * view of the cluster is old, though nothing seems broken. Ordinary requests it can answer by itself, or lose the answer.
 */
export interface FaultProxy {
  /** Of Berth's service account, by way of the proxy. */
  readonly kubeconfigPath: string;
  /** From now on nothing that a watch tells comes through; nothing is lost. */
  holdWatches(): void;
  /** Lets through what was kept back, in order. */
  releaseWatches(): void;
  /** Ends all watches in the middle of whatever they were telling; how many that were. */
  cutWatches(): number;
  /** All requests but watches so far, the oldest first. */
  requests(): readonly ProxiedRequest[];
  /** From now on requests meet this fault, until it has been met so often. */
  inject(fault: ProxyFault): MetRequests;
}

interface ActiveFault extends ProxyFault {
  readonly met: ProxiedRequest[];
}

const host = '127.0.0.1';

/** Ends with the test. Berth must be installed on the cluster before, for its service account. */
export async function startFaultProxy(t: Test, cluster: Cluster): Promise<FaultProxy> {
  const pki = dirname(cluster.caPath);
  const [port = 0] = await freePorts(1);
  const agent = new Agent({ keepAlive: true, timeout: idleSocketMs, ca: cluster.caPem });
  const requests: ProxiedRequest[] = [];
  const valves = new Map<Valve, ServerResponse>();
  const faults: ActiveFault[] = [];
  let isHolding = false;

  const forward = (request: IncomingMessage, response: ServerResponse) => {
    const { method = '', url: path = '', headers } = request;
    const isWatch = /[?&]watch=(true|1)(&|$)/.test(path);
    const proxied = { method, path, atMs: Date.now() };
    if (!isWatch) requests.push(proxied);
    const fault = isWatch ? undefined : faultFor(faults, proxied);
    if (typeof fault === 'object') {
      request.resume().once('end', () => refuse(response, fault));
      return;
    }
    const upstream = httpsRequest(new URL(path, cluster.server), { method, headers, agent }, answer => {
      const { statusCode = 502, headers: answerHeaders } = answer;
      if (fault !== undefined) {
        // The client gives up by itself where it is left without a word.
        answer.resume().once('end', () => fault === 'lost' && response.destroy());
        return;
      }
      if (!isWatch) {
        response.writeHead(statusCode, answerHeaders);
        answer.on('error', () => response.destroy()).pipe(response);
        return;
      }
      const valve = new Valve(isHolding);
      valves.set(valve, response);
      response.once('close', () => valves.delete(valve));
      valve.pass(() => response.writeHead(statusCode, answerHeaders).flushHeaders());
      answer.on('data', (chunk: Buffer) => valve.pass(() => response.write(chunk)));
      answer.once('end', () => valve.pass(() => response.end()));
      answer.once('error', () => response.destroy());
    });
    upstream.on('error', () => response.destroy());
    response.once('close', () => upstream.destroy());
    request.pipe(upstream);
  };

  const [cert, key] = await Promise.all([
    readFile(join(pki, 'server.crt')),
    readFile(join(pki, 'server.key')),
  ]);
  const server = createServer({ cert, key }, forward);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port }, resolve);
  });
  t.teardown(async () => {
    const closed = new Promise(resolve => server.close(resolve));
    server.closeAllConnections();
    agent.destroy();
    await closed;
  });

  const { namespace, name } = serviceAccount;
  const direct = await readFile(await cluster.serviceAccountKubeconfig(namespace, name), 'utf8');
  const kubeconfigPath = join(cluster.directory, 'kubeconfig', `proxied-${port}.yaml`);
  await writeFile(kubeconfigPath, direct.replace(cluster.server, `https://${host}:${port}`), { mode: 0o600 });
  const turn = (hold: boolean) => {
    isHolding = hold;
    for (const valve of valves.keys()) valve.turn(hold);
  };
  return {
    kubeconfigPath,
    holdWatches: () => turn(true),
    releaseWatches: () => turn(false),
    cutWatches() {
      const open = [...valves.values()];
      for (const response of open) response.destroy();
      return open.length;
    },
    requests: () => requests,
    inject(fault) {
      const active = { ...fault, met: [] };
      faults.push(active);
      return { met: () => active.met };
    },
  };
}

function faultFor(faults: readonly ActiveFault[], request: ProxiedRequest): ProxyAnswer | undefined {
  const fault = faults.find(({ met, times, meets }) => met.length < times && meets(request));
  fault?.met.push(request);
  return fault?.answer;
}

function refuse(
  response: ServerResponse,
  { status, reason, retryAfterSeconds }: Exclude<ProxyAnswer, string>,
): void {
  response.writeHead(status, {
    'content-type': 'application/json',
    ...(retryAfterSeconds !== undefined && { 'retry-after': String(retryAfterSeconds) }),
  });
  const told = { kind: 'Status', apiVersion: 'v1', status: 'Failure', code: status };
  response.end(JSON.stringify({ ...told, reason, message: `a fault of this test: ${reason}` }));
}

/** Does things in order, at once or when it is opened. */
class Valve {
  readonly #waiting: (() => void)[] = [];
  #isShut: boolean;

  constructor(isShut: boolean) {
    this.#isShut = isShut;
  }

  pass(action: () => void): void {
    if (this.#isShut) this.#waiting.push(action);
    else action();
  }

  turn(shut: boolean): void {
    this.#isShut = shut;
    if (shut) return;
    for (const action of this.#waiting.splice(0)) action();
  }
}
