import fc from 'fast-check';
import t from 'tap';
import type { Container, Pod, PodSpec, ResourceList } from '../../../src/api/kubernetes.ts';
import {
  podRequests,
  requestsAccelerator,
  templateRequests,
  usesResourceClaims,
} from '../../../src/cluster/pod-requests.ts';
import {
  formatResource,
  milliValue,
  parseQuantity,
  QuantityError,
  wholeValue,
} from '../../../src/cluster/quantity.ts';
import {
  addResources,
  fits,
  howManyFit,
  isAcceleratorResource,
  isCountedResource,
  keyOf,
  maxResources,
  type Resources,
  resourcesFrom,
  scaleResources,
  subtractResources,
} from '../../../src/cluster/resources.ts';

const names = ['cpu', 'memory', 'nvidia.com/gpu', 'pods'] as const;
const someResources = fc
  .dictionary(fc.constantFrom(...names), fc.integer({ min: 0, max: 5000 }))
  .map((entries): Resources => new Map(Object.entries(entries)));

function failureOf(act: () => unknown): unknown {
  try {
    act();
  } catch (error) {
    return error;
  }
  return undefined;
}

t.test('quantities are read exactly, to the nano unit', async t => {
  for (const [text, nano] of [
    ['0', 0n],
    ['1', 1_000_000_000n],
    [4, 4_000_000_000n],
    [0.1, 100_000_000n],
    [1e21, 10n ** 30n],
    ['007', 7_000_000_000n],
    ['+2', 2_000_000_000n],
    ['-2', -2_000_000_000n],
    ['500m', 500_000_000n],
    ['250u', 250_000n],
    ['3n', 3n],
    ['1.5Gi', 1_610_612_736n * 10n ** 9n],
    ['1Ki', 1024n * 10n ** 9n],
    ['.5', 500_000_000n],
    ['5.', 5_000_000_000n],
    ['1e3', 10n ** 12n],
    ['1E3', 10n ** 12n],
    ['1E', 10n ** 27n],
    ['12e-3', 12_000_000n],
    ['1P', 10n ** 24n],
    ['8Ei', (2n ** 63n - 1n) * 10n ** 9n],
    ['123456789012345678901', 123456789012345678901n * 10n ** 9n],
  ] as const) {
    t.equal(parseQuantity(text), nano, `${text}`);
  }
});

t.test('what is finer than a nano unit rounds away from zero', async t => {
  t.equal(parseQuantity('0.1n'), 1n);
  t.equal(parseQuantity('1.0000000001'), 1_000_000_001n);
  t.equal(parseQuantity('-0.1n'), -1n);
  t.equal(parseQuantity('1e-999999999'), 1n);
  t.equal(parseQuantity('0e-999999999'), 0n);
});

t.test('texts that are no quantity are refused with their text', async t => {
  for (const text of [
    '',
    ' 1',
    '1 ',
    'one',
    '1.5.2',
    '1,5',
    '0x10',
    '1Kb',
    '1KI',
    '1ki',
    '1e',
    '1e+',
    '1e1.5',
    '--1',
  ]) {
    t.match(
      failureOf(() => parseQuantity(text)),
      { code: 'InvalidQuantity', text },
      JSON.stringify(text),
    );
  }
  for (const text of ['.', '+', 'm', 'Gi', 'e3']) {
    t.match(
      failureOf(() => parseQuantity(text)),
      { code: 'InvalidQuantity', text },
      `${text} has no digit`,
    );
  }
  t.match(
    failureOf(() => parseQuantity('1e999999999')),
    { code: 'InvalidQuantity' },
    'absurdly large',
  );
  t.match(
    failureOf(() => parseQuantity(Number.NaN)),
    { code: 'InvalidQuantity', text: 'NaN' },
  );
});

