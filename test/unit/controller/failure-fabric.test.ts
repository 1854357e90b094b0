import t from 'tap';
import type { DeviceAttribute } from '../../../src/api/dra.ts';
import { berth, nvidia } from '../../../src/api/names.ts';
import { decodeComputeDomain } from '../../../src/cluster/devices/compute-domain.ts';
import { decodeResourceClaim } from '../../../src/cluster/devices/decode-claim.ts';
import { decodeResourceSlice } from '../../../src/cluster/devices/decode-slice.ts';
import { decodeNode } from '../../../src/cluster/node-info.ts';
import { FailureWatch } from '../../../src/controller/failure-watch.ts';
import { noClaims } from '../../../src/failure/claim.ts';
import { defaultFailureSettings, type FailureSettings } from '../../../src/failure/settings.ts';
import { nodeOf } from '../../builders/fleet.ts';
import { decode } from '../../builders/planning.ts';
import { deviceNames, FakeCluster, groupsOf } from '../failure/fake-cluster.ts';
import { Replica } from '../failure/replica.ts';

const driver = 'gpu.example.com';
const minute = 60_000;

/** Two groups of three on n0 to n5, devices by claims. */
function scene(settings: Partial<FailureSettings> = {}) {
  const cluster = new FakeCluster(groupsOf(2, 3), 12, 4, { claims: true });
  const cache = cluster.cache();
  let nowMs = 0;
  const watch = new FailureWatch({
    cache,
    settings: { ...defaultFailureSettings, mode: 'cordon', ...settings },
    claims: noClaims,
    intents: () => [],
    nowMs: () => nowMs,
  });
  const [group, other] = cluster.groups;
  if (group === undefined || other === undefined) throw new Error('no groups');
  const look = () => {
    watch.lookAtAll();
    for (const { key } of cluster.groups) watch.lookAtGroup(key);
    watch.excludeNodes([], 0);
  };
  const evidenceOf = (of: typeof group) =>
    watch
      .evidenceOf(of.leaderUid())
      .map(({ sighting }) => sighting)
      // The pools of the channels have no slices here.
      .filter(({ signal }) => signal !== 'DevicePoolIncomplete');
  const seen = (of = group) =>
    evidenceOf(of).map(({ signal, class: signalClass }) => `${signal} ${signalClass}`);
  look();
  return {
    cluster,
    cache,
    watch,
    group,
    other,
    nodesOf: (of: typeof group) => cluster.podsOf(of).map(({ pod }) => pod.spec.nodeName ?? ''),
    look,
    seen,
    evidenceOf,
    pass(ms: number) {
      nowMs += ms;
      look();
    },
    /** The driver of a node publishes what it says of its first device. */
    publish(node: string, attributes: Readonly<Record<string, DeviceAttribute>>) {
      cluster.publish(node, deviceNames);
      const slice = cluster.slices.get(node);
      if (slice === undefined) throw new Error('no slice');
      const devices = (slice.spec.devices ?? []).map((device, at) =>
        at === 0 ? { ...device, attributes } : device,
      );
      cache.resourceSlices.upsert(decodeResourceSlice({ ...slice, spec: { ...slice.spec, devices } }));
      look();
    },
    label(node: string, labels: Readonly<Record<string, string>>) {
      cache.nodes.upsert(decodeNode(nodeOf({ name: node, labels, gpu: 8 })));
      look();
    },
    /** Gives a member a claim of the driver of IMEX channels, as kube-scheduler would. */
    giveChannel(podUid: string, node: string) {
      cache.resourceClaims.upsert(
        decodeResourceClaim({
          metadata: {
            name: `channel-${podUid}`,
            namespace: 'serving',
            uid: `channel-${podUid}`,
            ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: 'x', uid: podUid, controller: true }],
          },
          spec: {
            devices: {
              config: [
                {
                  opaque: {
                    driver: nvidia.computeDomainDriver,
                    parameters: { kind: 'ComputeDomainChannelConfig', domainID: 'domain-1' },
                  },
                },
              ],
            },
          },
          status: {
            allocation: {
              devices: {
                results: [
                  { request: 'channel', driver: nvidia.computeDomainDriver, pool: node, device: 'channel-0' },
                ],
              },
            },
            reservedFor: [{ resource: 'pods', name: 'x', uid: podUid }],
          },
        }),
      );
    },
  };
}

const state = (word: string) => ({ 'dra.net/state': { string: word } });

