import Fastify from 'fastify';
import t from 'tap';
import { berth } from '../../../src/api/names.ts';
import type { ClusterCache } from '../../../src/cache/cluster-cache.ts';
import {
  type ExtenderOutcome,
  type ExtenderVerb,
  extenderBodyLimitBytes,
  extenderRoutes,
} from '../../../src/extender/plugin.ts';
import { sentences } from '../../../src/extender/verdict.ts';
import { formatPlanAnnotation } from '../../../src/group/plan-annotation.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { decode } from '../../builders/planning.ts';
import { gpuName, podOf } from '../../builders/pods.ts';
import { addOwner, planned, planOf, worldIn } from './world.ts';

const group = new LwsGroup({ size: 2, worker: { gpu: 8 } });
const leader = group.leader({ gated: false, annotations: planned(group.leaderUid(), ['a', 'b']) });
const single = podOf({ name: 's', gpu: 4 });
const names = ['d', 'c', 'b', 'a'];

function plannedWorld(): ClusterCache {
  const cache = worldIn('extender', [leader, podOf({ name: 'x', gpu: 1, node: 'd' })]);
  addOwner(cache, group);
  return cache;
}

async function serve(cache = plannedWorld(), { synced = true, observeOnly = false, level = 'info' } = {}) {
  let nowMs = 1_000;
  const observed: [ExtenderVerb, ExtenderOutcome][] = [];
  const seconds: number[] = [];
  const logged: string[] = [];
  const server = Fastify({ logger: { level, stream: { write: line => void logged.push(line) } } });
  await server.register(extenderRoutes, {
    prefix: '/extender',
    cache,
    synced: () => synced,
    nowMs: () => nowMs,
    observeOnly,
    observe: (verb, outcome, duration) => {
      observed.push([verb, outcome]);
      seconds.push(duration);
    },
  });
  const post = (path: string, payload: string | object) =>
    server.inject({
      method: 'POST',
      url: `/extender${path}`,
      headers: { 'content-type': 'application/json' },
      payload,
    });
  const messages = () =>
    logged.map(line => JSON.parse(line)).filter(({ msg }) => /refused|answered/.test(msg));
  const wait = (ms: number) => {
    nowMs += ms;
  };
  return { server, wait, post, observed, seconds, messages, logged };
}

const nodeArgs = (pod: object, NodeNames: unknown = names) => ({ Pod: pod, Nodes: null, NodeNames });

t.test('filter answers each kind of pod', async t => {
  const { post, observed, seconds } = await serve();
  const stranger = podOf({ name: 's', namespace: 'others', gpu: 8 });
  const waiting = new LwsGroup({ size: 2, worker: { gpu: 8 }, name: 'late' }).leader({ gated: false });
  const answers: unknown[] = [];
  for (const pod of [podOf({ name: 'c', cpu: 1 }), leader, waiting, stranger]) {
    const response = await post('/filter', nodeArgs(pod));
    t.equal(response.statusCode, 200);
    t.match(response.headers['content-type'], /^application\/json/);
    t.equal(Number(response.headers['content-length']), response.rawPayload.length);
    const { NodeNames, FailedAndUnresolvableNodes, ...rest } = response.json();
    t.same(rest, { Nodes: null, FailedNodes: null, Error: '' });
    answers.push([NodeNames, FailedAndUnresolvableNodes]);
  }
  const refused = (why: string, nodes: readonly string[]) =>
    Object.fromEntries(nodes.map(node => [node, why]));
  t.same(answers, [
    [names, {}],
    [['a'], refused(sentences.only, ['d', 'c', 'b'])],
    [[], refused(sentences.unplanned, names)],
    [['d', 'c'], refused(sentences.except, ['b', 'a'])],
  ]);
  t.same(observed, [
    ['filter', 'anywhere'],
    ['filter', 'only'],
    ['filter', 'none'],
    ['filter', 'except'],
  ]);
  t.ok(seconds.every(duration => duration >= 0 && duration < 60));
});

t.test('prioritize answers singles with scores and all others with none', async t => {
  const { post, observed } = await serve();
  const scored = await post('/prioritize', nodeArgs(single));
  t.equal(
    scored.body,
    '[{"Host":"d","Score":10},{"Host":"c","Score":5},{"Host":"b","Score":10},{"Host":"a","Score":10}]',
  );
  t.equal((await post('/prioritize', nodeArgs(leader))).body, '[]');
  t.same(observed, [
    ['prioritize', 'scored'],
    ['prioritize', 'unscored'],
  ]);
});

