import t from 'tap';
import type { ConfigMap } from '../../../src/api/kubernetes.ts';
import { berth } from '../../../src/api/names.ts';
import { formatIntent, type Intent, isIntentError, parseIntent } from '../../../src/failure/intent.ts';
import { ApiError } from '../../../src/kube/api-errors.ts';
import { IntentStore, intentName, isBadIntent, type StoredIntent } from '../../../src/kube/intent-store.ts';
import { configOf, FakeCluster } from './fake-cluster.ts';
import { intentOf } from './intents.ts';

const remaker = { kind: 'ReplicaSet', name: 'web-7d9', uid: 'u', pods: ['web-7d9-x'] } as const;
const labelled = intentOf({
  shape: 'labelled',
  group: 'serving/My_Group',
  owner: { name: 'My_Group', uid: '' },
  leaderName: 'web-7d9-x',
  remakers: [remaker],
});
const single = intentOf({
  shape: 'single',
  group: 'serving/ReplicaSet/web-7d9',
  owner: { name: 'web-7d9', uid: '' },
  leaderName: 'web-7d9-x',
  remakers: [remaker],
});

t.test('an intent reads back as it was written', async t => {
  const closed = intentOf({
    plan: undefined,
    workerSetUid: '',
    hold: undefined,
    phase: 'closed',
    outcome: 'recovered',
    nextUid: 'uid-llm-0-2',
    times: { drain: 2_500, evicted: 3_000, gone: 4_000, bound: 5_000, ready: 6_123 },
  });
  const device = { driver: 'gpu.nvidia.com', pool: 'a', device: 'gpu-3' };
  for (const intent of [
    intentOf(),
    intentOf({ hold: 'wait', phase: 'leaving', device, entity: 'd//p//gpu-3' }),
    closed,
    labelled,
    single,
  ])
    t.same(parseIntent(formatIntent(intent)), intent);
  const { device: _, ...older } = JSON.parse(formatIntent(intentOf()));
  t.same(parseIntent(JSON.stringify(older)), intentOf(), 'one from before devices were told');
  const { nextUID: _next, entity: _entity, ...unnamed } = older;
  t.same(
    parseIntent(JSON.stringify(unnamed)),
    intentOf(),
    'one from before what failed and what follows was told',
  );
  const { shape, remakers, ...lwsOnly } = older;
  t.same([shape, remakers], ['lws', []]);
  t.same(parseIntent(JSON.stringify(lwsOnly)), intentOf(), 'one from before there were other groups');
  const { domains: __, ...oldest } = lwsOnly;
  t.same(parseIntent(JSON.stringify(oldest)), intentOf({ domains: [] }), 'one from before domains were told');
  const undrained = JSON.parse(formatIntent(intentOf()));
  Reflect.deleteProperty(undrained.times, 'drain');
  t.same(parseIntent(JSON.stringify(undrained)), intentOf(), 'one from before groups were drained');
});

t.test('what is not exactly an intent is refused, with the field at fault', async t => {
  const edited = (change: Readonly<Record<string, unknown>>) =>
    JSON.stringify({ ...JSON.parse(formatIntent(intentOf())), ...change });
  const cases: readonly (readonly [string, RegExp])[] = [
    ['', /intent\.json is not JSON/],
    ['null', /must be an object|version/],
    ['[]', /version/],
    ['{}', /version must be 1/],
    [edited({ version: 2 }), /version/],
    [edited({ group: '../../pods/x' }), /group/],
    [edited({ group: 'serving/llm-1' }), /leaderName/],
    [edited({ leaderName: '../llm-0' }), /leaderName/],
    [edited({ shape: 'all' }), /shape/],
    [edited({ ...JSON.parse(formatIntent(labelled)), remakers: undefined }), /remakers/],
    [edited({ ...JSON.parse(formatIntent(labelled)), group: 'a/b/c' }), /group/],
    [edited({ ...JSON.parse(formatIntent(single)), group: 'a/b' }), /group/],
    [edited({ ...JSON.parse(formatIntent(labelled)), remakers: [{ ...remaker, kind: 'Pod' }] }), /kind/],
    [edited({ ...JSON.parse(formatIntent(labelled)), remakers: [{ ...remaker, name: '../x' }] }), /name/],
    [edited({ leaderUID: '' }), /leaderUID/],
    [edited({ leaderUID: 'a/b' }), /leaderUID/],
    [edited({ owner: 'llm' }), /owner/],
    [edited({ members: {} }), /members must be a list/],
    [edited({ members: [{ rank: -1, name: 'a', uid: 'b', node: '' }] }), /members\[0\]\.rank/],
    [edited({ avoid: [{ node: 'a?b', nodeUID: '', cause: '' }] }), /avoid\[0\]\.node/],
    [edited({ domains: 'rack r0' }), /domains must be a list/],
    [edited({ domains: ['rack r0', 'rack r0\n'] }), /domains must be a list/],
    [edited({ plan: [1] }), /plan/],
    [edited({ class: 'sure' }), /class/],
    [edited({ signal: 'toString' }), /signal/],
    [edited({ entity: 3 }), /entity/],
    [edited({ device: 'gpu-3' }), /device must be an object/],
    [edited({ device: { driver: 'd', pool: 'p' } }), /device\.device/],
    [edited({ serving: 'yes' }), /serving/],
    [edited({ phase: 'gone' }), /phase/],
    [edited({ phase: 'closed' }), /outcome/],
    [edited({ outcome: 'recovered' }), /outcome/],
    [edited({ nextUID: '../x' }), /nextUID/],
    [edited({ hold: 1 }), /hold/],
    [edited({ times: null }), /times/],
    [edited({ times: { signal: 'yesterday' } }), /times\.signal/],
    [edited({ times: { ...JSON.parse(formatIntent(intentOf())).times, drain: 'soon' } }), /times\.drain/],
    [`"${'x'.repeat(1024 * 1024)}"`, /longer/],
  ];
  for (const [text, wanted] of cases) {
    const read = parseIntent(text);
    t.match(isIntentError(read) ? read.message : 'accepted', wanted, text.slice(0, 80));
  }
});

