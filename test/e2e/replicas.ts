import type { Test } from 'tap';
import { awaitAdmission, installBerth, trialNamespace, webhookUrlOf } from '../../hack/bed/berth.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { freePorts } from '../../hack/bed/ports.ts';
import { until } from './bed.ts';
import { type MortalBerth, type MortalBerthOptions, startMortalBerth } from './mortal-berth.ts';
import { startBalancer } from './tcp-balancer.ts';

const leasePath = '/apis/coordination.k8s.io/v1/namespaces/berth-system/leases/berth';

/** Two replicas behind one address; they end with the test. */
export async function startReplicas(
  t: Test,
  cluster: Cluster,
  options: Omit<MortalBerthOptions, 'name' | 'install'>,
): Promise<readonly MortalBerth[]> {
  const [port = 0] = await freePorts(1);
  const balancer = await startBalancer(port);
  t.teardown(() => balancer.stop());
  await installBerth(cluster, { webhookUrl: webhookUrlOf(port) });
  const replicas = await Promise.all(
    ['berth-a', 'berth-b'].map(name => startMortalBerth(t, cluster, { ...options, name, install: false })),
  );
  balancer.setBackends(
    replicas.map(replica => ({
      port: replica.process.webhookPort,
      isReady: signal => fetch(`${replica.process.adminUrl}/readyz`, { signal }).then(({ ok }) => ok),
    })),
  );
  await awaitAdmission(cluster, trialNamespace);
  return replicas;
}

/** The replica that holds the Lease; waits until one does. */
export async function holderOf(cluster: Cluster, replicas: readonly MortalBerth[]): Promise<MortalBerth> {
  let found: MortalBerth | undefined;
  await until('a replica to hold the Lease', 30_000, async () => {
    const pid = await holderPid(cluster);
    found = replicas.find(replica => replica.process.pid === pid);
    return found !== undefined;
  });
  if (found === undefined) throw new Error('no replica holds the Lease');
  return found;
}

/** Process of whoever holds the Lease, by identities of the form `<host>_<process id>_<random>`. */
export async function holderPid(cluster: Cluster): Promise<number> {
  const { spec } = await cluster.request<{ spec: { holderIdentity?: string } }>('GET', leasePath);
  return Number(spec.holderIdentity?.split('_').at(-2));
}
