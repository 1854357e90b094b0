import t, { type Test } from 'tap';
import type { ApiClient, ApiRequest, StreamRequest } from '../../../src/kube/api-client.ts';
import { ApiError, ApiUnreachable } from '../../../src/kube/api-errors.ts';
import { type ListCause, Reflector, type ReflectorOptions } from '../../../src/kube/reflector.ts';
import {
  clientOf,
  FakeApiServer,
  type FakeObject,
  line,
  respond,
  silentLog,
  status,
  until,
} from './fake-api-server.ts';
import { FakeClock, settle } from './fake-clock.ts';

interface Seen {
  readonly name: string;
  readonly text: string;
  readonly kind: string;
}

/** Keeps what a cache would hold, and complains about what no cache could make sense of. */
class RecordingSink {
  readonly objects = new Map<string, Seen>();
  replaces = 0;

  get truth(): Record<string, string> {
    return Object.fromEntries([...this.objects.values()].map(({ name, text }) => [name, text]).sort());
  }

  upsert(object: Seen): void {
    this.objects.set(object.name, object);
  }

  remove(object: Seen): void {
    if (!this.objects.delete(object.name)) throw new Error(`${object.name} was never there`);
  }

  replace(objects: readonly Seen[]): void {
    this.replaces += 1;
    this.objects.clear();
    for (const object of objects) this.objects.set(object.name, object);
  }
}

function decode({ metadata, spec, kind, apiVersion }: FakeObject): Seen | undefined {
  if (spec.text === 'unwanted') return undefined;
  if (spec.text === 'poison') throw new Error('cannot be read');
  return { name: metadata.name, text: spec.text, kind: `${apiVersion}/${kind}` };
}

const fast = {
  backoff: { baseMs: 4, maxMs: 40 },
  expiredJitterMs: 5,
  absentRetryMs: 20,
  shortWatchMs: 5,
  inactivityTimeoutMs: 5000,
};

/** A reflector of a fresh server, both ended with the test. */
async function setUp(
  t: Test,
  options: Partial<ReflectorOptions<Seen, FakeObject>> = {},
  path = '/api/v1/pods',
) {
  const server = new FakeApiServer(path);
  const client = clientOf(await server.start());
  const sink = new RecordingSink();
  const causes: ListCause[] = [];
  const reflector = new Reflector<Seen, FakeObject>({
    client,
    path,
    resource: 'pods',
    decode,
    sink,
    log: silentLog,
    onList: cause => causes.push(cause),
    ...fast,
    ...options,
  });
  const stop = new AbortController();
  let running = Promise.resolve();
  t.teardown(async () => {
    stop.abort();
    await running;
    client.close();
    await server.stop();
  });
  return {
    server,
    client,
    sink,
    causes,
    reflector,
    stop,
    start() {
      running = reflector.start(stop.signal);
      return running;
    },
    async isWatching() {
      await until(() => server.openWatches === 1, 'an open watch');
    },
    /** The sink comes to hold what the server holds. */
    async agrees(t: Test) {
      const same = () => JSON.stringify(sink.truth) === JSON.stringify(server.truth);
      await until(same, 'the sink to hold the truth').catch(() => {});
      t.strictSame(sink.truth, server.truth, 'the sink holds the truth of the server');
    },
  };
}

t.test('lists page by page and follows the watch', async t => {
  const bed = await setUp(t, { pageSize: 2 });
  for (const name of ['a', 'b', 'c', 'd', 'e']) bed.server.put(name, `first ${name}`);
  t.equal(bed.reflector.synced, false);
  t.equal(bed.reflector.stalenessMs(0), Number.POSITIVE_INFINITY);
  bed.start();
  await bed.reflector.waitForSync();
  t.equal(bed.reflector.synced, true);
  t.equal(bed.reflector.size, 5);
  await bed.agrees(t);
  t.equal(bed.sink.replaces, 1, 'one replace for all pages');
  t.equal(bed.server.seen.filter(({ verb }) => verb === 'list').length, 3, 'three pages');
  t.equal(bed.server.seen[0]?.query.has('resourceVersion'), false, 'a quorum list');

  await bed.isWatching();
  const watch = bed.server.seen.at(-1)?.query;
  t.equal(watch?.get('allowWatchBookmarks'), 'true');
  t.equal(watch?.get('resourceVersion'), '105');
  bed.server.put('b', 'second b');
  bed.server.put('f', 'new');
  bed.server.delete('a');
  await bed.agrees(t);
  t.strictSame(
    new Set([...bed.sink.objects.values()].map(({ kind }) => kind)),
    new Set(['v1/Pod']),
    'one shape',
  );
});

