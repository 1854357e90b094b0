import type {
  CapacityRequestPolicy,
  DeviceClass,
  DeviceConstraint,
  DeviceRequest,
  DeviceRequestAllocationResult,
  DeviceRequestBody,
  ResourceClaim,
  ResourceSlice,
  SliceDevice,
} from '../../../src/api/dra.ts';
import type { Dice } from './dice.ts';

/** What the claims of a pod would get on a node. */
export interface AllocationCase {
  readonly node: {
    readonly metadata: { readonly name: string; readonly labels: Readonly<Record<string, string>> };
  };
  readonly slices: readonly ResourceSlice[];
  readonly classes: readonly DeviceClass[];
  readonly claims: readonly ResourceClaim[];
  readonly taken: readonly DeviceRequestAllocationResult[];
}

const node = { metadata: { name: 'n0', labels: { zone: 'a', 'kubernetes.io/hostname': 'n0' } } };
const drivers = ['gpu.example.com', 'nic.example.com'] as const;

const classes: readonly DeviceClass[] = [
  {
    metadata: { name: 'gpu' },
    spec: { selectors: [{ cel: { expression: 'device.driver == "gpu.example.com"' } }] },
  },
  {
    metadata: { name: 'nic' },
    spec: { selectors: [{ cel: { expression: 'device.driver == "nic.example.com"' } }] },
  },
  { metadata: { name: 'any' }, spec: {} },
];

const selectors: readonly [string, ...string[]] = [
  'device.attributes["gpu.example.com"].?model.orValue("") == "a"',
  'device.attributes["gpu.example.com"].?index.orValue(0) >= 1',
  'device.attributes["resource.kubernetes.io"].?pcieRoot.orValue("") == "r1"',
  'device.driver == "nic.example.com" || device.attributes["gpu.example.com"].?model.hasValue()',
];
/** Fails on devices without it. */
const failing = 'device.attributes["gpu.example.com"].model == "b"';

const attributes: readonly [string, ...string[]] = [
  'resource.kubernetes.io/pcieRoot',
  'gpu.example.com/model',
  'gpu.example.com/index',
];

/** A small machine, what is taken of it, and claims that mix all features of the API. */
export function allocationCase(dice: Dice): AllocationCase {
  const slices = drivers.flatMap(driver => (dice.percent(85) ? poolsOf(dice, driver) : []));
  const devices = slices.flatMap(({ spec }) =>
    (spec.devices ?? []).map(device => ({ driver: spec.driver, pool: spec.pool.name, device })),
  );
  const taken = devices
    .filter(() => dice.percent(20))
    .map(({ driver, pool, device }): DeviceRequestAllocationResult => {
      const result = { request: 'r', driver, pool, device: device.name };
      if (device.allowMultipleAllocations !== true)
        return dice.percent(10) ? { ...result, adminAccess: true } : result;
      const consumedCapacity = Object.fromEntries(
        Object.keys(device.capacity ?? {}).map(name => [name, String(1 + dice.below(6))]),
      );
      return { ...result, shareID: 'a671734a-e8e5-11e4-8fde-42010af09327', consumedCapacity };
    });
  const claims = Array.from({ length: 1 + dice.below(3) }, (_, at) => claimOf(dice, `c${at}`));
  return { node, slices, classes, claims, taken };
}

function poolsOf(dice: Dice, driver: string): readonly ResourceSlice[] {
  return Array.from({ length: 1 + dice.below(2) }, (_, at) => `p${at}`).flatMap(name =>
    poolOf(dice, driver, name),
  );
}

function poolOf(dice: Dice, driver: string, name: string): readonly ResourceSlice[] {
  const partitionable = dice.percent(30);
  const generation = 1 + dice.below(2);
  const count = 1 + dice.below(2) + (partitionable ? 1 : 0);
  const perDeviceNodeSelection = dice.percent(15);
  const reach = () => {
    const kind = dice.below(10);
    if (kind < 6) return { nodeName: 'n0' };
    if (kind === 6) return { nodeName: 'n1' };
    if (kind === 7) return { allNodes: true };
    const matchExpressions = [{ key: 'zone', operator: 'In', values: [kind === 8 ? 'a' : 'b'] }];
    return { nodeSelector: { nodeSelectorTerms: [{ matchExpressions }] } };
  };
  const poolReach = perDeviceNodeSelection ? { perDeviceNodeSelection } : reach();
  const slices: ResourceSlice[] = [];
  for (let at = 0; at < count; at++) {
    // A driver that is at it, now and then.
    const stale = dice.percent(3);
    const missing = dice.percent(3);
    if (missing) continue;
    const pool = { name, generation: stale ? generation + 1 : generation, resourceSliceCount: count };
    const metadata = { name: `${driver}-${name}-${dice.below(10)}${at}`, uid: `${driver}-${name}-${at}` };
    if (partitionable && at === 0) {
      const counters = {
        slots: { value: String(2 + dice.below(5)) },
        memory: { value: `${20 + dice.below(61)}Gi` },
      };
      slices.push({
        metadata,
        spec: { driver, pool, ...poolReach, sharedCounters: [{ name: 'set', counters }] },
      });
      continue;
    }
    const devices = Array.from({ length: 1 + dice.below(4) }, (_, index) => ({
      ...deviceOf(dice, dice.percent(2) ? 'twice' : `d${at}${index}`, { partitionable }),
      ...(perDeviceNodeSelection && reach()),
    }));
    slices.push({ metadata, spec: { driver, pool, ...poolReach, devices } });
  }
  return slices;
}

