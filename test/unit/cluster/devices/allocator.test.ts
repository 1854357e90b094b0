import t from 'tap';
import { type DeviceUse, noDeviceUse } from '../../../../src/cluster/devices/device.ts';
import { parseQuantity } from '../../../../src/cluster/quantity.ts';
import {
  answerTo,
  claim,
  device,
  deviceClass,
  driver,
  request,
  type Situation,
  slice,
  told,
} from '../../../builders/devices.ts';

const key = (name: string, pool = 'n1'): string => `${driver}//${pool}//${name}`;
const inUse = (...names: readonly string[]): DeviceUse => ({
  ...noDeviceUse,
  devices: new Set(names.map(name => key(name))),
});
const root = (value: string) => device(`gpu-${value}`, { root: value });
const fourGpus = slice('s', ['a', 'b', 'c', 'd']);
const pairs = [
  slice('gpus', [device('g1', { root: 'r1' }), device('g2', { root: 'r2' })]),
  slice('nics', [device('n1', { root: 'r2' }), device('n2', { root: 'r1' })], {
    driver: 'nic.example.com',
  }),
];
const gpuAndNic = [
  deviceClass('gpu', `device.driver == "${driver}"`),
  deviceClass('nic', 'device.driver == "nic.example.com"'),
];

const cases: readonly (readonly [name: string, situation: Situation, want: string])[] = [
  [
    'takes the first devices, request by request, claim by claim',
    {
      slices: [fourGpus],
      claims: [claim('x', [request('r', { count: 2 }), request('q')]), claim('y', [request('r')])],
    },
    'x: r=a r=b q=c; y: r=d',
  ],
  [
    'passes over devices in use',
    { slices: [fourGpus], claims: [claim('x', [request('r')])], used: inUse('a', 'b') },
    'x: r=c',
  ],
  [
    'says that devices are in use',
    { slices: [fourGpus], claims: [claim('x', [request('r', { count: 2 })])], used: inUse('a', 'b', 'c') },
    'none: devices-in-use x r',
  ],
  [
    'says that nothing matches',
    { slices: [fourGpus], claims: [claim('x', [request('r', { count: 5 })])] },
    'none: no-matching-devices x r',
  ],
  [
    'names the furthest request that found nothing',
    {
      slices: [fourGpus],
      claims: [claim('x', [request('r', { count: 3 })]), claim('y', [request('q', { count: 2 })])],
    },
    'none: not-together y q',
  ],
  [
    'goes back on an earlier request for the sake of a later one',
    {
      slices: [slice('s', [device('a', { big: true }), device('b', { big: false })])],
      claims: [
        claim('x', [
          request('any'),
          request('big', {
            selectors: [{ cel: { expression: `device.attributes["${driver}"].big == true` } }],
          }),
        ]),
      ],
    },
    'x: any=b big=a',
  ],
  [
    'matches an attribute over requests of two drivers, whose names may lack the domain',
    {
      slices: pairs.map(each => ({
        ...each,
        spec: {
          ...each.spec,
          devices: (each.spec.devices ?? []).map(({ name, attributes }) => ({
            name,
            attributes: { 'resource.kubernetes.io/pcieRoot': attributes?.['root'] ?? {} },
          })),
        },
      })),
      classes: gpuAndNic,
      claims: [
        claim(
          'x',
          [request('gpu'), request('nic', { deviceClassName: 'nic' })],
          [{ matchAttribute: 'resource.kubernetes.io/pcieRoot' }],
        ),
      ],
    },
    'x: gpu=g1 nic=n2',
  ],
  [
    'does not match attributes of the same id and another domain',
    {
      slices: pairs,
      classes: gpuAndNic,
      claims: [
        claim(
          'x',
          [request('gpu'), request('nic', { deviceClassName: 'nic' })],
          [{ matchAttribute: `${driver}/root` }],
        ),
      ],
    },
    'none: not-together x nic',
  ],
  [
    'holds only the named requests to a constraint',
    {
      slices: [slice('s', [root('1'), root('2'), root('3')])],
      claims: [
        claim(
          'x',
          [request('r'), request('q'), request('p')],
          [{ requests: ['r', 'p'], distinctAttribute: `${driver}/root` }],
        ),
      ],
    },
    'x: r=gpu-1 q=gpu-2 p=gpu-3',
  ],
  [
    'takes distinct values for every device of a request',
    {
      slices: [slice('s', [device('a', { v: 1 }), device('b', { v: 1 }), device('c', { v: 2 })])],
      claims: [claim('x', [request('r', { count: 2 })], [{ distinctAttribute: `${driver}/v` }])],
    },
    'x: r=a r=c',
  ],
  [
    'takes the first alternative that fits',
    {
      slices: [fourGpus],
      used: inUse('a'),
      claims: [
        claim('x', [
          {
            name: 'r',
            firstAvailable: [
              { name: 'four', deviceClassName: 'gpu', count: 4 },
              { name: 'two', deviceClassName: 'gpu', count: 2 },
            ],
          },
        ]),
      ],
    },
    'x: r/two=b r/two=c',
  ],
  [
    'takes all devices of a node',
    { slices: [fourGpus], claims: [claim('x', [request('r', { allocationMode: 'All' })])] },
    'x: r=a r=b r=c r=d',
  ],
  [
    'takes all or none',
    { slices: [fourGpus], claims: [claim('x', [request('r', { allocationMode: 'All' })])], used: inUse('c') },
    'none: devices-in-use x r',
  ],
  [
    'wants at least one of all',
    { slices: [], claims: [claim('x', [request('r', { allocationMode: 'All' })])] },
    'none: no-matching-devices x r',
  ],
  [
    'fails where a constraint forbids all devices',
    {
      slices: [slice('s', [root('1'), root('2')])],
      claims: [claim('x', [request('r', { allocationMode: 'All' })], [{ matchAttribute: `${driver}/root` }])],
    },
    'error: constraint-on-all',
  ],
  [
    'gives admin access to devices in use, but each once in a claim',
    {
      slices: [slice('s', ['a', 'b'])],
      used: inUse('a', 'b'),
      claims: [claim('x', [request('r', { adminAccess: true }), request('q', { adminAccess: true })])],
    },
    'x: r=a q=b',
  ],
  [
    'gives no more than 32 devices to a claim',
    {
      slices: [
        slice(
          's',
          Array.from({ length: 40 }, (_, index) => `gpu-${index}`),
        ),
      ],
      claims: [claim('x', [request('r', { count: 33 })])],
    },
    'error: too-many-devices',
  ],
  [
    'fails for a class that is not there',
    { slices: [fourGpus], claims: [claim('x', [request('r', { deviceClassName: 'other' })])] },
    'error: missing-class',
  ],
  [
    'fails for a selector that fails, though another device would do',
    {
      slices: [slice('s', ['a', device('b', { v: 1 })])],
      claims: [
        claim('x', [
          request('r', { selectors: [{ cel: { expression: `device.attributes["${driver}"].v == 1` } }] }),
        ]),
      ],
    },
    'error: selector-error',
  ],
  [
    'does not come upon a selector that fails on a device after the one it takes',
    {
      slices: [slice('s', [device('a', { v: 1 }), 'b'])],
      claims: [
        claim('x', [
          request('r', { selectors: [{ cel: { expression: `device.attributes["${driver}"].v == 1` } }] }),
        ]),
      ],
    },
    'x: r=a',
  ],
  [
    'comes upon it even where too few devices are left',
    {
      slices: [slice('s', [device('a', { v: 1 }), 'b'])],
      claims: [
        claim('x', [
          request('r', {
            count: 3,
            selectors: [{ cel: { expression: `device.attributes["${driver}"].v == 1` } }],
          }),
        ]),
      ],
    },
    'error: selector-error',
  ],
  [
    'keeps off tainted devices unless that is tolerated',
    {
      slices: [
        slice('s', [
          device('a', {}, { taints: [{ key: 'sick', effect: 'NoSchedule' }] }),
          device('b', {}, { taints: [{ key: 'sick', effect: 'None' }] }),
        ]),
      ],
      claims: [
        claim('x', [request('r'), request('q', { tolerations: [{ key: 'sick', operator: 'Exists' }] })]),
      ],
    },
    'x: r=b q=a',
  ],
];

