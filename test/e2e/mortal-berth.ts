import type { Test } from 'tap';
import { type BerthProcess, serviceAccount, startBerthOn } from '../../hack/bed/berth.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { genericTopology } from './bed.ts';

/** A replica that is killed and started again at the same address, as a container of a Deployment. */
export interface MortalBerth {
  readonly process: BerthProcess;
  /** kill -9; resolves when it is gone. */
  kill(): Promise<void>;
  /** Resolves when the next one is ready. */
  start(): Promise<void>;
}

export interface MortalBerthOptions {
  readonly name?: string;
  /** Whether the first start installs Berth too. Default true. */
  readonly install?: boolean;
  /** Default: that of Berth's service account, without a proxy. */
  readonly kubeconfigPath?: string;
  readonly lease: Readonly<Record<string, number>>;
  readonly placement?: Readonly<Record<string, unknown>>;
  readonly failure?: Readonly<Record<string, unknown>>;
}

/** The first one is ready when this resolves; the last one ends with the test. */
export async function startMortalBerth(
  t: Test,
  cluster: Cluster,
  options: MortalBerthOptions,
): Promise<MortalBerth> {
  const { name = 'berth', install = true, lease, placement = {}, failure = {} } = options;
  const config = { topology: genericTopology, lease, placement, failure };
  const { kubeconfigPath: proxied } = options;
  const first = { config, name, install, ...(proxied !== undefined && { kubeconfigPath: proxied }) };
  let current = await startBerthOn(cluster, first);
  const { webhookPort } = current;
  t.teardown(() => current.stop());
  const kubeconfigPath =
    proxied ?? (await cluster.serviceAccountKubeconfig(serviceAccount.namespace, serviceAccount.name));
  return {
    get process() {
      return current;
    },
    async kill() {
      // Nothing else may keep this process alive while it waits.
      const awake = setInterval(() => {}, 1_000);
      current.kill('SIGKILL');
      await current.ended.finally(() => clearInterval(awake));
    },
    async start() {
      current = await startBerthOn(cluster, { config, name, install: false, webhookPort, kubeconfigPath });
    },
  };
}
