import t from 'tap';
import { readRuntime } from '../../../hack/bench/deployed-runtime.ts';
import { type Figure, ratioOf, reachesAim } from '../../../hack/bench/figures.ts';
import { type Report, renderJson, renderMarkdown } from '../../../hack/bench/report.ts';
import { percentile, summarize } from '../../../hack/bench/statistics.ts';

const rate: Figure = {
  part: 'singles',
  what: 'pods bound',
  unit: 'pods/s',
  berth: summarize([300, 330, 270]),
  beside: { name: 'stock', value: summarize([100, 120]) },
  aim: { of: 'ratio', atLeast: 1.5 },
};

const report: Report = {
  command: 'npm run bench',
  machine: { cpuModel: 'Some CPU', cores: 2, memoryGiB: 24, node: '24.1.0', system: 'Linux 6' },
  berthCommit: 'abc1234',
  seconds: 481,
  figures: [rate],
  notes: ['a note'],
};

t.test('a percentile is the smallest sample that enough of the others do not exceed', async t => {
  const samples = Array.from({ length: 200 }, (_, index) => 200 - index);
  t.equal(percentile(samples, 50), 100);
  t.equal(percentile(samples, 99), 198);
  t.equal(percentile(samples, 100), 200);
  t.equal(percentile([7], 1), 7);
  t.throws(() => percentile([], 50), RangeError);
});

t.test('the median of an even number of samples lies between the two in the middle', async t => {
  t.match(summarize([4, 1, 3, 2]), { median: 2.5, min: 1, max: 4, samples: [4, 1, 3, 2] });
  t.match(summarize([9, 1, 5]), { median: 5 });
  t.throws(() => summarize([]), RangeError);
});

t.test('the ratio compares medians, and there is none beside nothing', async t => {
  const { beside: _, ...alone } = rate;
  t.equal(ratioOf(rate)?.toFixed(3), '2.727');
  t.equal(ratioOf(alone), undefined);
  t.equal(ratioOf({ ...rate, beside: { name: 'stock', value: summarize([0]) } }), undefined);
});

t.test('an aim bounds the value or the ratio from one side', async t => {
  t.equal(reachesAim(rate), true);
  t.equal(reachesAim({ ...rate, aim: { of: 'ratio', atLeast: 3 } }), false);
  t.equal(reachesAim({ ...rate, aim: { of: 'value', atMost: 300 } }), true);
  t.equal(reachesAim({ ...rate, aim: { of: 'value', atMost: 299 } }), false);
  const { aim: _, ...aimless } = rate;
  t.equal(reachesAim(aimless), undefined);
});

t.test('the table has value, spread, ratio and aim, and says when an aim was missed', async t => {
  const slow: Figure = { ...rate, what: 'slow', aim: { of: 'value', atMost: 2 } };
  const text = renderMarkdown({ ...report, figures: [rate, slow] });
  t.match(
    text,
    '| pods bound | 300 pods/s (270 to 330) | 110 pods/s (100 to 120) (stock) | 2.73 x | at least 1.5 x |',
  );
  t.match(text, '| at most 2 pods/s, missed |');
  t.match(text, '`npm run bench` at abc1234, 8 min on 2 cores of Some CPU with 24 GiB, Linux 6, Node 24.1.0');
  t.match(text, '- a note');
});

t.test('small values keep three digits', async t => {
  const figure: Figure = { part: 'admission', what: 'x', unit: 'ms', berth: summarize([0.4567]) };
  t.match(renderMarkdown({ ...report, figures: [figure] }), '| x | 0.46 ms |  |  |  |');
});

t.test('what did not come about beside it has no ratio, and says how long it was waited for', async t => {
  const figure: Figure = {
    part: 'failure',
    what: 'whole again',
    unit: 's',
    berth: summarize([2.1]),
    beside: { name: 'stock', value: { waitedSeconds: 60 } },
    aim: { of: 'ratio', atMost: 1 },
  };
  t.equal(ratioOf(figure), undefined);
  t.equal(reachesAim(figure), undefined);
  const text = renderMarkdown({ ...report, figures: [figure] });
  t.match(text, '| whole again | 2.10 s | never within 60 s (stock) |  | at most 1 x |');
  const { figures } = JSON.parse(renderJson({ ...report, figures: [figure] }));
  t.match(figures[0].beside, { name: 'stock', value: { waitedSeconds: 60 } });
});

t.test('JSON has every sample, the ratio and whether the aim was reached', async t => {
  const { figures } = JSON.parse(renderJson(report));
  t.match(figures[0], { berth: { samples: [300, 330, 270] }, reachesAim: true });
  t.ok(figures[0].ratio > 2.7);
});

t.test("the image's variables and flags of Node are read from the last stage of its Dockerfile", async t => {
  const dockerfile = [
    'FROM node:24-slim AS dependencies',
    'ENV OTHER=1',
    'FROM node:24-slim',
    'ENV NODE_ENV=production \\',
    '    MALLOC_ARENA_MAX=2',
    'env NODE_OPTIONS=--max-semi-space-size=8',
    'CMD ["node", "--disable-warning=x", "src/main.ts", "serve", "--config", "/etc/berth/config.yaml"]',
  ].join('\n');
  t.strictSame(readRuntime(dockerfile), {
    environment: {
      NODE_ENV: 'production',
      MALLOC_ARENA_MAX: '2',
      NODE_OPTIONS: '--max-semi-space-size=8',
    },
    nodeFlags: ['--disable-warning=x'],
  });
  t.strictSame(readRuntime('FROM x\nCMD sleep 1'), { environment: {}, nodeFlags: [] });
});
