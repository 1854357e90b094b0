import { setTimeout as delay } from 'node:timers/promises';
import { awaitAdmission, schedulerConfigFor, startBerthOn } from './bed/berth.ts';
import { startCluster } from './bed/cluster.ts';
import { createFleet } from './bed/fleets.ts';
import { bucketsOf, quantileMs } from './demo-histogram.ts';
import { failureSettings, namespaces } from './demo-scenario.ts';
import { type AdmissionTimes, rounded, type World } from './demo-world.ts';

const durationMetric = 'apiserver_admission_webhook_admission_duration_seconds';
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
      const berth = await startBerthOn(cluster, { config: { failure: failureSettings } });
      await awaitAdmission(cluster, namespaces.berth);
      return berth;
    },
    async startExtender(berth) {
      await cluster.restartScheduler(await schedulerConfigFor(cluster, 'pin-extender', berth));
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
  const isOurs = (labels: string) => webhookNames.some(name => labels.includes(`name="${name}"`));
  const buckets = bucketsOf(metrics, durationMetric, isOurs);
  const rejected = bucketsOf(
    metrics,
    durationMetric,
    labels => isOurs(labels) && labels.includes('rejected="true"'),
  );
  return {
    reviews: buckets.at(-1)?.count ?? 0,
    failed: rejected.at(-1)?.count ?? 0,
    p50Ms: rounded(quantileMs(buckets, 0.5)),
    p99Ms: rounded(quantileMs(buckets, 0.99)),
  };
}
