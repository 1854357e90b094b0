import { type BerthProcess, serviceAccount } from '../bed/berth.ts';
import type { Cluster } from '../bed/cluster.ts';
import { type TimedAnswer, TlsClient } from './tls-client.ts';

/** `discard` has only the extender of the bench: it reads the body and answers nothing. */
export type ExtenderVerb = 'filter' | 'prioritize' | 'discard';

/** What Berth and kube-scheduler show to each other, as PEM. */
export interface ExtenderCertificates {
  readonly ca: string;
  readonly serverCert: string;
  readonly serverKey: string;
  readonly clientCert: string;
  readonly clientKey: string;
}

const secretName = 'berth-tls';
/** In the certificate of Berth, and in the configurations of kube-scheduler that deploy/ has. */
const servername = 'berth-extender.berth-system.svc';

/** @throws ApiFailure when Berth has never run on this cluster */
export async function readExtenderCertificates(cluster: Cluster): Promise<ExtenderCertificates> {
  const path = `/api/v1/namespaces/${serviceAccount.namespace}/secrets/${secretName}`;
  const { data } = await cluster.request<{ data: Readonly<Record<string, string>> }>('GET', path);
  const read = (key: string) => Buffer.from(data[key] ?? '', 'base64').toString();
  return {
    ca: read('ca.crt'),
    serverCert: read('tls.crt'),
    serverKey: read('tls.key'),
    clientCert: read('extender-client.crt'),
    clientKey: read('extender-client.key'),
  };
}

/** Calls an extender as kube-scheduler does: with its client certificate, over one connection that is kept. */
export class ExtenderClient {
  readonly #client: TlsClient;

  constructor({ extenderPort }: Pick<BerthProcess, 'extenderPort'>, certificates: ExtenderCertificates) {
    const { ca, clientCert: cert, clientKey: key } = certificates;
    this.#client = new TlsClient(`https://127.0.0.1:${extenderPort}`, { ca, cert, key, servername });
  }

  /** @throws when the answer is not 200, the only status of which kube-scheduler reads the body */
  async call(verb: ExtenderVerb, body: Buffer): Promise<TimedAnswer> {
    const answer = await this.#client.post(`/${verb}`, body);
    if (answer.status !== 200) throw new Error(`${verb} answered ${answer.status}: ${answer.body}`);
    return answer;
  }

  close(): void {
    this.#client.close();
  }
}
