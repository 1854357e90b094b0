import { randomUUID } from 'node:crypto';
import { Agent, request as httpsRequest } from 'node:https';
import type { KubernetesObject, LabelSelector, Namespace, Pod } from '../../src/api/kubernetes.ts';
import { matchesLabelSelector } from '../../src/cluster/labels.ts';
import type { ObjectStore } from './object-store.ts';
import { applyJsonPatch } from './patches.ts';
import { Refusal } from './refusal.ts';

/** One call of a webhook. */
export interface Review {
  readonly webhook: string;
  readonly pod: string;
  /** From before the request was written until its answer was read. */
  readonly durationMs: number;
  readonly outcome: 'allowed' | 'denied' | 'failed';
}

interface Webhook {
  readonly name: string;
  readonly rules?: readonly { readonly resources?: readonly string[] }[];
  readonly clientConfig: { readonly url?: string; readonly caBundle?: string };
  readonly namespaceSelector?: LabelSelector;
  readonly objectSelector?: LabelSelector;
  readonly failurePolicy?: 'Fail' | 'Ignore';
  readonly timeoutSeconds?: number;
}

interface WebhookConfiguration extends KubernetesObject {
  readonly webhooks?: readonly Webhook[];
}

interface AdmissionAnswer {
  readonly response: {
    readonly allowed: boolean;
    readonly status?: { readonly code?: number; readonly reason?: string; readonly message?: string };
    /** Base64. */
    readonly patch?: string;
  };
}

const defaultTimeoutSeconds = 10;

/**
 * Has pods reviewed by mutating webhooks at CREATE: AdmissionReviews over HTTPS, trusted by caBundle, in the order of
 * the configurations' names, with the failurePolicy deciding where there is no answer. CEL matchConditions are not
 * evaluated; since they see to it that a pod matches one webhook of Berth at most, a URL is called once for a pod.
 */
export class Admission {
  readonly #store: ObjectStore;
  readonly #agents = new Map<string, Agent>();
  readonly #reviews: Review[] = [];

  constructor(store: ObjectStore) {
    this.#store = store;
  }

  /** Every call there was, oldest first. */
  get reviews(): readonly Review[] {
    return this.#reviews;
  }

  /**
   * The pod as the webhooks leave it.
   *
   * @throws Refusal when a webhook denies it, or does not answer and its failurePolicy is Fail
   */
  async admit(pod: Pod, namespace: string, dryRun: boolean): Promise<Pod> {
    let admitted = pod;
    const called = new Set<string>();
    for (const webhook of this.#matching(pod, namespace)) {
      const { url = '' } = webhook.clientConfig;
      if (called.has(url)) continue;
      called.add(url);
      admitted = await this.#reviewed(webhook, admitted, namespace, dryRun);
    }
    return admitted;
  }

  close(): void {
    for (const agent of this.#agents.values()) agent.destroy();
  }

  #matching(pod: Pod, namespace: string): readonly Webhook[] {
    const labels = this.#store.read<Namespace>('namespaces', { name: namespace })?.metadata.labels ?? {};
    return this.#store
      .list<WebhookConfiguration>('mutatingwebhookconfigurations')
      .flatMap(({ webhooks = [] }) => webhooks)
      .filter(
        ({ rules = [], namespaceSelector = {}, objectSelector = {} }) =>
          rules.some(({ resources = [] }) => resources.includes('pods')) &&
          matchesLabelSelector(namespaceSelector, labels) &&
          matchesLabelSelector(objectSelector, pod.metadata.labels ?? {}),
      );
  }

  async #reviewed(webhook: Webhook, pod: Pod, namespace: string, dryRun: boolean): Promise<Pod> {
    const startedMs = performance.now();
    const note = (outcome: Review['outcome']) =>
      this.#reviews.push({
        webhook: webhook.name,
        pod: `${namespace}/${pod.metadata.name}`,
        durationMs: performance.now() - startedMs,
        outcome,
      });
    let answer: AdmissionAnswer;
    try {
      answer = await this.#call(webhook, reviewOf(pod, namespace, dryRun));
    } catch (error) {
      note('failed');
      if (webhook.failurePolicy === 'Ignore') return pod;
      const what = error instanceof Error ? error.message : String(error);
      throw new Refusal(500, 'InternalError', `failed calling webhook ${webhook.name}: ${what}`);
    }
    const { allowed, patch, status } = answer.response;
    note(allowed ? 'allowed' : 'denied');
    if (!allowed) {
      const message = `admission webhook ${webhook.name} denied the request: ${status?.message ?? ''}`;
      throw new Refusal(status?.code ?? 403, status?.reason ?? 'Forbidden', message);
    }
    return patch === undefined
      ? pod
      : applyJsonPatch(pod, JSON.parse(Buffer.from(patch, 'base64').toString()));
  }

  #call({ clientConfig, timeoutSeconds }: Webhook, review: object): Promise<AdmissionAnswer> {
    const body = Buffer.from(JSON.stringify(review));
    const headers = { 'content-type': 'application/json', 'content-length': String(body.length) };
    const signal = AbortSignal.timeout((timeoutSeconds ?? defaultTimeoutSeconds) * 1000);
    const agent = this.#agentFor(clientConfig.caBundle ?? '');
    return new Promise((resolve, reject) => {
      const options = { method: 'POST', headers, agent, signal };
      const request = httpsRequest(clientConfig.url ?? '', options, async response => {
        try {
          let text = '';
          for await (const chunk of response.setEncoding('utf8')) text += chunk;
          if (response.statusCode === 200) resolve(JSON.parse(text));
          else reject(new Error(`status ${response.statusCode}: ${text}`));
        } catch (error) {
          reject(error);
        }
      });
      request.on('error', reject);
      request.end(body);
    });
  }

  /** Connections are kept, as the API server keeps them. */
  #agentFor(caBundle: string): Agent {
    const known = this.#agents.get(caBundle);
    if (known !== undefined) return known;
    const agent = new Agent({ keepAlive: true, ca: Buffer.from(caBundle, 'base64').toString() });
    this.#agents.set(caBundle, agent);
    return agent;
  }
}

function reviewOf(pod: Pod, namespace: string, dryRun: boolean): object {
  return {
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: {
      uid: randomUUID(),
      kind: { group: '', version: 'v1', kind: 'Pod' },
      resource: { group: '', version: 'v1', resource: 'pods' },
      name: pod.metadata.name,
      namespace,
      operation: 'CREATE',
      userInfo: { username: 'system:serviceaccount:kube-system:statefulset-controller' },
      object: pod,
      oldObject: null,
      dryRun,
    },
  };
}
