import t from 'tap';
import type { DeviceTaint } from '../../../src/api/dra.ts';
import { claimsWithout, troubleOf } from '../../../src/cache/claim-users.ts';
import { ClusterCache } from '../../../src/cache/cluster-cache.ts';
import type { ClaimRecord } from '../../../src/cluster/devices/claims.ts';
import { decodeResourceSlice } from '../../../src/cluster/devices/decode-slice.ts';
import { deviceKey } from '../../../src/cluster/devices/device.ts';
import { decodeNode } from '../../../src/cluster/node-info.ts';
import { p4dLike, wants } from '../../builders/device-nodes.ts';
import { addClaim, onNode, publish } from '../../builders/dra.ts';
import { nodeOf } from '../../builders/fleet.ts';
import { decode, labelledPod } from '../../builders/planning.ts';
import { type PodParts, podOf } from '../../builders/pods.ts';

const gpu = { driver: 'gpu.nvidia.com', pool: 'a', device: 'gpu-0' };
const pair = wants('pair', { gpu: ['gpu', 2] });

/** Groups `g` and `h` of one pod each, on node `a`, and claim `c` with two GPUs of it. */
function world({ users = ['g', 'h'], excluded = true, ...rest }: Parts = {}) {
  const cache = new ClusterCache({ levels: [] });
  cache.nodes.replace(['a', 'b'].map(name => decodeNode(nodeOf({ name }))));
  publish(cache, { a: p4dLike(), b: p4dLike() });
  for (const name of ['g', 'h']) cache.pods.upsert(memberOf(name));
  cache.pods.upsert(decode(podOf({ name: 'notebook', uid: 'uid-notebook', node: 'a' })));
  const allocated = ['gpu.nvidia.com/a/gpu-0', 'gpu.nvidia.com/a/gpu-1'];
  const reservedFor = users.map(uidOf);
  addClaim(cache, { name: 'c', spec: pair.spec, allocated, reservedFor, ...rest });
  if (excluded) cache.setExcludedDevices(new Map([[deviceKey(gpu), gpu]]));
  return { cache, claim: claimIn(cache) };
}

interface Parts {
  readonly users?: readonly string[];
  readonly excluded?: boolean;
  readonly pod?: { readonly name: string; readonly uid: string; readonly calls: string };
}

const uidOf = (name: string) => (name === 'notebook' ? 'uid-notebook' : `uid-${name}-0`);

function memberOf(name: string, more: Partial<PodParts> = { node: 'a' }) {
  const pod = labelledPod(1, 0, { claims: { d: 'claim:c' }, ...more });
  const labels = { ...pod.metadata.labels, 'berth.dev/group': name };
  const metadata = { ...pod.metadata, name: `${name}-0`, uid: uidOf(name), labels };
  const { schedulingGates: _, ...spec } = pod.spec;
  const going = more.terminating && { deletionTimestamp: '2026-01-01T00:00:00Z' };
  return decode({
    ...pod,
    metadata: { ...metadata, ...going },
    spec: { ...spec, ...(more.node && { nodeName: more.node }) },
  });
}

function claimIn(cache: ClusterCache): ClaimRecord {
  const claim = cache.claims.claim('serving', 'c');
  if (claim === undefined) throw new Error('no claim');
  return claim;
}

function viewOf(cache: ClusterCache, key = 'serving/g') {
  const view = cache.group(key);
  if (view === undefined) throw new Error(`no group ${key}`);
  return view;
}

/** Whether claim `c` counts as released when group `g` leaves, and whether all agree on it. */
function isReleased(cache: ClusterCache, leaves: (group: string) => boolean): boolean {
  const { source, released } = claimsWithout(cache, viewOf(cache), leaves);
  const seen = source.claim('serving', 'c');
  t.equal(seen?.allocation === undefined, released.size > 0);
  t.same(seen?.spec, pair.spec, 'what it asks for is known, for it is to be allocated anew');
  return released.size > 0;
}

const nobody = () => false;
const everybody = () => true;

t.test(
  'a claim with a failed device waits for its users, who are named but for the group itself',
  async t => {
    const { cache, claim } = world({ users: ['g', 'h', 'notebook'] });
    const trouble = {
      kind: 'failed',
      device: { device: 'gpu-0' },
      users: ['group serving/h', 'pod serving/notebook'],
    };
    t.match(troubleOf(cache, claim, 'serving/g'), trouble);
    t.match(troubleOf(cache, claim, 'serving/h'), { users: ['group serving/g', 'pod serving/notebook'] });
    t.match(troubleOf(cache, claim, 'serving/i')?.kind, 'failed', 'also for a group that is new');
  },
);

