import t from 'tap';
import { type DeviceId, deviceKey } from '../../../src/cluster/devices/device.ts';
import {
  type DeviceTrouble,
  type ExclusionFacts,
  Exclusions,
  type WrittenExclusion,
} from '../../../src/failure/exclusions.ts';
import { defaultFailureSettings, type FailureSettings } from '../../../src/failure/settings.ts';

const minute = 60_000;
const hour = 60 * minute;

function device(name: string, driver = 'gpu.example.com'): DeviceId {
  return { driver, pool: 'a', device: name };
}

/** One process: what is wrong now is told each time, as the watch does. */
class World {
  readonly exclusions: Exclusions;
  nowMs = 0;
  readonly troubles = new Map<string, DeviceTrouble>();
  readonly written = new Map<string, WrittenExclusion>();
  readonly vouchedFor = new Set<string>();
  readonly uuids = new Map<string, string>();
  totals = new Map([['gpu.example.com', 100]]);
  blames: ExclusionFacts['blames'] = [];
  readonly released: string[] = [];
  dueInMs: number | undefined;

  constructor(settings: Partial<FailureSettings> = {}) {
    this.exclusions = new Exclusions({ ...defaultFailureSettings, ...settings });
  }

  bad(name: string, more: Partial<DeviceTrouble> = {}): void {
    const id = device(name);
    const trouble = { device: id, class: 'suspect', cause: `${name} is sick`, debounceMs: minute } as const;
    this.troubles.set(deviceKey(id), { ...trouble, firstSeenMs: this.nowMs, holders: [], ...more });
    this.look();
  }

  well(name: string): void {
    this.troubles.delete(deviceKey(device(name)));
    this.look();
  }

  wait(ms: number): readonly string[] {
    this.nowMs += ms;
    return this.look();
  }

  /** Names of what is excluded now. */
  look(): readonly string[] {
    const { troubles, totals, written, vouchedFor, blames, nowMs } = this;
    const uuidOf = ({ device }: DeviceId) => this.uuids.get(device);
    const changes = this.exclusions.update({ troubles, totals, uuidOf, written, vouchedFor, blames }, nowMs);
    for (const { exclusion, reason } of changes.released)
      this.released.push(`${exclusion.device.device} ${reason}`);
    this.dueInMs = changes.dueInMs;
    return this.exclusions.current().map(({ device }) => device.device);
  }

  rule(name: string, more: Partial<WrittenExclusion> = {}): void {
    const id = device(name);
    this.written.set(deviceKey(id), {
      device: id,
      class: 'suspect',
      cause: 'sick',
      uuid: undefined,
      group: undefined,
      quarantineLeftMs: undefined,
      ...more,
    });
  }
}

t.test(
  'a device is excluded once evidence has stood, and until it has been well for its probation',
  async t => {
    const world = new World();
    world.bad('gpu-0');
    t.same(world.look(), []);
    t.equal(world.dueInMs, 3_000);
    t.same(world.wait(2_999), []);
    t.same(world.wait(1), ['gpu-0']);
    t.same(world.wait(5 * hour), ['gpu-0'], 'as long as the evidence stands');
    world.well('gpu-0');
    t.equal(world.dueInMs, 10 * minute);
    t.same(world.wait(10 * minute - 1), ['gpu-0']);
    t.same(world.wait(1), []);
    t.same(world.released, ['gpu-0 recovered']);
  },
);

t.test('what passes within seconds excludes nothing, and what comes back ends the probation', async t => {
  const world = new World();
  world.bad('gpu-0');
  world.nowMs += 2_000;
  world.well('gpu-0');
  t.same(world.wait(minute), []);
  world.bad('gpu-1', { class: 'certain' });
  t.same(world.wait(3_000), ['gpu-1']);
  world.well('gpu-1');
  world.wait(9 * minute);
  world.bad('gpu-1');
  world.wait(minute);
  world.well('gpu-1');
  t.same(world.wait(9 * minute), ['gpu-1']);
  t.same(world.wait(minute), []);
});

