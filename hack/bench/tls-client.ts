import { Agent, request } from 'node:https';

/** Whom a client trusts and who it is, as PEM. */
export interface TlsIdentity {
  readonly ca: string;
  readonly cert?: string;
  readonly key?: string;
  /** The name that the server's certificate must have; default: the host of the URL. */
  readonly servername?: string;
}

export interface TimedAnswer {
  readonly status: number;
  readonly body: Buffer;
  /** From the start of the request to the end of its answer. */
  readonly ms: number;
}

/** Posts JSON as the components of a control plane do: over one TLS connection that is kept open. */
export class TlsClient {
  readonly #url: URL;
  readonly #agent: Agent;

  constructor(url: string, identity: TlsIdentity) {
    this.#url = new URL(url);
    this.#agent = new Agent({ keepAlive: true, maxSockets: 1, ...identity });
  }

  async post(path: string, body: Buffer): Promise<TimedAnswer> {
    const startedMs = performance.now();
    const { status, parts } = await this.#send(path, body);
    const ms = performance.now() - startedMs;
    return { status, body: Buffer.concat(parts), ms };
  }

  close(): void {
    this.#agent.destroy();
  }

  #send(path: string, body: Buffer): Promise<{ status: number; parts: readonly Buffer[] }> {
    const { hostname, port } = this.#url;
    const headers = { 'content-type': 'application/json', 'content-length': body.length };
    return new Promise((resolve, reject) => {
      const options = { hostname, port, path, method: 'POST', agent: this.#agent, headers };
      const sent = request(options, response => {
        const parts: Buffer[] = [];
        response.on('data', (part: Buffer) => parts.push(part));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, parts }));
        response.on('error', reject);
      });
      sent.on('error', reject);
      sent.end(body);
    });
  }
}