t.test('who is going is not named, nor who is gone, and still the claim must be released', async t => {
  const { cache, claim } = world();
  cache.pods.upsert(memberOf('h', { node: 'a', terminating: true }));
  t.match(troubleOf(cache, claim, 'serving/g'), { kind: 'failed', users: [] });
  cache.pods.remove(memberOf('h'));
  t.match(troubleOf(cache, claim, 'serving/g'), { kind: 'failed', users: [] });
});

t.test('there is no trouble', async t => {
  const well = world({ excluded: false });
  t.equal(troubleOf(well.cache, well.claim, 'serving/i'), undefined, 'with a claim whose devices are well');
  const { cache, claim } = world();
  cache.setExcludedDevices(new Map());
  t.equal(troubleOf(cache, claim, 'serving/i'), undefined, 'when its device is well again');
  const unused = world({ users: [] });
  t.equal(
    troubleOf(unused.cache, unused.claim, 'serving/i'),
    undefined,
    'with one that nobody could release',
  );
});

t.test('a NoExecute taint is trouble at once, in whatever mode', async t => {
  const { cache, claim } = world({ excluded: false });
  const taint: DeviceTaint = { key: 'example.com/dead', effect: 'NoExecute' };
  for (const slice of onNode(p4dLike(), 'a')) {
    const devices = slice.spec.devices?.map(device =>
      device.name === 'gpu-1' ? { ...device, taints: [taint] } : device,
    );
    cache.resourceSlices.upsert(
      decodeResourceSlice({ ...slice, spec: { ...slice.spec, ...(devices && { devices }) } }),
    );
  }
  t.match(troubleOf(cache, claim, 'serving/i'), { kind: 'failed', device: { device: 'gpu-1' } });
});

t.test('a claim that is about to be allocated for another group waits for that', async t => {
  const { cache } = world();
  cache.resourceClaims.remove(claimIn(cache));
  addClaim(cache, { name: 'c', spec: pair.spec });
  cache.pods.upsert(memberOf('h', {}));
  t.equal(troubleOf(cache, claimIn(cache), 'serving/g'), undefined, 'the other has no plan');
  const leader = memberOf('h', {});
  const plan = { leaderUid: leader.uid, generation: 1, nodes: ['b'], requests: [leader.requests] };
  cache.assumePlan(leader, plan);
  t.match(troubleOf(cache, claimIn(cache), 'serving/g'), { kind: 'wanted', group: 'serving/h' });
  t.equal(troubleOf(cache, claimIn(cache), 'serving/h'), undefined, 'not for itself');
  cache.pods.upsert(memberOf('h', { node: 'b' }));
  t.equal(troubleOf(cache, claimIn(cache), 'serving/g'), undefined, 'not any more when it is bound');
});

t.test('as if a group had left: what it uses alone is free, failed or not', async t => {
  for (const excluded of [true, false]) {
    const { cache } = world({ users: ['g'], excluded });
    t.ok(isReleased(cache, nobody));
  }
});

t.test('what others use, too, stays theirs, unless it has failed and all of them leave for that', async t => {
  t.notOk(isReleased(world({ excluded: false }).cache, everybody), 'a claim that is well');
  t.notOk(isReleased(world().cache, nobody));
  t.ok(isReleased(world().cache, group => group === 'serving/h'));
  t.notOk(
    isReleased(world({ users: ['g', 'h', 'notebook'] }).cache, everybody),
    'a pod of no group never leaves',
  );
  const { source } = claimsWithout(world().cache, viewOf(world().cache), nobody);
  t.match(source.trouble(claimIn(world().cache), 'serving/g'), { users: ['group serving/h'] });
});

t.test('what is made for a pod, or reserved for nobody, is not released', async t => {
  const pod = { name: 'g-0', uid: uidOf('g'), calls: 'd' };
  const own = claimsWithout(world({ users: ['g'], pod }).cache, viewOf(world().cache), everybody);
  t.equal(own.released.size, 0);
  const unused = world({ users: [] }).cache;
  t.equal(claimsWithout(unused, viewOf(unused), everybody).released.size, 0);
});

t.test(
  'the healthy devices of a claim that is released are free, and the failed one is not to be had',
  async t => {
    const { cache } = world();
    const view = viewOf(cache);
    const { released } = claimsWithout(cache, view, everybody);
    const usedOn = (claims: ReadonlySet<string>) => {
      const { tree, nodes } = cache.snapshotWithout(new Set(view.members.values()), ['serving/g'], claims);
      const node = nodes.at(tree.indexByNodeName.get('a') ?? -1);
      return [...(node?.devices?.used.devices ?? [])].map(key => key.split('//')[2]).sort();
    };
    t.strictSame(usedOn(new Set()), ['gpu-0', 'gpu-1'], 'the other group has them as long as it stays');
    t.strictSame(usedOn(released), []);
    const taints = cache
      .devicePool(gpu.driver, 'a')
      ?.devices.get('gpu-0')
      ?.taints.map(({ key }) => key);
    t.strictSame(taints, ['berth.dev/excluded']);
  },
);
