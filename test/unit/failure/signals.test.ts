import t from 'tap';
import type { Pod, Taint, Toleration } from '../../../src/api/kubernetes.ts';
import type { RuleOrigin } from '../../../src/cluster/devices/device.ts';
import { decodeNode, type NodeRecord } from '../../../src/cluster/node-info.ts';
import { deviceFactsOf } from '../../../src/failure/device-signals.ts';
import { keyOf } from '../../../src/failure/evidence.ts';
import { defaultFailureSettings, leastMode, optsOut } from '../../../src/failure/settings.ts';
import type { AllocatedDevice, MemberFacts, Sighting } from '../../../src/failure/signal.ts';
import { seeDevice, seeMember, seeNode } from '../../../src/failure/signals.ts';
import { nodeOf } from '../../builders/fleet.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { decode } from '../../builders/planning.ts';

const group = new LwsGroup({ size: 2, worker: { gpu: 8 } });
const noExecute = (key: string): Taint => ({ key, effect: 'NoExecute' });

function nodeWith(taints: readonly Taint[] = [], ready: 'True' | 'False' | 'Unknown' = 'True') {
  const node = nodeOf({ name: 'a', gpu: 8 });
  const status = { ...node.status, conditions: [{ type: 'Ready', status: ready }] };
  return decodeNode({ ...node, spec: { taints }, status });
}

const nodeFacts = (record: NodeRecord) => ({ record, shortOf: [], refusesPods: false });

interface Scene extends Partial<MemberFacts> {
  readonly status?: Pod['status'];
  readonly tolerations?: readonly Toleration[];
}

function see(
  { status, tolerations, ...more }: Scene,
  settings = defaultFailureSettings,
): readonly Sighting[] {
  const worker = group.worker(1, { node: 'a', gated: false, ...(tolerations && { tolerations }) });
  const pod = decode({ ...worker, ...(status && { status }) });
  const facts: MemberFacts = {
    pod,
    nodeName: 'a',
    node: nodeWith(),
    leads: false,
    stays: true,
    othersLive: true,
    returnsAlone: false,
    ...more,
  };
  return seeMember(facts, settings);
}

const healthOf = (health: string): Pod['status'] => ({
  containerStatuses: [
    {
      name: 'main',
      allocatedResourcesStatus: [{ name: 'nvidia.com/gpu', resources: [{ resourceID: 'GPU-3', health }] }],
    },
  ],
});
const disrupted = (reason: string, phase = 'Running'): Pod['status'] => ({
  phase,
  conditions: [{ type: 'DisruptionTarget', status: 'True', reason }],
});
const going = { stays: false } as const;
const goingPod = (reason: string) => {
  const pod = decode({
    ...group.worker(1, { node: 'a', gated: false, terminating: true }),
    status: disrupted(reason) ?? {},
  });
  return { ...going, pod };
};

