import { randomUUID } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { KubernetesObject } from '../../src/api/kubernetes.ts';
import { Admission, type Review } from './admission.ts';
import { answer, startApiServer } from './api-server.ts';
import { startGarbageCollector } from './garbage-collector.ts';
import { startKubelets } from './kubelet.ts';
import { startLwsController } from './lws-controller.ts';
import { ObjectStore, parseObject } from './object-store.ts';
import { ResourceApi } from './resource-api.ts';
import { startScheduler } from './scheduler.ts';
import { readExtenders } from './scheduler-extender.ts';

/** Cluster and simulator answer the same requests, so a story can be told on either. */
export interface Simulator {
  readonly kubeconfigPath: string;
  /** Every AdmissionReview there was. */
  readonly reviews: readonly Review[];
  /**
   * A request as admin; PATCH is a merge patch unless said otherwise.
   *
   * @throws Refusal
   */
  request<T>(method: string, path: string, body?: unknown, contentType?: string): Promise<T>;
  /** Tells what is in a collection as ADDED, then what changes. Returns the end of it. */
  watch(resource: string, onEvent: (type: string, object: KubernetesObject) => void): () => void;
  /** Restarts the scheduler with the extenders of a KubeSchedulerConfiguration. */
  restartScheduler(configYaml: string): Promise<void>;
  stop(): Promise<void>;
}

export interface SimulatorOptions {
  /** The kubeconfig is written here. */
  readonly directory: string;
  /** For the scheduler's choice among equals: the same seed gives the same run. */
  readonly seed: number;
}

/**
 * Starts a cluster that exists only in this process: an API server on a port of 127.0.0.1, with controllers just large
 * enough to bring groups of pods onto nodes. It shows Berth to people; what is true of Kubernetes, hack/bed shows.
 */
export async function startSimulator({ directory, seed }: SimulatorOptions): Promise<Simulator> {
  const store = new ObjectStore();
  const admission = new Admission(store);
  const api = new ResourceApi(store, admission);
  const token = randomUUID();
  const server = await startApiServer(api, token);
  const random = randomFrom(seed);
  let stopScheduler = startScheduler(api, { extenders: [], random });
  const controllers = [startLwsController(api), startKubelets(api), startGarbageCollector(api)];
  await mkdir(directory, { recursive: true });
  const kubeconfigPath = join(directory, 'kubeconfig.yaml');
  await writeFile(kubeconfigPath, kubeconfigOf(server.url, server.caPem, token), { mode: 0o600 });
  return {
    kubeconfigPath,
    reviews: admission.reviews,
    async request<T>(method: string, path: string, body?: unknown, contentType?: string): Promise<T> {
      const type = contentType ?? 'application/merge-patch+json';
      const object = await answer(api, { method, path, contentType: type, body });
      const copy: T = JSON.parse(JSON.stringify(object));
      return copy;
    },
    watch(resource, onEvent) {
      for (const object of store.list(resource)) onEvent('ADDED', object);
      return store.subscribe(change => {
        if (change.resource === resource) onEvent(change.type, parseObject(change.text));
      });
    },
    async restartScheduler(configYaml) {
      const extenders = await readExtenders(configYaml);
      stopScheduler();
      stopScheduler = startScheduler(api, { extenders, random });
    },
    async stop() {
      stopScheduler();
      for (const stopController of controllers) stopController();
      admission.close();
      await server.close();
    },
  };
}

function kubeconfigOf(server: string, caPem: string, token: string): string {
  const ca = Buffer.from(caPem).toString('base64');
  return stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'simulated', cluster: { server, 'certificate-authority-data': ca } }],
    users: [{ name: 'simulated', user: { token } }],
    contexts: [{ name: 'simulated', context: { cluster: 'simulated', user: 'simulated' } }],
    'current-context': 'simulated',
  });
}

/** Numbers from 0 to 1, the same for the same seed (Park and Miller's generator). */
function randomFrom(seed: number): () => number {
  const modulus = 2 ** 31 - 1;
  let state = seed;
  return () => {
    state = (state * 48_271) % modulus;
    return state / modulus;
  };
}