t.test('evidence that counts sooner than that excludes sooner', async t => {
  const world = new World();
  world.bad('gpu-0', { debounceMs: 500 });
  t.same(world.wait(499), []);
  t.same(world.wait(1), ['gpu-0']);
});

t.test('a device that goes bad for the third time within 30 minutes stays away for a day', async t => {
  const world = new World();
  const flap = (): void => {
    world.bad('gpu-0', { class: 'certain' });
    world.wait(4_000);
    world.well('gpu-0');
    world.wait(16_000);
  };
  flap();
  flap();
  t.equal(world.exclusions.current()[0]?.quarantineUntilMs, undefined, 'twice is no quarantine');
  flap();
  t.same(world.wait(23 * hour), ['gpu-0']);
  t.same(world.wait(hour), []);

  const seldom = new World();
  for (let times = 0; times < 5; times += 1) {
    seldom.bad('gpu-0');
    seldom.wait(4_000);
    seldom.well('gpu-0');
    t.same(seldom.wait(15 * minute), [], 'one that goes bad seldom comes back each time');
  }
});

t.test(
  'evidence that never stands long enough excludes all the same when it comes again and again',
  async t => {
    const world = new World();
    for (let times = 0; times < 3; times += 1) {
      t.same(world.look(), []);
      world.bad('gpu-0');
      world.nowMs += 1_000;
      world.well('gpu-0');
    }
    t.same(world.look(), ['gpu-0']);
  },
);

t.test('a device that an administrator vouches for comes back at once, but not while it is sick', async t => {
  const world = new World();
  for (let times = 0; times < 3; times += 1) {
    world.well('gpu-0');
    world.bad('gpu-0');
  }
  world.vouchedFor.add(deviceKey(device('gpu-0')));
  t.same(world.wait(minute), ['gpu-0']);
  world.well('gpu-0');
  t.same(world.look(), []);
  t.same(world.released, ['gpu-0 vouched-for']);
});

t.test('suspicion excludes a tenth of the devices of a driver and no more, certain failures all', async t => {
  const world = new World();
  world.totals = new Map([
    ['gpu.example.com', 25],
    ['nic.example.com', 4],
  ]);
  for (let i = 0; i < 5; i += 1) world.bad(`gpu-${i}`);
  const nic = device('nic-0', 'nic.example.com');
  const sick = { class: 'suspect', cause: 'sick', debounceMs: 0, firstSeenMs: 0, holders: [] } as const;
  world.troubles.set(deviceKey(nic), { ...sick, device: nic });
  t.same(world.wait(3_000), ['gpu-0', 'gpu-1', 'nic-0'], 'one at least of each driver');
  t.same([...world.exclusions.refused.values()], ['share', 'share', 'share']);
  for (let i = 5; i < 10; i += 1) world.bad(`gpu-${i}`, { class: 'certain' });
  t.equal(world.wait(3_000).length, 8);
  world.well('gpu-0');
  world.wait(10 * minute);
  t.notOk(world.look().includes('gpu-0'));
  t.ok(world.look().includes('gpu-2'), 'the next one has its turn');
  t.equal(world.exclusions.refused.size, 2);
});

t.test('a device under a new name plate is another one', async t => {
  const world = new World();
  world.uuids.set('gpu-0', 'GPU-old');
  world.bad('gpu-0', { class: 'certain' });
  t.same(world.wait(minute), ['gpu-0']);
  world.troubles.clear();
  world.uuids.delete('gpu-0');
  t.same(world.wait(minute), ['gpu-0'], 'while it is away nobody knows');
  world.uuids.set('gpu-0', 'GPU-new');
  t.same(world.wait(1), []);
  t.same(world.released, ['gpu-0 replaced']);
  world.rule('gpu-0', { uuid: 'GPU-old' });
  t.same(world.wait(1), [], 'a rule for the old one is none for the new one');
});