t.test('each signal is seen where it should be, and only there', async t => {
  const cases: readonly (readonly [string, Scene, readonly (readonly [string, string, number])[]])[] = [
    ['a healthy member', {}, []],
    ['an unhealthy device', { status: healthOf('Unhealthy') }, [['DeviceUnhealthy', 'suspect', 60_000]]],
    ['a device of unknown health', { status: healthOf('Unknown') }, []],
    ['a NoExecute taint', { node: nodeWith([noExecute('x')]) }, [['NodeNoExecute', 'certain', 0]]],
    ['a NoSchedule taint', { node: nodeWith([{ key: 'x', effect: 'NoSchedule' }]) }, []],
    [
      'a tolerated NoExecute taint',
      { node: nodeWith([noExecute('x')]), tolerations: [{ key: 'x', operator: 'Exists' }] },
      [],
    ],
    [
      'one that is tolerated for a while',
      {
        node: nodeWith([noExecute('x')]),
        tolerations: [{ key: 'x', operator: 'Exists', tolerationSeconds: 90 }],
      },
      [['NodeNoExecute', 'certain', 90_000]],
    ],
    [
      'of two taints the one that ends the pod soonest',
      {
        node: nodeWith([noExecute('x'), noExecute('y')]),
        tolerations: [
          { key: 'x', operator: 'Exists', tolerationSeconds: 90 },
          { key: 'y', operator: 'Exists', tolerationSeconds: 30 },
        ],
      },
      [['NodeNoExecute', 'certain', 30_000]],
    ],
    [
      'the taints that mirror the Ready condition',
      {
        node: nodeWith([
          noExecute('node.kubernetes.io/unreachable'),
          noExecute('node.kubernetes.io/not-ready'),
        ]),
      },
      [],
    ],
    ['no node', { node: undefined }, [['NodeGone', 'certain', 10_000]]],
    ['a silent node', { node: nodeWith([], 'Unknown') }, [['NodeNotReady', 'suspect', 60_000]]],
    ['a node that is not ready', { node: nodeWith([], 'False') }, [['NodeNotReady', 'suspect', 120_000]]],
    ['a member that others delete', goingPod('DeletionByTaintManager'), [['Foreign', 'certain', 0]]],
    ['one that is evicted', goingPod('EvictionByEvictionAPI'), [['Foreign', 'certain', 0]]],
    [
      'a member that failed',
      { ...going, status: disrupted('TerminationByKubelet', 'Failed') },
      [['Foreign', 'certain', 0]],
    ],
    ['the last member of a group', { ...goingPod('DeletionByTaintManager'), othersLive: false }, []],
    ['a worker that returns alone', { ...goingPod('DeletionByTaintManager'), returnsAlone: true }, []],
    [
      'the leader of workers that return alone',
      { ...goingPod('DeletionByTaintManager'), returnsAlone: true, leads: true },
      [['Foreign', 'certain', 0]],
    ],
    [
      'a member that is deleted in an ordinary way, on a bad node',
      { ...going, pod: decode(group.worker(1, { node: 'a', terminating: true })), node: undefined },
      [],
    ],
    ['a condition on a member that stays', { status: disrupted('EvictionByEvictionAPI') }, []],
    [
      'the leader of a group whose place another needs',
      { leads: true, claim: { cause: 'preempted' } },
      [['Preempted', 'certain', 0]],
    ],
    ['a worker of such a group', { claim: { cause: 'preempted' } }, []],
    ['such a leader that goes', { ...going, leads: true, claim: { cause: 'preempted' } }, []],
  ];
  for (const [name, scene, wanted] of cases)
    t.same(
      see(scene).map(({ signal, class: signalClass, debounceMs }) => [signal, signalClass, debounceMs]),
      wanted,
      name,
    );
});

t.test('a drain does not blame the node, a taint manager does', async t => {
  t.equal(see(goingPod('EvictionByEvictionAPI'))[0]?.blamesNode, false);
  t.equal(see(goingPod('PreemptionByScheduler'))[0]?.blamesNode, false);
  t.equal(see(goingPod('DeletionByDeviceTaintManager'))[0]?.blamesNode, true);
});

t.test('a node without members shows its own faults only', async t => {
  t.same(seeNode(nodeFacts(nodeWith([noExecute('x')])), defaultFailureSettings), []);
  t.same(
    seeNode(nodeFacts(nodeWith([], 'Unknown')), defaultFailureSettings).map(({ signal, entity }) => [
      signal,
      entity,
    ]),
    [['NodeNotReady', 'uid-a']],
  );
});

t.test('causes are the same sentence for the same fault', async t => {
  const scene = { status: healthOf('Unhealthy') };
  t.equal(see(scene)[0]?.cause, see(scene)[0]?.cause);
  t.match(see(scene)[0]?.cause, /GPU-3 \(nvidia\.com\/gpu\) of llm-0-1 on a is unhealthy/);
});

t.test('the least of all modes counts, and a misspelt one is no licence', async t => {
  t.equal(leastMode('evict', [undefined, undefined]), 'evict');
  t.equal(leastMode('evict', ['cordon', 'evict']), 'cordon');
  t.equal(leastMode('observe', ['evict']), 'observe');
  t.equal(leastMode('evict', ['off', 'evict']), 'off');
  t.equal(leastMode('evict', ['evcit']), 'observe');
});

t.test('who opts out is left alone, and who misspells it is, too', async t => {
  const cases: readonly (readonly [readonly (string | undefined)[], boolean])[] = [
    [[undefined, undefined], false],
    [['observe', 'evict'], false],
    [['evict', 'off'], true],
    [[undefined, 'of'], true],
  ];
  for (const [wishes, wanted] of cases) t.equal(optsOut(wishes), wanted, `${wishes}`);
});

