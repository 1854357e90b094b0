import t from 'tap';
import type { GroupPlan } from '../../../src/planner/plan.ts';
import type { Rejection, Undecided } from '../../../src/planner/rejection.ts';
import { askBerth, eventsFor } from './both-planners.ts';
import {
  domainsOf,
  faultsOf,
  fewestHosts,
  fitsExactly,
  fitsInOneDomain,
  kueueRules,
  noRules,
} from './exact-verdict.ts';
import { askKueue, buildKueueOracle, type KueueAnswer } from './kueue-oracle.ts';
import { generateQuestion, generateRack, type Question, type QuestionHost } from './question.ts';

const questionCount = 12_000;
const rackCount = 1_500;

// The first run compiles Kueue.
t.setTimeout(900_000);

const oracle = buildKueueOracle();

/** What both say to one question. */
interface Verdicts {
  readonly question: Question;
  readonly berth: GroupPlan | Rejection | Undecided;
  readonly kueue: KueueAnswer;
}

/** Asked once for several tests. */
const generated = askBoth(Array.from({ length: questionCount }, (_, index) => generateQuestion(index + 1)));

/** Where Kueue decides otherwise than kube-scheduler would have it. Berth does not follow. */
const knownRules = [
  {
    name: 'Kueue puts a leader where the workers may go, whatever its own selector and tolerations say',
    rules: { ...noRules, leaderGoesWithWorkers: true },
    atMostPercent: 2,
  },
  {
    name: 'Kueue does not see nodes that lack the label of some level',
    rules: { ...noRules, nodesNeedEveryLabel: true },
    atMostPercent: 2,
  },
  { name: 'both of these at once', rules: kueueRules, atMostPercent: 0.5 },
] as const;

t.test('Kueue and Berth give the same verdict, but for differences that are known', async t => {
  const all = await generated;
  const wrong = all.filter(({ question, berth }) => (berth.kind === 'plan') !== fitsExactly(question));
  t.strictSame(wrong.slice(0, 3), [], `${wrong.length} verdicts of Berth are not what counting finds`);

  const differing = all.filter(({ berth, kueue }) => (berth.kind === 'plan') !== (kueue.nodes !== undefined));
  const byRule = Map.groupBy(differing, ruleBehind);
  t.strictSame(
    byRule.get(undefined)?.slice(0, 3) ?? [],
    [],
    'every difference comes of a known rule of Kueue',
  );
  for (const rule of knownRules) {
    const { length } = byRule.get(rule) ?? [];
    t.ok(
      length > 0 && length <= (all.length * rule.atMostPercent) / 100,
      `${rule.name}: ${length} of ${all.length}`,
    );
  }
});

t.test('what either of them plans can be had, but for leaders that Kueue does not look at', async t => {
  const all = await askBoth(
    Array.from({ length: questionCount }, (_, index) => generateQuestion(-1 - index)),
  );
  const faults = { berth: [] as string[], kueue: [] as string[] };
  for (const { question, berth, kueue } of all) {
    if (berth.kind === 'plan') faults.berth.push(...faultsOf(question, berth.nodes));
    if (kueue.nodes !== undefined) faults.kueue.push(...faultsOf(question, kueue.nodes));
  }
  t.strictSame(faults.berth, [], 'whatever Berth plans kube-scheduler will bind');
  const onLeaders = faults.kueue.filter(fault => fault.startsWith('leader: '));
  t.equal(onLeaders.length, faults.kueue.length, 'Kueue errs about leaders only');
  t.ok(
    onLeaders.length > 0 && onLeaders.length <= questionCount * 0.03,
    `${onLeaders.length} leaders cannot start`,
  );
});

t.test('both keep a group on the level it prefers, or on one host, when that can be had', async t => {
  const spread = { berth: 0, kueue: 0 };
  let asked = 0;
  for (const { question, berth, kueue } of await generated) {
    const level = preferredLevelReached(question);
    if (level === undefined) continue;
    asked++;
    if (berth.kind === 'plan' && !isTogether(question, berth.nodes, level)) spread.berth++;
    if (kueue.nodes !== undefined && !isTogether(question, kueue.nodes, level)) spread.kueue++;
  }
  t.ok(asked > questionCount * 0.05, `${asked} groups could have what they prefer`);
  t.strictSame(spread, { berth: 0, kueue: 0 }, 'none of them was spread over more');
});

t.test(
  'a leader for the only CPU node of its rack is put there by Berth, and on a GPU node by Kueue',
  async t => {
    const gpuHosts = ['gpu-0', 'gpu-1', 'gpu-2'].map(name => hostOf(name, { pool: 'gpu' }));
    const cpuHost = hostOf('cpu-0', { pool: 'cpu', allocatable: [64, 0, 64] });
    const [verdicts] = await askBoth([
      {
        ...plain,
        levels: 1,
        hosts: [...gpuHosts, cpuHost],
        size: 4,
        worker: { amounts: [8, 8, 1], pool: 'gpu', tolerates: false },
        leader: { amounts: [8, 0, 1], pool: 'cpu', tolerates: false },
        wish: { kind: 'required', level: 0 },
      },
    ]);
    const { question, berthNodes, kueueNodes } = bothPlanned(verdicts);
    t.strictSame(faultsOf(question, berthNodes), []);
    t.equal(berthNodes[0], 'cpu-0');
    t.strictSame(faultsOf(question, kueueNodes), ['leader: selector'], 'admitted, and never to be scheduled');
  },
);