t.test('values round up, as Quantity.Value() and MilliValue() do', async t => {
  t.equal(wholeValue(parseQuantity('1500m')), 2);
  t.equal(wholeValue(parseQuantity('1n')), 1);
  t.equal(wholeValue(parseQuantity('-1500m')), -2);
  t.equal(milliValue(parseQuantity('100u')), 1);
  t.equal(milliValue(parseQuantity('2.5')), 2500);
  t.equal(wholeValue(parseQuantity(Number.MAX_SAFE_INTEGER)), Number.MAX_SAFE_INTEGER);
});

t.test('values beyond the safe integers are refused', async t => {
  t.throws(() => wholeValue(parseQuantity('9007199254740992')), QuantityError);
  t.throws(() => milliValue(parseQuantity('9007199254741')), QuantityError);
  t.throws(() => wholeValue(parseQuantity('-8Ei')), QuantityError);
});

t.test('amounts are written as people write them', async t => {
  for (const [name, amount, text] of [
    ['cpu', 3500, '3500m'],
    ['cpu', 4000, '4'],
    ['cpu', 0, '0'],
    ['memory', 2 ** 41, '2Ti'],
    ['memory', 1536 * 2 ** 20, '1536Mi'],
    ['memory', 500_000_000, '500M'],
    ['memory', 128_974_848, '123Mi'],
    ['memory', 1001, '1001'],
    ['memory', 0, '0'],
    ['ephemeral-storage', 10 ** 12, '1T'],
    ['hugepages-2Mi', 2 ** 21, '2Mi'],
    ['nvidia.com/gpu', 1024, '1024'],
  ] as const) {
    t.equal(formatResource(name, amount), text);
  }
});

t.test('what is written reads back as the same amount', async t => {
  const amounts = fc.oneof(
    fc.nat({ max: Number.MAX_SAFE_INTEGER }),
    fc
      .tuple(fc.nat({ max: 8000 }), fc.constantFrom(2 ** 10, 2 ** 20, 2 ** 30, 10 ** 3, 10 ** 9))
      .map(([n, unit]) => n * unit),
  );
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(amounts, amount => {
        const bytes = wholeValue(parseQuantity(formatResource('memory', amount)));
        const cpu = milliValue(parseQuantity(formatResource('cpu', amount)));
        return bytes === amount && cpu === amount;
      }),
    ),
  );
});

t.test('reading scales: a suffix is nothing but a factor', async t => {
  const suffixes = {
    k: 10n ** 3n,
    M: 10n ** 6n,
    G: 10n ** 9n,
    Ki: 2n ** 10n,
    Mi: 2n ** 20n,
    Gi: 2n ** 30n,
  } as const;
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(fc.nat(), fc.constantFrom(...Object.entries(suffixes)), (n, [suffix, factor]) => {
        return parseQuantity(`${n}${suffix}`) === parseQuantity(String(n)) * factor;
      }),
    ),
  );
});

t.test('sums and differences of resources', async t => {
  const a = new Map([
    ['cpu', 1000],
    ['memory', 5],
  ]);
  const b = new Map([
    ['cpu', 500],
    ['nvidia.com/gpu', 1],
  ]);
  t.strictSame(
    [...addResources(a, b)],
    [
      ['cpu', 1500],
      ['memory', 5],
      ['nvidia.com/gpu', 1],
    ],
  );
  t.strictSame(
    [...subtractResources(a, b)],
    [
      ['cpu', 500],
      ['memory', 5],
      ['nvidia.com/gpu', -1],
    ],
  );
  t.strictSame(
    [...maxResources(a, b)],
    [
      ['cpu', 1000],
      ['memory', 5],
      ['nvidia.com/gpu', 1],
    ],
  );
  t.strictSame(
    [...scaleResources(a, 3)],
    [
      ['cpu', 3000],
      ['memory', 15],
    ],
  );
  t.strictSame(
    [...a],
    [
      ['cpu', 1000],
      ['memory', 5],
    ],
    'arguments stay as they were',
  );
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(
        someResources,
        someResources,
        (x, y) => keyOf(subtractResources(addResources(x, y), y)) === keyOf(x),
      ),
    ),
  );
});

