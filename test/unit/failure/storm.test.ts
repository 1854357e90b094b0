import t from 'tap';
import { berth } from '../../../src/api/names.ts';
import { type Intent, isIntentError, parseIntent } from '../../../src/failure/intent.ts';
import { defaultFailureSettings, type FailureSettings } from '../../../src/failure/settings.ts';
import { ApiError, ApiUnreachable } from '../../../src/kube/api-errors.ts';
import { labelOf } from '../../builders/fleet.ts';
import { FakeClock } from '../kube/fake-clock.ts';
import { configOf, FakeCluster, groupsOf } from './fake-cluster.ts';
import { isHurt, RandomFaults, randomOf } from './random-faults.ts';
import { Replica } from './replica.ts';

t.setTimeout(600_000);

const size = 2;
const wantedFaults = Number(process.env['BERTH_FAULTS'] ?? 10_000);
const faultsPerStory = 250;
const hourMs = 3_600_000;
/** So long most devices are bad in a story with breakers. */
const massMs = 60_000;

/** What keeps a random fleet of ten groups from being looked at by anything but rates and budgets. */
const noBreakers = {
  domainMinNodes: 1_000,
  massMinNodes: 1_000,
  deviceMinCount: 1_000,
  deviceMassMinCount: 1_000,
};
const profiles: readonly { readonly name: string; readonly settings: Partial<FailureSettings> }[] = [
  { name: 'as shipped, without breakers', settings: { ...noBreakers, restartsPerDay: 20 } },
  {
    name: 'fast',
    settings: {
      ...noBreakers,
      unhealthyAfterSeconds: 5,
      suspectAfterSeconds: 10,
      nodeUnknownAfterSeconds: 10,
      servingEvictionsPerSecond: 1,
      inFlightMin: 4,
      inFlightPerOwner: 2,
      restartsPerHour: 100,
      restartsPerDay: 1_000,
    },
  },
  {
    name: 'with breakers',
    settings: { breakerQuietSeconds: 60, badNodeWindowSeconds: 60, restartsPerHour: 10, restartsPerDay: 100 },
  },
];

/** Brakes that somebody or something puts on for a while. */
const brakes = ['halt', 'stale', 'observe', 'api', 'no-room', 'budget'] as const;
type BrakeOn = (typeof brakes)[number] | 'mass';

interface Ending {
  readonly violations: readonly string[];
  readonly faults: ReadonlyMap<string, number>;
  readonly evictions: number;
  readonly workersTold: number;
  readonly kills: number;
  readonly brakesSeen: ReadonlySet<string>;
  readonly simulatedMs: number;
}

/**
 * One fleet with many faults, under brakes that come and go and processes that die.
 * @param limits what it is judged by
 */
