import { randomUUID } from 'node:crypto';
import type { Pod } from '../../src/api/kubernetes.ts';
import { berth, lws } from '../../src/api/names.ts';
import { pinnedNodes } from '../../src/cluster/node-affinity.ts';
import { type BerthProcess, startBerthOn, type WebhookConfiguration, webhookUrlOf } from '../bed/berth.ts';
import type { Cluster } from '../bed/cluster.ts';
import { awaitLease, withEnvironment } from './berth-arm.ts';
import { type BenchContext, scaled } from './context.ts';
import type { Figure } from './figures.ts';
import { makeNamespace } from './namespaces.ts';
import { percentile, summarize } from './statistics.ts';
import { until } from './waiting.ts';
import { type WebhookAnswer, WebhookClient } from './webhook-client.ts';
import { cpuPod, groupsObject, labelledMember } from './workloads.ts';

type Verdict = 'pinned' | 'gated' | 'untouched';

interface Kind {
  readonly name: string;
  readonly verdict: Verdict;
  readonly bodies: readonly string[];
}

const fullGroups = 50;
const groupSize = 4;
const fullRequests = 2_000;
const fullWarmUp = 500;
const fullDryRuns = 500;
const timeoutMs = 120_000;
const configurationPath =
  '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/zz-berth-mutating-webhook-configuration';

/**
 * How long the admission of one pod takes: asked of the webhook itself over TLS, and as whoever creates a pod sees it
 * from the API server with and without Berth.
 */
export async function measureAdmission(cluster: Cluster, context: BenchContext): Promise<readonly Figure[]> {
  // Pinned workers must stay unbound, or their reviews would be those of members that already run.
  await cluster.stopComponent('kube-scheduler');
  const running = await withEnvironment(context.environment, () => startBerthOn(cluster));
  await awaitLease(running);
  const namespace = await makeNamespace(cluster, 'pin');
  const pods = await planGroups(cluster, namespace, scaled(context, fullGroups));
  const figures = [
    ...(await askWebhook(cluster, running, kindsOf(pods, namespace), context)),
    ...(await askApiServer(cluster, namespace, context)),
  ];
  await running.stop();
  await cluster.startComponent('kube-scheduler');
  return figures;
}

/** Groups whose plan is written and whose members are pinned, none of them bound. */
async function planGroups(cluster: Cluster, namespace: string, groups: number): Promise<readonly Pod[]> {
  const object = groupsObject({ name: 'planned', groups, size: groupSize, gpusPerPod: 8 }, 'rack');
  await cluster.request('POST', `/apis/${lws.apiVersion}/namespaces/${namespace}/leaderworkersets`, object);
  let pods: readonly Pod[] = [];
  await until(`${groups} groups to be pinned`, timeoutMs, async () => {
    const path = `/api/v1/namespaces/${namespace}/pods`;
    pods = (await cluster.request<{ items: Pod[] }>('GET', path)).items;
    return pods.length === groups * groupSize && pods.every(pod => pinnedNodes(pod.spec) !== undefined);
  });
  return pods;
}

function kindsOf(pods: readonly Pod[], namespace: string): readonly Kind[] {
  const isLeader = (pod: Pod) => pod.metadata.labels?.[lws.workerIndex] === '0';
  const reviews = (of: readonly Pod[]) => of.map(pod => reviewOf(asCreated(pod), namespace));
  return [
    {
      name: 'worker of a planned group, pinned',
      verdict: 'pinned',
      bodies: reviews(pods.filter(pod => !isLeader(pod))),
    },
    { name: 'leader, gated', verdict: 'gated', bodies: reviews(pods.filter(isLeader)) },
    { name: 'CPU pod, left alone', verdict: 'untouched', bodies: reviews([cpuPod('web')]) },
  ];
}

/** A pod as its controller sent it, before the API server and Berth wrote to it. */
function asCreated({ apiVersion = 'v1', kind = 'Pod', metadata, spec }: Pod): Pod {
  const { uid: _uid, resourceVersion: _version, creationTimestamp: _time, ...rest } = metadata;
  const { affinity: _pin, schedulingGates: _gates, ...specRest } = spec;
  const annotations = Object.entries(rest.annotations ?? {}).filter(([key]) => key !== berth.plan);
  return {
    apiVersion,
    kind,
    metadata: { ...rest, annotations: Object.fromEntries(annotations) },
    spec: specRest,
  };
}

