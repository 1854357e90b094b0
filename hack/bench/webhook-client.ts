import { Agent, request } from 'node:https';

export interface WebhookAnswer {
  readonly response: { readonly allowed: boolean; readonly patch?: string };
}

/** Calls a webhook as the API server does: TLS over one connection that is kept open. */
export class WebhookClient {
  readonly #agent: Agent;
  readonly #options: { hostname: string; port: number; path: string; method: 'POST'; agent: Agent };

  constructor(url: string, caPem: string) {
    const { hostname, port, pathname: path } = new URL(url);
    this.#agent = new Agent({ keepAlive: true, maxSockets: 1, ca: caPem });
    this.#options = { hostname, port: Number(port), path, method: 'POST', agent: this.#agent };
  }

  /** Time from the start of the request to the end of its answer, which is read only afterwards. */
  async call(body: string): Promise<{ readonly answer: WebhookAnswer; readonly ms: number }> {
    const startedMs = performance.now();
    const { status, text } = await this.#send(body);
    const ms = performance.now() - startedMs;
    if (status !== 200) throw new Error(`the webhook answered ${status}: ${text}`);
    const answer: WebhookAnswer = JSON.parse(text);
    return { answer, ms };
  }

  close(): void {
    this.#agent.destroy();
  }

  #send(body: string): Promise<{ status: number; text: string }> {
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    return new Promise((resolve, reject) => {
      const sent = request({ ...this.#options, headers }, response => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', chunk => {
          text += chunk;
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
        response.on('error', reject);
      });
      sent.on('error', reject);
      sent.end(body);
    });
  }
}