t.test('preempt answers with the candidates that are left', async t => {
  const { post, observed } = await serve();
  const victims = { Pods: [{ UID: 'uid-serving-x' }], NumPDBViolations: 2 };
  const ask = (byNode: object) =>
    post('/preempt', { Pod: single, NodeNameToVictims: null, NodeNameToMetaVictims: byNode });
  t.same((await ask({ d: victims })).json(), { NodeNameToMetaVictims: { d: victims } });
  t.same((await ask({ d: victims, a: victims })).json(), { NodeNameToMetaVictims: { d: victims } });
  t.same((await ask({})).json(), { NodeNameToMetaVictims: {} });
  t.same(
    observed.map(([, outcome]) => outcome),
    ['kept', 'dropped', 'kept'],
  );
});

t.test('nothing is decided before the cluster has been read', async t => {
  const { post, observed } = await serve(plannedWorld(), { synced: false });
  const filter = await post('/filter', nodeArgs(podOf({ name: 'c', cpu: 1 })));
  t.equal(filter.statusCode, 200);
  t.equal(filter.body, '{"Error":"berth: the cluster has not been read completely yet"}');
  t.equal((await post('/prioritize', nodeArgs(single))).statusCode, 500);
  const victims = { d: { Pods: [{ UID: 'u' }], NumPDBViolations: 0 } };
  const preempt = await post('/preempt', { Pod: single, NodeNameToMetaVictims: victims });
  t.equal(preempt.statusCode, 200);
  t.equal(preempt.body, '{"NodeNameToMetaVictims":{}}');
  t.same(observed, [
    ['filter', 'unsynced'],
    ['prioritize', 'unsynced'],
    ['preempt', 'unsynced'],
  ]);
});

t.test('a burst of strangers is not let onto the same free devices of a partly held node', async t => {
  const half = new LwsGroup({ size: 2, worker: { gpu: 6 } });
  const plan = planOf(half.leaderUid(), ['a', 'b']);
  const six = new Map(Object.entries({ [gpuName]: 6, pods: 1 }));
  const annotations = { [berth.plan]: formatPlanAnnotation({ ...plan, requests: [six, six] }) };
  const cache = worldIn('extender', [half.leader({ gated: false, annotations })]);
  addOwner(cache, half);
  const { post, wait } = await serve(cache);
  const stranger = (name: string) => podOf({ name, namespace: 'others', gpu: 2 });
  const allowed = async (name: string) =>
    (await post('/filter', nodeArgs(stranger(name)))).json().NodeNames.sort();
  t.same(await allowed('one'), ['a', 'b', 'c', 'd'], 'two of eight are free on a and on b');
  t.same(await allowed('two'), ['c', 'd'], 'they are offered to the first already');
  t.same(await allowed('one'), ['a', 'b', 'c', 'd'], 'who asks again does not stand in its own way');
  cache.pods.upsert(decode(podOf({ name: 'one', namespace: 'others', gpu: 2, node: 'c' })));
  t.same(await allowed('two'), ['a', 'b', 'c', 'd'], 'it has gone elsewhere');
  t.same(await allowed('three'), ['c', 'd']);
  cache.pods.upsert(decode(podOf({ name: 'two', namespace: 'others', gpu: 2, node: 'a' })));
  t.same(await allowed('three'), ['b', 'c', 'd'], 'it has taken what was free there');
  const narrow = await post('/filter', nodeArgs(stranger('narrow'), ['a']));
  t.same(narrow.json().NodeNames, [], 'it can go to a only, and a is full');
  wait(5_000);
  await post('/filter', nodeArgs(stranger('narrow'), ['a']));
  t.same(await allowed('three'), ['b', 'c', 'd'], 'who was refused everywhere takes nothing');
  wait(5_000);
  t.same(await allowed('four'), ['b', 'c', 'd'], 'an offer that nobody took is forgotten');
});

t.test('while Berth only observes nothing is refused, scored or dropped', async t => {
  const { post, observed } = await serve(plannedWorld(), { observeOnly: true });
  t.same((await post('/filter', nodeArgs(leader))).json().NodeNames, names);
  t.equal((await post('/prioritize', nodeArgs(single))).body, '[]');
  const victims = { a: { Pods: [{ UID: 'uid-serving-x' }], NumPDBViolations: 0 } };
  const preempt = await post('/preempt', { Pod: single, NodeNameToMetaVictims: victims });
  t.same(preempt.json(), { NodeNameToMetaVictims: victims });
  t.same(
    observed.map(([, outcome]) => outcome),
    ['anywhere', 'unscored', 'kept'],
  );
});

t.test('a scheduler that sends whole nodes is told how to set it up', async t => {
  const { post, observed } = await serve();
  const args = { Pod: single, Nodes: { metadata: {}, items: [] }, NodeNames: null };
  const filter = await post('/filter', args);
  t.equal(filter.statusCode, 200);
  t.match(filter.json(), { Error: /nodeCacheCapable: true/ });
  const prioritize = await post('/prioritize', args);
  t.equal(prioritize.statusCode, 400);
  t.match(prioritize.json(), { error: /nodeCacheCapable: true/ });
  t.same(
    observed.map(([, outcome]) => outcome),
    ['invalid', 'invalid'],
  );
});