t.test('takes an object from the sink when decode comes to leave it out', async t => {
  let decodeErrors = 0;
  const bed = await setUp(t, { onDecodeError: () => (decodeErrors += 1) });
  bed.server.put('a', 'wanted');
  bed.server.put('b', 'unwanted');
  bed.server.put('c', 'poison');
  bed.start();
  await bed.reflector.waitForSync();
  t.strictSame(bed.sink.truth, { a: 'wanted' });
  await bed.isWatching();
  bed.server.put('a', 'unwanted');
  await until(() => bed.sink.objects.size === 0, 'a to leave');
  bed.server.put('a', 'wanted again');
  bed.server.put('d', 'wanted');
  bed.server.put('d', 'poison');
  bed.server.delete('b');
  bed.server.put('e', 'last');
  await until(() => bed.sink.objects.has('e'), 'e to come');
  t.strictSame(bed.sink.truth, { a: 'wanted again', e: 'last' });
  t.equal(decodeErrors, 2);
});

t.test('joins characters and objects that were cut between chunks', async t => {
  const bed = await setUp(t);
  bed.start();
  await bed.isWatching();
  const object = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'multi', namespace: 'ns', uid: 'u', resourceVersion: '900' },
    spec: { text: 'räck 機架 🚀' },
  };
  const bytes = Buffer.from(line({ type: 'ADDED', object }) + line({ type: 'MODIFIED', object }));
  for (const byte of bytes) {
    bed.server.writeToWatches(Buffer.of(byte));
    if (byte > 0x7f) await new Promise(resolve => setTimeout(resolve, 1));
  }
  await until(() => bed.sink.objects.size === 1, 'the object');
  t.strictSame(bed.sink.truth, { multi: 'räck 機架 🚀' });
});

t.test('goes on from the last version after a clean end, without a list', async t => {
  const bed = await setUp(t);
  bed.server.put('a');
  bed.start();
  await bed.isWatching();
  bed.server.bookmark();
  await until(() => bed.reflector.stalenessMs(performance.now()) < 1000);
  await new Promise(resolve => setTimeout(resolve, 10));
  bed.server.endWatches();
  bed.server.put('b', 'while nobody watched');
  await bed.agrees(t);
  t.equal(bed.sink.replaces, 1);
  t.equal(bed.server.seen.at(-1)?.query.get('resourceVersion'), '102', 'the version of the bookmark');
});

t.test('survives an API server that answers reconnects with 500, 503, 403 and HTML', async t => {
  const bed = await setUp(t);
  bed.server.put('a');
  bed.start();
  await bed.isWatching();
  bed.server.watchFaults.push(
    (_, response) => respond(response, 500, status(500, 'InternalError')),
    (_, response) => respond(response, 503, '<html>no backend</html>'),
    (_, response) => respond(response, 403, status(403, 'Forbidden')),
    (_, response) => respond(response, 500, ''),
  );
  bed.server.resetWatches();
  bed.server.put('b');
  bed.server.delete('a');
  await bed.agrees(t);
  t.equal(bed.sink.replaces, 1, 'an outage costs no list');
});

t.test('survives a connection that is reset in the middle of an event', async t => {
  const bed = await setUp(t);
  bed.start();
  await bed.isWatching();
  bed.server.writeToWatches('{"type":"ADDED","object":{"metadata":{"name":"half","names');
  await new Promise(resolve => setTimeout(resolve, 10));
  bed.server.resetWatches();
  bed.server.put('b', 'whole');
  await bed.agrees(t);
  t.equal(bed.sink.replaces, 1);
});

t.test('survives a stream that ends cleanly in the middle of a line', async t => {
  const bed = await setUp(t);
  bed.start();
  await bed.isWatching();
  bed.server.writeToWatches('{"type":"ADDED","object":{"metadata":');
  bed.server.endWatches();
  bed.server.put('b', 'whole');
  await bed.agrees(t);
});