for (const [name, situation, want] of cases) {
  t.test(name, async t => t.equal(told(answerTo(situation)), want));
}

t.test('an unknown selector is never a no', async t => {
  const unknown = { selectors: [{ cel: { expression: 'beyond()' } }] };
  t.match(
    told(answerTo({ slices: [fourGpus], claims: [claim('x', [request('r', unknown)])] })),
    /^unknown: .*beyond this engine/,
  );
  t.match(
    told(
      answerTo({
        slices: [fourGpus],
        claims: [claim('x', [request('r', { ...unknown, allocationMode: 'All' })])],
      }),
    ),
    /^unknown: /,
    'not even as a part of all',
  );
  const someUnknown = `device.attributes["${driver}"].v == 1 && beyond()`;
  const slices = [slice('s', [device('a', { v: 1 }), device('b', { v: 2 })])];
  const doubtful = [
    claim('x', [
      {
        name: 'r',
        firstAvailable: [
          { name: 'first', deviceClassName: 'gpu', selectors: [{ cel: { expression: someUnknown } }] },
          { name: 'second', deviceClassName: 'gpu' },
        ],
      },
    ]),
  ];
  t.equal(
    told(answerTo({ slices, claims: doubtful })),
    'x: r/second=a in doubt',
    'what fits without is told as doubtful',
  );
});