t.test('only what is asked for must be there', async t => {
  const free = new Map([
    ['cpu', -500],
    ['nvidia.com/gpu', 4],
  ]);
  t.ok(
    fits(free, new Map([['nvidia.com/gpu', 4]])),
    'an overcommitted resource does not matter to who does not ask',
  );
  t.ok(
    fits(
      free,
      new Map([
        ['cpu', 0],
        ['rdma/hca', 0],
      ]),
    ),
    'asking for zero is not asking',
  );
  t.notOk(fits(free, new Map([['cpu', 1]])));
  t.notOk(fits(free, new Map([['rdma/hca', 1]])), 'a resource that the node has not');
  t.equal(howManyFit(free, new Map([['nvidia.com/gpu', 3]])), 1);
  t.equal(howManyFit(free, new Map([['cpu', 1]])), 0, 'never negative');
  t.equal(
    howManyFit(free, new Map([['cpu', 0]])),
    Number.POSITIVE_INFINITY,
    'who asks for nothing fits without end',
  );
});

t.test('howManyFit counts how often the demand can be taken away', async t => {
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(someResources, someResources, (free, demand) => {
        const count = howManyFit(free, demand);
        if (count === Number.POSITIVE_INFINITY) return keyOf(demand) === '';
        const rest = subtractResources(free, scaleResources(demand, count));
        return (count === 0 || fits(free, scaleResources(demand, count))) && !fits(rest, demand);
      }),
    ),
  );
});

t.test('the key of resources depends on the amounts alone', async t => {
  t.equal(
    keyOf(
      new Map([
        ['b', 1],
        ['a', 2],
        ['c', 0],
      ]),
    ),
    keyOf(
      new Map([
        ['a', 2],
        ['b', 1],
      ]),
    ),
  );
  t.not(keyOf(new Map([['a', 1]])), keyOf(new Map([['a', 2]])));
  t.equal(keyOf(new Map()), '');
});

t.test('resource lists convert with CPU in thousandths, and tell the field that is wrong', async t => {
  t.strictSame(
    [
      ...resourcesFrom(
        { cpu: '1500m', memory: '1Ki', pods: 110, 'nvidia.com/gpu': '8' },
        'status.allocatable',
      ),
    ],
    [
      ['cpu', 1500],
      ['memory', 1024],
      ['pods', 110],
      ['nvidia.com/gpu', 8],
    ],
  );
  const fail = (list: ResourceList) => failureOf(() => resourcesFrom(list, 'status.allocatable'));
  t.match(fail({ cpu: 'lots' }), { code: 'InvalidQuantity', field: 'status.allocatable[cpu]', text: 'lots' });
  t.match(fail({ memory: '16Ei' }), { code: 'InvalidQuantity', field: 'status.allocatable[memory]' });
  t.match(fail({ memory: '-1' }), { code: 'InvalidQuantity', field: 'status.allocatable[memory]' });
});

t.test('accelerators are extended resources and implicit DRA ones', async t => {
  const accelerators = [
    'nvidia.com/gpu',
    'google.com/tpu',
    'amd.com/gpu',
    'rdma/hca',
    'deviceclass.resource.kubernetes.io/gpu',
  ];
  for (const name of accelerators) t.ok(isAcceleratorResource(name), name);
  for (const name of [
    'cpu',
    'memory',
    'pods',
    'hugepages-1Gi',
    'attachable-volumes-aws-ebs',
    'kubernetes.io/thing',
    'node.kubernetes.io/thing',
    'requests.nvidia.com/gpu',
  ]) {
    t.notOk(isAcceleratorResource(name), name);
  }
});

t.test('the scheduler counts some resources and drops others', async t => {
  for (const name of ['cpu', 'memory', 'ephemeral-storage', 'hugepages-2Mi', 'a.kubernetes.io/x', 'a.b/x']) {
    t.ok(isCountedResource(name), name);
  }
  for (const name of ['pods', 'storage', 'requests.a.b/x']) t.notOk(isCountedResource(name), name);
});