t.test(
  'a device in use that goes down twice within minutes is suspect and to be kept off, once it is nothing',
  async t => {
    const { publish, pass, seen, watch, group, other, nodesOf } = scene();
    const troubles = () =>
      [...watch.deviceTroubles().values()].map(({ device, class: of }) => `${device.pool} ${of}`);
    const [, node = ''] = nodesOf(group);
    publish(node, state('up'));
    publish(node, state('down'));
    t.same(seen(), ['DeviceDown info']);
    t.same(troubles(), [], 'once alone keeps nobody off');
    pass(minute);
    publish(node, state('up'));
    t.same(seen(), []);
    pass(minute);
    publish(node, state('down'));
    t.same(seen(), ['DeviceDown suspect']);
    t.same(troubles(), [`${node} suspect`]);
    t.same(seen(other), [], 'who does not have it is not hurt');
    const [evidence] = watch.evidenceOf(group.leaderUid());
    t.equal(evidence?.firstSeenMs, 2 * minute, 'its time runs from the second alert');
    publish(node, state('up'));
    t.same(seen(), []);
  },
);

t.test('a spare device that goes down twice is kept off and hurts nobody', async t => {
  const { publish, pass, seen, watch, other } = scene();
  publish('n8', state('down'));
  pass(minute);
  publish('n8', state('up'));
  publish('n8', state('down'));
  t.same(
    [...watch.deviceTroubles().values()].map(({ device }) => device.pool),
    ['n8'],
  );
  t.same([...seen(), ...seen(other)], []);
});

t.test('a condition in the claim of a member speaks against its device, and is over with it', async t => {
  const { cache, cluster, look, seen, watch } = scene({
    claimConditions: [{ type: 'LinkReady', status: 'False', class: 'suspect' }],
  });
  const [leader] = [...cluster.pods.values()];
  const claim = [...cache.claimsOf(leader?.pod.metadata.uid ?? '')][0];
  if (claim === undefined) throw new Error('no claim');
  const device = `${driver}//${leader?.pod.spec.nodeName}//gpu-0`;
  const say = (status: string) => {
    cache.resourceClaims.upsert({ ...claim, conditions: [{ device, type: 'LinkReady', status }] });
    look();
  };
  say('False');
  t.same(seen(), ['DeviceCondition suspect']);
  t.same([...watch.deviceTroubles().keys()], [device]);
  say('True');
  t.same(seen(), []);
});

t.test(
  'a clique that vanishes under a member with a channel keeps plans off the clique, and hurts nobody else',
  async t => {
    const { cache, cluster, label, giveChannel, pass, seen, evidenceOf, other, group, nodesOf } = scene();
    const [first = '', second = '', third = ''] = nodesOf(group);
    const nodes = ['n0', 'n1', 'n2', 'n3', 'n4', 'n5'];
    for (const node of nodes) label(node, { [nvidia.clique]: 'A' });
    label('n8', { [nvidia.clique]: 'B' });
    for (const { pod } of cluster.podsOf(group)) giveChannel(pod.metadata.uid ?? '', pod.spec.nodeName ?? '');
    pass(0);
    t.same(seen(), []);
    label(second, {});
    t.same(seen(), ['CliqueChanged suspect']);
    t.same([...cache.excludedNodes.keys()], [second], 'at first its own node alone: it may be back at once');
    pass(3_000);
    t.same(seen(other), [], 'the neighbours in the rack have no channels');
    t.same([...cache.excludedNodes.keys()].sort(), nodes);
    t.match(evidenceOf(group)[0], {
      clique: 'A',
      blamesNode: true,
      nodeName: second,
    });
    label(second, { [nvidia.clique]: 'A' });
    t.same(seen(), []);
    t.same([...cache.excludedNodes], [], 'and all come back with it');
    label(third, { [nvidia.clique]: 'B' });
    pass(3_000);
    t.same(seen(), ['CliqueChanged suspect']);
    t.ok(cache.excludedNodes.has(first), 'the clique that the group was in');
    t.notOk(cache.excludedNodes.has('n8'), 'not the one that its node is in now');
  },
);

