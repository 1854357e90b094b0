import t from 'tap';
import { berth } from '../../../src/api/names.ts';
import { ClusterCache } from '../../../src/cache/cluster-cache.ts';
import { decodeResourceSlice } from '../../../src/cluster/devices/decode-slice.ts';
import { deviceKey } from '../../../src/cluster/devices/device.ts';
import { decodeTaintRule } from '../../../src/cluster/devices/taint-rules.ts';
import { decodeNode } from '../../../src/cluster/node-info.ts';
import { decodeStatefulSet } from '../../../src/group/owner.ts';
import { formatPlanAnnotation, type PlanAnnotation } from '../../../src/group/plan-annotation.ts';
import { nodeClasses, p4dLike, wants } from '../../builders/device-nodes.ts';
import { addClaim, addTemplate, onNode, publish } from '../../builders/dra.ts';
import { nodeOf } from '../../builders/fleet.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { decode } from '../../builders/planning.ts';
import { podOf } from '../../builders/pods.ts';

const group = new LwsGroup({ size: 2, worker: { cpu: 1, claims: { devices: 'pair' } } });

function worldOf(): ClusterCache {
  const cache = new ClusterCache({ levels: [], steersClaims: true });
  cache.nodes.replace(['a', 'b'].map(name => decodeNode(nodeOf({ name }))));
  cache.statefulSets.upsert(decodeStatefulSet(group.workerSet()));
  publish(cache, { a: p4dLike(), b: p4dLike() });
  addTemplate(cache, wants('pair', { gpu: ['gpu', 1], nic: ['nic', 1] }));
  return cache;
}

/** Both members on `a`, each with a GPU and a NIC. */
const plan: PlanAnnotation = {
  leaderUid: group.leaderUid(),
  generation: 1,
  nodes: ['a', 'a'],
  requests: [new Map([['pods', 1]]), new Map([['pods', 1]])],
  devices: [0, 1].map(rank => ({
    claims: [
      {
        claim: 'devices',
        requests: [
          { request: 'gpu', devices: [{ driver: 'gpu.nvidia.com', pool: 'a', device: `gpu-${2 * rank}` }] },
          { request: 'nic', devices: [{ driver: 'dra.net', pool: 'a', device: `efa${rank}` }] },
        ],
      },
    ],
    rung: 'pcie',
  })),
};

function planned(cache: ClusterCache): void {
  const annotations = { [berth.plan]: formatPlanAnnotation(plan) };
  cache.pods.upsert(decode(group.leader({ gated: false, pinnedTo: 'a', annotations })));
  cache.pods.upsert(decode(group.worker(1, { gated: false, pinnedTo: 'a' })));
}

function removeClaim(cache: ClusterCache, name: string): void {
  const claim = cache.claims.claim('serving', name);
  if (claim === undefined) throw new Error(`no claim ${name}`);
  cache.resourceClaims.remove(claim);
}

const usedOn = (cache: ClusterCache, node: string) =>
  [...(cache.nodeInfo(node)?.devices?.used.devices ?? [])].map(key => key.split('//')[2]).sort();

const heldOn = (cache: ClusterCache, node: string) =>
  (cache.nodeInfo(node)?.devices?.taken ?? []).flatMap(({ held, results }) =>
    held ? results.map(({ device }) => device) : [],
  );

t.test('a cluster without DRA has nodes without devices', async t => {
  const cache = new ClusterCache({ levels: [] });
  cache.nodes.replace([decodeNode(nodeOf({ name: 'a', gpu: 8 }))]);
  t.equal(cache.nodeInfo('a')?.devices, undefined);
});

