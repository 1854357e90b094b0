import { isDeepStrictEqual } from 'node:util';
import t from 'tap';
import { allocationCase } from './allocations.ts';
import { Dice } from './dice.ts';
import { ask } from './oracle.ts';
import { kindOf, ourVerdict, theirVerdict } from './verdicts.ts';

t.setTimeout(900_000);

const cases = 6_000;
/** Machines on which so many combinations are possible that the search gives up: at most one in a thousand. */
const mostUnknown = cases / 1_000;
const casesOf136 = 2_000;
/** What changed from 1.36 to 1.37 (situations.test.ts tells it) matters for no more than one in fifty. */
const mostChanged = casesOf136 / 50;

const dice = new Dice(20_261_130);
const questions = Array.from({ length: cases }, () => allocationCase(dice));
const asked = questions.map(devices => ({ kind: 'devices', devices }));
const own = questions.map(ourVerdict);

t.test('claims get the devices that the structured allocator of Kubernetes gives them', async t => {
  const answers = await ask(asked);
  const tally = new Map<string, number>();
  const differing: string[] = [];
  for (const [at, verdict] of own.entries()) {
    const other = theirVerdict(answers[at] ?? {});
    const [kind = ''] = kindOf(verdict).split(':');
    tally.set(kind, (tally.get(kind) ?? 0) + 1);
    if (kind !== 'unknown' && !isDeepStrictEqual(verdict, other))
      differing.push(
        `case ${at}: ours\n${JSON.stringify(verdict)}\ntheirs\n${JSON.stringify(other)}\n${answers[at]?.['fails'] ?? ''}\n${JSON.stringify(questions[at])}`,
      );
  }
  t.comment([...tally].map(([kind, count]) => `${kind}: ${count}`).join(', '));
  t.equal(differing.length, 0, differing.slice(0, 2).join('\n\n'));
  t.ok((tally.get('unknown') ?? 0) <= mostUnknown, 'hardly any is left unknown');
  for (const kind of ['allocated', 'none', 'error'])
    t.ok((tally.get(kind) ?? 0) > cases / 20, `there are enough cases that end with ${kind}`);
});

t.test('that of 1.36 hardly ever gives others', async t => {
  const answers = await ask(asked.slice(0, casesOf136), '1.36');
  const changed = answers.filter((answer, at) => !isDeepStrictEqual(own[at], theirVerdict(answer)));
  t.comment(`${changed.length} of ${answers.length} differ`);
  t.equal(answers.length, casesOf136);
  t.ok(changed.length <= mostChanged);
});