t.test('a search is given up when its budget is spent', async t => {
  const many = slice(
    's',
    Array.from({ length: 64 }, (_, index) => device(`gpu-${index}`, { v: index % 4 })),
  );
  const claims = [
    claim(
      'x',
      [request('r', { count: 17 }), request('q', { count: 1 })],
      [{ matchAttribute: `${driver}/v` }],
    ),
  ];
  t.match(told(answerTo({ slices: [many], claims, budget: 10_000 })), /^unknown: .*given up/);
});

t.test('preferred devices are tried first, the others after them', async t => {
  const claims = [claim('x', [request('r', { count: 2 })]), claim('y', [request('r')])];
  const prefer = (of: string) => (of === 'x' ? [key('d'), key('b')] : [key('d')]);
  t.equal(told(answerTo({ slices: [fourGpus], claims, prefer })), 'x: r=d r=b; y: r=a');
});

t.test('constraints of Berth hold over several claims and are no errors', async t => {
  const slices = pairs.map(each => ({
    ...each,
    spec: {
      ...each.spec,
      devices: (each.spec.devices ?? []).map(({ name, attributes }) => ({
        name,
        attributes: { 'resource.kubernetes.io/pcieRoot': attributes?.['root'] ?? {} },
      })),
    },
  }));
  const claims = [claim('gpu', [request('r')]), claim('nic', [request('r', { deviceClassName: 'nic' })])];
  const extraConstraints = [
    { matchAttribute: 'resource.kubernetes.io/pcieRoot', among: [{ claim: 'gpu' }, { claim: 'nic' }] },
  ];
  t.equal(told(answerTo({ slices, classes: gpuAndNic, claims })), 'gpu: r=g1; nic: r=n1');
  t.equal(told(answerTo({ slices, classes: gpuAndNic, claims, extraConstraints })), 'gpu: r=g1; nic: r=n2');
  const all = [claim('gpu', [request('r', { allocationMode: 'All' })])];
  t.equal(
    told(answerTo({ slices, classes: gpuAndNic, claims: all, extraConstraints })),
    'none: not-together gpu r',
  );
});

t.test('shared counters', async t => {
  const counters = (memory: string) => [{ counterSet: 'gpu-0', counters: { memory: { value: memory } } }];
  const part = (name: string, memory: string) => device(name, {}, { consumesCounters: counters(memory) });
  const pool = { resourceSliceCount: 2 };
  const slices = [
    slice('counters', [], {
      pool,
      sharedCounters: [{ name: 'gpu-0', counters: { memory: { value: '40Gi' } } }],
    }),
    slice('devices', [part('whole', '40Gi'), part('half-0', '20Gi'), part('half-1', '20Gi')], { pool }),
  ];
  t.equal(
    told(answerTo({ slices, claims: [claim('x', [request('r', { count: 2 })])] })),
    'x: r=half-0 r=half-1',
  );
  t.equal(
    told(answerTo({ slices, claims: [claim('x', [request('r')])], used: inUse('half-0') })),
    'x: r=half-1',
  );
  t.equal(
    told(answerTo({ slices, claims: [claim('x', [request('r')])], used: inUse('half-0', 'whole') })),
    'none: not-together x r',
    'counters that are overdrawn already leave nothing',
  );
});

