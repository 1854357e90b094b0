import t from 'tap';
import { ClusterCache } from '../../../src/cache/cluster-cache.ts';
import { deviceKey } from '../../../src/cluster/devices/device.ts';
import { decodeNode } from '../../../src/cluster/node-info.ts';
import { type LineOutcome, WaitingList } from '../../../src/controller/waiting-list.ts';
import { verdictFor } from '../../../src/extender/verdict.ts';
import type { PlacementMode } from '../../../src/group/owner.ts';
import { p4dLike, wants } from '../../builders/device-nodes.ts';
import { addClaim, type ClaimParts, publish } from '../../builders/dra.ts';
import { nodeOf } from '../../builders/fleet.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { decode } from '../../builders/planning.ts';
import { addOwner, setMode } from '../extender/world.ts';

const gpu = { driver: 'gpu.nvidia.com', pool: 'a', device: 'gpu-0' };
const { spec } = wants('c', { gpu: ['gpu', 1] });
const worker = { cpu: 1, claims: { d: 'claim:c' } };
const groups = [0, 1].map(index => new LwsGroup({ name: 'llm', size: 2, worker }, index));
const [first, second] = groups as [LwsGroup, LwsGroup];

/** Two groups that name claim `c`, whose GPU on node `a` is excluded; those listed have their old pods still. */
function world({ old, mode = 'pin' }: { readonly old: readonly LwsGroup[]; readonly mode?: PlacementMode }) {
  const cache = new ClusterCache({ levels: [] });
  cache.nodes.replace(['a', 'b'].map(name => decodeNode(nodeOf({ name }))));
  setMode(cache, 'serving', mode);
  publish(cache, { a: p4dLike(), b: p4dLike() });
  for (const group of groups) {
    addOwner(cache, group, old.includes(group) ? 1 : 2);
    const incarnation = old.includes(group) ? 1 : 2;
    const place = old.includes(group) ? { gated: false, node: 'a' } : { gated: mode !== 'extender' };
    cache.pods.upsert(decode(group.leader(place, incarnation)));
    cache.pods.upsert(decode(group.worker(1, place, incarnation)));
  }
  const reservedFor = old.flatMap(({ leaderName }) => [`uid-${leaderName}-1`, `uid-${leaderName}-1-1`]);
  claim(cache, { reservedFor, allocated: ['gpu.nvidia.com/a/gpu-0'] });
  exclude(cache, true);
  const waiting = new WaitingList({
    cache,
    wallMs: () => Date.UTC(2026, 0, 1),
    nowMs: () => 0,
    agedAfterMs: 600_000,
    membersLateAfterMs: 0,
    onPlanned: () => {},
  });
  for (const group of groups) if (!old.includes(group)) waiting.addGroup(group.key);
  /** One pass over the line; what is planned holds at once. */
  async function pass(): Promise<readonly string[]> {
    const told: string[] = [];
    const place = (outcome: LineOutcome) => {
      if (outcome.kind === 'planned-single') return;
      if (outcome.kind === 'waits') {
        told.push(`${outcome.key} ${outcome.reason}: ${outcome.message}`);
        return;
      }
      const { group, plan } = outcome;
      told.push(`${group.key}: ${plan.nodes.join(' ')}`);
      const requests = group.demands.map(demand => demand.requests);
      const devices = plan.devices && { devices: plan.devices };
      const { leader } = group;
      cache.assumePlan(leader, {
        leaderUid: leader.uid,
        generation: 1,
        nodes: plan.nodes,
        requests,
        ...devices,
      });
    };
    await waiting.pass(place, async () => true);
    return told;
  }
  return { cache, pass };
}

function claim(cache: ClusterCache, parts: Partial<ClaimParts>): void {
  addClaim(cache, { name: 'c', spec, ...parts });
}

function exclude(cache: ClusterCache, is: boolean): void {
  cache.setExcludedDevices(new Map(is ? [[deviceKey(gpu), gpu]] : []));
}

