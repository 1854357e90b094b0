import t from 'tap';
import type { DeviceClaim, DeviceRequest, ResourceClaimSpec } from '../../../../src/api/dra.ts';
import type { Device } from '../../../../src/cluster/devices/device.ts';
import type { SelectorEngine } from '../../../../src/cluster/devices/selectors.ts';
import { offeredBy } from '../../../../src/cluster/devices/steering/offered.ts';
import type { SteerInput } from '../../../../src/cluster/devices/steering/steer-claim.ts';
import { buildDevice, dranet, exactly, gpus, nics, nvidia, steer } from './steering-builders.ts';

const [gpu0, gpu1, gpu2, gpu3] = gpus;
const [nic0, nic1] = nics;
if (!gpu0 || !gpu1 || !gpu2 || !gpu3 || !nic0 || !nic1) throw new Error('no devices to test with');

const busId = (...ids: readonly string[]) =>
  `device.attributes["resource.kubernetes.io"].?pciBusID.orValue("") in [${ids.map(id => `"${id}"`).join(', ')}]`;

function claim(devices: DeviceClaim): ResourceClaimSpec {
  return { devices };
}

const gpu = exactly('gpu', nvidia);
const nic = exactly('nic', dranet);

t.test('planned devices are put before what was asked', async t => {
  const spec = claim({ requests: [gpu] });
  const before = structuredClone(spec);
  const { spec: steered, ...report } = steer(spec, { gpu: [gpu2] });
  t.same(report, { steered: ['gpu'], unsteered: [] });
  t.same(steered, {
    devices: {
      requests: [
        {
          name: 'gpu',
          firstAvailable: [
            {
              name: 'berth',
              deviceClassName: nvidia,
              allocationMode: 'ExactCount',
              count: 1,
              selectors: [{ cel: { expression: busId('0000:20:1c.0') } }],
            },
            { name: 'asked', deviceClassName: nvidia, allocationMode: 'ExactCount', count: 1 },
          ],
        },
      ],
    },
  });
  t.same(spec, before, 'the claim that was given is not changed');
});

t.test('selectors, tolerations, capacity, count and what Berth does not know are carried over', async t => {
  const asked = {
    deviceClassName: nvidia,
    allocationMode: 'ExactCount',
    count: 2,
    selectors: [{ cel: { expression: 'device.attributes["gpu.nvidia.com"].type == "gpu"' } }],
    tolerations: [{ key: 'k', operator: 'Exists', effect: 'NoSchedule' }],
    capacity: { requests: { memory: '10Gi' } },
    derivedAttributes: [{ name: 'x.example.com/y', expression: '1' }],
  };
  const spec = claim({ requests: [{ name: 'gpu', exactly: { ...asked, adminAccess: false } }] });
  const { spec: steered } = steer(spec, { gpu: [gpu3, gpu1] });
  const selectors = [...asked.selectors, { cel: { expression: busId('0000:10:1c.0', '0000:30:1c.0') } }];
  t.strictSame(steered.devices?.requests?.[0]?.firstAvailable, [
    { ...asked, name: 'berth', selectors },
    { ...asked, name: 'asked' },
  ]);
});

t.test('configurations name each alternative, constraints go on naming the request', async t => {
  const opaque = { driver: nvidia, parameters: {} };
  const constraints = [{ requests: ['gpu', 'nic'], matchAttribute: 'resource.kubernetes.io/pcieRoot' }];
  const spec = claim({
    requests: [gpu, nic],
    constraints,
    config: [
      { requests: ['gpu'], opaque },
      { requests: ['nic', 'gpu'], opaque },
      { opaque },
      { requests: [], opaque },
    ],
  });
  t.same(steer(spec, { gpu: [gpu0], nic: [nic0] }).spec.devices, {
    ...steer(claim({ requests: [gpu, nic] }), { gpu: [gpu0], nic: [nic0] }).spec.devices,
    constraints,
    config: [
      { requests: ['gpu/berth', 'gpu/asked'], opaque },
      { requests: ['nic/berth', 'nic/asked', 'gpu/berth', 'gpu/asked'], opaque },
      { opaque },
      { requests: [], opaque },
    ],
  });
  t.same(
    steer(spec, { gpu: [gpu0] }).spec.devices?.config?.[1]?.requests,
    ['nic', 'gpu/berth', 'gpu/asked'],
    'a request that is not steered keeps its name',
  );
});

