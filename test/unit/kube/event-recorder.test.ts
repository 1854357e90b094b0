import t from 'tap';
import type { ApiClient, ApiRequest } from '../../../src/kube/api-client.ts';
import { ApiError, ApiUnreachable } from '../../../src/kube/api-errors.ts';
import {
  cutToBytes,
  type DropReason,
  type EventEntry,
  EventRecorder,
  type EventRecorderOptions,
} from '../../../src/kube/event-recorder.ts';
import { silentLog } from './fake-api-server.ts';
import { FakeClock, settle } from './fake-clock.ts';

interface StoredEvent {
  readonly metadata: { readonly name: string };
  readonly count: number;
  readonly message: string;
  readonly lastTimestamp: string;
}

/** Events of all namespaces by path; creates and merge patches as the API server does them. */
class EventServer implements ApiClient {
  readonly events = new Map<string, StoredEvent>();
  readonly requests: string[] = [];
  before: (request: ApiRequest) => void | Promise<void> = () => {};

  async request<T>(request: ApiRequest): Promise<T> {
    const { method, path, body } = request;
    this.requests.push(method);
    await this.before(request);
    const sent: StoredEvent = JSON.parse(JSON.stringify(body));
    const key = method === 'POST' ? `${path}/${sent.metadata.name}` : path;
    const stored = this.events.get(key);
    if (method === 'POST' && stored)
      throw new ApiError({ status: 409, reason: 'AlreadyExists', message: 'exists' });
    if (method === 'PATCH' && !stored)
      throw new ApiError({ status: 404, reason: 'NotFound', message: 'gone' });
    const result = { ...stored, ...sent };
    this.events.set(key, result);
    const answer: T = JSON.parse(JSON.stringify(result));
    return answer;
  }

  // biome-ignore lint/correctness/useYield: Events are never watched
  async *stream<T>(): AsyncGenerator<T, void, undefined> {
    throw new Error('Events are never watched');
  }

  get all(): StoredEvent[] {
    return [...this.events.values()];
  }
}

function setUp(
  options: Partial<EventRecorderOptions> = {},
  server = new EventServer(),
  clock = new FakeClock(),
) {
  const drops: DropReason[] = [];
  const recorder = new EventRecorder({
    client: server,
    component: 'berth',
    instance: 'berth-0',
    log: silentLog,
    clock,
    onDrop: reason => drops.push(reason),
    ...options,
  });
  return { server, clock, recorder, drops };
}

const involved = {
  apiVersion: 'v1',
  kind: 'Pod',
  namespace: 'ns',
  name: 'leader-0',
  uid: 'u1',
  resourceVersion: '7',
};
const entry: EventEntry = {
  involved,
  type: 'Warning',
  reason: 'GroupWaiting',
  message: 'needs 4 hosts, 3 are free',
};

t.test('writes a core/v1 Event beside its object', async t => {
  const { server, recorder } = setUp();
  recorder.record(entry);
  t.strictSame(server.requests, [], 'never in the stack of the caller');
  await settle();
  const [[path, event] = []] = [...server.events];
  t.match(path, /^\/api\/v1\/namespaces\/ns\/events\/leader-0\.[0-9a-f]{16}$/);
  t.match(event, {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { namespace: 'ns', name: /^leader-0\.[0-9a-f]{16}$/ },
    involvedObject: involved,
    type: 'Warning',
    reason: 'GroupWaiting',
    message: 'needs 4 hosts, 3 are free',
    source: { component: 'berth' },
    reportingComponent: 'berth',
    reportingInstance: 'berth-0',
    firstTimestamp: '2026-01-01T00:00:01Z',
    lastTimestamp: '2026-01-01T00:00:01Z',
    count: 1,
  });
});

t.test('events of cluster-scoped objects go to the namespace default', async t => {
  const { server, recorder } = setUp();
  recorder.record({ ...entry, involved: { apiVersion: 'v1', kind: 'Node', name: 'n1', uid: 'u' } });
  await settle();
  t.match([...server.events.keys()][0], /^\/api\/v1\/namespaces\/default\/events\/n1\./);
});