function deviceOf(
  dice: Dice,
  name: string,
  { partitionable }: { readonly partitionable: boolean },
): SliceDevice {
  const many = dice.percent(20);
  const counters = {
    slots: { value: String(1 + dice.below(3)) },
    memory: { value: `${5 + dice.below(26)}Gi` },
  };
  const policies: readonly [undefined, ...CapacityRequestPolicy[]] = [
    undefined,
    { default: '2' },
    { default: '2', validRange: { min: '2', step: '2' } },
    { default: '1', validRange: { min: '1', max: '4' } },
    { default: '500m', validRange: { min: '500m', step: '250m' } },
    { default: '2', validValues: ['2', '4', '8'] },
  ];
  const policy = dice.pick<CapacityRequestPolicy | undefined>(policies);
  return {
    name,
    attributes: {
      ...(dice.percent(85) && { 'resource.kubernetes.io/pcieRoot': { string: dice.pick(['r0', 'r1']) } }),
      ...(dice.percent(80) && { 'gpu.example.com/model': { string: dice.pick(['a', 'b']) } }),
      ...(dice.percent(60) && {
        'gpu.example.com/index': dice.percent(90) ? { int: dice.below(4) } : { string: '1' },
      }),
    },
    ...((many || dice.percent(30)) && {
      capacity: { 'gpu.example.com/share': { value: '8', ...(many && policy && { requestPolicy: policy }) } },
    }),
    ...(many && { allowMultipleAllocations: true }),
    ...(partitionable && dice.percent(80) && { consumesCounters: [{ counterSet: 'set', counters }] }),
    ...(dice.percent(12) && {
      taints: [
        {
          key: dice.pick(['sick', 'odd']),
          value: 'x',
          effect: dice.pick(['NoSchedule', 'NoExecute', 'None']),
        },
      ],
    }),
    ...(dice.percent(5) && { bindingConditions: ['ready'], bindingFailureConditions: ['failed'] }),
    ...(dice.percent(5) && { bindsToNode: true }),
  };
}

function claimOf(dice: Dice, name: string): ResourceClaim {
  const requests = Array.from({ length: 1 + dice.below(3) }, (_, at) => requestOf(dice, `r${at}`));
  const constraints = Array.from({ length: dice.below(3) }, (): DeviceConstraint => {
    const names = requests.flatMap(({ name: request, firstAvailable }) => [
      request,
      ...(firstAvailable ?? []).map(alternative => `${request}/${alternative.name}`),
    ]);
    const about = dice.percent(50) ? {} : { requests: names.filter(() => dice.percent(60)) };
    const attribute = dice.pick(attributes);
    return dice.percent(70)
      ? { ...about, matchAttribute: attribute }
      : { ...about, distinctAttribute: attribute };
  });
  return { metadata: { name, namespace: 'default' }, spec: { devices: { requests, constraints } } };
}

function requestOf(dice: Dice, name: string): DeviceRequest {
  if (dice.percent(30)) {
    const firstAvailable = Array.from({ length: 1 + dice.below(3) }, (_, at) => ({
      name: `s${at}`,
      ...bodyOf(dice),
    }));
    return { name, firstAvailable };
  }
  const body = bodyOf(dice);
  return { name, exactly: { ...body, ...(dice.percent(7) && { adminAccess: true }) } };
}

function bodyOf(dice: Dice): DeviceRequestBody {
  const all = dice.percent(8);
  return {
    deviceClassName: dice.percent(1) ? 'absent' : dice.pick(['gpu', 'gpu', 'nic', 'any']),
    allocationMode: all ? 'All' : 'ExactCount',
    ...(!all && { count: dice.percent(2) ? 33 : dice.pick([1, 1, 1, 2, 3]) }),
    ...(dice.percent(35) && {
      selectors: [{ cel: { expression: dice.percent(5) ? failing : dice.pick(selectors) } }],
    }),
    ...(dice.percent(15) && { tolerations: [{ key: dice.pick(['sick', 'odd']), operator: 'Exists' }] }),
    ...(dice.percent(10) && {
      capacity: { requests: { 'gpu.example.com/share': dice.pick(['1', '2', '3', '750m', '9']) } },
    }),
  };
}