type Taints = AllocatedDevice['taints'];
const id = { driver: 'gpu.nvidia.com', pool: 'a', device: 'gpu-3' };
const ruleOf = (more: Partial<RuleOrigin>) => ({ name: 'r', isNarrow: true, isConfirmed: false, ...more });

function withDevice(more: Partial<AllocatedDevice> = {}, ...others: readonly AllocatedDevice[]): Scene {
  const facts = deviceFactsOf(id, 'published');
  return { devices: [{ ...facts, claim: 'gpus', request: 'gpu', tolerations: [], ...more }, ...others] };
}
const tainted = (...taints: Taints) => withDevice({ taints });
const readyPod = decode({
  ...group.worker(1, { node: 'a', gated: false }),
  status: { conditions: [{ type: 'Ready', status: 'True' }] },
});
const told = (sightings: readonly Sighting[]) =>
  sightings.map(({ signal, class: signalClass, debounceMs }) => [signal, signalClass, debounceMs]);
const xid = (value: string, effect = 'NoSchedule') => ({ key: 'gpu.nvidia.com/xid', value, effect });

t.test('each signal of a device is seen where it should be, and only there', async t => {
  const cases: readonly (readonly [string, Scene, readonly (readonly [string, string, number])[]])[] = [
    ['a healthy device', withDevice(), []],
    ['NoExecute', tainted({ key: 'x', effect: 'NoExecute' }), [['DeviceNoExecute', 'certain', 5_000]]],
    [
      'NoExecute that the claim tolerates for a while',
      withDevice({
        taints: [{ key: 'x', effect: 'NoExecute' }],
        tolerations: [{ key: 'x', operator: 'Exists', tolerationSeconds: 90 }],
      }),
      [['DeviceNoExecute', 'certain', 90_000]],
    ],
    [
      'NoExecute that the claim tolerates for ever',
      withDevice({
        taints: [{ key: 'x', effect: 'NoExecute' }],
        tolerations: [{ operator: 'Exists' }],
      }),
      [],
    ],
    ['NoSchedule', tainted({ key: 'x', effect: 'NoSchedule' }), [['DeviceNoSchedule', 'suspect', 180_000]]],
    [
      'NoSchedule that the claim tolerates',
      withDevice({
        taints: [{ key: 'x', effect: 'NoSchedule' }],
        tolerations: [{ key: 'x', operator: 'Exists', effect: 'NoSchedule' }],
      }),
      [],
    ],
    ['a fatal XID', tainted(xid('79')), [['DeviceNoSchedule', 'certain', 5_000]]],
    ['an XID of applications', tainted(xid('31')), [['DeviceNoSchedule', 'info', 180_000]]],
    ['an XID that says nothing by itself', tainted(xid('43')), [['DeviceNoSchedule', 'suspect', 180_000]]],
    ['a fatal XID without effect', tainted(xid('79', 'None')), [['DeviceNoted', 'info', 0]]],
    ['an effect that nobody knows', tainted(xid('79', 'NoMore')), [['DeviceNoted', 'info', 0]]],
    ["a taint of Berth's own", tainted({ key: 'berth.dev/excluded', effect: 'NoSchedule' }), []],
    [
      'NoExecute by a rule about one device',
      tainted({ key: 'x', effect: 'NoExecute', rule: ruleOf({}) }),
      [['DeviceNoExecute', 'certain', 5_000]],
    ],
    [
      'NoExecute by a wider rule',
      tainted({ key: 'x', effect: 'NoExecute', rule: ruleOf({ isNarrow: false }) }),
      [['DeviceNoExecute', 'suspect', 180_000]],
    ],
    [
      'a key that is certain, by a wider rule',
      tainted({ ...xid('79'), rule: ruleOf({ isNarrow: false }) }),
      [['DeviceNoSchedule', 'suspect', 180_000]],
    ],
    ['a device that is gone', withDevice({ state: 'missing' }), [['DeviceMissing', 'suspect', 120_000]]],
    [
      'one that is gone under a pod that is Ready',
      { ...withDevice({ state: 'missing' }), pod: readyPod },
      [['DeviceMissing', 'info', 120_000]],
    ],
    [
      "one that is gone under a pod that only Berth's own gate keeps from being Ready",
      { ...withDevice({ state: 'missing' }), pod: { ...readyPod, ready: false, withheld: true } },
      [['DeviceMissing', 'info', 120_000]],
    ],
    [
      'a pool that is being published',
      withDevice({ state: 'incomplete' }),
      [['DevicePoolIncomplete', 'info', 0]],
    ],
    ['a pool without slices', withDevice({ state: 'withdrawn' }), [['DevicePoolIncomplete', 'info', 0]]],
    [
      'a sick device of a member that goes',
      { ...going, ...tainted({ key: 'x', effect: 'NoExecute' }), pod: goingPod('x').pod, othersLive: false },
      [],
    ],
  ];
  for (const [name, scene, wanted] of cases) t.same(told(see(scene)), wanted, name);
});

