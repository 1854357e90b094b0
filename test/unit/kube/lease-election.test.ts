import t, { type Test } from 'tap';
import { ApiError, ApiUnreachable } from '../../../src/kube/api-errors.ts';
import { LeaseElection, type LeaseElectionOptions } from '../../../src/kube/lease-election.ts';
import { microTime } from '../../../src/kube/lease-store.ts';
import { silentLog } from './fake-api-server.ts';
import { FakeClock, settle } from './fake-clock.ts';
import { LeaseClient, LeaseServer } from './fake-lease-client.ts';

function elector(
  t: Test,
  server: LeaseServer,
  clock: FakeClock,
  identity: string,
  options: Partial<LeaseElectionOptions> = {},
) {
  const client = new LeaseClient(server);
  const history: string[] = [];
  const election = new LeaseElection({
    client,
    namespace: 'berth-system',
    name: 'berth',
    identity,
    clock,
    random: () => 0.5,
    log: silentLog,
    onAcquired: () => void history.push('acquired'),
    onLost: reason => void history.push(reason),
    ...options,
  });
  const stop = new AbortController();
  t.teardown(() => stop.abort());
  let running = Promise.resolve();
  return {
    client,
    history,
    election,
    isHolder: () => election.isHolder(clock.nowMs()),
    start() {
      running = election.start(stop.signal);
      return settle();
    },
    async stop() {
      stop.abort();
      await running;
    },
  };
}

const unreachable = () => {
  throw new ApiUnreachable('cut off');
};

t.test('creates the Lease, and holds it by renewing every 2 s', async t => {
  const [server, clock] = [new LeaseServer(), new FakeClock()];
  const a = elector(t, server, clock, 'a');
  await a.start();
  t.equal(a.isHolder(), true);
  const acquired = microTime(clock.wallMs());
  t.match(acquired, /\.\d{6}Z$/);
  t.strictSame(server.lease, {
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: { namespace: 'berth-system', name: 'berth', resourceVersion: '1' },
    spec: {
      holderIdentity: 'a',
      leaseDurationSeconds: 15,
      acquireTime: acquired,
      renewTime: acquired,
      leaseTransitions: 0,
    },
  });
  await clock.advance(60_000);
  t.equal(a.isHolder(), true);
  t.strictSame(a.client.requests.slice(0, 4), ['GET', 'POST', 'PUT', 'PUT']);
  t.equal(a.client.requests.length, 32, 'one request per renewal');
  t.equal(server.lease?.spec?.acquireTime, acquired);
  t.not(server.lease?.spec?.renewTime, acquired);
  t.strictSame(a.history, ['acquired']);
});

t.test('of two that begin at once exactly one holds', async t => {
  const [server, clock] = [new LeaseServer(), new FakeClock()];
  const [a, b] = [elector(t, server, clock, 'a'), elector(t, server, clock, 'b')];
  await Promise.all([a.start(), b.start()]);
  for (let second = 0; second < 60; second += 1) {
    t.equal(Number(a.isHolder()) + Number(b.isHolder()), 1);
    await clock.advance(1000);
  }
  t.equal(a.history.length + b.history.length, 1);
  t.equal(b.election.holder, server.lease?.spec?.holderIdentity);
});

