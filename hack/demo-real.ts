import { setTimeout as delay } from 'node:timers/promises';
import { awaitAdmission, startBerthOn } from './bed/berth.ts';
import { startCluster } from './bed/cluster.ts';
import { createFleet } from './bed/fleets.ts';
import { namespaces } from './demo-scenario.ts';
import { type AdmissionTimes, rounded, type World } from './demo-world.ts';

/** A bucket of a Prometheus histogram: how many took no longer than its limit. */
interface Bucket {
  readonly limitMs: number;
  readonly count: number;
}

const durationMetric = 'apiserver_admission_webhook_admission_duration_seconds_bucket';
/** The webhooks that review the story's pods. */
const webhookNames = ['lws.pods.berth.dev', 'singles.pods.berth.dev'];
const pollMs = 50;

/** A control plane of real programs; only kubelets are played, by KWOK. */
export async function realWorld(onProgress: (text: string) => void): Promise<World> {
  const cluster = await startCluster({ onProgress });
  return {
    kind: 'real',
    request: (method, path, body) => cluster.request(method, path, body),
    watchPods: onEvent => cluster.watch('/api/v1/pods', onEvent),
    createFleet: nodes => createFleet(cluster, { name: 'demo', nodes }),
    async createNamespace(name, labels) {
      await cluster.request('POST', '/api/v1/namespaces', { metadata: { name, labels } });
      // Pods are refused until kube-controller-manager has made it.
      const path = `/api/v1/namespaces/${name}/serviceaccounts/default`;
      while (!(await answers(cluster.request('GET', path)))) await delay(pollMs);
    },
    async startBerth() {
      const berth = await startBerthOn(cluster);
      await awaitAdmission(cluster, namespaces.berth);
      return berth;
    },
    admissionTimes: async () => timesOf(await cluster.request<string>('GET', '/metrics')),
    stop: keepLogs => cluster.stop({ keepLogs }),
  };
}

function answers(request: Promise<unknown>): Promise<boolean> {
  return request.then(
    () => true,
    () => false,
  );
}

/** From kube-apiserver's own histogram, so percentiles are as fine as its buckets. */
function timesOf(metrics: string): AdmissionTimes {
  const counts = new Map<number, number>();
  let failed = 0;
  for (const line of metrics.split('\n')) {
    if (!line.startsWith(durationMetric) || !webhookNames.some(name => line.includes(`name="${name}"`)))
      continue;
    const limit = /le="([^"]+)"/.exec(line)?.[1] ?? '';
    const count = Number(line.slice(line.lastIndexOf(' ')));
    const limitMs = limit === '+Inf' ? Number.POSITIVE_INFINITY : Number(limit) * 1000;
    counts.set(limitMs, (counts.get(limitMs) ?? 0) + count);
    if (limit === '+Inf' && line.includes('rejected="true"')) failed += count;
  }
  const buckets = [...counts].map(([limitMs, count]) => ({ limitMs, count }));
  buckets.sort((a, b) => a.limitMs - b.limitMs);
  const reviews = buckets.at(-1)?.count ?? 0;
  return {
    reviews,
    failed,
    p50Ms: rounded(quantile(buckets, 0.5 * reviews)),
    p99Ms: rounded(quantile(buckets, 0.99 * reviews)),
  };
}

/** Within its bucket a value is taken to be spread evenly, as Prometheus does. */
function quantile(buckets: readonly Bucket[], rank: number): number {
  const index = buckets.findIndex(({ count }) => count >= rank);
  const below = buckets[index - 1] ?? { limitMs: 0, count: 0 };
  const bucket = buckets[index];
  if (bucket === undefined || bucket.limitMs === Number.POSITIVE_INFINITY) return below.limitMs;
  const share = (rank - below.count) / Math.max(1, bucket.count - below.count);
  return below.limitMs + share * (bucket.limitMs - below.limitMs);
}