t.test(
  'two devices of a clique with errors of NVLink speak against the clique, one against itself',
  async t => {
    const { cache, cluster, label, look, pass } = scene();
    for (const node of ['n6', 'n7', 'n8']) label(node, { [nvidia.clique]: 'A' });
    const taint = (node: string, value: string) => {
      cluster.publish(node, deviceNames, {
        'gpu-0': { key: 'gpu.nvidia.com/xid', value, effect: 'NoSchedule' },
      });
      const slice = cluster.slices.get(node);
      if (slice !== undefined) cache.resourceSlices.upsert(decodeResourceSlice(slice));
      look();
    };
    taint('n6', '74');
    pass(3_000);
    t.same([...cache.excludedNodes], []);
    taint('n7', '48');
    t.same([...cache.excludedNodes], [], 'another error of a second one');
    taint('n7', '145');
    pass(3_000);
    t.same([...cache.excludedNodes.keys()].sort(), ['n6', 'n7', 'n8']);
  },
);

t.test('a ComputeDomain that is not ready hurts those who have its channel', async t => {
  const { cache, cluster, giveChannel, look, seen, group, other } = scene();
  const changed: string[] = [];
  cache.subscribe(change => {
    if (change.kind === 'group') changed.push(change.key);
  });
  for (const state of cluster.podsOf(group)) {
    const { pod } = state;
    giveChannel(pod.metadata.uid ?? '', pod.spec.nodeName ?? '');
    const status = { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] };
    cache.pods.upsert(decode({ ...pod, status }));
  }
  const say = (ready: readonly boolean[]) => {
    changed.length = 0;
    const nodes = cluster.podsOf(group).map(({ pod }, at) => ({
      name: pod.spec.nodeName ?? '',
      status: ready[at] ? 'Ready' : 'NotReady',
    }));
    const status = { status: ready.every(Boolean) ? 'Ready' : 'NotReady', nodes };
    cache.computeDomains.upsert(
      decodeComputeDomain({ metadata: { name: 'dom', namespace: 'serving', uid: 'domain-1' }, status }),
    );
    look();
    return seen();
  };
  t.same(say([true, true, true]), []);
  t.same(say([true, false, true]), ['ComputeDomainNotReady suspect']);
  t.same(changed, [group.key], 'only its group is looked at again');
  t.same(say([true, false, true]), ['ComputeDomainNotReady suspect']);
  t.same(changed, [], 'and not for what is no news');
  const worker = cluster.podsOf(group)[2];
  if (worker === undefined) throw new Error('no worker');
  cache.pods.upsert(decode({ ...worker.pod, status: { phase: 'Running' } }));
  look();
  t.same(seen(), ['ComputeDomainNotReady certain'], 'certain once the group is not Ready');
  const drains = (containersReady: string) => {
    const status = { phase: 'Running', conditions: [{ type: 'ContainersReady', status: containersReady }] };
    const spec = { ...worker.pod.spec, readinessGates: [{ conditionType: berth.inService }] };
    cache.pods.upsert(decode({ ...worker.pod, spec, status }));
    look();
    return seen();
  };
  t.same(
    drains('True'),
    ['ComputeDomainNotReady suspect'],
    "not where Berth's gate alone keeps a member from it",
  );
  t.same(drains('False'), ['ComputeDomainNotReady certain'], 'nor where its containers are not ready');
  const node = worker.pod.spec.nodeName ?? '';
  cache.nodes.upsert(decodeNode(nodeOf({ name: node, gpu: 8, ready: false })));
  drains('True');
  t.ok(seen().includes('ComputeDomainNotReady certain'), 'nor where its node is silent');
  cache.nodes.upsert(decodeNode(nodeOf({ name: node, gpu: 8 })));
  t.same(seen(other), []);
  t.same(say([true, true, true]), []);
});

t.test('a group whose node is gone has nothing to lose, and goes though there is no other place', async t => {
  for (const isGone of [true, false]) {
    const cluster = new FakeCluster(groupsOf(1, 3), 8);
    const replica = new Replica(cluster);
    await replica.run(2_000);
    Object.assign(replica, { room: false });
    const [, worker] = [...cluster.pods.values()];
    const node = worker?.pod.spec.nodeName ?? '';
    if (isGone) cluster.nodes.delete(node);
    else cluster.setTaint(node, 'example.com/sick');
    await replica.run(9_000);
    await replica.run(20_000);
    const wanted = isGone ? ['evict uid-llm-0-1'] : [];
    t.same(
      cluster.destructive,
      wanted,
      isGone ? 'its pods still say Ready' : 'one that serves waits for a place',
    );
    t.same(replica.brakes, isGone ? [] : ['plan-first']);
  }
});