t.test('a node keeps its devices as one object until something changes for it', async t => {
  const cache = worldOf();
  const [a, b] = [cache.nodeInfo('a'), cache.nodeInfo('b')];
  t.equal(a?.devices?.pools.candidates.length, 15);
  addClaim(cache, { name: 'c', allocated: ['dra.net/a/efa0'] });
  t.not(cache.nodeInfo('a'), a);
  t.equal(cache.nodeInfo('b'), b, 'nothing has changed for b');
  t.same(usedOn(cache, 'a'), ['efa0']);
  t.equal(cache.nodeInfo('a')?.untouched, false);
  removeClaim(cache, 'c');
  t.same(usedOn(cache, 'a'), []);
  const before = cache.nodeInfo('b');
  const [gpuClass] = nodeClasses.values();
  if (gpuClass !== undefined) cache.deviceClasses.upsert({ ...gpuClass, selectors: [] });
  t.not(cache.nodeInfo('b'), before, 'a class concerns all nodes');
});

t.test('claims may be seen before the slices they have devices of, and slices come and go', async t => {
  const cache = new ClusterCache({ levels: [] });
  cache.nodes.replace([decodeNode(nodeOf({ name: 'a' }))]);
  addClaim(cache, { name: 'c', allocated: ['dra.net/a/efa0'] });
  publish(cache, { a: p4dLike() });
  t.same(usedOn(cache, 'a'), ['efa0']);
  const [first] = onNode(p4dLike(), 'a').map(decodeResourceSlice);
  if (first !== undefined) cache.resourceSlices.remove(first);
  t.same(usedOn(cache, 'a'), [], 'nobody can use what is not published');
  if (first !== undefined) cache.resourceSlices.upsert(first);
  t.same(usedOn(cache, 'a'), ['efa0']);
});

t.test('planned devices are held until the allocation is seen, not until the pod is bound', async t => {
  const cache = worldOf();
  planned(cache);
  t.same(usedOn(cache, 'a'), ['efa0', 'efa1', 'gpu-0', 'gpu-2']);
  t.same([...cache.heldNodes()], ['a']);
  cache.pods.upsert(
    decode(
      group.leader({ gated: false, node: 'a', annotations: { [berth.plan]: formatPlanAnnotation(plan) } }),
    ),
  );
  t.same(
    heldOn(cache, 'a').sort(),
    ['efa0', 'efa1', 'gpu-0', 'gpu-2'],
    'bound, and not allocated as far as is known',
  );
  const pod = { name: group.leaderName, uid: group.leaderUid(), calls: 'devices' };
  addClaim(cache, { name: 'own', pod, allocated: ['gpu.nvidia.com/a/gpu-1', 'dra.net/a/efa0'] });
  t.same(heldOn(cache, 'a'), ['gpu-2', 'efa1'], 'what it has got counts, whatever was planned');
  t.same(usedOn(cache, 'a'), ['efa0', 'efa1', 'gpu-1', 'gpu-2']);
  cache.pods.remove(decode(group.leader()));
  t.same(heldOn(cache, 'a'), [], 'no plan without a leader');
  t.same(usedOn(cache, 'a'), ['efa0', 'gpu-1'], 'its claim ends by itself');
});

t.test('the cluster without a group is without its devices, allocated and held', async t => {
  const cache = worldOf();
  planned(cache);
  const pod = { name: group.leaderName, uid: group.leaderUid(), calls: 'devices' };
  addClaim(cache, { name: 'own', pod, allocated: ['gpu.nvidia.com/a/gpu-1', 'dra.net/a/efa0'] });
  addClaim(cache, { name: 'other', allocated: ['gpu.nvidia.com/a/gpu-7'] });
  const members = new Set(cache.podsOfGroup(group.key));
  const without = cache.snapshotWithout(members, [group.key]);
  const at = without.tree.indexByNodeName.get('a') ?? -1;
  const devices = without.nodes.at(at)?.devices;
  t.same([...(devices?.used.devices ?? [])], ['gpu.nvidia.com//a//gpu-7']);
  t.equal(cache.snapshot().nodes.at(at)?.devices?.used.devices.size, 5, 'nothing has changed');
});