const container = (requests?: ResourceList, more: Partial<Container> = {}): Container => ({
  name: 'main',
  ...(requests && { resources: { requests } }),
  ...more,
});
const limited = (limits: ResourceList, requests?: ResourceList): Container => ({
  name: 'main',
  resources: { limits, ...(requests && { requests }) },
});
const sidecar = (requests: ResourceList): Container => container(requests, { restartPolicy: 'Always' });
const plain = (resources: Resources) => Object.fromEntries([...resources].sort());

t.test(
  'a pod requests what its containers do together, or its hungriest moment of initialisation',
  async t => {
    const cases: readonly [string, PodSpec, Record<string, number>][] = [
      [
        'containers add up',
        { containers: [container({ cpu: '1' }), container({ cpu: '500m', memory: 7 })] },
        { cpu: 1500, memory: 7 },
      ],
      ['no requests', { containers: [container()] }, {}],
      ['zeros are left out', { containers: [container({ cpu: 0, 'nvidia.com/gpu': '0' })] }, {}],
      [
        'fractions add up before they round',
        { containers: [1, 2, 3].map(() => container({ cpu: '500u' })) },
        { cpu: 2 },
      ],
      [
        'what the scheduler drops',
        { containers: [container({ pods: 3, storage: '1Gi', cpu: 1 })] },
        { cpu: 1000 },
      ],
      [
        'limits do not stand in for requests in a pod, defaulting has seen to that',
        { containers: [limited({ cpu: 1 })] },
        {},
      ],
      [
        'an init container runs alone',
        {
          initContainers: [container({ cpu: 3 }), container({ cpu: 2, memory: 9 })],
          containers: [container({ cpu: 1 })],
        },
        { cpu: 3000, memory: 9 },
      ],
      [
        'a sidecar runs beside the containers',
        { initContainers: [sidecar({ cpu: 2 })], containers: [container({ cpu: 1 })] },
        { cpu: 3000 },
      ],
      [
        'an init container runs beside the sidecars before it, not those after it',
        {
          initContainers: [sidecar({ cpu: 1 }), container({ cpu: 5 }), sidecar({ cpu: 1 })],
          containers: [container({ cpu: 2 })],
        },
        { cpu: 6000 },
      ],
      [
        'overhead comes on top',
        { overhead: { cpu: '250m' }, containers: [container({ cpu: 1 })] },
        { cpu: 1250 },
      ],
      [
        'pod-level requests override the sum for cpu, memory and huge pages only',
        {
          resources: { requests: { cpu: 1, 'hugepages-2Mi': 4, 'nvidia.com/gpu': 9 } },
          overhead: { cpu: 1 },
          containers: [container({ cpu: 5, memory: 3, 'nvidia.com/gpu': 2 })],
        },
        { cpu: 2000, memory: 3, 'hugepages-2Mi': 4, 'nvidia.com/gpu': 2 },
      ],
    ];
    for (const [name, spec, expected] of cases)
      t.strictSame(plain(podRequests({ spec })), plain(new Map(Object.entries(expected))), name);
  },
);