function reviewOf(pod: Pod, namespace: string): string {
  const kind = { group: '', version: 'v1', kind: 'Pod' };
  const resource = { group: '', version: 'v1', resource: 'pods' };
  return JSON.stringify({
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: {
      uid: randomUUID(),
      kind,
      resource,
      requestKind: kind,
      requestResource: resource,
      name: pod.metadata.name,
      namespace,
      operation: 'CREATE',
      userInfo: {
        username: 'system:serviceaccount:kube-system:statefulset-controller',
        groups: ['system:serviceaccounts', 'system:authenticated'],
      },
      object: { ...pod, metadata: { ...pod.metadata, namespace } },
      oldObject: null,
      dryRun: false,
      options: { kind: 'CreateOptions', apiVersion: 'meta.k8s.io/v1' },
    },
  });
}

async function askWebhook(
  cluster: Cluster,
  { webhookPort }: BerthProcess,
  kinds: readonly Kind[],
  context: BenchContext,
): Promise<Figure[]> {
  const client = new WebhookClient(webhookUrlOf(webhookPort), await authorityOf(cluster));
  const times = new Map(kinds.map(kind => [kind, [] as number[]]));
  const warmUp = scaled(context, fullWarmUp);
  const requests = scaled(context, fullRequests);
  context.say(`asking the webhook ${requests} times for each of ${kinds.length} kinds of pods`);
  // By turns, so that all kinds meet the same weather.
  for (let round = -warmUp; round < requests; round++) {
    for (const kind of kinds) {
      const body = kind.bodies[(round + warmUp) % kind.bodies.length] ?? '';
      const { answer, ms } = await client.call(body);
      checkVerdict(kind, answer);
      if (round >= 0) times.get(kind)?.push(ms);
    }
  }
  client.close();
  return [...times].flatMap(([{ name }, samples]) => [
    {
      part: 'admission',
      what: `admission of one pod, median: ${name}`,
      unit: 'ms',
      berth: summarize([percentile(samples, 50)]),
      aim: { of: 'value', atMost: 2 },
    },
    {
      part: 'admission',
      what: `admission of one pod, 99 %: ${name}`,
      unit: 'ms',
      berth: summarize([percentile(samples, 99)]),
    },
  ]);
}

/** What cannot be measured is a quick wrong answer. */
function checkVerdict({ name, verdict }: Kind, { response }: WebhookAnswer): void {
  const patch = Buffer.from(response.patch ?? '', 'base64').toString();
  const isPinned = patch.includes('metadata.name');
  const isGated = patch.includes(berth.placementGate);
  const found: Verdict = isPinned ? 'pinned' : isGated ? 'gated' : 'untouched';
  if (!response.allowed || found !== verdict) throw new Error(`${name}: the webhook left it ${found}`);
}

async function authorityOf(cluster: Cluster): Promise<string> {
  const { webhooks } = await cluster.request<WebhookConfiguration>('GET', configurationPath);
  const client: unknown = webhooks[0]?.clientConfig;
  if (typeof client !== 'object' || client === null || !('caBundle' in client))
    throw new Error('Berth has not published its authority');
  return Buffer.from(String(client.caBundle), 'base64').toString();
}

/** The same pod created by turns where Berth gates it and where nobody asks Berth; nothing is stored. */
async function askApiServer(cluster: Cluster, namespace: string, context: BenchContext): Promise<Figure[]> {
  const elsewhere = await makeNamespace(cluster, 'stock');
  const warmUp = scaled(context, fullWarmUp);
  const dryRuns = scaled(context, fullDryRuns);
  const pod = labelledMember('trial', 'trial', groupSize, 0);
  const times = { pin: [] as number[], stock: [] as number[] };
  context.say(`creating ${dryRuns} pods for trial, with and without Berth`);
  for (let round = -warmUp; round < dryRuns; round++) {
    for (const arm of ['pin', 'stock'] as const) {
      const path = `/api/v1/namespaces/${arm === 'pin' ? namespace : elsewhere}/pods?dryRun=All`;
      const startedMs = performance.now();
      const created = await cluster.request<Pod>('POST', path, pod);
      const ms = performance.now() - startedMs;
      const isGated = created.spec.schedulingGates !== undefined;
      if (isGated !== (arm === 'pin')) throw new Error(`arm ${arm}: the pod came back gated or not`);
      if (round >= 0) times[arm].push(ms);
    }
  }
  return [50, 99].map(percent => ({
    part: 'admission',
    what: `creation of a gated pod, as the API server's client sees it, ${percent === 50 ? 'median' : '99 %'}`,
    unit: 'ms',
    berth: summarize([percentile(times.pin, percent)]),
    beside: { name: 'without Berth', value: summarize([percentile(times.stock, percent)]) },
  }));
}