t.test('rules that a process finds are kept for a probation from its own first sight', async t => {
  const world = new World();
  world.nowMs = hour;
  world.rule('gpu-0');
  world.rule('gpu-1', { quarantineLeftMs: 2 * hour });
  world.rule('gpu-2', { quarantineLeftMs: 1_000 * hour });
  t.same(world.look(), ['gpu-0', 'gpu-1', 'gpu-2']);
  t.same(world.wait(10 * minute - 1), ['gpu-0', 'gpu-1', 'gpu-2']);
  t.same(world.wait(1), ['gpu-1', 'gpu-2']);
  t.same(world.wait(minute), ['gpu-1', 'gpu-2'], 'a rule that is to go is no reason to begin again');
  t.same(world.wait(2 * hour), ['gpu-2']);
  t.same(world.wait(22 * hour), [], 'no clock makes a quarantine longer than a day');

  const other = new World();
  other.rule('gpu-0');
  t.same(other.look(), ['gpu-0']);
  other.written.clear();
  t.same(other.look(), [], 'whoever wrote it has taken it back');
  other.rule('gpu-0');
  other.bad('gpu-0');
  other.written.clear();
  t.same(other.wait(minute), ['gpu-0'], 'what this process sees itself counts more');
});

t.test('fault 38: a group that breaks one device after the other is to blame itself', async t => {
  const world = new World();
  const group = 'serving/llm-0';
  const had = (i: number) => ({ class: 'certain', holders: [{ group, incarnation: `uid-${i}` }] }) as const;
  for (let i = 0; i < 3; i += 1) {
    world.bad(`gpu-${i}`, had(i));
    world.wait(minute);
  }
  t.same(world.look(), ['gpu-0', 'gpu-1', 'gpu-2']);
  t.equal(world.exclusions.poisonous.size, 0, 'three may be bad luck');
  world.bad('gpu-3', had(3));
  t.same(world.wait(minute), ['gpu-3'], 'all but the last come back');
  t.same(world.released, ['gpu-0 poison', 'gpu-1 poison', 'gpu-2 poison']);
  t.ok(world.exclusions.poisonous.has(group));
  world.bad('gpu-4', had(4));
  t.same(world.wait(minute), ['gpu-3'], 'nothing more is excluded for it');
  t.equal(world.exclusions.refused.get(deviceKey(device('gpu-4'))), 'poison');
  const other = { group: 'serving/llm-1', incarnation: 'uid-other' };
  world.bad('gpu-5', { class: 'certain', holders: [...had(5).holders, other] });
  world.bad('gpu-6', { class: 'certain' });
  t.same(world.wait(minute), ['gpu-3', 'gpu-5', 'gpu-6'], 'what others see counts');
});

t.test('what the records say of a group counts with what is seen, within a day', async t => {
  const group = 'serving/llm-0';
  const blame = (thing: string, atMs: number, kind: 'device' | 'node' = 'device') =>
    ({ group, incarnation: `uid-of-${thing}`, kind, thing, atMs }) as const;
  const world = new World();
  world.blames = ['x', 'y', 'z'].map(thing => blame(thing, -1));
  world.bad('gpu-0', { class: 'certain', holders: [{ group, incarnation: 'a' }] });
  world.bad('gpu-1', { class: 'certain', holders: [{ group, incarnation: 'b' }] });
  t.equal(world.wait(minute).length, 1);
  t.same(world.wait(24 * hour), ['gpu-0', 'gpu-1'], 'a day later it is forgiven');

  const nodes = new World();
  nodes.blames = ['a', 'b'].map(thing => blame(thing, 0, 'node'));
  nodes.look();
  t.equal(nodes.exclusions.poisonous.size, 0);
  nodes.blames = ['a', 'b', 'c'].map((thing, i) => blame(thing, i, 'node'));
  nodes.look();
  t.match(nodes.exclusions.poisonous.get('serving/llm-0'), { nodes: 3, kept: new Set(['c']) });
});

t.test('a host that loses all its devices at once makes nobody poisonous', async t => {
  const world = new World();
  const holders = [{ group: 'serving/llm-0', incarnation: 'uid' }];
  for (let i = 0; i < 8; i += 1) world.bad(`gpu-${i}`, { class: 'certain', holders });
  t.equal(world.wait(minute).length, 8);
  t.equal(world.exclusions.poisonous.size, 0);
});