t.test('a seat is lost with its devices: taken by another, or no longer published', async t => {
  const cache = worldOf();
  planned(cache);
  t.ok(cache.hasPlannedDevices(group.key, 0));
  addClaim(cache, { name: 'thief', allocated: ['gpu.nvidia.com/a/gpu-0'] });
  t.notOk(cache.hasPlannedDevices(group.key, 0));
  t.ok(cache.hasPlannedDevices(group.key, 1), 'the other seat has its own');
  for (const slice of onNode(p4dLike(), 'a').map(decodeResourceSlice)) cache.resourceSlices.remove(slice);
  t.notOk(cache.hasPlannedDevices(group.key, 1));
});

t.test('a DeviceTaintRule taints what it selects for as long as it is there', async t => {
  const cache = worldOf();
  const taints = (node: string) =>
    cache.devicesOn(node).flatMap(({ id, taints }) => (taints.length > 0 ? [id.device] : []));
  const taint = { key: 'example.com/broken', effect: 'NoSchedule' };
  const rule = (deviceSelector?: Record<string, string>) =>
    decodeTaintRule({ metadata: { name: 'r' }, spec: { ...(deviceSelector && { deviceSelector }), taint } });
  cache.deviceTaintRules.upsert(rule({ driver: 'dra.net', pool: 'a', device: 'efa1' }));
  t.same([taints('a'), taints('b')], [['efa1'], []]);
  cache.deviceTaintRules.upsert(rule({ driver: 'dra.net', pool: 'b' }));
  t.same([taints('a').length, taints('b').length], [0, 7]);
  cache.deviceTaintRules.upsert(rule());
  t.same([taints('a'), taints('b')], [[], []], 'no selector selects nothing');
  cache.deviceTaintRules.upsert(rule({}));
  t.same([taints('a').length, taints('b').length], [15, 15], 'an empty one selects everything');
  publish(cache, { a: p4dLike() });
  t.equal(taints('a').length, 15, 'also what is published afterwards');
  cache.deviceTaintRules.remove(rule());
  t.same([taints('a'), taints('b')], [[], []]);
  t.throws(() => decodeTaintRule({ metadata: { name: 'r' }, spec: {} as never }), /spec\.taint/);
});

t.test('a device that is excluded is tainted for as long, beside what rules say of it', async t => {
  const cache = worldOf();
  const tainted = () => cache.devicesOn('a').flatMap(({ id, taints }) => taints.map(() => id.device));
  const heard: string[] = [];
  cache.subscribe(change => heard.push(change.kind));
  const id = { driver: 'dra.net', pool: 'a', device: 'efa1' };
  const excluded = new Map([[deviceKey(id), id]]);
  cache.setExcludedDevices(excluded);
  t.same(tainted(), ['efa1']);
  t.ok(heard.splice(0).includes('pool'), 'listeners hear of it');
  const before = cache.snapshot();
  cache.setExcludedDevices(new Map(excluded));
  t.equal(cache.snapshot(), before);
  t.same(heard, [], 'and of nothing when nothing has changed');
  const taint = { key: 'example.com/broken', effect: 'NoSchedule' };
  const rule = decodeTaintRule({ metadata: { name: 'r' }, spec: { deviceSelector: id, taint } });
  cache.deviceTaintRules.upsert(rule);
  publish(cache, { a: p4dLike() });
  t.same(tainted(), ['efa1', 'efa1'], 'also what is published afterwards');
  cache.deviceTaintRules.remove(rule);
  cache.setExcludedDevices(new Map());
  t.same(tainted(), []);
});

t.test('listeners hear when devices come free, and the group whose claim is allocated', async t => {
  const cache = worldOf();
  planned(cache);
  addClaim(cache, { name: 'other', allocated: ['gpu.nvidia.com/a/gpu-7'] });
  const heard: string[] = [];
  cache.subscribe(change => heard.push(change.kind === 'group' ? change.key : change.kind));
  removeClaim(cache, 'other');
  t.same(heard.splice(0), ['room']);
  const pod = { name: group.leaderName, uid: group.leaderUid(), calls: 'devices' };
  addClaim(cache, { name: 'own', pod });
  t.ok(heard.splice(0).includes(group.key));
});

