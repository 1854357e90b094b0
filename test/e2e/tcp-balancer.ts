import { connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

export interface Backend {
  readonly port: number;
  /** Asked now and then, as a readiness probe does; new connections go elsewhere while it does not answer. */
  readonly isReady: (signal: AbortSignal) => Promise<boolean>;
}

/** What a Service is in a cluster: one address in front of several replicas. */
export interface Balancer {
  readonly port: number;
  /** Replaces the replicas. Connections that are open stay. */
  setBackends(backends: readonly Backend[]): void;
  stop(): Promise<void>;
}

const host = '127.0.0.1';
const probeEveryMs = 500;
const probeTimeoutMs = 1_000;

/** Hands each connection to the next ready backend, and to the one after it when that does not take it. */
export async function startBalancer(port: number): Promise<Balancer> {
  let backends: readonly Backend[] = [];
  let turn = 0;
  const unready = new Set<number>();
  const sockets = new Set<Socket>();
  const stopping = new AbortController();
  const server = createServer({ allowHalfOpen: true }, client => {
    keep(sockets, client);
    const first = turn++;
    const inTurn = backends.map((_, i) => backends[(first + i) % backends.length]?.port ?? 0);
    const ready = inTurn.filter(candidate => !unready.has(candidate));
    // With nobody ready all are tried: a probe may be late.
    handOver(client, ready.length > 0 ? ready : inTurn, sockets);
  });
  await listening(server, port);
  const probing = probeAll();

  async function probeAll(): Promise<void> {
    while (!stopping.signal.aborted) {
      await Promise.all(backends.map(probe));
      await delay(probeEveryMs, undefined, { signal: stopping.signal }).catch(() => {});
    }
  }

  async function probe({ port: backendPort, isReady }: Backend): Promise<void> {
    const ok = await isReady(AbortSignal.timeout(probeTimeoutMs)).catch(() => false);
    if (ok) unready.delete(backendPort);
    else unready.add(backendPort);
  }

  return {
    port,
    setBackends(next) {
      backends = next;
    },
    async stop() {
      stopping.abort();
      const closed = new Promise<void>(resolve => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await Promise.all([closed, probing]);
    },
  };
}

function handOver(client: Socket, [port, ...others]: readonly number[], sockets: Set<Socket>): void {
  if (port === undefined) {
    client.destroy();
    return;
  }
  const backend = connect({ host, port, allowHalfOpen: true });
  keep(sockets, backend);
  const refused = () => handOver(client, others, sockets);
  backend.once('error', refused);
  backend.once('connect', () => {
    backend.off('error', refused);
    backend.on('error', () => client.destroy());
    backend.once('close', () => client.destroy());
    client.once('close', () => backend.destroy());
    if (client.destroyed) backend.destroy();
    client.pipe(backend).pipe(client);
  });
}

function keep(sockets: Set<Socket>, socket: Socket): void {
  sockets.add(socket);
  socket.on('error', () => socket.destroy());
  socket.once('close', () => sockets.delete(socket));
}

function listening(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port }, () => resolve());
  });
}