const waits = (group: LwsGroup, users: string) =>
  `${group.key} ClaimOnFailedDevice: ResourceClaim serving/c has the failed device gpu-0 of pool a (gpu.nvidia.com), and gets another one once it is released by ${users}`;

t.test(
  'a group waits until the claim that it names is released, then goes where another device is',
  async t => {
    const { cache, pass } = world({ old: [second] });
    t.strictSame(await pass(), [waits(first, 'group serving/llm-1')]);
    t.strictSame(await pass(), [waits(first, 'group serving/llm-1')], 'in the same words each time');
    for (const pod of [
      second.leader({ node: 'a', gated: false }),
      second.worker(1, { node: 'a', gated: false }),
    ])
      cache.pods.remove(decode(pod));
    t.strictSame(
      await pass(),
      [waits(first, 'the old pods of the group')],
      'not yet, when the pods are gone',
    );
    let rooms = 0;
    cache.subscribe(({ kind }) => {
      if (kind === 'room') rooms++;
    });
    claim(cache, {});
    t.ok(rooms > 0, 'the line hears of the release');
    const [line = ''] = await pass();
    t.match(line, /^serving\/llm-0: ([ab]) \1$/, 'both where one of them is, for it is allocated once');
    const planned = (cache.group(first.key)?.plan?.devices ?? []).flatMap(({ claims }) =>
      claims.flatMap(({ requests }) => requests.flatMap(({ devices }) => devices)),
    );
    t.equal(planned.length, 1, 'the claim is counted once');
    t.notOk(planned.map(deviceKey).includes(deviceKey(gpu)));
  },
);

t.test('of two groups that share a claim the second follows when it is seen where the claim is', async t => {
  const { cache, pass } = world({ old: [] });
  claim(cache, {});
  const wanted = `${second.key} ClaimShared: ResourceClaim serving/c is about to be allocated for group serving/llm-0; this one is planned once it is`;
  const [placed, waiting] = await pass();
  t.match(placed, /^serving\/llm-0: /);
  t.equal(waiting, wanted);
  const onB = {
    nodeSelectorTerms: [{ matchFields: [{ key: 'metadata.name', operator: 'In', values: ['b'] }] }],
  };
  const known = cache.claims.claim('serving', 'c');
  if (known === undefined) throw new Error('no claim');
  const results = [{ request: 'gpu', ...gpu, pool: 'b' }];
  cache.resourceClaims.upsert({
    ...known,
    allocation: { results, nodeSelector: onB },
    reservedFor: [first.leaderUid(2)],
  });
  t.strictSame(await pass(), ['serving/llm-1: b b']);
});

t.test('when the device is well again before the claim is released the group follows the claim', async t => {
  const { cache, pass } = world({ old: [second] });
  t.equal((await pass()).length, 1);
  exclude(cache, false);
  t.match(await pass(), [/^serving\/llm-0: [ab] [ab]$/]);
});

t.test('in mode extender, without gates, kube-scheduler gets no node for such a group', async t => {
  const { cache, pass } = world({ old: [second], mode: 'extender' });
  t.strictSame(await pass(), [waits(first, 'group serving/llm-1')]);
  const pods = () => [...(cache.group(first.key)?.members.values() ?? [])];
  t.strictSame(
    pods()
      .map(pod => verdictFor(cache, pod))
      .map(({ kind }) => kind),
    ['none', 'none'],
  );
  claim(cache, {});
  t.equal((await pass()).length, 1);
  const leader = cache.group(first.key)?.leader;
  const plan = cache.group(first.key)?.plan;
  if (leader === undefined || plan === undefined) throw new Error('no plan');
  t.strictSame(
    pods().map(pod => verdictFor(cache, pod).kind),
    ['none', 'none'],
    'nor before the plan is written',
  );
  cache.confirmPlan(leader, plan);
  t.strictSame(
    pods().map(pod => verdictFor(cache, pod).kind),
    ['only', 'only'],
  );
});