async function story(seed: number, settings: FailureSettings, limits = settings): Promise<Ending> {
  const random = randomOf(seed);
  const victims = ['a', 'b', 'c'].flatMap(name => groupsOf(3, size, name));
  const innocents = groupsOf(1, size, 'calm');
  const cluster = new FakeCluster([...victims, ...innocents], 40, 4, { claims: true });
  const clock = new FakeClock();
  const faults = new RandomFaults(cluster, victims, random);
  const violations: string[] = [];
  const on = new Map<BrakeOn, number>();
  const brakesSeen = new Set<string>();
  let replica = new Replica(cluster, { settings, clock });
  let kills = 0;
  let isCalm = false;
  /** Serving groups that Berth took down and that have not been whole since, by their old leader's UID. */
  const down = new Map<
    string,
    {
      readonly key: string;
      readonly owner: string;
      readonly racks: ReadonlySet<string>;
      readonly incarnation: number;
    }
  >();
  let before = { calls: 0, violation: undefined as string | undefined, serving: false };

  const membersOf = (uid: string) => {
    const leader = cluster.pods.get(uid);
    const all = [...cluster.pods.values()];
    return all.filter(pod => pod.group === leader?.group && pod.incarnation === leader?.incarnation);
  };
  const isWhole = (members: ReturnType<typeof membersOf>) =>
    members.length === size &&
    members.every(pod => cluster.nowMs >= pod.readyAtMs && pod.terminatingAtMs === undefined);

  /** A node that is gone had a rack, too, but nobody here knows it any more. */
  const racksOf = (members: ReturnType<typeof membersOf>) =>
    new Set(
      members.flatMap(
        ({ pod }) => cluster.nodes.get(pod.spec.nodeName ?? '')?.metadata.labels?.[labelOf('rack')] ?? [],
      ),
    );

  const forgetWhole = () => {
    for (const [uid, { key, incarnation }] of down) {
      const now = [...cluster.pods.values()].filter(
        pod => pod.group?.key === key && pod.incarnation > incarnation,
      );
      // What hits the new one is another fault, of a group that does not serve.
      if (isWhole(now) || now.some(pod => pod.incarnation > incarnation + 1 || isHurt(cluster, pod)))
        down.delete(uid);
    }
  };

  cluster.interrupt = ({ method, path }, when) => {
    if (replica.isDead) return;
    const name = /pods\/([^/]+)\/eviction$/.exec(path)?.[1];
    const isDestructive = name !== undefined || (method === 'DELETE' && path.includes('/statefulsets/'));
    if (isDestructive && when === 'before') {
      const leader = [...cluster.pods.values()].find(({ pod }) => pod.metadata.name === name);
      const members = membersOf(leader?.pod.metadata.uid ?? '');
      const held = (
        ['halt', 'stale', ...(name === undefined ? [] : (['observe', 'api', 'mass'] as const))] as const
      ).filter(brake => on.has(brake));
      const isReady = members.some(
        pod => cluster.nowMs >= pod.readyAtMs && pod.terminatingAtMs === undefined,
      );
      const wrong = [
        ...held.map(brake => `under the brake ${brake}`),
        ...(name !== undefined && on.has('budget') && isReady ? ['against a disruption budget'] : []),
        ...(name !== undefined && members.length === size && !members.some(pod => isHurt(cluster, pod))
          ? ['of a group with nothing wrong']
          : []),
      ];
      const violation = wrong.length === 0 ? undefined : `${name ?? path} ${wrong.join(' and ')}`;
      // Pods of a Node that is gone say Ready until PodGC has ended them.
      const serving =
        isWhole(members) && members.every(({ pod }) => cluster.nodes.has(pod.spec.nodeName ?? ''));
      before = { calls: cluster.destructive.length, violation, serving };
    }
    if (isDestructive && when === 'after' && cluster.destructive.length > before.calls) {
      if (before.violation !== undefined) violations.push(`${cluster.nowMs} ms: ${before.violation}`);
      const uid = cluster.destructive.at(-1)?.split(' ')[1] ?? '';
      const leader = cluster.pods.get(uid);
      if (before.serving && leader?.group !== undefined && name !== undefined) {
        forgetWhole();
        const { key, setName } = leader.group;
        const others = [...down.values()];
        const ofOwner = others.filter(({ owner }) => owner === setName).length;
        const limit = Math.max(limits.inFlightMin, Math.floor(limits.inFlightShare * cluster.groups.length));
        if (others.length >= limit) violations.push(`${cluster.nowMs} ms: ${key} beyond ${limit} in flight`);
        if (ofOwner >= limits.inFlightPerOwner)
          violations.push(`${cluster.nowMs} ms: ${key} beyond its owner's`);
        const racks = racksOf(membersOf(uid));
        const near = others.filter(other => [...other.racks].some(rack => racks.has(rack))).length;
        if (near >= limits.inFlightPerDomain)
          violations.push(`${cluster.nowMs} ms: ${key} beyond its rack's`);
        down.set(uid, { key, owner: setName, racks, incarnation: leader.incarnation });
      }
    }
    if (isCalm) return;
    const dice = random() / (isDestructive ? 4 : 1);
    if (dice < 0.004) {
      kills += 1;
      replica.kill();
      throw new ApiUnreachable('killed');
    }
    if (dice < 0.007) throw new ApiUnreachable('no answer');
    if (dice < 0.009 && when === 'before') throw new ApiError({ status: 500, message: 'internal' });
  };

  const apply = () => {
    cluster.configMaps.set('berth-config', configOf(on.has('halt')));
    cluster.namespaceLabels = {
      [berth.mode]: 'pin',
      ...(on.has('observe') && { [berth.failure]: 'observe' }),
    };
    const all = { uid: 'pdb', namespace: 'serving', name: 'pdb', selector: {}, upToDate: true };
    cluster.budgets.splice(0, 1, ...(on.has('budget') ? [{ ...all, disruptionsAllowed: 0 }] : []));
    replica.stalestMs = on.has('stale') ? 91_000 : 0;
    replica.calls = on.has('api') ? { total: 20, failed: 10 } : { total: 20, failed: 0 };
    replica.room = !on.has('no-room');
  };
  let reviewedMs = 0;
  const step = async (ms: number) => {
    if (replica.isDead) replica = new Replica(cluster, { settings, clock });
    faults.repair(isCalm);
    for (const [brake, untilMs] of on) if (cluster.nowMs >= untilMs) on.delete(brake);
    apply();
    await replica.run(ms, ms);
    for (const brake of replica.brakes) brakesSeen.add(brake);
    forgetWhole();
    if (cluster.nowMs - reviewedMs >= 30_000) {
      reviewedMs = cluster.nowMs;
      replica.controller.reviewAll();
    }
  };
  const intents = () =>
    [...cluster.configMaps.values()].flatMap(({ data }) => {
      const intent = parseIntent(data?.['intent.json'] ?? '');
      return isIntentError(intent) ? [] : [intent];
    });
  const isBusy = () =>
    [...cluster.pods.values()].some(
      pod => pod.terminatingAtMs !== undefined || cluster.nowMs < pod.readyAtMs,
    );

  let count = 0;
  while (count < faultsPerStory) {
    // Faults come in bursts, as they do.
    for (let burst = Math.floor(random() * 20); burst > 0; burst -= 1) {
      faults.add();
      count += 1;
    }
    if (
      settings.deviceMassMinCount < 100 &&
      count > faultsPerStory / 2 &&
      faults.counts.get('mass') === undefined
    ) {
      faults.addMass(massMs);
      on.set('mass', cluster.nowMs + massMs);
    }
    if (random() < 0.12) {
      const brake = brakes[Math.floor(random() * brakes.length)];
      if (brake !== undefined) on.set(brake, cluster.nowMs + random() * 40_000);
    }
    for (let steps = 0; steps < 5; steps += 1) await step(isBusy() ? 2_000 : 6_000);
  }
  isCalm = true;
  on.clear();
  cluster.lwsMissesWorkers = false;
  const stuck = () => [
    ...cluster.groups
      .filter(group => {
        const pods = cluster.podsOf(group);
        return (
          pods.length !== size ||
          new Set(pods.map(pod => pod.incarnation)).size !== 1 ||
          pods.some(pod => isHurt(cluster, pod))
        );
      })
      .map(group => `${group.key} is not whole and well`),
    ...intents()
      .filter(({ phase }) => phase !== 'closed')
      .map(({ group, phase }) => `the intent of ${group} is ${phase}`),
  ];
  const calmMs = cluster.nowMs;
  // What budgets hold back is done in time.
  while (stuck().length > 0 && cluster.nowMs < calmMs + 2 * hourMs) await step(isBusy() ? 2_000 : 10_000);

  const evicted = cluster.destructive.filter(call => call.startsWith('evict'));
  const twice = evicted.filter((call, at) => evicted.indexOf(call) !== at);
  const harmed = innocents.filter(group => cluster.podsOf(group).some(pod => pod.incarnation !== 1));
  return {
    violations: [
      ...violations,
      ...twice.map(call => `${call} twice`),
      ...harmed.map(group => `${group.key} was innocent`),
      ...beyondBudgets(intents(), new Set(evicted.map(call => call.slice('evict '.length))), limits),
      ...stuck(),
    ],
    faults: faults.counts,
    evictions: evicted.length,
    workersTold: cluster.destructive.length - evicted.length,
    kills,
    brakesSeen,
    simulatedMs: cluster.nowMs,
  };
}

