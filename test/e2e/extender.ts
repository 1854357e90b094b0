import { request } from 'node:https';
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import type { BerthProcess } from '../../hack/bed/berth.ts';
import { type SchedulerMode, type SchedulerOverrides, schedulerConfigFor } from '../../hack/bed/berth.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { until } from './bed.ts';

export interface TlsIdentity {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

export interface ExtenderAnswer {
  readonly status: number;
  readonly text: string;
}

export type ExtenderVerb = 'filter' | 'prioritize' | 'preempt';

/** Has kube-scheduler ask this Berth, with the configuration that deploy/ ships; stock again when the test ends. */
export async function withExtender(
  t: Test,
  cluster: Cluster,
  mode: SchedulerMode,
  berth: Pick<BerthProcess, 'extenderPort'>,
  overrides: SchedulerOverrides = {},
): Promise<void> {
  // Without a configuration it would keep the last one.
  t.teardown(() => cluster.restartScheduler('{}'));
  await cluster.restartScheduler(await schedulerConfigFor(cluster, mode, berth, overrides));
}

/** What kube-scheduler shows and trusts, from Berth's Secret. */
export async function schedulerIdentity(cluster: Cluster): Promise<Required<TlsIdentity>> {
  const path = '/api/v1/namespaces/berth-system/secrets/berth-tls';
  const { data } = await cluster.request<{ data: Readonly<Record<string, string>> }>('GET', path);
  const read = (key: string) => Buffer.from(data[key] ?? '', 'base64').toString();
  return { ca: read('ca.crt'), cert: read('extender-client.crt'), key: read('extender-client.key') };
}

/** One call as kube-scheduler makes it, on a connection of its own. Rejects when no answer comes. */
export function callExtender(
  berth: Pick<BerthProcess, 'extenderPort'>,
  verb: ExtenderVerb,
  body: string | Buffer,
  identity: TlsIdentity,
): Promise<ExtenderAnswer> {
  return new Promise((resolve, reject) => {
    const call = request(
      {
        host: '127.0.0.1',
        port: berth.extenderPort,
        path: `/${verb}`,
        method: 'POST',
        headers: { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) },
        agent: false,
        servername: 'berth-extender.berth-system.svc',
        ...identity,
      },
      response => {
        const parts: Buffer[] = [];
        response.on('data', (part: Buffer) => parts.push(part));
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, text: Buffer.concat(parts).toString() }),
        );
        response.on('error', reject);
      },
    );
    call.on('error', reject);
    call.end(body);
  });
}

/** Waits until Berth would refuse a member without a plan, which it does once it knows the namespace's mode `extender`. */
export async function awaitSteering(cluster: Cluster, berth: BerthProcess, namespace: string): Promise<void> {
  const identity = await schedulerIdentity(cluster);
  const labels = { 'berth.dev/group': 'trial', 'berth.dev/group-size': '2', 'berth.dev/group-rank': '0' };
  const resources = { limits: { 'nvidia.com/gpu': '1' }, requests: { 'nvidia.com/gpu': '1' } };
  const pod = {
    metadata: { name: 'trial', namespace, uid: 'trial', labels },
    spec: { containers: [{ name: 'trial', image: 'trial', resources }] },
  };
  const body = JSON.stringify({ Pod: pod, Nodes: null, NodeNames: ['trial'] });
  await until(`members in ${namespace} to be refused without a plan`, 20_000, async () => {
    const { text } = await callExtender(berth, 'filter', body, identity);
    return text.includes('no plan yet');
  });
}

/** Calls of a verb by outcome that Berth has answered so far. */
export async function countCalls(
  berth: BerthProcess,
  verb: ExtenderVerb,
): Promise<ReadonlyMap<string, number>> {
  const counts = new Map<string, number>();
  const line = new RegExp(`^berth_${verb}_duration_seconds_count\\{outcome="([^"]+)"\\} (\\S+)$`);
  for (const text of (await berth.metrics()).split('\n')) {
    const [, outcome, count] = line.exec(text) ?? [];
    if (outcome !== undefined) counts.set(outcome, Number(count));
  }
  return counts;
}

/** Calls within a span of time. */
export async function callsDuring(
  berth: BerthProcess,
  verb: ExtenderVerb,
  spanMs: number,
): Promise<ReadonlyMap<string, number>> {
  const before = await countCalls(berth, verb);
  await delay(spanMs);
  const after = await countCalls(berth, verb);
  return new Map([...after].map(([outcome, count]) => [outcome, count - (before.get(outcome) ?? 0)]));
}
