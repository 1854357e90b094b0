import { isDeepStrictEqual } from 'node:util';
import t from 'tap';
import { allocationCase } from './allocations.ts';
import { Dice } from './dice.ts';
import { ask } from './oracle.ts';
import { kindOf, ourVerdict, theirVerdict } from './verdicts.ts';

const cases = 6_000;
/** Machines on which so many combinations are possible that the search gives up: at most one in a thousand. */
const mostUnknown = cases / 1_000;

t.test('claims get the devices that the structured allocator of Kubernetes gives them', async t => {
  const dice = new Dice(20_261_130);
  const asked = Array.from({ length: cases }, () => allocationCase(dice));
  const answers = await ask(asked.map(devices => ({ kind: 'devices', devices })));
  const tally = new Map<string, number>();
  const differing: string[] = [];
  for (const [at, question] of asked.entries()) {
    const [own, other] = [ourVerdict(question), theirVerdict(answers[at] ?? {})];
    const [kind = ''] = kindOf(own).split(':');
    tally.set(kind, (tally.get(kind) ?? 0) + 1);
    if (kind !== 'unknown' && !isDeepStrictEqual(own, other))
      differing.push(
        `case ${at}: ours\n${JSON.stringify(own)}\ntheirs\n${JSON.stringify(other)}\n${answers[at]?.['fails'] ?? ''}\n${JSON.stringify(question)}`,
      );
  }
  t.comment([...tally].map(([kind, count]) => `${kind}: ${count}`).join(', '));
  t.equal(differing.length, 0, differing.slice(0, 2).join('\n\n'));
  t.ok((tally.get('unknown') ?? 0) <= mostUnknown, 'hardly any is left unknown');
  for (const kind of ['allocated', 'none', 'error'])
    t.ok((tally.get(kind) ?? 0) > cases / 20, `there are enough cases that end with ${kind}`);
});