t.test('a sick device speaks against itself and not against its node', async t => {
  const [sighting] = see(tainted(xid('79')));
  t.match(sighting, {
    blamesNode: false,
    device: id,
    origin: { kind: 'pool', driver: 'gpu.nvidia.com', pool: 'a' },
    cause: 'device gpu-3 of pool a (gpu.nvidia.com) has the taint gpu.nvidia.com/xid=79:NoSchedule',
  });
  t.match(see(tainted({ ...xid('79'), rule: ruleOf({}) }))[0], {
    origin: { kind: 'rule', name: 'r', isNarrow: true },
    cause: /NoSchedule by DeviceTaintRule r$/,
  });
});

t.test('what the kubelet says of a claim is told of the device that it means', async t => {
  const report = (name: string, resourceID: string): Pod['status'] => ({
    containerStatuses: [
      {
        name: 'main',
        allocatedResourcesStatus: [{ name, resources: [{ resourceID, health: 'Unhealthy' }] }],
      },
    ],
  });
  const status = report('claim:gpus/gpu', 'k8s.gpu.nvidia.com/device=anything');
  t.match(see({ ...withDevice(), status })[0], { signal: 'DeviceUnhealthy', device: id, blamesNode: false });
  const both = see({ ...tainted({ key: 'x', effect: 'NoSchedule' }), status });
  t.same(
    [...new Set(both.map(keyOf))],
    ['device/gpu.nvidia.com//a//gpu-3'],
    'it is one fault with its taint',
  );
  t.same(
    both.map(({ blamesNode }) => blamesNode),
    [false, false],
    'whose taint keeps others off it',
  );
  const other = { ...id, device: 'gpu-4' };
  const second = { ...deviceFactsOf(other, 'published'), claim: 'gpus', request: 'gpu', tolerations: [] };
  const meant = (resourceID: string) =>
    see({ ...withDevice({}, second), status: report('claim:gpus/gpu', resourceID) })[0]?.device?.device;
  t.equal(meant('gpu.nvidia.com/a/gpu-4'), 'gpu-4');
  t.equal(meant('k8s.gpu.nvidia.com/device=gpu-3'), 'gpu-3');
  t.equal(meant('k8s.gpu.nvidia.com/device=0b2'), undefined, 'which of two nobody knows');
  t.equal(see({ ...withDevice(), status: report('nvidia.com/gpu', 'GPU-1') })[0]?.device, undefined);
});

const uuid = 'GPU-11111111-2222-3333-4444-555555555555';
type Said = readonly [type: string, status: string, message?: string];
function nodeSaying(...conditions: readonly Said[]): NodeRecord {
  const node = nodeOf({ name: 'a', gpu: 8 });
  const said = conditions.map(([type, status, message = '']) => ({ type, status, message }));
  return decodeNode({
    ...node,
    status: { ...node.status, conditions: [{ type: 'Ready', status: 'True' }, ...said] },
  });
}

