import t from 'tap';
import { BadThings } from '../../../src/failure/bad-things.ts';
import {
  failedDomain,
  failedDriver,
  judgeBreaker,
  massDeviceFailure,
  massFailure,
  zonesFailure,
} from '../../../src/failure/breakers.ts';
import { CallWindow, isFailedCall } from '../../../src/failure/call-window.ts';
import { EvidenceLedger, isFaultOf, ripeInMs, tellsOf, worstOf } from '../../../src/failure/evidence.ts';
import { defaultFailureSettings } from '../../../src/failure/settings.ts';
import type { Sighting } from '../../../src/failure/signal.ts';
import { intentOf } from './intents.ts';

function sighting(more: Partial<Sighting> = {}): Sighting {
  return {
    signal: 'DeviceUnhealthy',
    class: 'certain',
    entity: 'p/GPU-0',
    nodeName: 'a',
    nodeUid: 'uid-a',
    blamesNode: true,
    podUid: 'p',
    cause: 'broken',
    debounceMs: 60_000,
    ...more,
  };
}
const names = (nodes: readonly { readonly name: string }[]) => nodes.map(({ name }) => name);

t.test('evidence keeps its first sight, is ripe after its debounce, and begins anew after a gap', async t => {
  const ledger = new EvidenceLedger(600_000);
  const left = (nowMs: number) => ledger.of('g').map(evidence => ripeInMs(evidence, nowMs));
  t.equal(ledger.update('g', [sighting()], 1_000), true);
  t.equal(ledger.update('g', [sighting({ cause: 'other words' })], 30_000), false);
  t.same(left(30_000), [31_000]);
  t.same(left(61_000), [0]);
  t.equal(ledger.update('g', [], 62_000), true);
  ledger.update('g', [sighting()], 63_000);
  t.same(left(63_000), [60_000]);
});

t.test('what an eviction was decided for is told by signal and entity, or by device', async t => {
  const device = { driver: 'd', pool: 'p', device: 'gpu-3' };
  const unready = { signal: 'NodeNotReady', entity: 'uid-a', device: undefined } as const;
  const taken = { signal: 'Foreign', entity: 'uid-w1', device: undefined } as const;
  const sick = { signal: 'DeviceUnhealthy', entity: 'd//p//gpu-3', device } as const;
  const cases: readonly (readonly [string, Parameters<typeof isFaultOf>, boolean])[] = [
    ['the same', [sighting(unready), unready], true],
    ['of another node', [sighting({ ...unready, entity: 'uid-b' }), unready], false],
    ['another signal', [sighting({ ...unready, signal: 'NodeShort' }), unready], false],
    ['a device by another signal', [sighting({ ...sick, signal: 'DeviceNoSchedule' }), sick], true],
    ['another device', [sighting({ ...sick, device: { ...device, device: 'gpu-4' } }), sick], false],
    ['a member that others take', [sighting({ ...taken, entity: 'uid-w2' }), taken], true],
    ['for a fault of its own', [sighting({ ...taken, entity: 'uid-a' }), unready], false],
    [
      'a record that does not say of what it was',
      [sighting({ ...unready, entity: 'uid-b' }), { ...unready, entity: undefined }],
      true,
    ],
  ];
  for (const [name, [told, intent], wanted] of cases) t.equal(isFaultOf(told, intent), wanted, name);
});

t.test('what comes and goes against nodes and cliques is told apart from the rest', async t => {
  const ledger = new EvidenceLedger(600_000);
  const isToldBy = (...sightings: readonly Sighting[]) => {
    const before = ledger.toldOfNodes;
    ledger.update('g', sightings, 0);
    return ledger.toldOfNodes !== before;
  };
  const ofDevice = sighting({ blamesNode: false, signal: 'DeviceNoSchedule', entity: 'GPU-1' });
  t.equal(isToldBy(ofDevice), false);
  t.equal(isToldBy(ofDevice, sighting()), true);
  t.equal(isToldBy(ofDevice, sighting({ cause: 'other words' })), false);
  t.equal(isToldBy(ofDevice, sighting({ class: 'suspect' })), true);
  t.equal(isToldBy(ofDevice), true);
  t.equal(isToldBy({ ...ofDevice, clique: 'c' }), false, 'it stands already');
  t.equal(isToldBy(), true);
  t.equal(isToldBy({ ...ofDevice, ofNvlink: true }), true);
});

