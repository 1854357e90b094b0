import t from 'tap';
import { berth } from '../../../src/api/names.ts';
import { type LineOutcome, WaitingList } from '../../../src/controller/waiting-list.ts';
import { decodeLeaderWorkerSet } from '../../../src/group/owner.ts';
import { cacheOf, drawFleet } from '../../builders/fleet.ts';
import { LwsGroup, type LwsParts } from '../../builders/lws-group.ts';
import { decode, groupInfoOf } from '../../builders/planning.ts';

const fleet = drawFleet(`
  rack r0
    - a gpu=8
    - b gpu=8
  rack r1
    - c gpu=8
    - d gpu=8
  rack r2
    - e gpu=8
    - f gpu=8
`);

/** A waiting list whose plans hold at once, and what became of each group, in the order of the pass. */
function world() {
  const cache = cacheOf(fleet);
  const waiting = new WaitingList({
    cache,
    wallMs: () => Date.UTC(2026, 0, 1),
    nowMs: () => 0,
    agedAfterMs: 600_000,
    membersLateAfterMs: 0,
    onPlanned: () => {},
  });
  const told: string[] = [];
  function place(outcome: LineOutcome): void {
    if (outcome.kind === 'planned-single') return;
    if (outcome.kind === 'waits') {
      told.push(`${outcome.key.slice('serving/'.length)} waits: ${outcome.message}`);
      return;
    }
    const { group, plan } = outcome;
    told.push(`${group.key.slice('serving/'.length)}: ${plan.nodes.join(' ')}`);
    const requests = group.demands.map(demand => demand.requests);
    cache.assumePlan(group.leader, {
      leaderUid: group.leader.uid,
      generation: 1,
      nodes: plan.nodes,
      requests,
    });
  }
  function come(
    name: string,
    annotations: Record<string, string>,
    { index = 0, ...parts }: Partial<LwsParts> & { readonly index?: number } = {},
  ) {
    const group = new LwsGroup({ name, size: 1, worker: { gpu: 8 }, annotations, ...parts }, index);
    cache.leaderWorkerSets.upsert(decodeLeaderWorkerSet(group.owner()));
    const createdAt = `2025-12-31T00:00:${String(told.length + waiting.size).padStart(2, '0')}Z`;
    cache.pods.upsert(decode(group.leader({ createdAt })));
    waiting.addGroup(group.key);
    return group;
  }
  async function pass(): Promise<readonly string[]> {
    await waiting.pass(place, async () => true);
    return told.splice(0);
  }
  return { cache, waiting, come, pass };
}

t.test('a group that keeps racks for itself shares none, whoever comes first', async t => {
  const { come, pass } = world();
  come('before', {});
  come('alone', { [berth.exclusiveTopology]: 'rack' });
  come('after', {});
  t.same(await pass(), ['before-0: a', 'alone-0: c', 'after-0: b']);
  come('last', {});
  come('none', { [berth.exclusiveTopology]: 'rack' });
  t.match(await pass(), ['last-0: e', /^none-0 waits: .*4 in one rack with other groups/]);
});

t.test('groups of one owner are spread over racks: rather, or by all means', async t => {
  const { come, pass } = world();
  const rather = { [berth.spreadTopology]: 'rack' };
  for (const index of [0, 1, 2, 3]) come('soft', rather, { index });
  const racks = (await pass()).map(line =>
    line.replace(/[ab]$/, 'r0').replace(/[cd]$/, 'r1').replace(/[ef]$/, 'r2'),
  );
  t.same(racks.slice(0, 3), ['soft-0: r0', 'soft-1: r1', 'soft-2: r2']);
  t.match(racks[3], /^soft-3: r/, 'the fourth goes anywhere');

  const other = world();
  for (const index of [0, 1, 2, 3])
    other.come('hard', { ...rather, [berth.spreadPolicy]: 'DoNotSchedule' }, { index });
  const lines = await other.pass();
  t.equal(
    new Set(lines.slice(0, 3).map(line => Math.floor('abcdef'.indexOf(line.at(-1) ?? '') / 2))).size,
    3,
  );
  t.match(lines[3], /^hard-3 waits: .*6 in one rack with other groups of serving\/hard/);
});

t.test('one that goes beside another is served as soon as that has its place', async t => {
  const { come, pass } = world();
  come('decode', { [berth.sameDomainAs]: 'rack:prefill' });
  t.match(await pass(), [/^decode-0 waits: .*6 waiting for serving\/prefill to be placed/]);
  come('prefill', {});
  t.match(await pass(), [/^decode-0 waits/, 'prefill-0: a', 'decode-0: b'], 'in the same pass');
  come('late', { [berth.sameDomainAs]: 'rack:prefill' });
  t.match(await pass(), [/^late-0 waits: .*4 not in the rack of serving\/prefill/]);
});

t.test('some ranks of a group are planned with the slices that they are in', async t => {
  const { cache, waiting, come } = world();
  const slices = { [berth.sliceTopology]: 'rack', [berth.sliceSize]: '2' };
  const group = come('llm', slices, { size: 4 });
  const info = groupInfoOf(cache, group.key);
  const fixed = new Map([
    [0, 'a'],
    [2, 'c'],
  ]);
  const full = new Map(['a', 'c'].map(node => [node, 'full']));
  const found = waiting.planRanks(info, [0, 3, 2], fixed, full);
  t.same(
    [...(found ?? [])].map(([rank, { node }]) => [rank, node]),
    [
      [0, 'a'],
      [2, 'c'],
      [3, 'd'],
    ],
  );
});