/** Rates and budgets of groups that Berth itself has evicted, reckoned from all of them together. */
function beyondBudgets(
  intents: readonly Intent[],
  byBerth: ReadonlySet<string>,
  limits: FailureSettings,
): readonly string[] {
  const own = intents
    .filter(({ leaderUid }) => byBerth.has(leaderUid))
    .sort((a, b) => a.times.intent - b.times.intent);
  const problems: string[] = [];
  for (const [serving, perSecond, burst] of [
    [true, limits.servingEvictionsPerSecond, limits.servingBurst],
    [false, limits.brokenEvictionsPerSecond, limits.brokenBurst],
  ] as const) {
    const times = own.filter(intent => intent.serving === serving).map(({ times }) => times.intent);
    for (const [i, from] of times.entries())
      for (const [j, to] of times.slice(i).entries())
        if (j + 1 > burst + ((to - from) / 1000) * perSecond + 1e-6)
          problems.push(`${j + 1} evictions within ${to - from} ms, serving: ${serving}`);
  }
  for (const [group, of] of Map.groupBy(own, intent => intent.group)) {
    const times = of.map(intent => intent.times.intent);
    for (const [i, at] of times.entries()) {
      const earlier = times.slice(0, i);
      const day = earlier.filter(time => at - time < 24 * hourMs).length;
      if (day >= limits.restartsPerDay) problems.push(`${group} ${day + 1} times a day`);
      const hour = earlier.filter(time => at - time < hourMs).length;
      const waits = hour - limits.restartsPerHour;
      const minutes = Math.min(limits.restartLongestWaitMinutes, limits.restartFirstWaitMinutes * 2 ** waits);
      const last = earlier.at(-1);
      if (waits >= 0 && last !== undefined && at - last < minutes * 60_000)
        problems.push(`${group} again after ${at - last} ms, ${hour} times in the hour before`);
    }
  }
  return problems;
}

