import fc from 'fast-check';
import t from 'tap';
import { planGroup } from '../../../src/planner/plan.ts';
import { release, type Unit } from '../../../src/planner/release.ts';
import { chooseVictims, preemptionPolicyOf, type VictimQuestion } from '../../../src/planner/victims.ts';
import { drawFleet } from '../../builders/fleet.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { questionOf } from '../../builders/planning.ts';
import { podOf } from '../../builders/pods.ts';
import {
  gpuUse,
  type PlainInstance,
  type PlainUnit,
  plainInstance,
  plainlyFits,
  questionOfPlain,
} from './release-instances.ts';

const exactInstances = 4_000;
const largeInstances = 500;

function answerOf(instance: PlainInstance, more: Partial<VictimQuestion> = {}) {
  const { input, units } = questionOfPlain(instance);
  return chooseVictims({ input, units, priority: instance.priority, ...more });
}

function namesOf(units: readonly { readonly key: string }[]): readonly string[] {
  return units.map(({ key }) => key.replace('victims/', '')).sort();
}

function mayGo({ priority }: PlainInstance, unit: PlainUnit): boolean {
  return !unit.going && !unit.kept && unit.priority < priority;
}

/** Every set of units, the best by kube-scheduler's rules, written down a second time. */
function bestByEnumeration(instance: PlainInstance): readonly PlainUnit[] | undefined {
  const standing = instance.units.filter(unit => !unit.going);
  const takeable = standing.filter(unit => mayGo(instance, unit));
  let best: readonly PlainUnit[] | undefined;
  for (let bits = 1; bits < 2 ** takeable.length; bits++) {
    const set = takeable.filter((_, i) => (bits >> i) % 2 === 1);
    if (best !== undefined && !isLessDamage(set, best)) continue;
    if (
      plainlyFits(
        instance,
        standing.filter(unit => !set.includes(unit)),
      )
    )
      best = set;
  }
  return best;
}

function isLessDamage(a: readonly PlainUnit[], b: readonly PlainUnit[]): boolean {
  const rules: readonly ((set: readonly PlainUnit[]) => number)[] = [
    set => set.filter(unit => unit.budgetsForbid).length,
    set => set.reduce((highest, unit) => Math.max(highest, unit.priority), -Infinity),
    set => set.map(unit => unit.priority + 2_147_483_648).reduce((x, y) => x + y, 0),
    set => set.flatMap(unit => unit.uses).length,
    set => set.length,
  ];
  const rule = rules.find(of => of(a) !== of(b));
  if (rule !== undefined) return rule(a) < rule(b);
  const named = (set: readonly PlainUnit[]) =>
    set
      .map(({ name }) => name)
      .sort()
      .join(' ');
  return named(a) < named(b);
}

t.test(`${exactInstances} instances: the victims are those that trying every set finds`, async t => {
  const seen = { victims: 0, several: 0, none: 0, fits: 0, coming: 0 };
  for (let seed = 1; seed <= exactInstances; seed++) {
    const instance = plainInstance(seed, 12);
    const { units } = instance;
    const answer = answerOf(instance);
    const standing = units.filter(unit => !unit.going);
    if (plainlyFits(instance, standing)) {
      const code = plainlyFits(instance, units) ? 'Fits' : 'RoomIsComing';
      if (answer.kind !== 'no-victims' || answer.code !== code) t.fail(`seed ${seed}: ${code}`, { answer });
      if (code === 'Fits') seen.fits++;
      else seen.coming++;
      continue;
    }
    const best = bestByEnumeration(instance);
    if (best === undefined) {
      const code = standing.some(unit => mayGo(instance, unit)) ? 'NothingHelps' : 'NoLowerPriority';
      if (answer.kind !== 'no-victims' || answer.code !== code) t.fail(`seed ${seed}: ${code}`, { answer });
      seen.none++;
      continue;
    }
    const wanted = best.map(({ name }) => name).sort();
    const got = answer.kind === 'victims' ? namesOf(answer.victims) : [];
    if (got.join() !== wanted.join()) t.fail(`seed ${seed}`, { wanted, got, answer });
    if (answer.kind === 'victims' && !answer.exact) t.fail(`seed ${seed}: not exact`);
    seen.victims++;
    if (best.length > 1) seen.several++;
  }
  t.comment(JSON.stringify(seen));
  t.ok(
    seen.victims > exactInstances / 10 && seen.several > exactInstances / 40,
    'enough had victims to choose',
  );
  t.ok(Math.min(seen.none, seen.fits, seen.coming) > 10, 'and the other answers came up, too');
});