t.test('a pod that is being resized counts the most of what is wanted, allocated and in force', async t => {
  const spec: PodSpec = { containers: [container({ cpu: 2 })] };
  const withStatus = (status: NonNullable<Pod['status']>, of = spec) =>
    plain(podRequests({ spec: of, status }));
  const containerStatus = (allocated: ResourceList, inForce?: ResourceList) => ({
    containerStatuses: [
      { name: 'main', allocatedResources: allocated, ...(inForce && { resources: { requests: inForce } }) },
    ],
  });
  const infeasible = { conditions: [{ type: 'PodResizePending', status: 'True', reason: 'Infeasible' }] };
  const deferred = { conditions: [{ type: 'PodResizePending', status: 'True', reason: 'Deferred' }] };

  t.strictSame(withStatus({ phase: 'Running' }), { cpu: 2000 }, 'nothing reported');
  t.strictSame(withStatus(containerStatus({ cpu: 1 })), { cpu: 2000 }, 'growing: the wish counts');
  t.strictSame(withStatus(containerStatus({ cpu: 3 })), { cpu: 3000 }, 'shrinking: the allocation counts');
  t.strictSame(withStatus(containerStatus({ cpu: 1 }, { cpu: 4 })), { cpu: 4000 }, 'what is in force counts');
  t.strictSame(
    withStatus({ ...containerStatus({ cpu: 1 }), ...deferred }),
    { cpu: 2000 },
    'a deferred wish counts',
  );
  t.strictSame(
    withStatus({ ...containerStatus({ cpu: 1 }), ...infeasible }),
    { cpu: 1000 },
    'an infeasible one does not',
  );
  t.strictSame(
    withStatus(infeasible),
    {},
    'an infeasible one without anything reported counts nothing, as in Kubernetes',
  );
  t.strictSame(
    withStatus({
      ...containerStatus({ cpu: 9 }),
      allocatedResources: { cpu: 1 },
      resources: { requests: { cpu: 3 } },
    }),
    { cpu: 3000 },
    'complete pod-level status replaces that of the containers',
  );
  const podLevel: PodSpec = { resources: { requests: { cpu: 2 } }, containers: [container({ cpu: 1 })] };
  t.strictSame(
    withStatus({ allocatedResources: { cpu: 1 }, resources: { requests: { cpu: 4 } } }, podLevel),
    { cpu: 4000 },
    'pod-level requests in force',
  );
  t.strictSame(
    withStatus(
      { ...infeasible, allocatedResources: { cpu: 1 }, resources: { requests: { cpu: 1 } } },
      podLevel,
    ),
    { cpu: 1000 },
    'an infeasible pod-level wish does not count',
  );
});

t.test('a template is counted as the API server would default the pods made from it', async t => {
  const cases: readonly [string, PodSpec, Record<string, number>][] = [
    [
      'limits stand in for requests, resource by resource',
      { containers: [limited({ cpu: 4, 'nvidia.com/gpu': 8 }, { cpu: 1 })] },
      { cpu: 1000, 'nvidia.com/gpu': 8 },
    ],
    ['a request of zero is a request', { containers: [limited({ cpu: 4 }, { cpu: 0 })] }, {}],
    [
      'init containers too',
      { initContainers: [limited({ cpu: 4 })], containers: [limited({ cpu: 1 })] },
      { cpu: 4000 },
    ],
    [
      'pod-level limits stand in where no container requests',
      { resources: { limits: { cpu: 4, memory: 8 } }, containers: [container({ cpu: 1 })] },
      { cpu: 1000, memory: 8 },
    ],
    [
      'pod-level requests go first',
      { resources: { requests: { cpu: 2 }, limits: { cpu: 4 } }, containers: [container({ cpu: 1 })] },
      { cpu: 2000 },
    ],
    [
      'pod-level requests go before pod-level limits',
      { resources: { requests: { cpu: 2 }, limits: { cpu: 4 } }, containers: [container()] },
      { cpu: 2000 },
    ],
    [
      'a container request of zero still keeps the pod-level limit out',
      { resources: { limits: { cpu: 4 } }, containers: [container({ cpu: 0 })] },
      {},
    ],
    [
      'huge pages follow the pod-level limit',
      { resources: { limits: { 'hugepages-2Mi': 8 } }, containers: [container({ 'hugepages-2Mi': 4 })] },
      { 'hugepages-2Mi': 8 },
    ],
    [
      'other resources at pod level are ignored',
      { resources: { limits: { 'nvidia.com/gpu': 8 } }, containers: [container()] },
      {},
    ],
    [
      'overhead comes on top',
      { overhead: { memory: 5 }, containers: [limited({ memory: 5 })] },
      { memory: 10 },
    ],
  ];
  for (const [name, spec, expected] of cases)
    t.strictSame(plain(templateRequests(spec)), plain(new Map(Object.entries(expected))), name);
});

