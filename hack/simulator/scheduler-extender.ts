import { readFile } from 'node:fs/promises';
import { Agent, request as httpsRequest } from 'node:https';
import { parse } from 'yaml';
import type { Pod } from '../../src/api/kubernetes.ts';

/** An extender as a KubeSchedulerConfiguration names it, as far as it is played here. */
interface ExtenderConfiguration {
  readonly urlPrefix: string;
  readonly filterVerb?: string;
  readonly prioritizeVerb?: string;
  readonly weight?: number;
  readonly tlsConfig?: {
    readonly serverName?: string;
    readonly caFile?: string;
    readonly certFile?: string;
    readonly keyFile?: string;
  };
  readonly ignorable?: boolean;
  /** Such as `300ms` or `1s`. */
  readonly httpTimeout?: string;
  readonly managedResources?: readonly { readonly name: string }[];
}

/** What an extender leaves of the nodes, and why it refuses others; some are refused without a word. */
export interface Filtered {
  readonly kept: ReadonlySet<string>;
  readonly refused: Readonly<Record<string, string>>;
}

interface FilterAnswer {
  readonly NodeNames?: readonly string[] | null;
  readonly FailedNodes?: Readonly<Record<string, string>> | null;
  readonly FailedAndUnresolvableNodes?: Readonly<Record<string, string>> | null;
  readonly Error?: string;
}

type HostPriorities = readonly { readonly Host: string; readonly Score: number }[];

/** Scores of extenders go to 10, those of kube-scheduler to 100. */
const scoreScale = 10;
const defaultTimeoutMs = 5_000;

/** Reads the extenders of a KubeSchedulerConfiguration, with the files of their certificates. */
export async function readExtenders(configYaml: string): Promise<readonly SchedulerExtender[]> {
  const { extenders = [] }: { extenders?: readonly ExtenderConfiguration[] } = parse(configYaml);
  return Promise.all(extenders.map(readExtender));
}

async function readExtender(configuration: ExtenderConfiguration): Promise<SchedulerExtender> {
  const { serverName, caFile, certFile, keyFile } = configuration.tlsConfig ?? {};
  const agent = new Agent({
    keepAlive: true,
    ...(serverName !== undefined && { servername: serverName }),
    ...(caFile !== undefined && { ca: await readFile(caFile) }),
    ...(certFile !== undefined && { cert: await readFile(certFile) }),
    ...(keyFile !== undefined && { key: await readFile(keyFile) }),
  });
  return new SchedulerExtender(configuration, agent);
}

/** Asks an extender as kube-scheduler does with `nodeCacheCapable: true`: names of nodes only. */
export class SchedulerExtender {
  readonly #configuration: ExtenderConfiguration;
  readonly #agent: Agent;

  constructor(configuration: ExtenderConfiguration, agent: Agent) {
    this.#configuration = configuration;
    this.#agent = agent;
  }

  /** Pods are scheduled without it when it does not answer. */
  get isIgnorable(): boolean {
    return this.#configuration.ignorable ?? false;
  }

  isInterested({ spec }: Pod): boolean {
    const { managedResources = [] } = this.#configuration;
    if (managedResources.length === 0) return true;
    const asked = [...spec.containers, ...(spec.initContainers ?? [])].flatMap(({ resources }) =>
      Object.keys({ ...resources?.requests, ...resources?.limits }),
    );
    return managedResources.some(({ name }) => asked.includes(name));
  }

  /** Rejects when there is no answer, or one that says that it is none. */
  async filter(pod: Pod, names: readonly string[]): Promise<Filtered> {
    const { filterVerb } = this.#configuration;
    if (filterVerb === undefined) return { kept: new Set(names), refused: {} };
    const answer = await this.#call<FilterAnswer>(filterVerb, pod, names);
    if (answer.Error) throw new Error(answer.Error);
    return {
      kept: new Set(answer.NodeNames ?? []),
      refused: { ...answer.FailedNodes, ...answer.FailedAndUnresolvableNodes },
    };
  }

  /** What is to be added to kube-scheduler's own scores. Rejects as `filter` does. */
  async prioritize(pod: Pod, names: readonly string[]): Promise<ReadonlyMap<string, number>> {
    const { prioritizeVerb, weight = 1 } = this.#configuration;
    if (prioritizeVerb === undefined) return new Map();
    const answer = await this.#call<HostPriorities>(prioritizeVerb, pod, names);
    return new Map(answer.map(({ Host, Score }) => [Host, Score * weight * scoreScale]));
  }

  close(): void {
    this.#agent.destroy();
  }

  #call<T>(verb: string, pod: Pod, names: readonly string[]): Promise<T> {
    const { urlPrefix, httpTimeout } = this.#configuration;
    const body = Buffer.from(JSON.stringify({ Pod: pod, Nodes: null, NodeNames: names }));
    const headers = { 'content-type': 'application/json', 'content-length': String(body.length) };
    const signal = AbortSignal.timeout(durationMsOf(httpTimeout));
    const options = { method: 'POST', headers, agent: this.#agent, signal };
    return new Promise((resolve, reject) => {
      const url = `${urlPrefix.replace(/\/$/, '')}/${verb}`;
      const request = httpsRequest(url, options, async response => {
        try {
          let text = '';
          for await (const chunk of response.setEncoding('utf8')) text += chunk;
          if (response.statusCode === 200) resolve(JSON.parse(text));
          else reject(new Error(`${verb} answered ${response.statusCode}`));
        } catch (error) {
          reject(error);
        }
      });
      request.on('error', reject);
      request.end(body);
    });
  }
}

function durationMsOf(text: string | undefined): number {
  const [, amount, unit] = /^(\d+)(ms|s)$/.exec(text ?? '') ?? [];
  if (amount === undefined) return defaultTimeoutMs;
  return Number(amount) * (unit === 's' ? 1000 : 1);
}