t.test('a namespace and the configuration decide whether claims are steered', async t => {
  t.notOk(new ClusterCache({ levels: [] }).claims.steers('serving'), 'off unless it is switched on');
  t.ok(worldOf().claims.steers('serving'));
});

t.test('a place that is kept has its devices, which the group itself may plan with', async t => {
  const cache = worldOf();
  cache.pods.upsert(decode(group.leader()));
  const [first] = plan.devices ?? [];
  const seat = { node: 'a', requests: new Map([['pods', 1]]), claims: first?.claims ?? [] };
  cache.reservePlace(group.key, [seat]);
  t.same(usedOn(cache, 'a'), ['efa0', 'gpu-0']);
  const own = cache.snapshotFor(group.key);
  const at = own.tree.indexByNodeName.get('a') ?? -1;
  t.equal(own.nodes.at(at)?.devices?.used.devices.size, 0);
  cache.assumePlan(decode(group.leader()), plan);
  t.same(usedOn(cache, 'a'), ['efa0', 'efa1', 'gpu-0', 'gpu-2'], 'the plan holds its own');
  cache.reservePlace(group.key, [seat]);
  cache.reservePlace(group.key, []);
  t.same(usedOn(cache, 'a'), ['efa0', 'efa1', 'gpu-0', 'gpu-2']);
});

t.test('a single pod has its devices held from the pin to the allocation', async t => {
  const cache = worldOf();
  const single = decode(podOf({ name: 's', gpu: 1, gated: true }));
  cache.pods.upsert(single);
  const [first] = plan.devices ?? [];
  const [claim] = first?.claims ?? [];
  const devices = {
    claims: claim === undefined ? [] : [{ ...claim, claim: '<extended-resources>' }],
    rung: undefined,
  };
  cache.assumePin(single, 'a', devices);
  t.same(usedOn(cache, 'a'), ['efa0', 'gpu-0']);
  cache.pods.upsert(decode(podOf({ name: 's', gpu: 1, node: 'a' })));
  t.same(heldOn(cache, 'a').sort(), ['efa0', 'gpu-0'], 'bound, and not allocated as far as is known');
  addClaim(cache, {
    name: 'made-by-kube-scheduler',
    pod: { name: 's', uid: single.uid, calls: '' },
    annotations: { 'resource.kubernetes.io/extended-resource-claim': 'true' },
    allocated: ['gpu.nvidia.com/a/gpu-5'],
  });
  t.same(usedOn(cache, 'a'), ['gpu-5']);
  const other = decode(podOf({ name: 'o', gpu: 1, gated: true }));
  cache.pods.upsert(other);
  cache.assumePin(other, 'a', devices);
  cache.forgetPin(other);
  t.same(usedOn(cache, 'a'), ['gpu-5'], 'taken back when the write fails');
  cache.assumePin(other, 'a', devices);
  cache.pods.remove(other);
  t.same(usedOn(cache, 'a'), ['gpu-5'], 'and when the pod goes');
});

t.test(
  'what the claim of a pod asks for is kept only until it has devices, of one that is named for ever',
  async t => {
    const cache = worldOf();
    const { spec } = wants('pair', { gpu: ['gpu', 1], nic: ['nic', 1] });
    const pod = { name: 'p', uid: 'uid-p', calls: 'devices' };
    for (const [name, more, kept] of [
      ['own', { pod }, {}],
      ['named', {}, spec],
    ] as const) {
      addClaim(cache, { name, spec, ...more });
      t.same(cache.claims.claim('serving', name)?.spec, spec);
      addClaim(cache, { name, spec, ...more, allocated: ['dra.net/a/efa0'] });
      t.same(cache.claims.claim('serving', name)?.spec, kept);
    }
  },
);