t.test('a request with alternatives gets one more in front, made from the one that was planned', async t => {
  const big = { name: 'big', deviceClassName: 'big', count: 1 };
  const small = {
    name: 'small',
    deviceClassName: 'small',
    count: 2,
    selectors: [{ cel: { expression: 'true' } }],
  };
  const opaque = { driver: nvidia, parameters: {} };
  const spec = claim({
    requests: [{ name: 'gpu', firstAvailable: [big, small] }, nic],
    constraints: [
      { requests: ['gpu/small', 'nic'], matchAttribute: 'a/b' },
      { requests: ['gpu/big'], matchAttribute: 'a/b' },
      { requests: ['gpu'], matchAttribute: 'a/b' },
      { matchAttribute: 'a/b' },
    ],
    config: [
      { requests: ['gpu/big'], opaque },
      { requests: ['gpu/small'], opaque },
      { requests: ['gpu'], opaque },
    ],
  });
  const { spec: steered, ...report } = steer(spec, { 'gpu/small': [gpu0, gpu1] });
  t.same(report, { steered: ['gpu'], unsteered: [{ request: 'nic', reason: 'not-planned' }] });
  const exact = { cel: { expression: busId('0000:00:1c.0', '0000:10:1c.0') } };
  t.same(steered.devices?.requests?.[0], {
    name: 'gpu',
    firstAvailable: [{ ...small, name: 'berth', selectors: [...small.selectors, exact] }, big, small],
  });
  t.same(
    steered.devices?.constraints?.map(({ requests }) => requests),
    [['gpu/berth', 'gpu/small', 'nic'], ['gpu/big'], ['gpu'], undefined],
  );
  t.same(
    steered.devices?.config?.map(({ requests }) => requests),
    [['gpu/big'], ['gpu/berth', 'gpu/small'], ['gpu']],
    'one that names the request alone is for the driver to read as before',
  );
});

t.test('a claim that is steered already is the same afterwards', async t => {
  const spec = claim({
    requests: [gpu, { name: 'two', firstAvailable: [{ name: 'a', deviceClassName: nvidia }] }],
    config: [{ requests: ['gpu'], opaque: { driver: nvidia, parameters: {} } }],
  });
  const planned = { gpu: [gpu0], 'two/a': [gpu1] };
  const once = steer(spec, planned);
  t.same(once.steered, ['gpu', 'two']);
  const twice = steer(once.spec, planned);
  t.same(twice, { spec: once.spec, steered: [], unsteered: [] });
  t.equal(twice.spec, once.spec, 'the very object');
});

