import { TlsClient } from './tls-client.ts';

export interface WebhookAnswer {
  readonly response: { readonly allowed: boolean; readonly patch?: string };
}

/** Calls a webhook as the API server does: TLS without a client certificate. */
export class WebhookClient {
  readonly #client: TlsClient;
  readonly #path: string;

  constructor(url: string, caPem: string) {
    this.#client = new TlsClient(url, { ca: caPem });
    this.#path = new URL(url).pathname;
  }

  /** Time from the start of the request to the end of its answer, which is read only afterwards. */
  async call(body: string): Promise<{ readonly answer: WebhookAnswer; readonly ms: number }> {
    const { status, body: answered, ms } = await this.#client.post(this.#path, Buffer.from(body));
    if (status !== 200) throw new Error(`the webhook answered ${status}: ${answered}`);
    const answer: WebhookAnswer = JSON.parse(answered.toString());
    return { answer, ms };
  }

  close(): void {
    this.#client.close();
  }
}