t.test('a fault that several signals show counts one node', async t => {
  const ledger = new EvidenceLedger(600_000);
  ledger.update(
    'g',
    [sighting(), sighting({ signal: 'NodeNotReady', class: 'suspect', entity: 'uid-a' })],
    0,
  );
  ledger.update('node/a', [sighting({ signal: 'NodeNotReady', class: 'suspect', entity: 'uid-a' })], 0);
  t.same(names(ledger.nodes.newly(1_000)), ['a']);
  t.same(names(ledger.nodes.standing()), ['a']);
  ledger.update('g', [], 2_000);
  t.same(names(ledger.nodes.standing()), ['a']);
  ledger.update('node/a', [], 3_000);
  t.same(names(ledger.nodes.standing()), []);
  t.same(names(ledger.nodes.newly(3_000)), ['a'], 'the window remembers it');
  t.same(names(ledger.nodes.newly(600_000)), []);
});

t.test('a node that flaps is new once within the window', async t => {
  const ledger = new EvidenceLedger(600_000);
  for (let ms = 0; ms < 500_000; ms += 20_000) {
    ledger.update('g', [sighting()], ms);
    ledger.update('g', [], ms + 10_000);
  }
  t.same(
    ledger.nodes.newly(500_000).map(({ firstSeenMs }) => firstSeenMs),
    [0],
  );
  ledger.update('g', [sighting()], 700_000);
  t.same(
    ledger.nodes.newly(700_000).map(({ firstSeenMs }) => firstSeenMs),
    [700_000],
  );
});

t.test('what does not blame a node, or only informs, is counted nowhere', async t => {
  const ledger = new EvidenceLedger(600_000);
  ledger.update('g', [sighting({ blamesNode: false }), sighting({ entity: 'x', class: 'info' })], 0);
  t.same(ledger.nodes.newly(0), []);
});

t.test('the worst is ripe before unripe, certain before suspect, then the oldest', async t => {
  const ledger = new EvidenceLedger(600_000);
  const early = sighting({ entity: 'early', class: 'suspect' });
  ledger.update('g', [early], 0);
  ledger.update('g', [early, sighting({ entity: 'late' })], 30_000);
  const worst = (nowMs: number) => worstOf(ledger.of('g'), nowMs)?.sighting.entity;
  t.equal(worst(30_000), 'late', 'neither is ripe');
  t.equal(worst(70_000), 'early', 'only the suspicion is ripe');
  t.equal(worst(95_000), 'late', 'both are ripe');
  const claim = sighting({ signal: 'Preempted', entity: 'claim', blamesNode: false, debounceMs: 0 });
  ledger.update('g', [early, sighting({ entity: 'late' }), claim], 95_000);
  t.equal(worst(95_000), 'claim', 'what is decided already comes first');
  t.equal(worstOf([], 0), undefined);
});

const levels = [
  { name: 'block', nodeLabel: 'block' },
  { name: 'rack', nodeLabel: 'rack' },
];
const fleet = Array.from({ length: 60 }, (_, i) => ({
  name: `n${i}`,
  labels: { block: `b${Math.floor(i / 30)}`, rack: `r${Math.floor(i / 10)}` },
}));

t.test('a domain has failed with a fifth of its nodes, and at least three', async t => {
  const failed = (bad: readonly number[]) =>
    failedDomain(
      bad.flatMap(i => fleet[i] ?? []),
      fleet,
      levels,
      defaultFailureSettings,
    );
  t.equal(failed([0, 1]), undefined);
  t.match(failed([0, 1, 2]), /rack b0\/r0/);
  t.equal(failed([0, 10, 20, 30, 40, 50]), undefined, 'one in each rack');
  t.match(failed([0, 1, 10, 11, 20, 21]), /block b0/);
  const gone = { name: 'gone', labels: { block: 'b0', rack: 'r0' } };
  t.match(failedDomain([...fleet.slice(0, 2), gone], fleet, levels, defaultFailureSettings), /rack/);
  t.equal(failedDomain(fleet.slice(0, 11), fleet, [], defaultFailureSettings), undefined);
  t.match(failedDomain(fleet.slice(0, 12), fleet, [], defaultFailureSettings), /cluster/);
});

