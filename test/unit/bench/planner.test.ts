import t from 'tap';
import { type Bin, binOf, fewestBins } from '../../../hack/bench/planner-fewest.ts';
import { confidenceInterval } from '../../../hack/bench/planner-intervals.ts';
import { qualityOf } from '../../../hack/bench/planner-quality.ts';
import { churnStream, ownLeaders, steadyStream, wholeHosts } from '../../../hack/bench/stream-churn.ts';
import { hostName, hostNumber, hostSize } from '../../../hack/bench/stream-fleet.ts';
import { type StreamGroup, wholeHost } from '../../../hack/bench/stream-groups.ts';
import type { Outcome, Stream } from '../../../hack/bench/stream-outcomes.ts';
import { mulberry32 } from '../planner/instances.ts';

t.test('the interval of few samples is that of Student', async t => {
  const { mean, low, high } = confidenceInterval([1, 2, 3, 4, 5, 6]);
  t.equal(mean, 3.5);
  // 2.571 standard errors of 0.764.
  t.ok(Math.abs(high - mean - 1.963) < 0.01);
  t.ok(Math.abs(mean - low - 1.963) < 0.01);
  t.strictSame(confidenceInterval([2, 2, 2]), { mean: 2, low: 2, high: 2 });
  t.throws(() => confidenceInterval([1]), RangeError);
});

t.test('the fewest bins for a leader and workers are those that trying all subsets finds', async t => {
  const random = mulberry32(5);
  const upTo = (largest: number) => Math.floor(random() * (largest + 1));
  const counts = new Map<number | undefined, number>();
  for (let instance = 0; instance < 2_000; instance++) {
    const bins = Array.from({ length: 1 + upTo(5) }, (): Bin => {
      const workers = upTo(4);
      return { workers, besideLeader: upTo(2) === 0 ? -1 : upTo(workers) };
    });
    const [workers, withLeader] = [1 + upTo(8), upTo(1) === 1];
    const found = fewestBins(bins, workers, withLeader);
    counts.set(found, (counts.get(found) ?? 0) + 1);
    if (found !== fewestByTrying(bins, workers, withLeader))
      t.fail(JSON.stringify({ bins, workers, withLeader }));
  }
  t.ok(counts.size > 4, 'instances of many answers');
});

t.test('a stream is judged by what its groups were given', async t => {
  const [whole, part] = [groupOf('whole', 16), groupOf('part', 1, { ...wholeHost, gpus: 2 })];
  const more = groupOf('more', 17);
  const stream: Stream = {
    residents: [],
    events: [
      { kind: 'arrive', group: whole },
      { kind: 'arrive', group: part },
      { kind: 'leave', name: 'whole' },
      { kind: 'arrive', group: more },
    ],
  };
  const rack = Array.from({ length: 16 }, (_, host) => hostName(host));
  const outcomes = [outcomeOf(whole, rack), outcomeOf(part, [hostName(16)]), outcomeOf(more)];
  const quality = qualityOf(32, stream, outcomes, 1);
  t.strictSame(quality, {
    refusedGroups: 50,
    refusedGpus: (100 * 136) / 138,
    fragmentation: 50,
    usedGpus: (100 * (128 + 2)) / 2 / 256,
    freeRacks: 1,
  });
  const twice = [outcomeOf(whole, rack), outcomeOf(part, rack.slice(0, 1)), outcomeOf(more)];
  t.throws(() => qualityOf(32, stream, twice, 0), /part/);
});

t.test('every group of a stream leaves after it came, and the same seed makes the same stream', async t => {
  for (const deck of [wholeHosts, ownLeaders]) {
    const churn = { deck, hosts: 256, load: 0.9, arrivals: 500, seed: 3 };
    const stream = churnStream(churn);
    const text = JSON.stringify(stream);
    t.equal(JSON.stringify(churnStream(churn)), text);
    t.not(JSON.stringify(churnStream({ ...churn, seed: 4 })), text);
    const present = new Set<string>();
    let strangers = 0;
    for (const event of stream.events) {
      if (event.kind === 'arrive') present.add(event.group.name);
      else if (!present.delete(event.name)) strangers += 1;
    }
    t.strictSame({ present: present.size, strangers }, { present: 0, strangers: 0 });
  }
});

t.test('the load of a stream is what its groups would take on average', async t => {
  const stream = churnStream({ deck: wholeHosts, hosts: 256, load: 0.9, arrivals: 20_000, seed: 1 });
  const sizes = new Map<string, number>();
  const taken: number[] = [];
  let hosts = 0;
  for (const event of stream.events) {
    if (event.kind === 'arrive') {
      sizes.set(event.group.name, event.group.size);
      hosts += event.group.size;
      if (sizes.size > 2_000) taken.push(hosts);
    } else hosts -= sizes.get(event.name) ?? 0;
  }
  const mean = taken.reduce((sum, each) => sum + each, 0) / taken.length / 256;
  t.ok(Math.abs(mean - 0.9) < 0.04, `${mean}`);
});

t.test('a steady stream asks only for what the residents leave free', async t => {
  const { residents, events } = steadyStream(512, 200, 1);
  const taken = new Set(residents.map(({ node }) => hostNumber(node)));
  t.equal(taken.size, residents.length);
  t.ok(taken.size > 512 * 0.5 && taken.size < 512 * 0.9);
  const live = new Set<string>();
  let most = 0;
  for (const event of events) {
    if (event.kind === 'leave') live.delete(event.name);
    else live.add(event.group.name);
    most = Math.max(most, live.size);
  }
  t.ok(most > 1 && most * 4 <= 512 * 0.1);
  t.equal(hostSize.gpus, wholeHost.gpus, 'its groups take whole hosts');
});

function fewestByTrying(bins: readonly Bin[], workers: number, withLeader: boolean): number | undefined {
  const holding = Array.from({ length: (1 << bins.length) - 1 }, (_, index) =>
    bins.filter((_, at) => ((index + 1) >> at) & 1),
  ).filter(some => {
    const { workers: all, besideLeader } = binOf(some);
    return withLeader ? besideLeader >= workers : all >= workers;
  });
  return holding.length === 0 ? undefined : Math.min(...holding.map(some => some.length));
}

function groupOf(name: string, size: number, worker = wholeHost): StreamGroup {
  return { name, size, worker };
}

function outcomeOf(group: StreamGroup, nodes?: readonly string[]): Outcome {
  return { group, nodes, planMs: 0, applyMs: 0 };
}
