import t from 'tap';
import { presetFleet } from '../../../hack/bed/fleet-presets.ts';
import { berth, k8s } from '../../../src/api/names.ts';
import { ImpossibleDemands } from '../../../src/cache/impossible-demands.ts';
import { type LineOutcome, WaitingList } from '../../../src/controller/waiting-list.ts';
import { decodeLeaderWorkerSet } from '../../../src/group/owner.ts';
import { cacheWithDevices, claimingDevices } from '../../builders/device-cache.ts';
import { request } from '../../builders/devices.ts';
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

t.test('what has come back from a failure is used last, and is used when there is nothing else', async t => {
  const inOneRack = { [berth.requiredTopology]: 'rack' };
  const { cache, come, pass } = world();
  cache.setLastChoice({ nodes: new Set(['a']) });
  come('one', {});
  t.same(await pass(), ['one-0: b'], 'another host of the same rack');
  cache.setLastChoice({ nodes: new Set(['c']) });
  come('two', inOneRack, { size: 2 });
  t.same(await pass(), ['two-0: e f'], 'another rack');
  come('three', inOneRack, { size: 2 });
  t.same(await pass(), ['three-0: c d'], 'there is no other rack');
  cache.setLastChoice({ nodes: new Set(['a', 'c']) });
  come('four', {});
  t.same(await pass(), ['four-0: a'], 'nor another host');
});

t.test('a group is not spread wider to do without what has come back', async t => {
  const { cache, come, pass } = world();
  for (const name of ['x', 'y'])
    come(name, {}, { worker: { gpu: 8, nodeSelector: { [k8s.hostname]: name === 'x' ? 'c' : 'e' } } });
  t.same(await pass(), ['x-0: c', 'y-0: e']);
  cache.setLastChoice({ nodes: new Set(['a']) });
  come('pair', { [berth.preferredTopology]: 'rack' }, { size: 2 });
  t.same(await pass(), ['pair-0: a b']);
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
    [...(found ?? [])],
    [
      [0, { node: 'a', devices: undefined }],
      [2, { node: 'c', devices: undefined }],
      [3, { node: 'd', devices: undefined }],
    ],
  );
});

t.test('a group that no node could ever give its devices is told so with its refusal', async t => {
  const root = 'resource.kubernetes.io/pcieRoot';
  const requests = ['gpu.nvidia.com', 'dranet-rdma'].map(name => request(name, { deviceClassName: name }));
  const cache = cacheWithDevices(presetFleet('gb300'), requests, [{ matchAttribute: root }]);
  const demands = new ImpossibleDemands(cache);
  const waiting = new WaitingList({
    cache,
    wallMs: () => Date.UTC(2026, 0, 1),
    nowMs: () => 0,
    agedAfterMs: 600_000,
    membersLateAfterMs: 0,
    whyImpossible: demands.why.bind(demands),
    onPlanned: () => {},
  });
  const group = new LwsGroup({ size: 1, worker: {} });
  const leader = group.leader();
  cache.pods.upsert(decode({ ...leader, spec: { ...leader.spec, ...claimingDevices } }));
  cache.leaderWorkerSets.upsert(decodeLeaderWorkerSet(group.owner()));
  waiting.addGroup(group.key);
  const outcomes: LineOutcome[] = [];
  await waiting.pass(
    outcome => outcomes.push(outcome),
    async () => true,
  );
  t.match(outcomes, [
    {
      kind: 'waits',
      reason: 'NeverFits',
      message: `the pod does not fit in the cluster: there is room for 0 of 1; 16 of 16 nodes cannot take it: 16 no matching devices; no node could give what the pod asks for, even if it were empty: request dranet-rdma: 64 devices of class dranet-rdma on 16 nodes, none has attribute ${root}`,
    },
  ]);
});