t.test('a mass failure is half of the nodes, and at least three', async t => {
  t.equal(massFailure(2, 2, defaultFailureSettings), undefined);
  t.equal(massFailure(4, 9, defaultFailureSettings), undefined);
  t.ok(massFailure(5, 10, defaultFailureSettings));
});

t.test(
  'two zones that are lost as a whole are a mass failure, whatever part of the fleet they are',
  async t => {
    const inZone = (zone: number, count: number) =>
      Array.from({ length: count }, (_, i) => ({
        name: `z${zone}-n${i}`,
        labels: { 'topology.kubernetes.io/zone': `z${zone}` },
      }));
    const [a, b, ...others] = [inZone(0, 2), inZone(1, 3), inZone(2, 50), inZone(3, 50)];
    const unlabelled = [{ name: 'n', labels: {} }];
    const fleet = [...a, ...b, ...others.flat(), ...unlabelled];
    const failed = (bad: typeof fleet) => zonesFailure(bad, fleet, defaultFailureSettings);
    t.ok(failed([...a, ...b]), '5 of 106 nodes');
    t.equal(failed(b), undefined, 'one zone');
    t.equal(failed([...a, ...b.slice(1)]), undefined, 'one node is left of the second zone');
    t.equal(failed([...a, ...unlabelled]), undefined, 'no zone is not a zone');
    const small = [...inZone(8, 1), ...inZone(9, 1)];
    t.equal(zonesFailure(small, [...fleet, ...small], defaultFailureSettings), undefined, 'too few nodes');
    const gone = inZone(7, 1);
    t.ok(failed([...a, ...gone]), 'a zone whose only node is gone is lost, too');
  },
);

t.test('an acknowledged bad node trips nothing any more, a new one does', async t => {
  const ledger = new EvidenceLedger(600_000);
  ledger.update('g', [sighting()], 0);
  ledger.nodes.acknowledge();
  t.same(ledger.nodes.newly(1), []);
  t.same(ledger.nodes.unacknowledged(), []);
  t.equal(ledger.nodes.standing().length, 1);
  ledger.update('g', [sighting(), sighting({ nodeName: 'b', entity: 'b' })], 2);
  t.same(names(ledger.nodes.newly(2)), ['b']);
});

t.test(
  'a breaker stays tripped until it has been quiet, lets one through, and closes when that one is whole',
  async t => {
    const quietMs = defaultFailureSettings.breakerQuietSeconds * 1000;
    const calm = { name: 'domain-failure', reason: undefined, lastBadAtMs: 0, anyBad: true } as const;
    const judge = (
      reading: Parameters<typeof judgeBreaker>[0],
      kept: Parameters<typeof judgeBreaker>[1],
      nowMs: number,
      intents: Parameters<typeof judgeBreaker>[2] = [],
    ) => judgeBreaker(reading, kept, intents, nowMs, defaultFailureSettings);
    t.equal(judge(calm, undefined, 0).state, 'closed');
    const tripped = judge({ ...calm, reason: 'too many', lastBadAtMs: 1_000 }, undefined, 2_000);
    t.equal(tripped.state, 'tripped');
    const { keep } = tripped;
    t.match(keep, { name: 'domain-failure', trippedAtMs: 2_000, lastBadAtMs: 1_000, reason: 'too many' });
    t.equal(judge(calm, keep, quietMs).state, 'tripped');
    t.equal(judge(calm, keep, quietMs + 1_000).state, 'half-open');
    t.same(judge({ ...calm, anyBad: false }, keep, quietMs + 1_000), { state: 'closed', keep: undefined });
    t.equal(judge({ ...calm, lastBadAtMs: 60_000 }, keep, quietMs + 1_000).state, 'tripped', 'not quiet');
    const trial = intentOf({ times: { intent: quietMs + 2_000 } });
    const later = quietMs + 3_000;
    t.equal(judge(calm, keep, later, [trial]).state, 'tripped', 'one at a time');
    const closed = { ...trial, phase: 'closed' } as const;
    t.equal(judge(calm, keep, later, [{ ...closed, outcome: 'recovered' }]).state, 'closed');
    t.equal(judge(calm, keep, later, [{ ...closed, outcome: 'overtaken' }]).state, 'half-open');
    const failed = judge(calm, keep, later, [{ ...closed, outcome: 'failed' }]);
    t.equal(failed.state, 'tripped');
    t.equal(failed.keep?.lastBadAtMs, trial.times.intent, 'the quiet time begins anew');
    t.equal(judge(calm, keep, 2_000, [intentOf({ times: { intent: 500 } })]).state, 'tripped');
  },
);

