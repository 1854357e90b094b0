import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { installBerth, serviceAccount, startBerthOn, webhookUrlOf } from '../../hack/bed/berth.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { racks } from '../../hack/bed/fleet-presets.ts';
import { freePorts } from '../../hack/bed/ports.ts';
import {
  createLws,
  genericTopology,
  listEvents,
  makeNamespace,
  openBed,
  until,
  waitForReady,
  withFleet,
} from './bed.ts';
import {
  describeCall,
  fastFailure,
  forgetFailures,
  listIntents,
  reportDevice,
  watchDestruction,
} from './failures.ts';
import { type Balancer, startBalancer } from './tcp-balancer.ts';

t.setTimeout(300_000);

const outageSeconds = 5;
const afterOutageSeconds = 20;
const lease = { durationSeconds: 3, renewDeadlineSeconds: 2, retryPeriodSeconds: 0.5 };

t.test('after the API server was out of reach nothing is evicted for a while', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, { name: 'small', nodes: racks({ racks: 2, hostsPerRack: 4, gpus: 8 }) });
  t.teardown(() => forgetFailures(cluster));
  const [webhookPort = 0, port = 0] = await freePorts(2);
  await installBerth(cluster, { webhookUrl: webhookUrlOf(webhookPort) });
  const wire = await startWire(t, cluster, port);
  const berth = await startBerthOn(cluster, {
    config: {
      topology: genericTopology,
      lease,
      // The calls that fail meanwhile must not be what holds.
      failure: { ...fastFailure, outageSeconds, afterOutageSeconds, apiMinCalls: 100_000 },
    },
    install: false,
    webhookPort,
    kubeconfigPath: wire.kubeconfigPath,
  });
  t.teardown(() => berth.stop());
  const namespace = await makeNamespace(t, cluster);
  await createLws(cluster, namespace, { name: 'llama', size: 2 });
  const [, victim] = await waitForReady(cluster, namespace, 2);
  if (victim === undefined) throw new Error('llama-0 has no rank 1');

  const calls = await watchDestruction(cluster);
  await wire.cut();
  await delay((outageSeconds + 3) * 1_000);
  await reportDevice(cluster, victim, 'Unhealthy');
  await wire.mend();
  const backMs = Date.now();
  await until('Berth to say why it waits', 15_000, async () =>
    (await listEvents(cluster, namespace)).some(
      ({ reason, message }) =>
        reason === 'EvictionHeld' &&
        message.endsWith('not evicted: the API server could not be reached for long until just now'),
    ),
  );
  t.match(await berth.metrics(), /^berth_brake_active\{brake="after-outage"\} 1$/m);
  await delay(Math.max(0, backMs + (afterOutageSeconds - 4) * 1_000 - Date.now()));
  t.strictSame((await calls.byBerth()).map(describeCall), [], 'nothing is evicted');
  t.strictSame(await listIntents(cluster), [], 'nor is there an intent');

  await until('the eviction', 60_000, async () => (await calls.byBerth()).length > 0);
  const [done, ...rest] = await calls.byBerth();
  t.strictSame([done?.name, done?.code, rest.length], ['llama-0', 201, 0], 'then it is evicted, once');
  const afterMs = (done?.at.getTime() ?? 0) - backMs;
  t.comment(`evicted ${afterMs} ms after the API server was back`);
  t.ok(afterMs >= afterOutageSeconds * 1_000 - 1_000, 'not before its time');
});

/** The way from Berth to the API server. */
interface Wire {
  readonly kubeconfigPath: string;
  /** Ends all connections and takes no new ones. */
  cut(): Promise<void>;
  mend(): Promise<void>;
}

async function startWire(t: Test, cluster: Cluster, port: number): Promise<Wire> {
  const apiPort = Number(new URL(cluster.server).port);
  const open = async () => {
    const balancer = await startBalancer(port);
    balancer.setBackends([{ port: apiPort, isReady: async () => true }]);
    return balancer;
  };
  let wire: Balancer | undefined = await open();
  const cut = async () => {
    await wire?.stop();
    wire = undefined;
  };
  t.teardown(cut);
  const { namespace, name } = serviceAccount;
  const direct = await readFile(await cluster.serviceAccountKubeconfig(namespace, name), 'utf8');
  const kubeconfigPath = join(cluster.directory, 'kubeconfig', `by-wire-${port}.yaml`);
  const { origin } = new URL(cluster.server);
  await writeFile(kubeconfigPath, direct.replace(origin, `https://127.0.0.1:${port}`), { mode: 0o600 });
  return {
    kubeconfigPath,
    cut,
    mend: async () => {
      wire = await open();
    },
  };
}