t.test(`${largeInstances} instances with up to 40 candidates: nobody goes in vain`, async t => {
  let [several, inexact] = [0, 0];
  for (let seed = 1; seed <= largeInstances; seed++) {
    const instance = plainInstance(seed, 40);
    const answer = answerOf(instance);
    const standing = instance.units.filter(unit => !unit.going);
    const takeable = standing.filter(unit => mayGo(instance, unit));
    if (answer.kind === 'no-victims') {
      const helps = plainlyFits(
        instance,
        standing.filter(unit => !takeable.includes(unit)),
      );
      if (helps && !plainlyFits(instance, standing)) t.fail(`seed ${seed}: ${answer.message}`);
      continue;
    }
    const names = new Set(namesOf(answer.victims));
    const without = (gone: ReadonlySet<string>) => standing.filter(({ name }) => !gone.has(name));
    if (!plainlyFits(instance, without(names))) t.fail(`seed ${seed}: it does not fit`);
    if (takeable.filter(({ name }) => names.has(name)).length !== names.size)
      t.fail(`seed ${seed}: not theirs`);
    for (const name of names) {
      const others = new Set([...names].filter(other => other !== name));
      if (plainlyFits(instance, without(others))) t.fail(`seed ${seed}: ${name} goes in vain`);
    }
    if (names.size > 1) several++;
    if (!answer.exact) inexact++;
  }
  t.comment(`${several} with several victims, ${inexact} not exact`);
  t.ok(several > 10 && inexact > 10);
});

t.test('the order in which units are told changes nothing', async t => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 100_000 }),
      fc.integer({ min: 1, max: 24 }),
      fc.nat(),
      (seed, most, by) => {
        const instance = plainInstance(seed, most);
        const { input, units } = questionOfPlain(instance);
        const ask = (order: typeof units) => {
          const answer = chooseVictims({ input, units: order, priority: instance.priority });
          return answer.kind === 'victims' ? { ...answer, victims: namesOf(answer.victims) } : answer;
        };
        const turned = [...units.slice(by % (units.length + 1)), ...units.slice(0, by % (units.length + 1))];
        t.same(ask(turned.reverse()), ask(units));
      },
    ),
    { numRuns: 300 },
  );
});

t.test('the plan is the one that the planner makes once the victims are gone', async t => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 100_000 }), seed => {
      const instance = plainInstance(seed, 12);
      const { input, units } = questionOfPlain(instance);
      const answer = chooseVictims({ input, units, priority: instance.priority });
      if (answer.kind !== 'victims') return;
      const gone = [...answer.victims, ...units.filter(unit => unit.state === 'going')];
      t.same(planGroup(release(input, { units: gone, nodes: [] })), answer.plan);
      const used = new Set(answer.plan.nodes);
      const touches = answer.victims.filter(({ uses }) => uses.some(({ node }) => used.has(node)));
      t.equal(touches.length, answer.victims.length, 'every victim makes room on a node that the plan uses');
    }),
    { numRuns: 300 },
  );
});