t.test('counts the same thing about the same object up, in this process and the next', async t => {
  const { server, clock, recorder } = setUp();
  recorder.record(entry);
  recorder.record(entry);
  await settle();
  t.match(server.all, [{ count: 2 }], 'what waits together is written together');
  await clock.advance(30_000);
  recorder.record(entry);
  await settle();
  t.match(server.all, [{ count: 3, lastTimestamp: '2026-01-01T00:00:31Z' }]);

  const next = setUp({ instance: 'berth-1' }, server, clock);
  next.recorder.record(entry);
  await settle();
  t.match(server.all, [{ count: 4 }]);
  next.recorder.record({ ...entry, involved: { ...involved, uid: 'u2' } });
  next.recorder.record({ ...entry, message: 'needs 4 hosts, 2 are free' });
  await settle();
  t.strictSame(
    server.all.map(({ count }) => count),
    [4, 1, 1],
  );

  server.events.clear();
  next.recorder.record(entry);
  await settle();
  t.match(server.all, [{ count: 1 }], 'begins anew when the API server has forgotten the Event');
});

t.test('lets 25 events of an object through at once, then one a minute', async t => {
  const { server, clock, recorder, drops } = setUp();
  for (let n = 0; n < 40; n += 1) recorder.record({ ...entry, message: `message ${n}` });
  recorder.record({ ...entry, involved: { ...involved, name: 'other', uid: 'u3' } });
  await settle();
  t.equal(server.events.size, 26);
  t.equal(drops.filter(reason => reason === 'rate-limited').length, 15);
  await clock.advance(60_000);
  recorder.record({ ...entry, message: 'later' });
  recorder.record({ ...entry, message: 'too soon' });
  await settle();
  t.equal(server.events.size, 27);
});

t.test('drops the oldest when too many wait', async t => {
  const { server, recorder, drops } = setUp({ queueLimit: 3 });
  let go = () => {};
  server.before = () => new Promise<void>(resolve => (go = resolve));
  recorder.record({ ...entry, message: 'in work' });
  await settle();
  for (const message of ['1', '2', '3', '4', '5']) recorder.record({ ...entry, message });
  t.strictSame(drops, ['queue-full', 'queue-full']);
  server.before = () => {};
  go();
  await settle();
  t.strictSame(
    server.all.map(({ message }) => message),
    ['in work', '3', '4', '5'],
  );
});

t.test(
  'tries three times while the server is away, and gives up at once where trying is of no use',
  async t => {
    const { server, clock, recorder, drops } = setUp();
    server.before = () => {
      throw new ApiUnreachable('cut off');
    };
    recorder.record(entry);
    await clock.advance(10_000);
    t.strictSame([server.requests.length, drops], [3, ['failed']]);
    server.before = () => {
      throw new ApiError({ status: 403, reason: 'Forbidden', message: 'no' });
    };
    recorder.record(entry);
    await clock.advance(10_000);
    t.strictSame([server.requests.length, drops], [4, ['failed', 'failed']]);
    server.before = () => {};
    recorder.record(entry);
    await settle();
    t.match(server.all, [{ count: 1 }]);
  },
);

t.test('flush waits for what was recorded, but not for ever, and stop leaves nothing running', async t => {
  const { server, clock, recorder } = setUp();
  await recorder.flush(1000);
  recorder.record(entry);
  await recorder.flush(1000);
  t.equal(server.events.size, 1);
  t.strictSame(clock.pendingMs, []);

  server.before = ({ signal }) =>
    new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
  recorder.record({ ...entry, message: 'stuck' });
  recorder.record({ ...entry, message: 'behind it' });
  const flushed = recorder.flush(1000);
  await clock.advance(1000);
  await flushed;
  await recorder.stop();
  t.equal(server.events.size, 1);
  t.strictSame(clock.pendingMs, []);
});

t.test('cuts a message at 1024 bytes without breaking a character', async t => {
  const { server, recorder } = setUp();
  recorder.record({ ...entry, message: `a${'ü'.repeat(600)}` });
  await settle();
  const [event] = server.all;
  t.equal(Buffer.byteLength(event?.message ?? ''), 1023);
  t.equal(event?.message, `a${'ü'.repeat(511)}`);
  for (const [text, limit, want] of [
    ['abc', 3, 'abc'],
    ['abcd', 3, 'abc'],
    ['a🚀b', 4, 'a'],
    ['a🚀b', 5, 'a🚀'],
    ['🚀', 3, ''],
  ] as const) {
    t.equal(cutToBytes(text, limit), want);
  }
});

t.test('keeps the name of an Event within what a name may be', async t => {
  const { server, recorder } = setUp();
  const name = `${'x'.repeat(235)}.${'y'.repeat(17)}`;
  recorder.record({ ...entry, involved: { ...involved, name } });
  await settle();
  t.match(server.all[0]?.metadata.name, /^x{235}\.[0-9a-f]{16}$/);
});
