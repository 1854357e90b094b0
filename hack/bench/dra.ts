import { lws } from '../../src/api/names.ts';
import type { Cluster } from '../bed/cluster.ts';
import type { BerthArm } from './berth-arm.ts';
import { BindWatch } from './bind-watch.ts';
import { claimants, pairTemplate, pairTemplateName, resourceApi } from './claimants.ts';
import { type BenchContext, scaled } from './context.ts';
import type { Figure } from './figures.ts';
import { clearNamespace, makeNamespace, type WebhookArm } from './namespaces.ts';
import { summarize } from './statistics.ts';

const order: readonly WebhookArm[] = ['stock', 'pin', 'pin', 'stock'];
const fullGroups = 100;
const groupSize = 4;
const timeoutMs = 300_000;

/**
 * How many pods with a claim for a GPU and a NIC are bound in a second: by kube-scheduler alone, which asks its allocator
 * about nodes until enough take the pod, and with Berth, which pins each pod to its node and steers its claim.
 */
export async function measureDra(
  cluster: Cluster,
  berth: BerthArm,
  context: BenchContext,
): Promise<readonly Figure[]> {
  const groups = scaled(context, fullGroups);
  const rates: Record<WebhookArm, number[]> = { stock: [], pin: [] };
  const paces: Record<WebhookArm, number[]> = { stock: [], pin: [] };
  for (const arm of order) {
    await berth.switch(arm === 'pin');
    const { seconds, bindingSeconds } = await bindClaimants(cluster, arm, groups);
    const [rate, pace] = [seconds, bindingSeconds].map(time => (groups * groupSize) / time);
    context.say(
      `pods with claims, ${arm}: ${rate?.toFixed(1)} pods/s, ${pace?.toFixed(1)} from the first binding on`,
    );
    rates[arm].push(rate ?? 0);
    paces[arm].push(pace ?? 0);
  }
  return [
    {
      part: 'dra',
      what: `${groups} groups of ${groupSize} pods with a claim for GPU and NIC each: bound, from the creation on`,
      unit: 'pods/s',
      berth: summarize(rates.pin),
      beside: { name: 'stock', value: summarize(rates.stock) },
      aim: { of: 'ratio', atLeast: 1.5 },
    },
    {
      part: 'dra',
      what: 'the same from the first binding on',
      unit: 'pods/s',
      berth: summarize(paces.pin),
      beside: { name: 'stock', value: summarize(paces.stock) },
    },
  ];
}

interface ClaimantsRun {
  /** From the creation of the LWS to the binding of its last pod. */
  readonly seconds: number;
  /** From the first binding to the last. */
  readonly bindingSeconds: number;
}

/** Devices are free again afterwards. */
async function bindClaimants(cluster: Cluster, arm: WebhookArm, groups: number): Promise<ClaimantsRun> {
  const namespace = await makeNamespace(cluster, arm);
  const templates = `${resourceApi}/namespaces/${namespace}/resourceclaimtemplates`;
  await cluster.request('POST', templates, pairTemplate(namespace));
  const watch = new BindWatch(cluster, namespace);
  const all = watch.all(groups * groupSize, timeoutMs);
  all.catch(() => {});
  const startedMs = performance.now();
  const path = `/apis/${lws.apiVersion}/namespaces/${namespace}/leaderworkersets`;
  const shape = { name: 'bench', groups, size: groupSize, template: pairTemplateName };
  await cluster.request('POST', path, claimants(shape, arm === 'pin' ? 'rack' : undefined));
  const bound = await all;
  const [firstMs, lastMs] = [bound.at(0)?.atMs ?? Number.NaN, bound.at(-1)?.atMs ?? Number.NaN];
  await clearNamespace(cluster, namespace);
  await cluster.request('DELETE', `${resourceApi}/namespaces/${namespace}/resourceclaims`);
  return { seconds: (lastMs - startedMs) / 1000, bindingSeconds: (lastMs - firstMs) / 1000 };
}