t.test(
  'takes over 15 s after it last saw the record change, and the first has stopped long before',
  async t => {
    const [server, clock] = [new LeaseServer(), new FakeClock()];
    const [a, b] = [elector(t, server, clock, 'a'), elector(t, server, clock, 'b')];
    await a.start();
    await b.start();
    await clock.advance(20_000);
    a.client.before = unreachable;
    const cutMs = clock.nowMs();
    let lostMs = 0;
    let takenMs = 0;
    while (takenMs === 0 && clock.nowMs() < cutMs + 60_000) {
      await clock.advance(100);
      t.notOk(a.isHolder() && b.isHolder());
      if (!a.isHolder() && lostMs === 0) lostMs = clock.nowMs() - cutMs;
      if (b.isHolder()) takenMs = clock.nowMs() - cutMs;
    }
    t.ok(lostMs > 7000 && lostMs <= 10_000, `lost after ${lostMs} ms`);
    t.ok(takenMs >= 15_000 && takenMs <= 21_000, `taken after ${takenMs} ms`);
    t.equal(server.lease?.spec?.leaseTransitions, 1);
    t.strictSame([a.history, b.history], [['acquired', 'deadline'], ['acquired']]);

    a.client.before = () => {};
    await clock.advance(60_000);
    t.strictSame([a.isHolder(), b.isHolder()], [false, true], 'the first comes back and waits');
  },
);

t.test('does not believe the times in the record', async t => {
  const [server, clock] = [new LeaseServer(), new FakeClock()];
  server.lease = {
    metadata: { name: 'berth', resourceVersion: '0' },
    spec: {
      holderIdentity: 'ghost',
      leaseDurationSeconds: 15,
      renewTime: '2099-01-01T00:00:00.000000Z',
      leaseTransitions: 7,
    },
  };
  const a = elector(t, server, clock, 'a');
  await a.start();
  await clock.advance(14_000);
  t.equal(a.isHolder(), false);
  t.equal(a.election.holder, 'ghost');
  await clock.advance(6_000);
  t.equal(a.isHolder(), true);
  t.equal(server.lease?.spec?.leaseTransitions, 8);
});

t.test('a stopped process knows that it lost before any timer has told it', async t => {
  const [server, clock] = [new LeaseServer(), new FakeClock()];
  const [a, b] = [elector(t, server, clock, 'a'), elector(t, server, clock, 'b')];
  await a.start();
  await b.start();
  await clock.advance(5000);
  t.equal(a.isHolder(), true);
  clock.freeze(9999);
  t.equal(a.isHolder(), false);
  t.strictSame(a.history, ['acquired'], 'no timer has fired yet');
  await clock.advance(0);
  t.strictSame(a.history.slice(0, 2), ['acquired', 'deadline']);
});

t.test('counts from the start of a renewal, so a slow answer does not prolong it', async t => {
  const [server, clock] = [new LeaseServer(), new FakeClock()];
  const a = elector(t, server, clock, 'a');
  await a.start();
  await clock.advance(2000);
  a.client.after = () => new Promise(resolve => clock.setTimer(4000, resolve));
  await clock.advance(2000);
  a.client.before = unreachable;
  await clock.advance(9_500);
  t.equal(a.isHolder(), true, 'renewed at 4 s, answered at 8 s, now 13.5 s');
  await clock.advance(500);
  t.equal(a.isHolder(), false);
});

t.test('an answer later than the deadline is no success', async t => {
  const [server, clock] = [new LeaseServer(), new FakeClock()];
  const a = elector(t, server, clock, 'a');
  a.client.after = ({ method }) =>
    method === 'POST' ? new Promise(resolve => clock.setTimer(11_000, resolve)) : undefined;
  await a.start();
  await clock.advance(11_000);
  t.strictSame(a.history, []);
  t.equal(a.isHolder(), false);
  await clock.advance(3000);
  t.equal(a.isHolder(), true, 'the record is ours, so the next renewal makes it true');
});

t.test('a lost answer does not cost the Lease', async t => {
  const [server, clock] = [new LeaseServer(), new FakeClock()];
  const a = elector(t, server, clock, 'a');
  await a.start();
  let losses = 1;
  a.client.after = ({ method }) => {
    if (method === 'PUT' && losses > 0) {
      losses -= 1;
      unreachable();
    }
  };
  await clock.advance(30_000);
  t.strictSame(a.history, ['acquired']);
  t.equal(a.isHolder(), true);
});