t.test('what cannot be steered is left as it was asked, with the reason', async t => {
  const untested = buildDevice('gaudi.intel.com', 'g', { uuid: 'x' });
  const channel = buildDevice('compute-domain.nvidia.com', 'channel-0', { id: 0 });
  const gone = buildDevice(nvidia, 'gpu-99', { uuid: 'gone' });
  const alike = [buildDevice(nvidia, 'a'), buildDevice(nvidia, 'b')] as const;
  const many = Array.from({ length: 8 }, (_, index) => ({ name: `a${index}`, deviceClassName: nvidia }));
  const selectors = Array.from({ length: 32 }, () => ({ cel: { expression: 'true' } }));
  const cases: [string, DeviceRequest, Record<string, readonly Device[]>][] = [
    ['not-planned', gpu, {}],
    [
      'not-planned',
      { name: 'gpu', firstAvailable: [{ name: 'a', deviceClassName: nvidia }] },
      { gpu: [gpu0] },
    ],
    ['not-planned', { name: 'gpu' }, { gpu: [gpu0] }],
    ['admin-access', exactly('gpu', nvidia, { adminAccess: true }), { gpu: [gpu0] }],
    ['all-devices', exactly('gpu', nvidia, { allocationMode: 'All', count: undefined }), { gpu: [...gpus] }],
    [
      'all-devices',
      { name: 'gpu', firstAvailable: [{ name: 'a', deviceClassName: nvidia, allocationMode: 'All' }] },
      { 'gpu/a': [...gpus] },
    ],
    ['driver-not-tested', gpu, { gpu: [untested] }],
    ['driver-excluded', gpu, { gpu: [channel] }],
    ['several-drivers', exactly('gpu', 'any', { count: 2 }), { gpu: [gpu0, nic0] }],
    ['count-differs', gpu, { gpu: [gpu0, gpu1] }],
    ['count-differs', gpu, { gpu: [] }],
    ['count-differs', { name: 'gpu', exactly: { deviceClassName: nvidia } }, { gpu: [gpu0, gpu1] }],
    ['device-not-published', gpu, { gpu: [gone] }],
    ['no-attribute', gpu, { gpu: [alike[0]] }],
    ['limit', { name: 'gpu', firstAvailable: many }, { 'gpu/a3': [gpu0] }],
    ['limit', exactly('gpu', nvidia, { selectors }), { gpu: [gpu0] }],
  ];
  for (const [reason, request, planned] of cases) {
    const spec = claim({ requests: [request] });
    const devicesOfNode = [...gpus, ...nics, ...alike, untested, channel];
    const outcome = steer(spec, planned, { devicesOfNode });
    t.same(outcome, { spec, steered: [], unsteered: [{ request: 'gpu', reason }] }, reason);
    t.equal(outcome.spec, spec, `${reason}: the very object`);
  }
});

t.test('a claim without requests, or without devices, is left alone', async t => {
  for (const spec of [{}, { devices: {} }, { devices: { requests: [] } }])
    t.strictSame(steer(spec, {}), { spec, steered: [], unsteered: [] });
});

t.test('names in a configuration stay within what the API takes', async t => {
  const requests = Array.from({ length: 20 }, (_, index) => exactly(`r${index}`, nvidia));
  const fleet = requests.map(({ name }) => buildDevice(nvidia, name, { uuid: name }));
  const spec = claim({
    requests,
    config: [{ requests: requests.map(({ name }) => name), opaque: { driver: nvidia, parameters: {} } }],
  });
  const planned = Object.fromEntries(fleet.map(device => [device.id.device, [device]]));
  const outcome = steer(spec, planned, { devicesOfNode: fleet });
  t.equal(outcome.spec.devices?.config?.[0]?.requests?.length, 32);
  t.equal(outcome.steered.length, 12, 'as many as 32 names allow');
  t.same(
    outcome.unsteered.map(({ reason }) => reason),
    Array.from({ length: 8 }, () => 'limit'),
  );
});

t.test('a device of which a request gets two shares is named once', async t => {
  const shared = { ...gpu0, allowMultipleAllocations: true };
  const outcome = steer(
    claim({ requests: [exactly('gpu', nvidia, { count: 2 })] }),
    { gpu: [shared, shared] },
    { devicesOfNode: [shared, gpu1] },
  );
  const [first] = outcome.spec.devices?.requests?.[0]?.firstAvailable ?? [];
  t.match(first, { count: 2, selectors: [{ cel: { expression: busId('0000:00:1c.0') } }] });
});