function storeOf(cluster: FakeCluster): IntentStore {
  return new IntentStore({
    client: cluster,
    namespace: 'berth-system',
    configMapName: 'berth-config',
    timeoutMs: 1_000,
  });
}

function good(stored: StoredIntent | { readonly message: string }): StoredIntent {
  if ('message' in stored) throw new Error(stored.message);
  return stored;
}

t.test('the first to create an intent has it, the next one reads it', async t => {
  const cluster = new FakeCluster([], 0);
  const store = storeOf(cluster);
  const first = await store.create(intentOf());
  t.equal(first.created, true);
  const second = await store.create(intentOf({ cause: 'another cause' }));
  t.equal(second.created, false);
  t.same(second.stored, first.stored);
  t.match(intentName('uid-llm-0-1'), /^berth-intent-[0-9a-f]{16}$/);
});

t.test('an update of what has changed meanwhile fails, and a closed intent says so in its label', async t => {
  const cluster = new FakeCluster([], 0);
  const store = storeOf(cluster);
  const stored = good((await store.create(intentOf())).stored);
  const left = await store.update(stored, { ...stored.intent, phase: 'leaving' });
  await t.rejects(store.update(stored, stored.intent), { message: 'precondition failed' });
  const closed = await store.update(left, { ...left.intent, phase: 'closed', outcome: 'recovered' });
  t.equal(cluster.configMaps.get(closed.name)?.metadata.labels?.[berth.intent], 'closed');
});

t.test('a list tells good intents from bad ones, and a copy under another name is bad', async t => {
  const cluster = new FakeCluster([], 0);
  const store = storeOf(cluster);
  const { name } = good((await store.create(intentOf())).stored);
  const copy = cluster.configMaps.get(name) as ConfigMap;
  cluster.configMaps.set('copy', { ...copy, metadata: { ...copy.metadata, name: 'copy' } });
  const list = await store.list();
  t.same(
    list.intents.map(stored => stored.intent),
    [intentOf()],
  );
  t.match(list.bad, [{ name: 'copy', message: /leaderUID/ }]);
  cluster.configMaps.set(name, { ...copy, data: {} });
  t.ok(isBadIntent((await store.create(intentOf())).stored));
});

t.test('closed intents are pruned by age and by number, open ones never', async t => {
  const cluster = new FakeCluster([], 0);
  const store = storeOf(cluster);
  const make = async (uid: string, intentMs: number, closed: boolean) => {
    const more: Partial<Intent> = closed ? { phase: 'closed', outcome: 'recovered' } : {};
    await store.create(intentOf({ leaderUid: uid, ...more, times: { intent: intentMs } }));
  };
  await make('old-open', 0, false);
  await make('old', 0, true);
  await make('a', 5_000, true);
  await make('b', 6_000, true);
  await make('c', 7_000, true);
  const { intents } = await store.list();
  const limits = { nowMs: 10_000, maxAgeMs: 10_000, maxCount: 2 };
  t.equal(await store.prune(intents, limits, () => false), 0);
  t.equal(await store.prune(intents, limits, () => true), 2);
  const left = (await store.list()).intents.map(({ intent }) => intent.leaderUid).sort();
  t.same(left, ['b', 'c', 'old-open']);
});

t.test('a tripped breaker is kept, found again and taken away', async t => {
  const cluster = new FakeCluster([], 0);
  const store = storeOf(cluster);
  const breaker = {
    name: 'mass-failure',
    trippedAtMs: 1_000,
    lastBadAtMs: 2_000,
    reason: 'half is bad',
  } as const;
  await store.trip(breaker);
  await store.trip({ ...breaker, lastBadAtMs: 3_000 });
  t.same(await store.breakers(9_000), [{ ...breaker, lastBadAtMs: 3_000 }]);
  const map = cluster.configMaps.get('berth-breaker-mass-failure') as ConfigMap;
  cluster.configMaps.set('berth-breaker-mass-failure', { ...map, data: { 'breaker.json': '{' } });
  t.match(
    await store.breakers(9_000),
    [{ name: 'mass-failure', lastBadAtMs: 9_000 }],
    'unreadable is tripped',
  );
  await store.reset('mass-failure');
  await store.reset('mass-failure');
  t.same(await store.breakers(9_000), []);
});

t.test('a halt is read live; what cannot be read is not taken for none', async t => {
  const cluster = new FakeCluster([], 0);
  const store = storeOf(cluster);
  t.equal(await store.isHalted(), false);
  cluster.configMaps.set('berth-config', configOf(false));
  t.equal(await store.isHalted(), false);
  cluster.configMaps.set('berth-config', configOf(true));
  t.equal(await store.isHalted(), true);
  cluster.interrupt = () => {
    throw new ApiError({ status: 500, message: 'internal' });
  };
  await t.rejects(store.isHalted(), { message: 'internal' });
});
