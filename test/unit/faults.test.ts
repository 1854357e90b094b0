import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import t from 'tap';

const tests = resolve(import.meta.dirname, '..');

interface Row {
  readonly fault: number;
  /** Undefined where there is none. */
  readonly file: string | undefined;
  readonly where: string;
}

const rows: readonly Row[] = readFileSync(join(tests, 'faults.md'), 'utf8')
  .split('\n')
  .flatMap(line => {
    const [, fault = '', , test = '', where = ''] = line.split('|').map(cell => cell.trim());
    if (!/^\d+$/.test(fault)) return [];
    return [{ fault: Number(fault), file: /^`(.+)`$/.exec(test)?.[1], where }];
  });

const files = readdirSync(tests, { recursive: true, encoding: 'utf8' })
  .filter(name => name.endsWith('.test.ts'))
  .filter(name => name !== join('unit', 'faults.test.ts'));

t.test('the table of faults has every one of them once', async t => {
  t.strictSame(
    rows.map(({ fault }) => fault),
    Array.from({ length: 45 }, (_, i) => i + 1),
  );
});

t.test('each row names a test that has the fault in its name, or says why there is none', async t => {
  for (const { fault, file, where } of rows) {
    if (file === undefined) t.match(where, /^not covered/, `fault ${fault}`);
    else t.ok(faultsIn(file).has(fault), `fault ${fault} is in ${file}`);
  }
});

t.test('each fault that a test has in its name stands in the table, with one of its tests', async t => {
  const named = new Set(rows.flatMap(({ fault, file }) => (file === undefined ? [] : [fault])));
  for (const file of files)
    for (const fault of faultsIn(file)) t.ok(named.has(fault), `fault ${fault} of ${file}`);
});

/** Numbers in the names of the tests of a file. */
function faultsIn(file: string): ReadonlySet<number> {
  const text = readFileSync(join(tests, file), 'utf8');
  return new Set([...text.matchAll(/(?<=['"`]|, )fault (\d+)[:,]/g)].map(([, number]) => Number(number)));
}

t.test('each destructive call on old knowledge has its test, and stands in the table', async t => {
  const [, calls = ''] = readFileSync(join(tests, 'faults.md'), 'utf8').split('# Destructive calls');
  const listed = calls.split('\n').flatMap(line => {
    const [, , sender = '', name = '', file = ''] = line.split('|').map(cell => cell.trim());
    return /^`.+`$/.test(sender) ? [{ sender: sender.slice(1, -1), name, file: file.slice(1, -1) }] : [];
  });
  t.ok(listed.length > 0);
  for (const { name, file } of listed)
    t.ok(readFileSync(join(tests, file), 'utf8').includes(name), `"${name}" is in ${file}`);
  const source = join(tests, '../src');
  const senders = readdirSync(source, { recursive: true, encoding: 'utf8' }).filter(
    name =>
      name.endsWith('.ts') && /method: 'DELETE'|\/eviction`/.test(readFileSync(join(source, name), 'utf8')),
  );
  for (const name of [...senders, ...listed.map(({ sender }) => sender)])
    t.ok(
      listed.some(({ sender }) => sender === name),
      `${name} is in the table`,
    );
});
