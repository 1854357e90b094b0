import t from 'tap';
import {
  formatPreemption,
  isPreemptionError,
  type Preemption,
  parsePreemption,
} from '../../../src/failure/preemption.ts';
import { failureKind } from '../../../src/kube/api-errors.ts';
import { PreemptionStore, preemptionName } from '../../../src/kube/preemption-store.ts';
import { RecordMaps } from '../../../src/kube/record-maps.ts';
import { FakeCluster } from './fake-cluster.ts';

function preemptionOf(more: Partial<Preemption> = {}): Preemption {
  return {
    group: 'serving/big-0',
    leaderUid: 'uid-big-0-1',
    attempt: 0,
    priority: 100,
    cause: 'preempted by group serving/big-0 of priority 100',
    victims: [
      { key: 'serving/low-0', kind: 'group', uid: 'uid-low-0-1', priority: -5, wentMs: 2_000 },
      { key: 'serving/single', kind: 'pod', uid: 'uid-single', priority: 0, wentMs: undefined },
    ],
    nodes: ['a', 'b'],
    begunMs: 1_000,
    ended: undefined,
    ...more,
  };
}

t.test('a preemption reads back as it was written', async t => {
  for (const preemption of [
    preemptionOf(),
    preemptionOf({ attempt: 3, ended: { atMs: 9_000, outcome: 'given-up' }, victims: [] }),
  ])
    t.same(parsePreemption(formatPreemption(preemption)), preemption);
});

t.test('what is not exactly a preemption is refused, with the field at fault', async t => {
  const edited = (change: Readonly<Record<string, unknown>>) =>
    JSON.stringify({ ...JSON.parse(formatPreemption(preemptionOf())), ...change });
  const victim = { key: 'serving/low-0', kind: 'group', uid: 'u', priority: 0, went: null };
  const cases: readonly (readonly [string, RegExp])[] = [
    ['', /not JSON/],
    ['null', /version/],
    [edited({ version: 2 }), /version must be 1/],
    [edited({ group: '../x' }), /group/],
    [edited({ leaderUID: 'a/b' }), /leaderUID/],
    [edited({ attempt: -1 }), /attempt/],
    [edited({ priority: 2 ** 40 }), /priority/],
    [edited({ victims: [{ ...victim, key: 'low' }] }), /victims\[0\]\.key/],
    [edited({ victims: [{ ...victim, kind: 'node' }] }), /victims\[0\]\.kind/],
    [edited({ victims: [{ ...victim, went: 'soon' }] }), /victims\[0\]\.went/],
    [edited({ nodes: ['a?b'] }), /nodes/],
    [edited({ outcome: 'placed' }), /outcome/],
    [edited({ ended: '2026-01-01T00:00:00.000Z' }), /outcome/],
    [`"${'x'.repeat(1024 * 1024)}"`, /longer/],
  ];
  for (const [text, wanted] of cases) {
    const read = parsePreemption(text);
    t.match(isPreemptionError(read) ? read.message : 'accepted', wanted, text.slice(0, 80));
  }
});

t.test('records', async t => {
  const cluster = new FakeCluster([], 0);
  const maps = new RecordMaps({ client: cluster, namespace: 'berth-system', timeoutMs: 1_000 });
  const store = new PreemptionStore(maps);
  const stored = await store.create(preemptionOf());
  if (stored === undefined) throw new Error('there was one');
  t.equal(await store.create(preemptionOf({ cause: 'other' })), undefined, 'only one may begin it');
  t.ok(await store.create(preemptionOf({ attempt: 1 })), 'the next one has another name');
  const closed = preemptionOf({ ended: { atMs: 9_000, outcome: 'placed' } });
  const updated = await store.update(stored, closed);
  t.equal(await store.update(stored, closed).catch(failureKind), 'conflict', 'it has changed meanwhile');
  const labels = [...cluster.configMaps.values()].flatMap(({ metadata }) =>
    Object.values(metadata.labels ?? {}),
  );
  t.same(labels.sort(), ['closed', 'open']);
  const raw = cluster.configMaps.get(preemptionName(closed));
  if (raw === undefined) throw new Error('it is gone');
  cluster.configMaps.set('copy', { ...raw, metadata: { ...raw.metadata, name: 'copy' } });
  const { preemptions, bad } = await store.list();
  t.equal(preemptions.length, 2);
  t.match(bad, [{ name: 'copy', message: /do not belong to the name/ }]);
  t.equal(await store.remove(updated), true);
  t.equal(await store.remove(updated), false);
});
