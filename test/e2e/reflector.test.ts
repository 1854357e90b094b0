import t from 'tap';
import type { Cluster } from '../../hack/bed/cluster.ts';
import type { KubernetesObject } from '../../src/api/kubernetes.ts';
import { type ApiClient, HttpApiClient } from '../../src/kube/api-client.ts';
import { loadConnection } from '../../src/kube/kube-config.ts';
import { type ListCause, Reflector } from '../../src/kube/reflector.ts';
import { createLogger } from '../../src/telemetry/logger.ts';
import { makeNamespace, openBed, until } from './bed.ts';

t.setTimeout(300_000);

const count = 200;
const pageSize = 10;

t.test('the reflector against a real API server', async t => {
  const cluster = await openBed(t);
  const namespace = await makeNamespace(t, cluster, {});
  const path = `/api/v1/namespaces/${namespace}/configmaps`;
  await inParallel(count, index => cluster.request('POST', path, configMap(`c-${index}`)));

  const log = createLogger({ level: 'silent' });
  const connection = await loadConnection({ kind: 'file', path: cluster.kubeconfigPath });
  const client = new WatchedClient(new HttpApiClient({ connection, log }));
  const causes: ListCause[] = [];
  const sink = new VersionSink();
  const reflector = new Reflector<KubernetesObject, KubernetesObject>({
    client,
    path,
    resource: 'configmaps',
    decode: raw => raw,
    sink,
    log,
    pageSize,
    backoff: { baseMs: 100, maxMs: 1_000 },
    onList: cause => causes.push(cause),
  });
  const stopping = new AbortController();
  const running = reflector.start(stopping.signal);
  t.teardown(async () => {
    stopping.abort();
    await running;
  });
  const agrees = (what: string) =>
    until(`the sink to agree with a fresh list after ${what}`, 30_000, async () =>
      sameEntries(sink.versions, await freshList(cluster, path)),
    );

  await t.test('a paged list brings all objects', async t => {
    await reflector.waitForSync(AbortSignal.timeout(20_000));
    await agrees('the list');
    // kube-controller-manager puts one of its own into each namespace.
    t.equal(reflector.size, count + 1, 'each once');
    t.equal(client.pages, Math.ceil((count + 1) / pageSize), `in pages of ${pageSize}`);
  });

  await t.test('a watch brings what is made, changed and deleted, without a second list', async t => {
    await churn(cluster, path, 'w');
    await agrees('changes');
    t.strictSame(causes, ['start'], 'one list was enough');
    t.strictSame(sink.backwards, [], 'no object ever went back in time');
  });

  await t.test('the API server restarts, and meanwhile nothing changes', async t => {
    await restart(cluster);
    await agrees('a restart');
    await churn(cluster, path, 'r');
    await agrees('changes after a restart');
    t.ok(reflector.synced, 'it counts as synced all along');
    t.strictSame(sink.backwards, [], 'no object ever went back in time');
  });

  await t.test('a watch that lags behind a restart is told 410, and a list mends it', async t => {
    // The restarted API server knows no event from before its start.
    await client.holdWatches();
    await churn(cluster, path, 'm');
    t.notOk(
      sameEntries(sink.versions, await freshList(cluster, path)),
      'control: it has not heard of the changes',
    );
    await restart(cluster);
    client.releaseWatches();
    await agrees('the lag');
    t.ok(causes.includes('expired'), `lists were made because of: ${causes.join(', ')}`);
    const lists = causes.length;
    await churn(cluster, path, 'x');
    await agrees('changes after the 410');
    t.equal(causes.length, lists, 'after that it watches again');
    t.strictSame(sink.backwards, [], 'no object ever went back in time');
  });
});

/** Keeps the resourceVersion of each object, and notes when one is older than what was there. */
class VersionSink {
  versions = new Map<string, string>();
  readonly backwards: string[] = [];

  upsert(object: KubernetesObject): void {
    this.#take(this.versions, object);
  }

  remove(object: KubernetesObject): void {
    this.versions.delete(object.metadata.name ?? '');
  }

  replace(objects: readonly KubernetesObject[]): void {
    const versions = new Map<string, string>();
    for (const object of objects) this.#take(versions, object);
    this.versions = versions;
  }

  #take(versions: Map<string, string>, { metadata }: KubernetesObject): void {
    const { name = '', resourceVersion = '' } = metadata;
    const known = this.versions.get(name);
    if (known !== undefined && Number(known) > Number(resourceVersion)) this.backwards.push(name);
    versions.set(name, resourceVersion);
  }
}

/** Counts pages of lists, and can cut watches and keep new ones from starting. */
class WatchedClient implements ApiClient {
  readonly #inner: ApiClient;
  #cut = new AbortController();
  #held: Promise<void> = Promise.resolve();
  #release: () => void = () => {};
  #waiting = 0;
  pages = 0;

  constructor(inner: ApiClient) {
    this.#inner = inner;
  }

  request: ApiClient['request'] = request => {
    this.pages++;
    return this.#inner.request(request);
  };

  async *stream<T>(request: Parameters<ApiClient['stream']>[0]): AsyncIterable<T> {
    this.#waiting++;
    await this.#held;
    this.#waiting--;
    const signal = AbortSignal.any([this.#cut.signal, ...(request.signal ? [request.signal] : [])]);
    yield* this.#inner.stream<T>({ ...request, signal });
  }

  /** Cuts the watch and resolves when the next one waits to start. */
  async holdWatches(): Promise<void> {
    this.#held = new Promise(resolve => {
      this.#release = resolve;
    });
    this.#cut.abort();
    this.#cut = new AbortController();
    await until('the watch to be held', 10_000, () => this.#waiting > 0);
  }

  releaseWatches(): void {
    this.#release();
  }
}

async function restart(cluster: Cluster): Promise<void> {
  await cluster.stopComponent('kube-apiserver');
  await cluster.startComponent('kube-apiserver');
}

/** Changes some objects, deletes some, and makes some. */
async function churn(cluster: Cluster, path: string, round: string): Promise<void> {
  await inParallel(60, async index => {
    if (index < 20) await cluster.request('POST', path, configMap(`${round}-${index}`));
    else if (index < 40) await cluster.request('PATCH', `${path}/c-${index}`, { data: { round } });
    else if (round === 'w') await cluster.request('DELETE', `${path}/c-${index}`);
    else await cluster.request('PATCH', `${path}/c-${index + 40}`, { data: { round } });
  });
  if (round !== 'w') await cluster.request('DELETE', `${path}/${round}-0`);
}

async function freshList(cluster: Cluster, path: string): Promise<Map<string, string>> {
  const { items } = await cluster.request<{ items: KubernetesObject[] }>('GET', path);
  return new Map(items.map(({ metadata }) => [metadata.name ?? '', metadata.resourceVersion ?? '']));
}

function sameEntries(a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): boolean {
  return a.size === b.size && [...a].every(([key, value]) => b.get(key) === value);
}

function configMap(name: string) {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data: { round: '' } };
}

async function inParallel(times: number, work: (index: number) => Promise<unknown>): Promise<void> {
  const indices = Array.from({ length: times }, (_, index) => index).values();
  const lane = async () => {
    for (const index of indices) await work(index);
  };
  await Promise.all(Array.from({ length: 16 }, lane));
}