t.test(
  'a group for a whole rack goes to the broken block with Berth, and breaks another with Kueue',
  async t => {
    const racks = ['b0', 'b1', 'b2', 'b3'].flatMap(block => ['r0', 'r1'].map(rank => [block, rank] as const));
    const hosts = racks.flatMap(([block, rack]) =>
      ['h0', 'h1'].map(host => {
        const used: QuestionHost['used'] = block === 'b3' && rack === 'r0' ? [[8, 8, 1]] : [];
        return hostOf(`${block}-${rack}-${host}`, { path: [block, rack], used });
      }),
    );
    const wholeHost = { amounts: [8, 8, 1], pool: '', tolerates: false } as const;
    const wish = { kind: 'required', level: 1 } as const;
    const [verdicts] = await askBoth([{ ...plain, levels: 2, hosts, size: 2, worker: wholeHost, wish }]);
    const { question, berthNodes, kueueNodes } = bothPlanned(verdicts);
    t.equal(untouchedBlocks(question, berthNodes), 3);
    t.equal(untouchedBlocks(question, kueueNodes), 2);
  },
);

t.test('Berth takes the fewest hosts of a rack for a leader and workers, Kueue often more', async t => {
  const all = await askBoth(Array.from({ length: rackCount }, (_, index) => generateRack(index + 1)));
  const wrong = all.filter(
    ({ question, berth }) => (berth.kind === 'plan') !== (fewestHosts(question) !== undefined),
  );
  t.strictSame(wrong, [], 'Berth refuses only what does not fit');
  let feasible = 0;
  const larger = { berth: 0, kueue: 0 };
  for (const { question, berth, kueue } of all) {
    const fewest = fewestHosts(question);
    if (fewest === undefined || berth.kind !== 'plan' || kueue.nodes === undefined) continue;
    feasible++;
    if (new Set(berth.nodes).size > fewest) larger.berth++;
    if (new Set(kueue.nodes).size > fewest) larger.kueue++;
  }
  t.ok(feasible > rackCount / 3, `${feasible} groups fit`);
  t.equal(larger.berth, 0, 'Berth never takes more hosts than needed');
  t.ok(larger.kueue > feasible / 10, `Kueue does for ${larger.kueue} of ${feasible}`);
});

async function askBoth(questions: readonly Question[]): Promise<readonly Verdicts[]> {
  const answers = await askKueue(await oracle, questions.flatMap(eventsFor));
  return questions.map((question, index) => {
    // The first answer is to the fleet.
    const kueue = answers[2 * index + 1];
    if (kueue === undefined) throw new Error('the oracle leaves a question unanswered');
    return { question, berth: askBerth(question), kueue };
  });
}

/** The rule that alone makes Kueue's verdict out of the right one. */
function ruleBehind({ question, kueue }: Verdicts): (typeof knownRules)[number] | undefined {
  return knownRules.find(({ rules }) => fitsExactly(question, rules) === (kueue.nodes !== undefined));
}

/** The finest level, from the preferred one upwards, of which one domain holds the group, for Kueue as for Berth. */
function preferredLevelReached(question: Question): number | undefined {
  if (question.wish.kind !== 'preferred') return undefined;
  for (let level = question.wish.level; level >= 0; level--) {
    const [fits, fitsKueue] = [noRules, kueueRules].map(rules => fitsInOneDomain(question, level, rules));
    if (fits && fitsKueue) return level;
    if (fits || fitsKueue) return undefined;
  }
  return undefined;
}

/** A host that lacks the label of the level is in none of its domains, and yet nothing is nearer than one host. */
function isTogether({ hosts, levels }: Question, nodes: readonly string[], level: number): boolean {
  const places = hosts.filter(({ name }) => nodes.includes(name));
  return places.length === 1 || domainsOf(places, level, levels).size === 1;
}

function bothPlanned(verdicts: Verdicts | undefined) {
  if (verdicts?.berth.kind !== 'plan' || verdicts.kueue.nodes === undefined) {
    throw new Error('one of them refuses the group');
  }
  return {
    question: verdicts.question,
    berthNodes: verdicts.berth.nodes,
    kueueNodes: verdicts.kueue.nodes,
  };
}

function untouchedBlocks({ hosts }: Question, nodes: readonly string[]): number {
  const touched = hosts.filter(({ name, used }) => used.length > 0 || nodes.includes(name));
  return domainsOf(hosts, 0, 2).size - domainsOf(touched, 0, 2).size;
}

const plain = { leader: undefined, slice: undefined } as const;

function hostOf(name: string, parts: Partial<QuestionHost>): QuestionHost {
  const free = { tainted: false, cordoned: false, used: [] } as const;
  return { name, path: ['r0'], pool: '', ...free, allocatable: [64, 8, 64], podSlots: 20, ...parts };
}
