import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { awaitAdmission, schedulerConfigFor, webhookConfiguration, webhookUrlOf } from './bed/berth.ts';
import { startBerthProcess } from './bed/berth-process.ts';
import { freePorts } from './bed/ports.ts';
import { failureSettings, namespaces } from './demo-scenario.ts';
import { type AdmissionTimes, rounded, type World } from './demo-world.ts';
import type { Review } from './simulator/admission.ts';
import { startSimulator } from './simulator/simulator.ts';

const seed = 20_261;

/** A cluster inside this process; only Berth is real, and runs as a process of its own. */
export async function simulatedWorld(): Promise<World> {
  const directory = await mkdtemp(join(tmpdir(), 'berth-demo-'));
  const simulator = await startSimulator({ directory, seed });
  const create = (path: string, body: object) => simulator.request('POST', path, body);
  const createNamespace = async (name: string, labels: Readonly<Record<string, string>>) => {
    await create('/api/v1/namespaces', { metadata: { name, labels } });
  };
  return {
    kind: 'simulated',
    request: simulator.request,
    watchPods: onEvent => simulator.watch('pods', onEvent),
    async createFleet(nodes) {
      const conditions = [{ type: 'Ready', status: 'True' }];
      for (const node of nodes) {
        await create('/api/v1/nodes', { ...node, status: { ...node.status, conditions } });
      }
    },
    createNamespace,
    async startBerth() {
      const [webhookPort = 0, extenderPort = 0, adminPort = 0] = await freePorts(3);
      await createNamespace('berth-system', {});
      const configuration = await webhookConfiguration(webhookUrlOf(webhookPort));
      await create('/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations', configuration);
      const { kubeconfigPath } = simulator;
      const ports = { webhookPort, extenderPort, adminPort };
      const config = { failure: failureSettings };
      const berth = await startBerthProcess({ kubeconfigPath, directory, ...ports, config });
      await awaitAdmission(simulator, namespaces.berth);
      return berth;
    },
    async startExtender(berth) {
      const { request } = simulator;
      await simulator.restartScheduler(
        await schedulerConfigFor({ request, directory }, 'pin-extender', berth),
      );
    },
    async admissionTimes() {
      return timesOf(
        simulator.reviews.filter(
          ({ pod }) => pod.startsWith(`${namespaces.berth}/`) && !pod.endsWith('/trial'),
        ),
      );
    },
    async stop(keepLogs) {
      await simulator.stop();
      if (keepLogs) process.stderr.write(`berth: the log of Berth is kept in ${directory}\n`);
      else await rm(directory, { recursive: true, force: true });
    },
  };
}

function timesOf(reviews: readonly Review[]): AdmissionTimes {
  const sorted = reviews.map(({ durationMs }) => durationMs).sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.ceil(share * sorted.length) - 1] ?? 0;
  const failed = reviews.filter(({ outcome }) => outcome === 'failed').length;
  return { reviews: reviews.length, failed, p50Ms: rounded(at(0.5)), p99Ms: rounded(at(0.99)) };
}