t.test('lists anew after 410 as an HTTP status', async t => {
  const bed = await setUp(t);
  bed.server.put('a');
  bed.server.put('b');
  bed.start();
  await bed.isWatching();
  bed.server.put('c');
  await bed.agrees(t);
  bed.server.watchFaults.push((_, response) => respond(response, 410, status(410, 'Gone')));
  bed.server.resetWatches();
  bed.server.delete('a');
  bed.server.compact();
  await bed.agrees(t);
  t.strictSame(bed.causes, ['start', 'expired']);
});

t.test('lists anew after 410 as an ERROR event', async t => {
  const bed = await setUp(t);
  bed.server.put('a');
  bed.start();
  await bed.isWatching();
  bed.server.put('b');
  await bed.agrees(t);
  bed.server.endWatches();
  bed.server.delete('a');
  bed.server.compact();
  bed.server.put('c');
  await bed.agrees(t);
  t.strictSame(bed.causes, ['start', 'expired']);
});

t.test('begins the list anew when a continue token expires', async t => {
  const bed = await setUp(t, { pageSize: 2 });
  for (const name of ['a', 'b', 'c', 'd', 'e']) bed.server.put(name);
  bed.server.listFaults.push(
    (_, response, url) => bed.server.serveList(response, url),
    (_, response, url) => {
      bed.server.delete('a');
      bed.server.put('f');
      bed.server.expireContinueTokens();
      bed.server.serveList(response, url);
    },
  );
  bed.start();
  await bed.reflector.waitForSync();
  t.equal(bed.sink.replaces, 1, 'nothing of the broken list reached the sink');
  await bed.agrees(t);
});

t.test('leaves a half-open watch that has fallen silent', async t => {
  const bed = await setUp(t, { inactivityTimeoutMs: 80 });
  bed.server.put('a');
  // Accepted, headers sent, then nothing: what a dead peer behind a load balancer looks like.
  bed.server.watchFaults.push((_, response) => {
    response.writeHead(200);
    response.flushHeaders();
  });
  bed.start();
  await bed.reflector.waitForSync();
  await until(() => bed.server.seen.some(({ verb }) => verb === 'watch'), 'the half-open watch');
  bed.server.put('b', 'missed by the dead watch');
  await bed.agrees(t);
  t.equal(bed.sink.replaces, 1);
});

t.test('waits for a slow list and lets go of one that never ends', async t => {
  const bed = await setUp(t, { listTimeoutMs: 150 });
  bed.server.put('a');
  bed.server.listFaults.push(
    () => {},
    (_, response, url) => setTimeout(() => bed.server.serveList(response, url), 60),
  );
  bed.start();
  await bed.reflector.waitForSync();
  await bed.agrees(t);
  t.equal(bed.server.seen.filter(({ verb }) => verb === 'list').length, 2);
});

t.test('lists anew when the watch keeps sending what cannot be read', async t => {
  const bed = await setUp(t);
  bed.server.put('a');
  const garbage = (bytes: string) => (_request: unknown, response: import('node:http').ServerResponse) => {
    response.writeHead(200);
    response.end(bytes);
  };
  bed.server.watchFaults.push(
    garbage('{"type":"ADDED","obj\n'),
    garbage('{"type":"ADDED","object":{"metadata":{}}}\n'),
    garbage(line({ type: 'ERROR', object: status(500, 'InternalError') })),
  );
  bed.start();
  await bed.isWatching();
  bed.server.put('b');
  await bed.agrees(t);
  t.strictSame(bed.causes, ['start', 'stuck']);
});

t.test('does not take an empty answer of a proxy for an empty cluster', async t => {
  const bed = await setUp(t);
  bed.server.put('a');
  bed.server.listFaults.push(
    (_, response) => respond(response, 200, {}),
    (_, response) => respond(response, 200, 'ok'),
    (_, response) => respond(response, 404, 'not found'),
  );
  bed.start();
  await bed.reflector.waitForSync();
  t.strictSame(bed.sink.truth, { a: '' });
});