t.test('a template with requests everywhere counts as its pod does', async t => {
  const list = fc.dictionary(fc.constantFrom('cpu', 'memory', 'nvidia.com/gpu'), fc.nat({ max: 9 }));
  const containers = fc.array(
    list.map(requests => container(requests)),
    { maxLength: 3 },
  );
  const inits = fc.array(
    fc
      .tuple(list, fc.boolean())
      .map(([requests, always]) => (always ? sidecar(requests) : container(requests))),
    { maxLength: 3 },
  );
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(containers, inits, (containers, initContainers) => {
        const spec = { containers, initContainers };
        return keyOf(templateRequests(spec)) === keyOf(podRequests({ spec }));
      }),
    ),
  );
});

t.test('a wrong quantity names its field', async t => {
  const bad = { 'nvidia.com/gpu': 'eight' };
  const fieldOf = (act: () => unknown) => {
    const failure = failureOf(act);
    return failure instanceof QuantityError ? failure.field : failure;
  };
  t.equal(
    fieldOf(() => podRequests({ spec: { containers: [container(), container(bad)] } })),
    'spec.containers[1].resources.requests[nvidia.com/gpu]',
  );
  t.equal(
    fieldOf(() => templateRequests({ containers: [limited(bad)] })),
    'spec.containers[0].resources.limits[nvidia.com/gpu]',
  );
  t.equal(
    fieldOf(() => templateRequests({ initContainers: [limited(bad)], containers: [] })),
    'spec.initContainers[0].resources.limits[nvidia.com/gpu]',
  );
  t.equal(
    fieldOf(() => podRequests({ spec: { overhead: { cpu: 'x' }, containers: [] } })),
    'spec.overhead[cpu]',
  );
  t.equal(
    fieldOf(() => podRequests({ spec: { resources: { requests: { cpu: '-1' } }, containers: [] } })),
    'spec.resources.requests[cpu]',
  );
  t.equal(
    fieldOf(() =>
      podRequests({
        spec: { containers: [container()] },
        status: { containerStatuses: [{ name: 'main', allocatedResources: bad }] },
      }),
    ),
    'status.containerStatuses[0].allocatedResources[nvidia.com/gpu]',
  );
  t.equal(
    fieldOf(() =>
      podRequests({ spec: { containers: [container({ memory: '6Pi' }), container({ memory: '6Pi' })] } }),
    ),
    'requests[memory]',
    'a sum beyond counting',
  );
  t.equal(
    fieldOf(() =>
      podRequests({ spec: { containers: [container({ memory: '6Pi' }), container({ memory: '9Ei' })] } }),
    ),
    'spec.containers[1].resources.requests[memory]',
    'one amount beyond counting',
  );
});

t.test('accelerators are found wherever containers ask for them', async t => {
  t.ok(requestsAccelerator({ containers: [limited({ 'nvidia.com/gpu': 1 })] }));
  t.ok(requestsAccelerator({ initContainers: [container({ 'google.com/tpu': '4' })], containers: [] }));
  t.notOk(requestsAccelerator({ containers: [limited({ cpu: 1, 'nvidia.com/gpu': '0' })] }));
  t.notOk(requestsAccelerator({ containers: [container()] }));
  t.ok(
    requestsAccelerator({ containers: [limited({ 'nvidia.com/gpu': '-1' })] }),
    'an amount that cannot be',
  );
  t.ok(requestsAccelerator({ containers: [limited({ 'nvidia.com/gpu': '1e70' })] }), 'or cannot be read');
  t.ok(usesResourceClaims({ resourceClaims: [{ name: 'gpu' }], containers: [] }));
  t.notOk(usesResourceClaims({ resourceClaims: [], containers: [] }));
  t.notOk(usesResourceClaims({ containers: [] }));
});