t.test('capacity of devices that may be allocated several times', async t => {
  const capacity = (value: string, requestPolicy?: object) => ({
    memory: { value, ...(requestPolicy && { requestPolicy }) },
  });
  const shared = (name: string, value: string, policy?: object) =>
    device(name, {}, { allowMultipleAllocations: true, capacity: capacity(value, policy) });
  const asks = (memory: string) => request('r', { capacity: { requests: { memory } } });
  const consumed = (situation: Situation) => {
    const answer = answerTo(situation);
    return answer.kind === 'allocated'
      ? answer.claims.flatMap(({ results }) =>
          results.map(({ device: name, consumedCapacity }) => [name, consumedCapacity]),
        )
      : told(answer);
  };
  const range = { default: '10Gi', validRange: { min: '4Gi', step: '4Gi', max: '32Gi' } };
  t.strictSame(
    consumed({
      slices: [slice('s', [shared('a', '40Gi', range)])],
      claims: [claim('x', [asks('5Gi')]), claim('y', [request('r')])],
    }),
    [
      ['a', { memory: String(8 * 2 ** 30) }],
      ['a', { memory: String(10 * 2 ** 30) }],
    ],
    'amounts are rounded up to the next step, and the default stands in for none',
  );
  t.equal(
    consumed({ slices: [slice('s', [shared('a', '40Gi', range)])], claims: [claim('x', [asks('33Gi')])] }),
    'none: not-together x r',
  );
  const used: DeviceUse = {
    ...noDeviceUse,
    capacity: new Map([[key('a'), new Map([[`${driver}/memory`, parseQuantity('30Gi')]])]]),
  };
  t.strictSame(
    consumed({
      slices: [slice('s', [shared('a', '40Gi'), shared('b', '40Gi')])],
      claims: [claim('x', [asks('11Gi')])],
      used,
    }),
    [['b', { memory: String(11 * 2 ** 30) }]],
  );
  t.equal(
    consumed({
      slices: [slice('s', [shared('a', '40Gi')])],
      claims: [claim('x', [request('r', { capacity: { requests: { cores: '1' } } })])],
    }),
    'none: not-together x r',
    'a device without the capacity is none that is wanted',
  );
});

t.test('the claim is bound to where its devices are', async t => {
  const selectorOf = (situation: Situation) => {
    const answer = answerTo(situation);
    return answer.kind === 'allocated' ? answer.claims.map(({ nodeSelector }) => nodeSelector) : told(answer);
  };
  const claims = [claim('x', [request('r')])];
  const zone = {
    nodeSelectorTerms: [{ matchExpressions: [{ key: 'zone', operator: 'In', values: ['a'] }] }],
  };
  const node = { name: 'n1', labels: { zone: 'a' } };
  const here = {
    nodeSelectorTerms: [{ matchFields: [{ key: 'metadata.name', operator: 'In', values: ['n1'] }] }],
  };
  t.strictSame(selectorOf({ slices: [slice('s', ['a'])], claims }), [here]);
  t.strictSame(selectorOf({ slices: [slice('s', ['a'], { allNodes: true })], claims }), [undefined]);
  t.strictSame(selectorOf({ slices: [slice('s', ['a'], { nodeSelector: zone })], claims, node }), [zone]);
  t.strictSame(
    selectorOf({
      slices: [slice('s', [device('a', {}, { bindsToNode: true })], { allNodes: true })],
      claims,
    }),
    [here],
  );
  t.equal(
    selectorOf({ slices: [slice('s', ['a'], { nodeSelector: zone })], claims }),
    'none: no-matching-devices x r',
  );
  const bad = {
    nodeSelectorTerms: [{ matchExpressions: [{ key: 'zone', operator: 'Like', values: ['a'] }] }],
  };
  t.equal(
    selectorOf({
      slices: [fourGpus, slice('t', ['a'], { nodeSelector: bad, pool: { name: 'other' } })],
      claims,
    }),
    'error: node-selector',
  );
});
