import t from 'tap';
import { type Choice, chooseParts, type Part } from '../../../src/planner/choose-parts.ts';
import { mulberry32 } from './instances.ts';

const firstSeed = Number(process.env['BERTH_SEED'] ?? 20260101);
const instances = 30_000;

interface Question {
  readonly parts: readonly Part[];
  readonly wanted: number;
  readonly withLeader: boolean;
}

interface Cost {
  readonly opened: number;
  readonly whole: number;
}

function questionOf(seed: number): Question {
  const random = mulberry32(seed);
  const upTo = (n: number) => Math.floor(random() * (n + 1));
  const withLeader = random() < 0.5;
  const keeps = random() < 0.4;
  const parts = Array.from({ length: upTo(6) }, (_, at): Part => {
    const units = upTo(4);
    // The leader may take room from the units, or none, or have to go elsewhere.
    const beside = withLeader && random() < 0.6 ? upTo(units) : -1;
    return { at, units, beside, whole: random() < 0.5, kept: keeps && random() < 0.3 };
  });
  return { parts, wanted: upTo(9), withLeader };
}

/** The least that any set of parts costs, with the leader in any of them; undefined when none holds all. */
function leastCost({ parts, wanted, withLeader }: Question): Cost | undefined {
  let least: Cost | undefined;
  for (let chosen = 0; chosen < 2 ** parts.length; chosen++) {
    const used = parts.filter((_, at) => chosen & (1 << at));
    const room = used.reduce((sum, { units }) => sum + units, 0);
    const withIt = used.filter(({ beside }) => beside >= 0).map(({ units, beside }) => room - units + beside);
    const holds = withLeader ? withIt.some(left => left >= wanted) : room >= wanted;
    const cost = costOf(used);
    if (holds && (least === undefined || isLess(cost, least))) least = cost;
  }
  return least;
}

function costOf(used: readonly Part[]): Cost {
  const opened = used.filter(({ kept }) => !kept);
  return { opened: opened.length, whole: opened.filter(({ whole }) => whole).length };
}

function isLess(a: Cost, b: Cost): boolean {
  return a.opened < b.opened || (a.opened === b.opened && a.whole < b.whole);
}

function faultOf(
  { parts, wanted, withLeader }: Question,
  { shares, opened, openedWhole }: Choice,
): string | undefined {
  const used = shares.flatMap(({ at }) => parts.filter(part => part.at === at));
  if (new Set(used).size < used.length) return 'a part is used twice';
  if (shares.some(({ at, units, leader }) => units > (parts[at]?.[leader ? 'beside' : 'units'] ?? -1)))
    return 'a part gets more than it holds';
  if (shares.reduce((sum, { units }) => sum + units, 0) !== wanted) return 'not all units have a part';
  if (shares.filter(({ leader }) => leader).length !== Number(withLeader)) return 'not one leader';
  if (withLeader && shares[0]?.leader !== true) return "the leader's part does not come first";
  if (shares.some(({ units, leader }) => units === 0 && !leader)) return 'a part is used for nothing';
  const { opened: parts_, whole } = costOf(used);
  return parts_ === opened && whole === openedWhole ? undefined : 'the costs are not those of the shares';
}

t.test(
  'as few parts as can be are opened, and as few whole ones, as trying all sets of parts says',
  async t => {
    const faults: string[] = [];
    let held = 0;
    for (let i = 0; i < instances; i++) {
      const question = questionOf(firstSeed + i);
      const [choice, least] = [
        chooseParts(question.parts, question.wanted, question.withLeader),
        leastCost(question),
      ];
      if (choice !== undefined) held++;
      const fault = choice && faultOf(question, choice);
      const isLeast = choice?.opened === least?.opened && choice?.openedWhole === least?.whole;
      if (fault !== undefined || !isLeast)
        faults.push(`${JSON.stringify(question)}: ${fault ?? JSON.stringify({ choice, least })}`);
    }
    t.same(faults.slice(0, 3), []);
    t.ok(held > instances / 4 && held < (instances * 3) / 4, `${held} of ${instances} are held`);
  },
);

t.test('the rest goes where it is tightest', async t => {
  const part = (at: number, units: number, whole = false): Part => ({
    at,
    units,
    beside: -1,
    whole,
    kept: false,
  });
  const places = (parts: readonly Part[], wanted: number) =>
    chooseParts(parts, wanted, false)
      ?.shares.map(({ at, units }) => `${at}:${units}`)
      .join(' ');
  t.equal(places([part(0, 4), part(1, 2), part(2, 3)], 2), '1:2', 'one part');
  t.equal(places([part(0, 4), part(1, 4), part(2, 1)], 5), '0:4 2:1', 'the last of several');
  t.equal(places([part(0, 2, true), part(1, 3)], 2), '1:2', 'a whole part is not broken for the sake of fit');
  t.equal(places([part(0, 2), part(1, 2)], 2), '0:2', 'of equals the first');
});
