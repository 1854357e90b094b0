import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import t from 'tap';
import { berth } from '../../src/api/names.ts';

const checkout = resolve(import.meta.dirname, '../..');
const readme = readFileSync(join(checkout, 'README.md'), 'utf8');

t.test('the configuration reference is the one that the command prints', async t => {
  const printed = execFileSync(process.execPath, ['src/main.ts', 'config-reference'], {
    cwd: checkout,
    encoding: 'utf8',
  });
  t.match(printed, /^\| key \|/, 'the command prints a table');
  const table = tableOf(sectionOf('Configuration reference'));
  t.strictSame(table, printed.trimEnd().split('\n'));
});

t.test('every path of the tree map exists', async t => {
  const map = /```\n([\s\S]*?)```/.exec(sectionOf('Where things are'))?.[1] ?? '';
  const paths = map.split('\n').flatMap(line => line.match(/[\w.-]+(?:\/[\w.-]*)+/g) ?? []);
  t.ok(paths.length > 10, 'the map names paths');
  for (const path of new Set(paths)) t.ok(existsSync(join(checkout, path)), path);
});

t.test("every key of Berth's own stands in the table of labels and annotations", async t => {
  const rows = tableOf(sectionOf('Labels and annotations'));
  for (const key of Object.values(berth)) {
    t.ok(
      rows.some(row => row.startsWith(`| \`${key}\` |`)),
      key,
    );
  }
});

/** Text below a heading of the second level. */
function sectionOf(heading: string): string {
  return (readme.split(`\n## ${heading}\n`)[1] ?? '').split('\n## ')[0] ?? '';
}

function tableOf(section: string): readonly string[] {
  return section.split('\n').filter(line => line.startsWith('|'));
}