t.test(
  'what is bad in masses is not quiet as long as it stands, however long nothing new goes bad',
  async t => {
    const quietMs = defaultFailureSettings.breakerQuietSeconds * 1000;
    for (const name of ['mass-failure', 'device-mass'] as const) {
      const stands = { name, reason: 'too many at once', lastBadAtMs: 1_000, anyBad: true };
      const over = { ...stands, reason: undefined };
      const endsMs = 3 * quietMs;
      const { keep } = judgeBreaker(stands, undefined, [], endsMs, defaultFailureSettings);
      const at = (nowMs: number) => judgeBreaker(over, keep, [], nowMs, defaultFailureSettings).state;
      t.equal(at(endsMs + quietMs - 1), 'tripped', 'who is last to come back looks bad until then');
      t.equal(at(endsMs + quietMs), 'half-open');
    }
  },
);

t.test('the health of calls is counted over a window, and budgets do not count', async t => {
  const calls = new CallWindow(60_000);
  for (let i = 0; i < 10; i += 1) calls.add(i < 3, i * 1_000);
  t.same(calls.counts(10_000), { total: 10, failed: 3 });
  t.same(calls.counts(61_500), { total: 8, failed: 1 });
  t.same(calls.counts(200_000), { total: 0, failed: 0 });
  t.same(
    [
      ['pods', 0],
      ['pods', 503],
      ['pods', 429],
      ['pods/eviction', 429],
      ['pods', 404],
      ['pods', 200],
    ].map(([resource, status]) => isFailedCall(String(resource), Number(status))),
    [true, true, true, false, false, false],
  );
});

const gpu = { driver: 'gpu.example.com', pool: 'a', device: 'gpu-0' };
const ofGpu = (more: Partial<Sighting>) =>
  sighting({ device: gpu, entity: 'gpu-0', blamesNode: false, ...more });

t.test('several reports of one device are one fault, and the worst of them counts', async t => {
  const ledger = new EvidenceLedger(600_000);
  const suspect = ofGpu({ signal: 'DeviceNoSchedule', class: 'suspect', debounceMs: 180_000 });
  const health = ofGpu({ class: 'suspect' });
  const certain = ofGpu({ signal: 'DeviceNoExecute', debounceMs: 5_000 });
  const seen = () => ledger.of('g').map(({ sighting: { signal }, firstSeenMs }) => [signal, firstSeenMs]);
  ledger.update('g', [suspect], 1_000);
  t.equal(ledger.update('g', [suspect, health], 20_000), false, 'nothing new');
  t.same(seen(), [['DeviceUnhealthy', 1_000]], 'of one class the sooner one is told');
  t.equal(ledger.update('g', [suspect, certain], 30_000), true);
  t.same(seen(), [
    ['DeviceNoExecute', 30_000],
    ['DeviceNoSchedule', 1_000],
  ]);
  t.equal(worstOf(ledger.of('g'), 36_000)?.sighting.signal, 'DeviceNoExecute');
  ledger.update('g', [certain], 40_000);
  ledger.update('g', [health], 50_000);
  t.same(seen(), [['DeviceUnhealthy', 1_000]], 'it was never better than suspect since');
  ledger.update('g', [certain], 60_000);
  t.same(seen(), [['DeviceNoExecute', 60_000]], 'it was no certain failure meanwhile');
  ledger.update('g', [ofGpu({ class: 'info' })], 70_000);
  ledger.update('g', [suspect], 80_000);
  t.same(seen(), [['DeviceNoSchedule', 80_000]]);
  t.same(names(ledger.devices.standing()), ['gpu.example.com//a//gpu-0'], 'it is one device');
  t.same(ledger.nodes.standing(), []);
});