t.test('is lost at once when somebody else has taken it, and when it is deleted it is made anew', async t => {
  const [server, clock] = [new LeaseServer(), new FakeClock()];
  const a = elector(t, server, clock, 'a');
  await a.start();
  const before = server.lease;
  if (before)
    server.lease = {
      ...before,
      metadata: { ...before.metadata, resourceVersion: 'x' },
      spec: { ...before.spec, holderIdentity: 'thief' },
    };
  await clock.advance(2000);
  t.strictSame(a.history, ['acquired', 'taken']);
  t.equal(a.isHolder(), false);
  server.lease = undefined;
  await clock.advance(5000);
  t.strictSame(a.history, ['acquired', 'taken', 'acquired']);
});

t.test('goes on trying whatever the API server says', async t => {
  const [server, clock] = [new LeaseServer(), new FakeClock()];
  const a = elector(t, server, clock, 'a');
  a.client.before = () => {
    throw new ApiError({ status: 403, reason: 'Forbidden', message: 'no' });
  };
  await a.start();
  await clock.advance(600_000);
  t.ok(a.client.requests.length > 100);
  a.client.before = () => {};
  await clock.advance(5000);
  t.equal(a.isHolder(), true);
});

t.test('releases at the end, so that another takes over within a retry period', async t => {
  const [server, clock] = [new LeaseServer(), new FakeClock()];
  let finish = () => {};
  const a = elector(t, server, clock, 'a', {
    onLost: () => new Promise<void>(resolve => (finish = resolve)),
  });
  const b = elector(t, server, clock, 'b');
  await a.start();
  await b.start();
  const stopped = a.stop();
  await settle();
  t.equal(a.isHolder(), false);
  t.equal(server.lease?.spec?.holderIdentity, 'a', 'not released before the guarded work has ended');
  finish();
  await stopped;
  t.match(server.lease?.spec, { leaseDurationSeconds: 1, leaseTransitions: 0 });
  t.notOk(server.lease?.spec?.holderIdentity);
  await clock.advance(4400);
  t.equal(b.isHolder(), true);
  t.equal(server.lease?.spec?.leaseTransitions, 1);
});

t.test('releases what it wrote just when it was stopped, and nothing of others', async t => {
  const [server, clock] = [new LeaseServer(), new FakeClock()];
  const a = elector(t, server, clock, 'a');
  a.client.after = ({ method, signal }) => (method === 'POST' && signal ? new Promise(() => {}) : undefined);
  await a.start();
  t.equal(server.lease?.spec?.holderIdentity, 'a');
  await a.stop();
  t.notOk(server.lease?.spec?.holderIdentity);
  t.strictSame(a.history, [], 'it never became holder');

  const b = elector(t, server, clock, 'b');
  const c = elector(t, server, clock, 'c');
  await b.start();
  await c.start();
  await c.stop();
  t.equal(server.lease?.spec?.holderIdentity, 'b');
});

t.test(
  'waits for the guarded work no longer than others wait, and ends though the server is away',
  async t => {
    const [server, clock] = [new LeaseServer(), new FakeClock()];
    const a = elector(t, server, clock, 'a', { onLost: () => new Promise<void>(() => {}) });
    await a.start();
    const stopped = a.stop();
    a.client.before = unreachable;
    await clock.advance(15_000);
    await stopped;
    t.strictSame(clock.pendingMs, [], 'no timer is left');
  },
);

t.test('a callback that throws does no harm, and senseless periods are refused', async t => {
  const [server, clock] = [new LeaseServer(), new FakeClock()];
  const a = elector(t, server, clock, 'a', {
    onAcquired() {
      throw new Error('oops');
    },
  });
  await a.start();
  await clock.advance(10_000);
  t.equal(a.isHolder(), true);
  t.throws(() => elector(t, server, clock, 'x', { leaseDurationMs: 10_000, renewDeadlineMs: 10_000 }), {
    name: 'RangeError',
  });
  t.throws(() => elector(t, server, clock, 'x', { renewDeadlineMs: 2000 }), { name: 'RangeError' });
});