const settingsOf = (index: number): FailureSettings => ({
  ...defaultFailureSettings,
  mode: 'evict',
  newHolderSeconds: 0,
  // Faults rain on nine groups for hours: each would be taken for one that breaks its devices.
  poisonDevices: 1_000,
  poisonNodes: 1_000,
  ...profiles[index % profiles.length]?.settings,
});

t.test(
  `fault 44: ${wantedFaults} random faults: no group twice, none that is innocent, all whole in the end`,
  async t => {
    const first = Number(process.env['BERTH_SEED'] ?? 1);
    let faults = 0;
    const sums = { evictions: 0, workersTold: 0, kills: 0, simulatedMs: 0 };
    const brakesSeen = new Set<string>();
    const kinds = new Set<string>();
    for (let seed = first; faults < wantedFaults; seed += 1) {
      const ending = await story(seed, settingsOf(seed));
      for (const [kind, count] of ending.faults) {
        kinds.add(kind);
        faults += count;
      }
      for (const key of Object.keys(sums) as (keyof typeof sums)[]) sums[key] += ending[key];
      for (const brake of ending.brakesSeen) brakesSeen.add(brake);
      if (ending.violations.length > 0)
        t.same(ending.violations.slice(0, 10), [], `seed ${seed}, ${profiles[seed % profiles.length]?.name}`);
    }
    t.comment(`${faults} faults: ${JSON.stringify(sums)}; held by ${[...brakesSeen].sort().join(', ')}`);
    t.equal(kinds.size, 13, 'of all kinds');
    t.ok(sums.evictions > wantedFaults / 50, `${sums.evictions} groups were evicted`);
    t.ok(sums.workersTold > 0, `workers of ${sums.workersTold} leaders were told`);
    t.ok(sums.kills > wantedFaults / 500, `processes were killed ${sums.kills} times`);
    for (const brake of [
      'halt',
      'stale',
      'api-health',
      'debounce',
      'rate',
      'in-flight',
      'restart-budget',
      'device-mass',
      'device-failure',
      'domain-failure',
      'plan-first',
      'disruption-budget',
      'mode',
    ])
      t.ok(brakesSeen.has(brake), `the brake ${brake} has held`);
  },
);

t.test('control: what goes beyond a limit, or is done under a brake, is found', async t => {
  const settings = settingsOf(1);
  const strict = { ...settings, inFlightMin: 1, inFlightPerOwner: 1, restartsPerDay: 1 };
  const beyond = await story(1, settings, strict);
  for (const what of [/in flight/, /times a day/])
    t.ok(
      beyond.violations.some(text => what.test(text)),
      String(what),
    );
  const blind = { ...settings, deviceMassMinCount: 3, deviceMassShare: 2 };
  const { violations } = await story(1, blind);
  t.ok(violations.some(text => text.includes('under the brake mass')));
});