t.test('of two reports alike what a rule about many devices adds is not told', async t => {
  const ledger = new EvidenceLedger(600_000);
  const origin = { kind: 'rule', name: 'all', isNarrow: false } as const;
  const byRule = ofGpu({ signal: 'DeviceNoExecute', class: 'suspect', debounceMs: 0, origin });
  ledger.update('g', [byRule], 0);
  t.same(ledger.devices.standing(), [], 'nor does it count as a bad device');
  ledger.update('g', [byRule, ofGpu({ signal: 'DeviceNoSchedule', class: 'suspect' })], 0);
  t.equal(worstOf(ledger.of('g'), 0)?.sighting.signal, 'DeviceNoSchedule');
  t.equal(ledger.devices.standing().length, 1);
  t.ok(tellsOf(byRule, ofGpu({ class: 'suspect' })));
  t.notOk(tellsOf(byRule, ofGpu({ class: 'certain' })), 'a lesser class does not stand for a worse one');
  t.ok(tellsOf(ofGpu({ class: 'certain' }), byRule));
  t.notOk(tellsOf(sighting(), byRule));
});

t.test('what tells against nodes is known by itself, as long as it is told', async t => {
  const ledger = new EvidenceLedger(600_000);
  const ofDevice = sighting({ blamesNode: false, entity: 'gpu', cause: 'a device' });
  const against = () => [...ledger.againstNodes()].map(({ sighting: { cause } }) => cause);
  ledger.update('g', [sighting({ cause: 'a node' }), ofDevice], 0);
  ledger.update('h', [ofDevice], 0);
  t.same(against(), ['a node']);
  ledger.update('h', [ofDevice, sighting({ class: 'info', entity: 'n', cause: 'a word' })], 1);
  t.same(against(), ['a node'], 'what only informs blames nobody');
  ledger.update('g', [ofDevice], 2);
  t.same(against(), []);
});

t.test('it shows when one more thing is bad, and when one has turned', async t => {
  const things = new BadThings(600_000);
  const after = (change: () => void) => {
    const before = [things.added, things.turned];
    change();
    return [things.added > (before[0] ?? 0), things.turned > (before[1] ?? 0)];
  };
  t.same(
    after(() => things.count('a', 'uid', 1, 0)),
    [true, true],
  );
  t.same(
    after(() => things.count('a', 'uid', 1, 1)),
    [false, false],
    'more evidence against the same',
  );
  t.same(
    after(() => things.count('a', 'uid', -1, 2)),
    [false, false],
  );
  t.same(
    after(() => things.count('a', 'uid', -1, 3)),
    [false, true],
  );
  t.same(
    after(() => things.count('a', 'uid', 1, 4)),
    [false, true],
    'bad again within the window',
  );
  t.same(
    after(() => things.acknowledge()),
    [true, false],
  );
});

t.test('bad devices are counted by driver, as new and as bad now', async t => {
  const things = new BadThings(600_000);
  const driver = (name: string) => name.split('//')[0] ?? '';
  things.count('d//p//0', undefined, 1, 0);
  things.count('d//p//1', undefined, 1, 1_000);
  things.count('e//p//0', undefined, 1, 2_000);
  things.count('e//p//0', undefined, -1, 3_000);
  const at = (nowMs: number) => {
    const { newly, unacknowledged, lastBadMs, anyStands } = things.tally(driver, nowMs);
    return [Object.fromEntries(newly), Object.fromEntries(unacknowledged), lastBadMs, anyStands];
  };
  t.same(at(3_000), [{ d: 2, e: 1 }, { d: 2 }, 2_000, true]);
  t.same(at(600_500), [{ d: 1, e: 1 }, { d: 2 }, 2_000, true]);
  t.same(at(700_000), [{}, { d: 2 }, 1_000, true]);
  things.acknowledge();
  t.same(at(700_000), [{}, {}, 1_000, true]);
  things.count('d//p//0', undefined, -1, 700_000);
  things.count('d//p//1', undefined, -1, 700_000);
  t.same(at(700_000), [{}, {}, undefined, false]);
});

t.test(
  'a driver has failed with a twentieth of its devices of late, or a third at once, and at least three',
  async t => {
    const of = (count: number, total: number) =>
      [failedDriver, massDeviceFailure].map(
        judge =>
          judge(new Map([['d', count]]), new Map([['d', total]]), defaultFailureSettings) !== undefined,
      );
    t.same(of(2, 2), [false, false]);
    t.same(of(3, 60), [true, false]);
    t.same(of(3, 61), [false, false]);
    t.same(of(3, 10), [true, true]);
    t.same(of(30, 101), [true, false]);
    t.match(failedDriver(new Map([['d', 9]]), new Map([['d', 9]]), defaultFailureSettings), /devices of d /);
  },
);