t.test('takes a resource that is not installed for an empty one and finds it when it comes', async t => {
  const path = '/apis/leaderworkerset.x-k8s.io/v1/leaderworkersets';
  const bed = await setUp(t, {}, path);
  const missing = (_request: unknown, response: import('node:http').ServerResponse) =>
    respond(response, 404, '404 page not found\n');
  bed.server.listFaults.push(missing, missing, missing);
  bed.start();
  await bed.reflector.waitForSync();
  t.strictSame(bed.sink.truth, {});
  t.equal(bed.sink.replaces, 1);
  bed.server.put('lws');
  await bed.agrees(t);

  bed.server.listFaults.push(missing);
  bed.server.watchFaults.push(missing);
  await bed.isWatching();
  bed.server.resetWatches();
  await until(() => bed.server.listFaults.length === 0, 'the single 404');
  await bed.isWatching();
  t.strictSame(bed.sink.truth, { lws: '' }, 'one 404 does not empty what was full');

  bed.server.listFaults.push(missing, missing, missing, missing);
  bed.server.watchFaults.push(missing);
  bed.server.resetWatches();
  await until(() => bed.sink.objects.size === 0, 'the objects to be given up');
  bed.server.put('again');
  await bed.agrees(t);
});

t.test('relist brings what was written before it, even if the watch is deaf', async t => {
  const bed = await setUp(t);
  bed.server.put('a');
  bed.server.watchFaults.push((_, response) => {
    response.writeHead(200);
    response.flushHeaders();
  });
  bed.start();
  await bed.reflector.waitForSync();
  await until(() => bed.server.seen.some(({ verb }) => verb === 'watch'), 'the deaf watch');
  bed.server.put('b');
  bed.server.listFaults.push((_, response) => respond(response, 500, status(500, 'InternalError')));
  await Promise.all([bed.reflector.relist(), bed.reflector.relist()]);
  t.strictSame(bed.sink.truth, { a: '', b: '' });
  t.equal(bed.sink.replaces, 2, 'both callers share one list');
  t.strictSame(bed.causes, ['start', 'requested']);
});

t.test('relist during a list makes another one', async t => {
  const bed = await setUp(t);
  bed.server.put('a');
  let relisted: Promise<void> | undefined;
  bed.server.listFaults.push((_, response, url) => {
    relisted = bed.reflector.relist();
    bed.server.serveList(response, url);
    bed.server.put('b', 'after the first list was read');
  });
  bed.start();
  await bed.reflector.waitForSync();
  await relisted;
  t.strictSame(bed.sink.truth, bed.server.truth);
  t.equal(bed.sink.replaces, 2);
});

t.test('lists anew after the sink threw', async t => {
  const bed = await setUp(t);
  const { upsert } = RecordingSink.prototype;
  let throws = 1;
  bed.sink.upsert = object => {
    throws -= 1;
    if (throws >= 0) throw new Error('full');
    upsert.call(bed.sink, object);
  };
  bed.start();
  await bed.isWatching();
  bed.server.put('a');
  await bed.agrees(t);
  t.strictSame(bed.causes, ['start', 'sink']);
});

t.test('ends at its signal, whatever it is doing, and refuses those who wait', async t => {
  for (const phase of ['list', 'watch', 'backoff'] as const) {
    const bed = await setUp(t, { backoff: { baseMs: 60_000, maxMs: 60_000 } });
    if (phase === 'list') bed.server.listFaults.push(() => {});
    if (phase === 'backoff') bed.server.listFaults.push((_, response) => respond(response, 500, ''));
    const running = bed.start();
    await until(() => bed.server.seen.length > (phase === 'watch' ? 1 : 0), phase);
    await new Promise(resolve => setTimeout(resolve, 20));
    const waiting = phase === 'watch' ? undefined : bed.reflector.waitForSync();
    const refused = waiting && t.rejects(waiting, { code: 'ReflectorStopped' });
    bed.stop.abort();
    await running;
    await refused;
    await t.rejects(bed.reflector.relist(), { code: 'ReflectorStopped' });
    t.pass(`ended during ${phase}`);
  }
});

t.test('waitForSync gives up at its own signal', async t => {
  const bed = await setUp(t);
  const patience = new AbortController();
  const waiting = bed.reflector.waitForSync(patience.signal);
  patience.abort(new Error('enough'));
  await t.rejects(waiting, { message: 'enough' });
  await t.rejects(bed.reflector.waitForSync(patience.signal), { message: 'enough' });
});