t.test('conditions of nodes count as the tables say', async t => {
  const rebooted = (gpu: string) => `ErrorCode:79 ${gpu} XID error Recommended Action=NODE_REBOOT;`;
  const cases: readonly (readonly [string, readonly Said[], readonly (readonly [string, number])[]])[] = [
    ['pressure of the kubelet', [['MemoryPressure', 'True']], []],
    ['a condition that nobody knows', [['FooBar', 'True']], []],
    ['a fatal one that names a GPU', [['GpuXidError', 'True', rebooted(uuid)]], [['certain', 5_000]]],
    ['one that names none', [['GpuXidError', 'True', rebooted('gpu:0')]], [['suspect', 180_000]]],
    [
      'one that asks for nothing',
      [['GpuXidError', 'True', `ErrorCode:31 ${uuid} Recommended Action=NONE;`]],
      [['info', 180_000]],
    ],
    ['one that is over', [['GpuXidError', 'False', rebooted(uuid)]], []],
    ['one by pattern', [['GpuNvlinkWatch', 'True', rebooted(uuid)]], [['certain', 5_000]]],
    ['connectivity of DCGM', [['GpuDcgmConnectivityFailure', 'True', rebooted(uuid)]], [['info', 180_000]]],
    ['the agent of EKS', [['AcceleratedHardwareReady', 'False']], [['suspect', 180_000]]],
    ['the same, well', [['AcceleratedHardwareReady', 'True']], []],
    ['the agent of OCI', [['GpuEcc', 'True']], [['suspect', 180_000]]],
    ['a dead kernel', [['KernelDeadlock', 'True']], [['suspect', 180_000]]],
    ['maintenance', [['MaintenancePlanned', 'True']], [['info', 180_000]]],
  ];
  for (const [name, conditions, wanted] of cases)
    t.same(
      see({ node: nodeSaying(...conditions) }).map(({ class: of, debounceMs }) => [of, debounceMs]),
      wanted,
      name,
    );
});

t.test('a condition that names GPUs hurts only who has one of them, where that is known', async t => {
  const node = nodeSaying(['GpuXidError', 'True', `${uuid} Recommended Action=COMPONENT_RESET;`]);
  t.match(see({ ...withDevice({ uuid }), node }), [
    { signal: 'NodeCondition', class: 'certain', device: id, blamesNode: true },
  ]);
  t.same(see({ ...withDevice({ uuid: uuid.replaceAll('1', '9') }), node }), []);
  t.match(see({ ...withDevice(), node }), [{ signal: 'NodeCondition', entity: 'uid-a', device: undefined }]);
});

t.test('rows of the configuration go before those that are built in', async t => {
  const settings = {
    ...defaultFailureSettings,
    deviceTaints: [
      { key: 'gpu.nvidia.com/xid', value: '79', class: 'info' },
      { key: 'example.com/dead', class: 'certain' },
    ],
    nodeConditions: [
      { type: 'KernelDeadlock', status: 'True', class: 'info' },
      { type: 'Acme*', status: 'Unknown', class: 'certain', afterSeconds: 17 },
    ],
  } as const;
  const seen = (scene: Scene) => told(see(scene, settings));
  t.same(seen(tainted(xid('79'))), [['DeviceNoSchedule', 'info', 180_000]]);
  t.same(seen(tainted(xid('48'))), [['DeviceNoSchedule', 'certain', 5_000]]);
  t.same(seen(tainted({ key: 'example.com/dead', value: 'v', effect: 'NoSchedule' })), [
    ['DeviceNoSchedule', 'certain', 5_000],
  ]);
  t.same(seen({ node: nodeSaying(['KernelDeadlock', 'True']) }), [['NodeCondition', 'info', 180_000]]);
  t.same(seen({ node: nodeSaying(['AcmeLink', 'Unknown']) }), [['NodeCondition', 'certain', 17_000]]);
  t.same(seen({ node: nodeSaying(['AcmeLink', 'True']) }), []);
});

t.test(
  'a node that offers less than is in use is suspect, one whose kubelet refuses pods keeps plans off',
  async t => {
    t.same(told(see({ shortOf: ['nvidia.com/gpu'] })), [['NodeShort', 'suspect', 120_000]]);
    t.same(told(see({ shortOf: [] })), []);
    const refusing = { record: nodeWith(), shortOf: [], refusesPods: true };
    t.same(told(seeNode(refusing, defaultFailureSettings)), [['NodeRefusesPods', 'suspect', 180_000]]);
    t.same(told(seeNode({ ...refusing, refusesPods: false }, defaultFailureSettings)), []);
  },
);

t.test('a device by itself shows its own faults, whoever has it', async t => {
  const facts = deviceFactsOf(id, 'published', { taints: [xid('79')], uuid: undefined });
  t.match(seeDevice(facts, 'a', defaultFailureSettings), [
    { signal: 'DeviceNoSchedule', class: 'certain', device: id, podUid: undefined },
  ]);
  t.same(seeDevice(deviceFactsOf(id, 'published'), 'a', defaultFailureSettings), []);
});
