import t from 'tap';
import { filterNames, refusedNamesLimit } from '../../../src/extender/filter.ts';
import { NodeNames } from '../../../src/extender/node-names.ts';
import type { Verdict } from '../../../src/extender/verdict.ts';
import { filterAnswer } from '../../../src/extender/wire.ts';

const sentence = 'berth: no';
const only = (node: string): Verdict => ({ kind: 'only', node, sentence });
const none: Verdict = { kind: 'none', cause: 'unplanned', sentence };
const except = (...nodes: readonly string[]): Verdict => ({
  kind: 'except',
  nodes: new Set(nodes),
  sentence,
});

/** Applied to the names both as bytes and as a list. */
function outcome(verdict: Verdict, names: readonly string[]) {
  const bytes = NodeNames.fromBytes(Buffer.from(JSON.stringify(names)));
  if (bytes === undefined) throw new Error('no plain names');
  const [first, second] = [bytes, NodeNames.fromList(names)].map(form => {
    const answer = JSON.parse(filterAnswer(filterNames(verdict, form)).toString());
    t.same(new Set(Object.values(answer.FailedAndUnresolvableNodes)).size <= 1, true);
    t.match(answer, { Nodes: null, FailedNodes: null, Error: '' });
    return { kept: answer.NodeNames, refused: Object.keys(answer.FailedAndUnresolvableNodes) };
  });
  t.same(first, second);
  return first;
}

t.test('nothing is refused, nothing is kept, or some', async t => {
  const names = ['a', 'b', 'c'];
  t.same(outcome({ kind: 'anywhere' }, names), { kept: names, refused: [] });
  t.same(outcome(none, names), { kept: [], refused: names });
  t.same(outcome(only('b'), names), { kept: ['b'], refused: ['a', 'c'] });
  t.same(outcome(except('b', 'a'), names), { kept: ['c'], refused: ['a', 'b'] });
  t.same(outcome(except('a', 'b', 'c'), names), { kept: [], refused: names });
});

t.test('never a name that was not asked for', async t => {
  t.same(outcome(only('x'), ['a', 'b']), { kept: [], refused: ['a', 'b'] });
  t.same(outcome(only('b'), ['bb', 'a.b']), { kept: [], refused: ['bb', 'a.b'] });
  t.same(outcome(except('x'), ['a']), { kept: ['a'], refused: [] });
  for (const verdict of [{ kind: 'anywhere' } as const, none, only('a'), except('a')])
    t.same(outcome(verdict, []), { kept: [], refused: [] });
});

t.test('an answer in which nothing is refused holds the names as they came', async t => {
  const bytes = Buffer.from('["b","a"]');
  const names = NodeNames.fromBytes(bytes);
  if (names === undefined) throw new Error('no plain names');
  t.equal(filterNames({ kind: 'anywhere' }, names).kept.json, bytes);
  t.equal(filterNames(except('x'), names).kept.json, bytes);
});

t.test('only the first names in the order of the request are refused by name', async t => {
  const names = Array.from({ length: 500 }, (_, index) => `node-${499 - index}`);
  t.same(outcome(none, names)?.refused, names.slice(0, refusedNamesLimit));
  t.same(outcome(only('node-0'), names)?.refused, names.slice(0, refusedNamesLimit));
  const early = outcome(only('node-490'), names);
  t.same(early?.kept, ['node-490']);
  t.same(
    early?.refused,
    names.slice(0, refusedNamesLimit + 1).filter(name => name !== 'node-490'),
  );
  const rest = outcome(except(...names.slice(1)), names);
  t.same(rest?.kept, ['node-499']);
  t.same(rest?.refused, names.slice(1, refusedNamesLimit + 1));
  t.equal(rest?.refused.length, refusedNamesLimit);
  const few = names.slice(0, refusedNamesLimit + 1);
  t.equal(outcome(only('node-499'), few)?.refused.length, refusedNamesLimit);
});