/** Units of one line each: `name priority host:gpus ...`, with `pdb`, `kept` or `going` behind. */
function drawnInstance(
  hosts: readonly string[],
  lines: readonly string[],
  group: Partial<PlainInstance>,
): PlainInstance {
  return {
    seed: 0,
    hosts: hosts.map(line => {
      const [name = '', rack = '', gpu = '8'] = line.split(' ');
      return { name, rack, block: 'b', gpu: Number(gpu), cordoned: false };
    }),
    units: lines.map(line => {
      const [name = '', priority = '0', ...words] = line.split(' ');
      const uses = words.flatMap(word => {
        const [host = '', gpu] = word.split(':');
        return gpu === undefined ? [] : [{ host, gpu: Number(gpu), bound: true }];
      });
      const [budgetsForbid, kept, going] = ['pdb', 'kept', 'going'].map(word => words.includes(word));
      return {
        name,
        kind: uses.length > 1 ? 'group' : 'pod',
        priority: Number(priority),
        budgetsForbid: budgetsForbid === true,
        kept: kept === true,
        going: going === true,
        uses,
      } as const;
    }),
    workers: 2,
    workerGpu: 8,
    leaderGpu: undefined,
    required: 'rack',
    priority: 10,
    ...group,
  };
}

t.test('least damage, in the order of kube-scheduler', async t => {
  const hosts = ['a0 ra', 'a1 ra', 'b0 rb', 'b1 rb'];
  const cases: readonly [string, readonly string[], Partial<PlainInstance>, readonly string[]][] = [
    ['no broken budget before low priority', ['x 1 a0:8 a1:8 pdb', 'y 9 b0:8 b1:8'], {}, ['y']],
    ['the lowest highest priority', ['x 5 a0:8', 'w 0 a1:8', 'y 4 b0:8', 'z 4 b1:8'], {}, ['y', 'z']],
    ['then one unit rather than two', ['x 4 a0:8 a1:8', 'y 4 b0:8', 'z 4 b1:8'], {}, ['x']],
    ['also where priorities are negative', ['x -4 a0:8 a1:8', 'y -4 b0:8', 'z -4 b1:8'], {}, ['x']],
    ['the smaller sum', ['x 4 a0:8', 'w 3 a1:8', 'y 4 b0:8', 'z 4 b1:8'], {}, ['w', 'x']],
    ['fewer pods', ['x 4 a0:4 a0:4 a1:8', 'y 4 b0:8 b1:8'], {}, ['y']],
    ['names last', ['y 4 a0:8 a1:8', 'x 4 b0:8 b1:8'], {}, ['x']],
    ['two of priority 0 rather than one of 4', ['x 4 a0:8', 'y 0 b0:8', 'z 0 b1:8'], {}, ['y', 'z']],
    [
      'a group counts whole, though one of its pods is in the way',
      ['x 4 a0:8 a1:1 b0:1', 'w 4 a1:7', 'y 4 b0:7', 'z 4 b1:8'],
      { workers: 1 },
      ['z'],
    ],
    ['nobody of equal priority', ['x 10 a0:8', 'y 10 b0:8'], {}, []],
    ['nobody who is kept', ['x 0 a0:8 kept', 'y 9 b0:8'], {}, ['y']],
    ['who goes anyhow is not evicted', ['x 0 a0:8 going', 'y 0 a1:8', 'z 0 b0:8', 'v 0 b1:8'], {}, ['y']],
    ['all that fill a host', ['x 9 a0:8', 'y 0 b0:8', 'z 0 b1:4', 'v 0 b1:4'], {}, ['v', 'y', 'z']],
  ];
  for (const [name, lines, group, wanted] of cases) {
    const answer = answerOf(drawnInstance(hosts, lines, group));
    t.same(answer.kind === 'victims' ? namesOf(answer.victims) : [], wanted, name);
  }
});

t.test('when there are no victims, it says why', async t => {
  const hosts = ['a0 ra', 'a1 ra'];
  const cases: readonly [readonly string[], Partial<VictimQuestion>, string, string][] = [
    [['x 0 a0:8'], { preemptionPolicy: 'Never' }, 'Never', 'its preemptionPolicy is Never'],
    [[], {}, 'Fits', 'it fits without preemption'],
    [['x 0 a0:8 going'], {}, 'RoomIsComing', 'it fits once the pods that are terminating are gone'],
    [['x 10 a0:8'], {}, 'NoLowerPriority', 'nothing of lower priority may be preempted'],
    [
      ['x 0 a0:8', 'y 20 a1:1'],
      {},
      'NothingHelps',
      'it would not fit either if everything of lower priority ended',
    ],
    [['x 0 a0:8'], { maxPlans: 0 }, 'Undecided', 'no victims were found within the bounds of the search'],
  ];
  for (const [lines, more, code, message] of cases)
    t.same(answerOf(drawnInstance(hosts, lines, {}), more), { kind: 'no-victims', code, message });
});