t.test('null lists are empty ones', async t => {
  const { post } = await serve();
  t.same((await post('/filter', nodeArgs(leader, null))).json().NodeNames, []);
  t.same((await post('/prioritize', nodeArgs(single, null))).json(), []);
  const preempt = { Pod: single, NodeNameToVictims: null, NodeNameToMetaVictims: null };
  t.same((await post('/preempt', preempt)).json(), { NodeNameToMetaVictims: {} });
});

t.test('bad requests are refused by the name of the field', async t => {
  const { server, post, observed } = await serve();
  const cases: readonly (readonly [string, string | object, number, string])[] = [
    ['/filter', 'garbage', 400, 'the body is not JSON'],
    ['/filter', '', 400, 'the body is not JSON'],
    ['/filter', {}, 400, 'NodeNames must be a list of names, or null'],
    ['/prioritize', nodeArgs({}), 400, 'Pod.metadata must be an object'],
    [
      '/preempt',
      { Pod: single, NodeNameToMetaVictims: 1 },
      400,
      'NodeNameToMetaVictims must be an object, or null',
    ],
    [
      '/filter',
      ' '.repeat(extenderBodyLimitBytes + 1),
      413,
      `the body is larger than ${extenderBodyLimitBytes} bytes`,
    ],
  ];
  for (const [path, body, status, error] of cases) {
    const response = await post(path, body);
    t.equal(response.statusCode, status, error);
    t.same(response.json(), { error });
  }
  t.same(
    observed.map(([, outcome]) => outcome),
    cases.map(() => 'invalid'),
  );
  const text = await server.inject({
    method: 'POST',
    url: '/extender/filter',
    headers: { 'content-type': 'text/plain' },
    payload: 'x',
  });
  t.equal(text.statusCode, 415);
  t.same(text.json(), { error: 'the content type must be application/json' });
  const nothing = await server.inject({ method: 'POST', url: '/extender/filter' });
  t.equal(nothing.statusCode, 400);
  t.equal(observed.length, cases.length + 2, 'each is observed once');
});

t.test('no other method and no other path is known', async t => {
  const { server } = await serve();
  for (const path of ['/filter', '/prioritize', '/preempt']) {
    for (const method of ['GET', 'HEAD', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const) {
      const response = await server.inject({ method, url: `/extender${path}` });
      t.equal(response.statusCode, 405, `${method} ${path}`);
      t.equal(response.headers.allow, 'POST');
    }
  }
  t.equal((await server.inject({ method: 'POST', url: '/extender/bind' })).statusCode, 404);
});

t.test('a failure of its own is answered with a bare 500, and the cause is logged', async t => {
  const cache = plannedWorld();
  Object.defineProperty(cache, 'group', {
    value: () => {
      throw new Error('secret cause');
    },
  });
  const { post, observed, logged } = await serve(cache);
  const response = await post('/filter', nodeArgs(leader));
  t.equal(response.statusCode, 500);
  t.same(response.json(), { error: 'internal error' });
  t.same(observed, [['filter', 'failed']]);
  t.match(logged.join(''), /secret cause/);
});

t.test('the refusal of a planned node is logged once for each pod and cause', async t => {
  const cache = plannedWorld();
  const { post, messages } = await serve(cache);
  const ask = () => post('/filter', nodeArgs(leader));
  await ask();
  t.same(messages(), []);
  cache.setExcludedNodes(new Map([['a', 'its devices fail']]));
  await ask();
  await ask();
  t.match(messages(), [{ pod: group.key, cause: 'excluded', msg: 'planned node refused' }]);
  t.equal(messages().length, 1);
  const node = cache.node('a');
  if (node !== undefined) cache.nodes.remove(node);
  cache.setExcludedNodes(new Map());
  await ask();
  t.same(
    messages().map(({ cause }) => cause),
    ['excluded', 'gone'],
  );
});

t.test('every decision can be read in the debug log', async t => {
  const { post, messages } = await serve(plannedWorld(), { level: 'debug' });
  await post('/filter', nodeArgs(leader));
  await post('/prioritize', nodeArgs(single));
  await post('/preempt', { Pod: single, NodeNameToMetaVictims: {} });
  t.match(messages(), [
    { pod: group.key, names: 4, verdict: 'only', node: 'a', msg: 'filter answered' },
    { pod: 'serving/s', names: 4, scored: true, msg: 'prioritize answered' },
    { pod: 'serving/s', candidates: 0, kept: 0, msg: 'preempt answered' },
  ]);
});
