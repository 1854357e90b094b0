import { ApiFailure } from '../../hack/bed/api-client.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import type { Pod, PodDisruptionBudget } from '../../src/api/kubernetes.ts';
import { until } from './bed.ts';

const ownerLabel = 'leaderworkerset.sigs.k8s.io/name';
const rankLabel = 'leaderworkerset.sigs.k8s.io/worker-index';

/** `minAvailable` or `maxUnavailable`. */
export type BudgetLimit = Readonly<Record<string, unknown>>;

/** A budget with the name of its LeaderWorkerSet; returns when kube-controller-manager has counted. */
export async function createBudget(
  cluster: Cluster,
  namespace: string,
  owner: string,
  over: 'leader' | 'workers' | 'group',
  limit: BudgetLimit,
): Promise<void> {
  const rank = { key: rankLabel, operator: over === 'leader' ? 'In' : 'NotIn', values: ['0'] };
  const selector = {
    matchLabels: { [ownerLabel]: owner },
    ...(over !== 'group' && { matchExpressions: [rank] }),
  };
  await cluster.request('POST', budgetPath(namespace), {
    apiVersion: 'policy/v1',
    kind: 'PodDisruptionBudget',
    metadata: { namespace, name: owner },
    spec: { selector, ...limit },
  });
  await counted(cluster, namespace, owner);
}

/** Replaces the limit; returns when kube-controller-manager has counted again. */
export async function setBudget(
  cluster: Cluster,
  namespace: string,
  name: string,
  limit: BudgetLimit,
): Promise<PodDisruptionBudget> {
  const none = { minAvailable: null, maxUnavailable: null };
  await cluster.request('PATCH', budgetPath(namespace, name), { spec: { ...none, ...limit } });
  return counted(cluster, namespace, name);
}

export function readBudget(
  cluster: Cluster,
  namespace: string,
  name: string,
): Promise<PodDisruptionBudget & { readonly status?: { readonly disruptedPods?: object } }> {
  return cluster.request('GET', budgetPath(namespace, name));
}

/** What the Eviction API answers, to anybody who asks: the HTTP status. */
export async function evictionAnswer(
  cluster: Cluster,
  { namespace = '', name = '', uid = '' }: Pod['metadata'],
  { dryRun }: { readonly dryRun: boolean },
): Promise<number> {
  const deleteOptions = { preconditions: { uid }, ...(dryRun && { dryRun: ['All'] }) };
  const body = { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { namespace, name }, deleteOptions };
  try {
    await cluster.request('POST', `/api/v1/namespaces/${namespace}/pods/${name}/eviction`, body);
    return 201;
  } catch (error) {
    if (error instanceof ApiFailure) return error.status;
    throw error;
  }
}

/** The pod is not Ready any more, and KWOK does not set it right. */
export async function keepUnready(cluster: Cluster, { metadata }: Pod): Promise<void> {
  const path = `/api/v1/namespaces/${metadata.namespace}/pods/${metadata.name}`;
  await cluster.request('PATCH', path, { metadata: { annotations: { 'bed.berth.test/not-ready': 'true' } } });
  const now = new Date().toISOString();
  const conditions = [{ type: 'Ready', status: 'False', lastTransitionTime: now }];
  await cluster.request(
    'PATCH',
    `${path}/status`,
    { status: { conditions } },
    'application/strategic-merge-patch+json',
  );
}

async function counted(cluster: Cluster, namespace: string, name: string): Promise<PodDisruptionBudget> {
  let budget = await readBudget(cluster, namespace, name);
  await until(`PodDisruptionBudget ${name} to be counted`, 20_000, async () => {
    budget = await readBudget(cluster, namespace, name);
    return budget.status?.observedGeneration === budget.metadata.generation;
  });
  return budget;
}

function budgetPath(namespace: string, name?: string): string {
  const path = `/apis/policy/v1/namespaces/${namespace}/poddisruptionbudgets`;
  return name === undefined ? path : `${path}/${name}`;
}