t.test('devices that class and selectors keep out need not be told apart', async t => {
  const full = buildDevice(nvidia, 'gpu-0', { uuid: 'a', type: 'gpu' });
  const parts = [0, 1].map(index => buildDevice(nvidia, `gpu-0-${index}`, { uuid: 'a', type: 'mig', index }));
  const other = buildDevice(nvidia, 'gpu-1', { uuid: 'b', type: 'gpu' });
  const devicesOfNode = [full, ...parts, other];
  const spec = claim({ requests: [exactly('gpu', 'full')] });
  const expressionOf = (offers?: SteerInput['offers']) => {
    const input = offers === undefined ? { devicesOfNode } : { devicesOfNode, offers };
    const [first] = steer(spec, { gpu: [full] }, input).spec.devices?.requests?.[0]?.firstAvailable ?? [];
    return first?.selectors?.[0]?.cel?.expression;
  };
  const attributes = 'device.attributes["gpu.nvidia.com"]';
  t.equal(
    expressionOf(),
    `${attributes}.?uuid.orValue("") in ["a"] && ${attributes}.?type.orValue("") in ["gpu"]`,
  );
  const engine: SelectorEngine = {
    matches(expression, device) {
      if (expression === 'broken') return { kind: 'error', message: 'no such key' };
      return { kind: device.attributes.get('gpu.nvidia.com/type')?.value === expression ? 'true' : 'false' };
    },
  };
  const classOf = (name: string) => ({
    name,
    selectors: name === 'full' ? ['gpu'] : [],
    extendedResourceName: undefined,
    createdAtMs: 0,
    spec: {},
  });
  const offers = offeredBy(engine, classOf);
  t.equal(expressionOf(offers), `${attributes}.?uuid.orValue("") in ["a"]`);
  const selecting = (deviceClassName: string, expression: string) =>
    offers({ deviceClassName, selectors: [{ cel: { expression } }, {}] }, full);
  t.ok(selecting('unknown', 'gpu'));
  t.notOk(selecting('unknown', 'mig'), 'selectors of the request count, too');
  t.ok(selecting('full', 'broken'), 'what cannot be evaluated keeps nothing out');
});

t.test('requests for untested drivers are kept on the planned alignment, where that is demanded', async t => {
  const root = 'resource.kubernetes.io/pcieRoot';
  const vf = (index: number, value: string) =>
    buildDevice('sriov.example.com', `vf-${index}`, { [root]: value });
  const vfs = [vf(0, 'pci0000:00'), vf(1, 'pci0000:10'), vf(2, 'pci0000:00')] as const;
  const devicesOfNode = [...gpus, ...vfs];
  const align = (
    requests: readonly DeviceRequest[],
    planned: Record<string, readonly Device[]>,
    extra = {},
  ) => steer(claim({ requests, ...extra }), planned, { devicesOfNode, alignBy: root });
  const vfRequest = exactly('vf', 'sriov');

  const one = align([gpu, vfRequest], { gpu: [gpu0], vf: [vfs[0]] });
  t.same(one.steered, ['gpu']);
  t.same(one.unsteered, [{ request: 'vf', reason: 'driver-not-tested' }]);
  t.same(one.spec.devices?.constraints, [{ requests: ['gpu', 'vf'], matchAttribute: root }]);
  t.same(one.spec.devices?.requests?.[1], vfRequest);

  const two = align([exactly('g0', nvidia), exactly('g1', nvidia), exactly('v0', 's'), exactly('v1', 's')], {
    g0: [gpu0],
    g1: [gpu2],
    v0: [vfs[0]],
    v1: [vfs[1]],
  });
  t.same(two.spec.devices?.constraints, [
    { requests: ['g0', 'v0'], matchAttribute: root },
    { requests: ['g1', 'v1'], matchAttribute: root },
  ]);

  const untouched: [string, ReturnType<typeof align>][] = [
    ['devices on two roots', align([gpu, vfRequest], { gpu: [gpu0], vf: [vfs[1]] })],
    ['tested drivers alone', align([gpu, exactly('b', nvidia)], { gpu: [gpu0], b: [gpu1] })],
    [
      'a request over two roots',
      align([gpu, exactly('vf', 's', { count: 2 })], { gpu: [gpu0], vf: [vfs[0], vfs[1]] }),
    ],
  ];
  for (const [name, { spec }] of untouched) t.equal(spec.devices?.constraints, undefined, name);

  const said = [{ matchAttribute: root }];
  t.same(
    align([gpu, vfRequest], { gpu: [gpu0], vf: [vfs[0]] }, { constraints: said }).spec.devices?.constraints,
    said,
    'what the claim says itself is not said again',
  );
  const full = Array.from({ length: 32 }, () => ({ requests: ['gpu'], matchAttribute: 'a/b' }));
  t.same(
    align([gpu, vfRequest], { gpu: [gpu0], vf: [vfs[0]] }, { constraints: full }).spec.devices?.constraints,
    full,
    'the API takes no more',
  );
});
