import t from 'tap';
import { CliqueMemory } from '../../../src/failure/clique-memory.ts';
import { DownAlerts } from '../../../src/failure/down-alerts.ts';

const minute = 60_000;
type Word = 'up' | 'down' | 'nothing';

/** What is believed after each word, told at its minute. */
function believed(words: readonly (readonly [atMinutes: number, says: Word])[]): readonly boolean[] {
  const alerts = new DownAlerts({ downAlerts: 2, downWindowSeconds: 300 });
  return words.map(([at, says]) => {
    alerts.note('nic', says, at * minute);
    return alerts.isRepeated('nic');
  });
}

t.test('a device is believed to be sick when it goes down twice within five minutes', async t => {
  const cases: readonly (readonly [string, readonly (readonly [number, Word])[], readonly boolean[]])[] = [
    [
      'once',
      [
        [0, 'down'],
        [1, 'down'],
        [20, 'down'],
      ],
      [false, false, false],
    ],
    [
      'twice',
      [
        [0, 'down'],
        [1, 'up'],
        [2, 'down'],
      ],
      [false, false, true],
    ],
    [
      'twice, but late',
      [
        [0, 'down'],
        [1, 'up'],
        [6, 'down'],
      ],
      [false, false, false],
    ],
    [
      'for as long as it is down',
      [
        [0, 'down'],
        [1, 'up'],
        [2, 'down'],
        [30, 'down'],
      ],
      [false, false, true, true],
    ],
    [
      'not after it was up for long',
      [
        [0, 'down'],
        [1, 'up'],
        [2, 'down'],
        [30, 'up'],
        [31, 'down'],
      ],
      [false, false, true, false, false],
    ],
    [
      'never brought up',
      [
        [0, 'down'],
        [600, 'up'],
      ],
      [false, false],
    ],
    [
      'a pod had the interface meanwhile',
      [
        [0, 'down'],
        [1, 'nothing'],
        [2, 'down'],
      ],
      [false, false, false],
    ],
    [
      'well',
      [
        [0, 'up'],
        [1, 'nothing'],
      ],
      [false, false],
    ],
  ];
  for (const [name, words, wanted] of cases) t.same(believed(words), wanted, name);
});

t.test('what is not told of any more is forgotten', async t => {
  const alerts = new DownAlerts({ downAlerts: 2, downWindowSeconds: 300 });
  alerts.note('nic', 'down', 0);
  alerts.note('nic', 'up', minute);
  alerts.prune(2 * minute);
  alerts.note('nic', 'down', 2 * minute);
  t.ok(alerts.isRepeated('nic'));
  alerts.prune(8 * minute);
  t.notOk(alerts.isRepeated('nic'));
});

const sight = (nodeUid: string, clique: string | undefined) => ({ nodeUid, clique });

t.test('each node is to stay in the clique in which a group found it', async t => {
  const memory = new CliqueMemory();
  const expect = (...sights: readonly ReturnType<typeof sight>[]) =>
    Object.fromEntries(memory.expected('ns/llm-0', 'leader', sights));
  t.same(expect(sight('a', 'A'), sight('b', 'B')), { a: 'A', b: 'B' }, 'a group may be spread already');
  t.same(expect(sight('a', undefined), sight('b', 'C')), { a: 'A', b: 'B' });
  t.same(expect(sight('a', undefined), sight('b', undefined)), { a: 'A', b: 'B' });
  t.same(
    Object.fromEntries(memory.expected('ns/llm-0', 'next', [sight('b', 'C')])),
    { b: 'C' },
    'the next one anew',
  );
});

t.test('a node without a label from the start is to be where the others are', async t => {
  const memory = new CliqueMemory();
  const first = memory.expected('g', 'l', [sight('a', undefined), sight('b', 'B'), sight('c', 'B')]);
  t.equal(first.get('a'), 'B');
  const labelled = memory.expected('g', 'l', [sight('a', 'A'), sight('b', 'B'), sight('c', 'B')]);
  t.equal(labelled.get('a'), 'A', 'until it says where it is');
  t.equal(
    memory.expected('g', 'other', [sight('x', undefined)]).size,
    0,
    'nothing is expected without any label',
  );
});

t.test('incarnations that are gone are forgotten', async t => {
  const memory = new CliqueMemory();
  memory.expected('g', 'l', [sight('a', 'A')]);
  memory.keep('g', new Set(['l']));
  t.equal(memory.expected('g', 'l', [sight('a', 'B')]).get('a'), 'A');
  memory.keep('g', new Set());
  t.equal(memory.expected('g', 'l', [sight('a', 'B')]).get('a'), 'B');
});