/** A client that answers from scripts, for what only depends on time. */
class ScriptedClient implements ApiClient {
  readonly requests: { readonly verb: 'list' | 'watch'; readonly atMs: number }[] = [];
  readonly #clock: FakeClock;
  list: (request: ApiRequest) => unknown = () => ({
    kind: 'PodList',
    metadata: { resourceVersion: '1' },
    items: [],
  });
  watch: (request: StreamRequest) => AsyncIterable<unknown> | Iterable<unknown> = () => [];

  constructor(clock: FakeClock) {
    this.#clock = clock;
  }

  async request<T>(request: ApiRequest): Promise<T> {
    this.requests.push({ verb: 'list', atMs: this.#clock.nowMs() });
    const answer: T = JSON.parse(JSON.stringify(this.list(request)));
    return answer;
  }

  async *stream<T>(request: StreamRequest): AsyncGenerator<T, void, undefined> {
    this.requests.push({ verb: 'watch', atMs: this.#clock.nowMs() });
    request.onOpen?.();
    for await (const event of this.watch(request)) {
      const copy: T = JSON.parse(JSON.stringify(event));
      yield copy;
    }
  }

  /** Milliseconds between one request of this verb and the next. */
  gaps(verb: 'list' | 'watch'): number[] {
    const times = this.requests.filter(request => request.verb === verb).map(({ atMs }) => atMs);
    return times.slice(1).map((time, index) => Math.round(time - (times[index] ?? 0)));
  }
}

function setUpScripted(t: Test, options: Partial<ReflectorOptions<Seen, FakeObject>> = {}) {
  const clock = new FakeClock();
  const client = new ScriptedClient(clock);
  const sink = new RecordingSink();
  const reflector = new Reflector<Seen, FakeObject>({
    client,
    path: '/api/v1/pods',
    resource: 'pods',
    decode,
    sink,
    log: silentLog,
    clock,
    random: () => 0,
    ...options,
  });
  const stop = new AbortController();
  t.teardown(() => stop.abort());
  // Not yet: the test first writes its script.
  void Promise.resolve().then(() => reflector.start(stop.signal));
  return { clock, client, sink, reflector, stop };
}

const bookmark = (version: number) => ({
  type: 'BOOKMARK',
  object: { metadata: { resourceVersion: String(version) } },
});

t.test(
  'waits 1 s, doubling to 30 s, while the API server is away, and starts from 1 s after it was back',
  async t => {
    const { clock, client } = setUpScripted(t);
    client.list = () => {
      throw new ApiUnreachable('refused');
    };
    await clock.advance(120_000);
    t.strictSame(client.gaps('list'), [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);

    const good = new ScriptedClient(clock);
    client.list = good.list;
    client.watch = () => {
      throw new ApiUnreachable('refused');
    };
    client.requests.length = 0;
    await clock.advance(40_000);
    t.strictSame(client.gaps('watch').slice(0, 3), [1000, 2000, 4000]);
  },
);

t.test('takes up to half off a wait at random', async t => {
  const { clock, client } = setUpScripted(t, { random: () => 1 });
  client.list = () => {
    throw new ApiUnreachable('refused');
  };
  await clock.advance(8_000);
  t.strictSame(client.gaps('list'), [500, 1000, 2000, 4000]);
});

t.test('waits as long as Retry-After asks, but no longer than a minute', async t => {
  const { clock, client } = setUpScripted(t);
  const asked = [7_000, 3_600_000];
  client.list = () => {
    throw new ApiError({
      status: 429,
      reason: 'TooManyRequests',
      message: 'slow down',
      retryAfterMs: asked.shift(),
    });
  };
  await clock.advance(70_000);
  t.strictSame(client.gaps('list').slice(0, 2), [7000, 60_000]);
});

t.test('does not run hot when every watch is closed at once', async t => {
  const { clock, client } = setUpScripted(t);
  await clock.advance(100_000);
  t.strictSame(client.gaps('watch').slice(0, 5), [1000, 2000, 4000, 8000, 16_000]);
  t.equal(client.requests.filter(({ verb }) => verb === 'list').length, 1);
});

t.test('does not run hot when every list is followed by 410', async t => {
  const { clock, client } = setUpScripted(t);
  client.watch = () => [{ type: 'ERROR', object: status(410, 'Expired') }];
  await clock.advance(100_000);
  t.strictSame(client.gaps('list').slice(0, 5), [1000, 2000, 4000, 8000, 16_000]);
});

t.test('reconnects at once after a watch that ran its time, and lists once in six hours', async t => {
  const { clock, client, reflector } = setUpScripted(t);
  let version = 1;
  client.watch = async function* ({ query }) {
    t.equal(query?.['timeoutSeconds'], 300);
    version += 1;
    yield bookmark(version);
    await new Promise<void>(resolve => clock.setTimer(300_000, resolve));
  };
  await clock.advance(3_000_000);
  t.ok(client.gaps('watch').every(gap => gap === 300_000));
  t.equal(client.requests.filter(({ verb }) => verb === 'list').length, 1);
  t.ok(reflector.stalenessMs(clock.nowMs()) <= 300_000);
  await clock.advance(21_600_000);
  t.equal(client.requests.filter(({ verb }) => verb === 'list').length, 2);
});

t.test('a quiet watch that is cut now and then is opened again after a second, however often', async t => {
  const { clock, client } = setUpScripted(t);
  const cutAfter = (ms: number) =>
    async function* () {
      yield* [];
      await new Promise<void>(resolve => clock.setTimer(ms, resolve));
      throw new ApiUnreachable('cut');
    };
  client.watch = cutAfter(20_000);
  await clock.advance(130_000);
  t.strictSame(
    client.gaps('watch'),
    Array.from({ length: 6 }, () => 21_000),
  );

  client.watch = cutAfter(2_000);
  client.requests.length = 0;
  await clock.advance(130_000);
  const gaps = client.gaps('watch');
  t.ok(
    gaps.every((gap, at) => at === 0 || gap > (gaps[at - 1] ?? 0) || gap === 32_000),
    'control: waits grow',
  );
});

t.test('staleness counts from the start of a list and from every event', async t => {
  const { clock, client, reflector } = setUpScripted(t);
  const forever = new Promise<never>(() => {});
  client.watch = async function* () {
    await new Promise<void>(resolve => clock.setTimer(5000, resolve));
    yield bookmark(2);
    await forever;
  };
  const startedMs = clock.nowMs();
  await settle();
  t.equal(reflector.lastContactMs, startedMs);
  await clock.advance(4000);
  t.equal(reflector.stalenessMs(clock.nowMs()), 4000);
  await clock.advance(1000);
  t.equal(reflector.stalenessMs(clock.nowMs()), 0);
  await clock.advance(2000);
  t.equal(reflector.stalenessMs(clock.nowMs()), 2000);
});

t.test('opens a watch that fell silent anew at once, which is contact and no failure', async t => {
  const { clock, client, reflector } = setUpScripted(t);
  client.watch = async function* ({ inactivityTimeoutMs }) {
    yield* [];
    await new Promise<void>(resolve => clock.setTimer(inactivityTimeoutMs, resolve));
    throw new ApiUnreachable('silent', { detail: 'silence' });
  };
  await clock.advance(600_000);
  t.ok(client.gaps('watch').every(gap => gap === 75_000));
  t.equal(client.gaps('watch').length, 8);
  t.equal(client.requests.filter(({ verb }) => verb === 'list').length, 1);
  t.ok(reflector.stalenessMs(clock.nowMs()) <= 75_000);
});

t.test('looks for a resource that is not installed every 30 s', async t => {
  const { clock, client, reflector, sink } = setUpScripted(t, { path: '/apis/x/v1/things' });
  client.list = () => {
    throw new ApiError({ status: 404, message: 'not found' });
  };
  await settle();
  t.equal(reflector.synced, true);
  await clock.advance(95_000);
  t.strictSame(client.gaps('list'), [30_000, 30_000, 30_000]);
  t.equal(sink.replaces, 1);
  t.ok(reflector.stalenessMs(clock.nowMs()) <= 30_000);
  const before = client.requests.length;
  await reflector.relist();
  t.equal(client.requests.length, before + 1, 'relist does not wait for the 30 s');
});