t.test('one member that never preempts is enough', async t => {
  const { input } = questionOfPlain(drawnInstance(['a0 ra'], [], {}));
  const [leader, ...rest] = input.demands;
  t.equal(preemptionPolicyOf(input.demands), undefined);
  if (leader === undefined) return t.fail('no leader');
  const never = { ...leader, spec: { ...leader.spec, preemptionPolicy: 'Never' } };
  t.equal(preemptionPolicyOf([...rest, never]), 'Never');
});

const blocks = drawFleet(`
  block b0
    rack ra
      - a0 gpu=8
      - a1 gpu=8
    rack rb
      - b0 gpu=8
      - b1 gpu=8 used=8
  block b1
    rack rc
      - c0 gpu=8 used=8
      - c1 gpu=8
`);

/** The unit of a group that takes nothing but a node's pod slot. */
function guardUnit(key: string, node: string, existing: Unit['existing']): Unit {
  return {
    key,
    kind: 'group',
    owner: key,
    state: 'stays',
    whole: true,
    priority: 0,
    pods: 1,
    uses: [{ node, bound: true, use: { requests: new Map(), hostPorts: [], takesAccelerator: false } }],
    existing,
    whyKept: undefined,
    budgetsForbid: undefined,
  };
}

t.test('who keeps the group out by a rule is a victim, too, wherever it stands', async t => {
  for (const exclusive of ['example.com/rack', 'example.com/block']) {
    const guard = new LwsGroup({ name: 'guard', size: 1, worker: { cpu: 1 }, exclusive });
    const node = exclusive === 'example.com/rack' ? 'a1' : 'b0';
    const pods = [guard.leader({ node, gated: false })];
    const input = questionOf(blocks, { size: 2, worker: { gpu: 8 }, required: 'rack', pods });
    t.equal(planGroup(input).kind, 'rejection');
    const units = [guardUnit(guard.key, node, [...input.snapshot.repellingPods()])];
    const answer = chooseVictims({ input, priority: 1, units });
    t.match(answer, { kind: 'victims', victims: [{ key: guard.key }], exact: true }, exclusive);
  }
});

t.test('so is a group that has the domain for itself', async t => {
  const pods = [podOf({ name: 'full', gpu: 8, node: 'a0' })];
  const input = questionOf(blocks, { size: 2, worker: { gpu: 8 }, required: 'rack', pods });
  const neighbours = [{ key: 'serving/alone', owner: 'serving/alone', nodes: ['b0'], exclusiveLevel: 0 }];
  const full = { node: 'a0', bound: true, use: gpuUse(8) };
  const units = [
    guardUnit('serving/alone', 'b0', []),
    { ...guardUnit('serving/full', 'a0', []), uses: [full] },
  ];
  const answer = chooseVictims({ input: { ...input, neighbours }, priority: 1, units });
  t.match(
    answer,
    { kind: 'victims', exact: true },
    'the rule is seen though that group stands in another rack',
  );
  t.same(answer.kind === 'victims' ? answer.victims.map(({ key }) => key) : [], [
    'serving/alone',
    'serving/full',
  ]);
});

t.test('a group that must be beside another owner does not evict it', async t => {
  const instance = drawnInstance(['a0 ra', 'a1 ra'], ['x 0 a0:8', 'y 5 a1:8'], { workers: 1 });
  const { input, units } = questionOfPlain(instance);
  const topology = { ...input.topology, sameDomainAs: { owner: 'victims/x', level: 1 } };
  const neighbours = [{ key: 'victims/x', owner: 'victims/x', nodes: ['a0'] }];
  const answer = chooseVictims({ input: { ...input, topology, neighbours }, units, priority: 10 });
  t.same(answer.kind === 'victims' ? namesOf(answer.victims) : answer, ['y']);
});
