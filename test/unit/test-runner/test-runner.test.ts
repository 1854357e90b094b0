import t from 'tap';
import { Children } from '../../../hack/test-runner/children.ts';
import type { Outcome } from '../../../hack/test-runner/parts.ts';
import { exitCodeOf, type PartResult, renderSummary } from '../../../hack/test-runner/summary.ts';
import { TapReport } from '../../../hack/test-runner/tap-report.ts';

const withFailures = `TAP version 14
1..3
# Subtest: test/a.test.ts
    # Subtest: plans a group
        ok 1 - should be equal
        not ok 2 - ranks in one rack
          ---
          diff: |
            --- expected
            +++ actual
            -  not ok 7 - in a diff
            +  r2
          ...
        
        1..2
    not ok 1 - plans a group # time=27.4ms
      ---
      at:
        fileName: test/a.test.ts
      ...
    
    a line of a test's own # { total: 9, pass: 9 }
    1..1
    # time=78.5ms
not ok 1 - test/a.test.ts # time=78.5ms
  ---
  command: node
  exitCode: 1
  ...

# Subtest: test/b.test.ts
    ok 1 - fine
      ---
      note: not ok 3 - in a note
      ...
    # Subtest: empty
        1..0 # no tests found
    ok 2 - empty # SKIP no tests found
    # Subtest: deep
        ok 1 - one
        ok 2 - two
        1..2
    ok 3 - deep # time=1.9ms
    1..3
ok 2 - test/b.test.ts # time=2100.5ms

# Subtest: test/c.test.ts
    1..0 # no tests found
not ok 3 - test/c.test.ts # time=425.9ms
  ---
  cwd: /berth
  exitCode: 1
  signal: null
  ...

# No coverage generated
# { total: 6, pass: 4, fail: 2 }
# time=1235.61ms
`;

function reportOf(text: string): TapReport {
  const report = new TapReport();
  for (const line of text.split('\n')) report.read(line);
  return report;
}

t.test('a TAP report', async t => {
  const report = reportOf(withFailures);

  t.test('names what failed, without the tests that failed for it only', async t => {
    t.same(report.failures, [
      {
        path: ['test/a.test.ts', 'plans a group', 'ranks in one rack'],
        diagnostics: ['diff: |', '  --- expected', '  +++ actual', '  -  not ok 7 - in a diff', '  +  r2'],
      },
      { path: ['test/c.test.ts'], diagnostics: ['exitCode: 1', 'signal: null'] },
    ]);
  });

  t.test('counts as tap does', async t => {
    t.same(report.totals, { passed: 4, failed: 2 });
    t.equal(report.passedSoFar, 4);
  });

  t.test('lists files with their times', async t => {
    t.same(report.files, [
      { name: 'test/a.test.ts', passed: false, seconds: 0.0785 },
      { name: 'test/b.test.ts', passed: true, seconds: 2.1005 },
      { name: 'test/c.test.ts', passed: false, seconds: 0.4259 },
    ]);
  });

  t.test('has no totals when tap did not come to its end', async t => {
    t.equal(reportOf(withFailures.slice(0, -80)).totals, undefined);
  });
});

t.test('a summary', async t => {
  const fine: Outcome = { passed: 3, failed: 0, failures: [] };
  const part = (name: PartResult['name'], outcome: Outcome): PartResult => ({
    name,
    seconds: 1.25,
    ...outcome,
  });

  t.test('ends with the counts', async t => {
    const summary = {
      setUpSeconds: 0,
      results: [part('types', fine), part('unit', fine)],
      mayBeEmpty: false,
    };
    t.match(renderSummary(summary), /\n6 passed, 0 failed\n$/);
    t.equal(exitCodeOf(summary), 0);
  });

  t.test('tells what failed and where its output is', async t => {
    const broken = { passed: 2, failed: 1, failures: ['a > b\n  diff'] };
    const summary = {
      setUpSeconds: 0,
      results: [part('types', fine), part('unit', broken)],
      mayBeEmpty: false,
    };
    t.equal(
      renderSummary(summary),
      `
FAILED unit (all of its output: out/unit.log)

  a > b
    diff

part      seconds   passed   failed
set-up        0.0
types         1.3        3        0
unit          1.3        2        1

Failed:
  a > b

5 passed, 1 failed
`,
    );
    t.equal(exitCodeOf(summary), 1);
  });

  t.test('fails when a pattern matches no test anywhere', async t => {
    const nothing: Outcome = { passed: 0, failed: 0, failures: [] };
    const summary = { setUpSeconds: 0, results: [part('unit', nothing)], mayBeEmpty: true };
    t.match(renderSummary(summary), /\n0 passed, 1 failed\n$/);
    t.equal(exitCodeOf(summary), 1);
  });
});

t.test('a child', async t => {
  const cwd = t.testdir();
  const node = (script: string) => ({
    program: process.execPath,
    arguments: ['-e', script],
    cwd,
    logPath: `${cwd}/child.log`,
  });

  t.test('is read line by line, and its last lines are kept apart by stream', async t => {
    const lines: string[] = [];
    const end = await new Children().run({
      ...node('console.log("one\\ntwo"); console.error("three"); process.exitCode = 4'),
      onStdout: line => lines.push(line),
    });
    t.same(lines, ['one', 'two']);
    t.same(end.errorTail, ['three']);
    t.equal(end.exitCode, 4);
  });

  t.test('is ended with what it has started, also where that does not listen', async t => {
    const deaf = 'process.on("SIGTERM", () => {}); setInterval(() => {}, 1000); console.log("started")';
    const options = JSON.stringify({ stdio: 'inherit' });
    const script = `require("child_process").spawn(process.execPath, ["-e", ${JSON.stringify(deaf)}], ${options})`;
    const children = new Children(100);
    let ended: ReturnType<Children['run']> | undefined;
    await new Promise<void>(resolve => {
      ended = children.run({ ...node(script), onStdout: () => resolve() });
    });
    await children.end();
    t.equal((await ended)?.signal, 'SIGTERM', 'the output was closed, which the deaf one held open');
    await t.rejects(children.run(node('')), 'nothing is started any more');
  });
});
