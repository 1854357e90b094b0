import { readFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { p4dRacks, racks } from '../../../hack/bed/fleet-presets.ts';
import type { FleetEvent } from '../../../src/cli/event-stream.ts';
import type { SimulateReport } from '../../../src/cli/simulate-report.ts';
import { fleetFile } from './device-files.ts';
import { filesFor, listOf, rackLevels, rackNodes } from './input-files.ts';
import { runCli } from './run-cli.ts';

async function simulated(args: readonly string[]): Promise<SimulateReport> {
  const { code, out } = await runCli(['simulate', ...args, '--no-timing', '-o', 'json']);
  if (code !== 0) throw new Error(`exit code ${code}`);
  return JSON.parse(out);
}

const small = ['--preset-fleet', 'gke-a3', '--nodes', '48', '--events', '300', '--cpu-leaders', '0.3'];

t.test('the same seed gives the same output, byte by byte, and another seed another one', async t => {
  for (const format of ['table', 'json', 'yaml', 'picture']) {
    const run = (seed: string) => runCli(['simulate', ...small, '--seed', seed, '--no-timing', '-o', format]);
    const [first, again, other] = [await run('5'), await run('5'), await run('6')];
    t.equal(again.out, first.out, format);
    t.not(other.out, first.out, format);
    t.equal(first.code, 0);
  }
});

t.test('a replayed trace gives the figures of the stream that it holds', async t => {
  const file = filesFor(t, {});
  const first = await simulated([...small, '--trace', file('trace.jsonl')]);
  const again = await simulated([...small, '--replay', file('trace.jsonl')]);
  t.strictSame(again.quality, first.quality);
  t.equal(readFileSync(file('trace.jsonl'), 'utf8').trim().split('\n').length, first.stream.events);
  t.notOk('seed' in again.stream);
});

t.test('figures of a random stream keep the relations that they must', async t => {
  for (const fleet of ['superpod', 'nvl72', 'gke-a3', 'tpu-v6e', 'eks-p4d', 'flat', 'mixed']) {
    const args = ['--preset-fleet', fleet, '--nodes', '72', '--events', '400', '--load', '0.95'];
    const { quality } = await simulated([...args, '--cpu-leaders', '0.3']);
    for (const { requests, placed, refused, undecided, fragmented } of [
      quality.arrivals,
      quality.recoveries,
    ]) {
      t.equal(placed + refused + undecided, requests, fleet);
      t.ok(fragmented <= refused, fleet);
    }
    t.ok(quality.arrivals.placed > 20, `${fleet} places`);
    t.ok((quality.hostSpanOverFewest ?? 0) >= 1, `${fleet} hosts`);
    for (const { spanOverFewest, whole, domains, level } of quality.levels) {
      t.ok((spanOverFewest ?? 0) >= 1, `${fleet} ${level}`);
      t.ok(whole <= domains);
    }
    t.ok((quality.ringOverLeast ?? 1) >= 1, `${fleet} ring`);
    t.ok((quality.allocationRate ?? 0) > 0.3 && (quality.allocationRate ?? 2) <= 1, fleet);
  }
});

t.test('a fleet whose devices come by DRA is simulated like one with device plugins', async t => {
  const size = { racks: 4, hostsPerRack: 4 };
  const file = filesFor(t, {
    'plugged.json': listOf(racks({ ...size, gpus: 8 }).map(node => ({ kind: 'Node', ...node }))),
    'published.json': fleetFile(p4dRacks(size)),
  });
  const figuresOf = async (fleet: string) => {
    const stream = ['--events', '300', '--mix', 'single=30,any=30,rack=40', '--levels', rackLevels];
    const { fleet: facts, quality } = await simulated(['--fleet', file(fleet), ...stream]);
    return { devices: facts.devices, quality };
  };
  const published = await figuresOf('published.json');
  t.strictSame(published, await figuresOf('plugged.json'));
  t.equal(published.devices, 128);
  t.ok(published.quality.arrivals.placed > 20);
});

/** Two racks of two hosts; everything after time 0 is counted. */
async function played(t: Test, events: readonly FleetEvent[]): Promise<SimulateReport> {
  const file = filesFor(t, {
    'fleet.json': listOf(rackNodes(2, 2)),
    'trace.jsonl': events.map(event => `${JSON.stringify(event)}\n`).join(''),
  });
  const fleet = ['--fleet', file('fleet.json'), '--levels', rackLevels];
  return simulated([...fleet, '--replay', file('trace.jsonl'), '--warm-up', '0']);
}

const hour = 3600;

function arrives(
  owner: string,
  more: { at?: number; size?: number; replicas?: number; rack?: boolean },
): FleetEvent {
  const { at = 0, size = 1, replicas = 1, rack = false } = more;
  const topology = rack ? ({ topology: { wish: 'required', level: 'rack' } } as const) : {};
  const ask = { kind: 'group', size, devices: 8, leaderDevices: 8, ...topology } as const;
  return { kind: 'arrive', atSeconds: at * hour, owner, replicas, ask };
}

t.test('a group that fits nowhere but would fit without its wish is a fragmentation refusal', async t => {
  // While r0-h1 is away the second comes into the other rack, and half a rack is left of each.
  const { quality } = await played(t, [
    arrives('first', { at: 1 }),
    { kind: 'node-lost', atSeconds: 2 * hour, node: 'r0-h1' },
    arrives('second', { at: 3 }),
    { kind: 'node-back', atSeconds: 4 * hour, node: 'r0-h1' },
    arrives('wide', { at: 5, size: 2, rack: true }),
    arrives('huge', { at: 6, size: 3 }),
  ]);
  t.match(quality.arrivals, { requests: 4, placed: 2, refused: 2, fragmented: 1, undecided: 0 });
  t.equal(quality.fragmentationPer1000, 250);
  t.equal(quality.fragmentedHostShare, 2 / 7, 'of the seven hosts asked for, the two of the wide one');
  t.equal(quality.allocationAtFirstRefusal, 0.5);
});

t.test('time means are weighted by how long a state lasted', async t => {
  const { quality, stream } = await played(t, [
    arrives('first', { at: 1 }),
    arrives('whole', { at: 2, size: 2, rack: true }),
    { kind: 'depart', atSeconds: 4 * hour, owner: 'first' },
    { kind: 'depart', atSeconds: 8 * hour, owner: 'whole' },
  ]);
  t.equal(stream.hours, 8);
  // 1 h with one of four hosts taken, 2 h with three, 4 h with two; all counted from the first event on.
  t.equal(quality.allocationRate, (1 * 0.25 + 2 * 0.75 + 4 * 0.5) / 7);
  t.equal(quality.freeHosts, (1 * 3 + 2 * 1 + 4 * 2) / 7);
  const [rack] = quality.levels;
  t.match(rack, { level: 'rack', domains: 2, spanOverFewest: 1 });
  t.equal(rack?.whole, (1 * 1 + 2 * 0 + 4 * 1) / 7);
  t.equal(rack?.largest, (1 * 2 + 2 * 1 + 4 * 2) / 7);
});

t.test('scaling adds and takes the highest ordinals, and a lost node makes its groups ask again', async t => {
  const { quality } = await played(t, [
    arrives('svc', { at: 0.5, size: 2, replicas: 1, rack: true }),
    { kind: 'scale', atSeconds: hour, owner: 'svc', replicas: 2 },
    { kind: 'scale', atSeconds: 2 * hour, owner: 'svc', replicas: 1 },
    { kind: 'node-lost', atSeconds: 3 * hour, node: 'r0-h0' },
    { kind: 'node-lost', atSeconds: 4 * hour, node: 'r0-h1' },
    { kind: 'node-back', atSeconds: 5 * hour, node: 'r0-h0' },
    { kind: 'scale', atSeconds: 6 * hour, owner: 'nobody', replicas: 3 },
    { kind: 'depart', atSeconds: 7 * hour, owner: 'svc' },
  ]);
  t.match(quality.arrivals, { requests: 2, placed: 2, refused: 0 });
  t.match(
    quality.recoveries,
    { requests: 1, placed: 1, refused: 0 },
    'it was moved to the other rack and stayed',
  );
});

t.test('a single pod stands on a part of a host and is moved with it', async t => {
  const ask = { kind: 'single', size: 1, devices: 2, leaderDevices: 2 } as const;
  const { quality } = await played(t, [
    { kind: 'arrive', atSeconds: hour, owner: 'lone', replicas: 1, ask },
    { kind: 'node-lost', atSeconds: 2 * hour, node: 'r0-h0' },
    { kind: 'depart', atSeconds: 3 * hour, owner: 'lone' },
  ]);
  t.match(quality.arrivals, { requests: 1, placed: 1 });
  t.match(quality.recoveries, { requests: 1, placed: 1 });
  t.ok(Math.abs((quality.allocationRate ?? 0) - (2 / 32 + 2 / 24) / 2) < 1e-12);
});

t.test(
  'progress goes to stderr: redrawn on a terminal, a line every 10 s elsewhere, nothing when it is quick',
  async t => {
    const args = ['simulate', ...small];
    t.equal((await runCli(args)).err, '');
    const slow = await runCli(args, { stepMs: 50 });
    t.match(slow.err, /^gke-a3: \d+ of \d+ events \(\d+ %\)\n/);
    const drawn = await runCli(args, { stepMs: 50, errIsTerminal: true });
    t.match(drawn.err, /^\rgke-a3: \d+ of/);
    t.ok(drawn.err.endsWith('\r\u001b[K'), 'and wiped away at the end');
  },
);

t.test('planning times stand apart from what the seed fixes', async t => {
  const { out } = await runCli(['simulate', ...small, '-o', 'json'], { stepMs: 1 });
  const report: SimulateReport = JSON.parse(out);
  t.match(report.timing, { p50Ms: 1, p99Ms: 1 });
  const { timing: _timing, ...fixed } = report;
  t.strictSame(fixed, await simulated(small));
  const table = await runCli(['simulate', ...small], { stepMs: 1 });
  t.match(table.out, /Planning, not fixed by the seed: \d+ requests, p50 1\.000 ms, p99 1\.000 ms\n$/);
});
