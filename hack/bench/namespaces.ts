import { berth } from '../../src/api/names.ts';
import { awaitAdmission } from '../bed/berth.ts';
import type { Cluster } from '../bed/cluster.ts';
import { until } from './waiting.ts';

/** What runs on the cluster while something is measured: nothing of Berth, or Berth in one of its modes. */
export type Arm = 'stock' | 'pin' | 'pin-extender' | 'extender';
/** Arms that leave kube-scheduler as it is. */
export type WebhookArm = Extract<Arm, 'stock' | 'pin'>;

const labelsOf: Readonly<Record<Arm, Readonly<Record<string, string>>>> = {
  stock: {},
  pin: { [berth.mode]: 'pin', [berth.singles]: 'pin' },
  'pin-extender': { [berth.mode]: 'pin-extender' },
  extender: { [berth.mode]: 'extender' },
};
const gatingArms: readonly Arm[] = ['pin', 'pin-extender'];
const timeoutMs = 60_000;
let made = 0;

/**
 * A fresh namespace; where Berth, which must run, gates pods, it reviews every pod there already. In mode `extender` it
 * learns of the namespace a moment later, before it learns of anything that is created there.
 */
export async function makeNamespace(cluster: Cluster, arm: Arm): Promise<string> {
  const name = `bench-${process.pid}-${++made}`;
  const metadata = { name, labels: labelsOf[arm] };
  await cluster.request('POST', '/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata });
  // Without it pods are refused.
  const account = `/api/v1/namespaces/${name}/serviceaccounts/default`;
  await until(`the default service account of ${name}`, timeoutMs, () => exists(cluster, account));
  if (gatingArms.includes(arm)) await awaitAdmission(cluster, name);
  return name;
}

/** Ends everything in a namespace at once, without waiting for garbage collection, and waits until no pod is left. */
export async function clearNamespace(cluster: Cluster, namespace: string): Promise<void> {
  const inGroup = (group: string, resource: string) => `/apis/${group}/namespaces/${namespace}/${resource}`;
  // Owners first, or they would make their pods anew.
  await cluster.request('DELETE', inGroup('leaderworkerset.x-k8s.io/v1', 'leaderworkersets'));
  await cluster.request('DELETE', inGroup('apps/v1', 'statefulsets'));
  const pods = `/api/v1/namespaces/${namespace}/pods`;
  await until(`the pods of ${namespace} to be gone`, timeoutMs, async () => {
    await cluster.request('DELETE', `${pods}?gracePeriodSeconds=0`);
    const { items } = await cluster.request<{ items: unknown[] }>('GET', `${pods}?limit=1`);
    return items.length === 0;
  });
}

function exists(cluster: Cluster, path: string): Promise<boolean> {
  return cluster.request('GET', path).then(
    () => true,
    () => false,
  );
}
