import { type FastifyInstance, type FastifyReply, fastify } from 'fastify';
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';

export interface Readiness {
  readonly ready: boolean;
  /** What is missing, one line each; empty when ready. */
  readonly reasons: readonly string[];
}

export interface AdminServerOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  readonly registry: Registry;
  readonly readiness: () => Readiness;
  readonly log: Logger;
}

const plainText = 'text/plain; charset=utf-8';

/** Plain HTTP for the kubelet and Prometheus: /healthz, /readyz, /metrics. Nothing here changes anything. */
export class AdminServer {
  readonly #options: AdminServerOptions;
  readonly #server: FastifyInstance;

  constructor(options: AdminServerOptions) {
    this.#options = options;
    // Kept connections of probes and scrapers would hold up the end of the process.
    this.#server = fastify({ forceCloseConnections: true });
    this.#route();
  }

  /** Rejects when the port is taken. */
  async start(): Promise<{ readonly host: string; readonly port: number }> {
    const { host, port } = this.#options;
    await this.#server.listen({ host, port });
    const address = this.#server.server.address();
    return typeof address === 'object' && address
      ? { host: address.address, port: address.port }
      : { host, port };
  }

  async stop(): Promise<void> {
    await this.#server.close();
  }

  #route(): void {
    const { registry, log } = this.#options;
    // To answer at all is the proof: what is unhealthy about a Node process is an event loop that stands still.
    this.#server.get('/healthz', (_request, reply) => reply.type(plainText).send('ok\n'));
    this.#server.get('/readyz', (_request, reply) => this.#answerReadiness(reply));
    this.#server.get('/metrics', async (_request, reply) => {
      const text = await registry.metrics();
      return reply.type(registry.contentType).send(text);
    });
    this.#server.setErrorHandler((error, request, reply) => {
      log.error({ err: error, url: request.url }, 'admin request failed');
      return reply.code(500).type(plainText).send('internal error\n');
    });
    this.#server.setNotFoundHandler((_request, reply) => reply.code(404).type(plainText).send('not found\n'));
  }

  #answerReadiness(reply: FastifyReply): FastifyReply {
    const { ready, reasons } = this.#options.readiness();
    if (ready) return reply.type(plainText).send('ok\n');
    return reply
      .code(503)
      .type(plainText)
      .send(`${reasons.join('\n')}\n`);
  }
}
