import fc from 'fast-check';
import t from 'tap';
import { NameTable } from '../../../src/extender/name-table.ts';
import { NodeNames } from '../../../src/extender/node-names.ts';

const plainName = fc.stringMatching(/^[a-z0-9]([-a-z0-9.]{0,6}[a-z0-9])?$/);
const plainNames = fc.array(plainName, { maxLength: 12 });

function bytesOf(names: readonly string[]): NodeNames {
  const bytes = NodeNames.fromBytes(Buffer.from(JSON.stringify(names)));
  if (bytes === undefined) throw new Error(`no plain names: ${names}`);
  return bytes;
}

t.test('names as bytes and as a list answer alike', async t => {
  fc.assert(
    fc.property(plainNames, plainName, fc.nat(14), (list, other, limit) => {
      const asked = [...list, other, '', ',', '","', `${other}","`, other.slice(1)];
      for (const names of [bytesOf(list), NodeNames.fromList(list)]) {
        t.equal(names.count, list.length);
        t.same(names.first(limit), list.slice(0, limit));
        t.same(
          asked.map(name => names.has(name)),
          asked.map(name => list.includes(name)),
        );
        t.equal(names.json.toString(), JSON.stringify(list));
        t.same(names.list, list);
      }
    }),
  );
});

t.test('names are taken out of the bytes as out of the list', async t => {
  const cases = fc
    .tuple(plainNames, plainNames, fc.nat(6))
    .chain(([list, others, limit]) =>
      fc.tuple(fc.constant(list), fc.subarray(list), fc.constant(others), fc.constant(limit)),
    );
  fc.assert(
    fc.property(cases, ([list, some, others, limit]) => {
      const unwanted = new Set([...some, ...others]);
      const stay = list.filter(name => !unwanted.has(name));
      const go = list.filter(name => unwanted.has(name)).slice(0, limit);
      for (const names of [bytesOf(list), NodeNames.fromList(list)]) {
        const { kept, removed } = names.without(unwanted, limit);
        t.equal(kept.json.toString(), JSON.stringify(stay));
        t.equal(kept.count, stay.length);
        t.same(kept.list, stay);
        t.same(kept.first(1), stay.slice(0, 1));
        t.same(removed, go);
      }
    }),
    { numRuns: 500 },
  );
});

t.test('names are found in a table by bytes and by list', async t => {
  const anyName = fc.oneof(plainName, fc.string({ unit: 'grapheme' }));
  fc.assert(
    fc.property(fc.uniqueArray(anyName, { maxLength: 40 }), plainNames, (known, list) => {
      const table = new NameTable(known);
      const want = list.map(name => known.indexOf(name));
      t.same([...bytesOf(list).indicesIn(table)], want);
      t.same([...NodeNames.fromList(list).indicesIn(table)], want);
      t.same([...NodeNames.fromList(known).indicesIn(table)], [...known.keys()]);
    }),
  );
});

t.test('a large table finds every name and no other', async t => {
  const names = Array.from({ length: 5000 }, (_, index) => `gpu-${index}.example.com`);
  const table = new NameTable(names);
  t.same([...bytesOf(names).indicesIn(table)], [...names.keys()]);
  const others = names.map(name => `${name}x`);
  t.ok(
    bytesOf(others)
      .indicesIn(table)
      .every(index => index === -1),
  );
});

t.test('only a list of plain names as Go writes it is left as bytes', async t => {
  for (const json of ['[]', '["a"]', '["a","b-1.c_D"]', '[""]'])
    t.same(NodeNames.fromBytes(Buffer.from(json))?.list, JSON.parse(json), json);
  const odd = ['', '[', ']', '{}', 'null', '["a"', '["a",]', '[,"a"]', '["a" ]', '[ ]', '["a""b"]', '[1]'];
  const hostile = ['["a\\u0062"]', '["a\\"]', '["ä"]', '["a,b"]', '[["a"]]', '["a"]]', '["a"],["b"]', '["a]'];
  for (const json of [...odd, ...hostile]) t.equal(NodeNames.fromBytes(Buffer.from(json)), undefined, json);
});
