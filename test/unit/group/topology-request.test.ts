import t from 'tap';
import { berth, k8s, kueue, lws } from '../../../src/api/names.ts';
import { readTopologyRequest, requestForRanks } from '../../../src/group/topology-request.ts';

const levels = [
  { name: 'block', nodeLabel: 'example.com/block' },
  { name: 'rack', nodeLabel: 'example.com/rack' },
];
const host = levels.length;

const nothing = { requiredLevel: undefined, preferredLevel: undefined, sameLabels: [] };

function read(annotations: Record<string, string>, size = 4) {
  return readTopologyRequest([annotations], levels, { namespace: 'serving', owner: 'llm', size });
}

const subgroups = { [lws.subgroupSize]: '2', [lws.subgroupPolicyType]: 'LeaderWorker' };
const pairs = [
  [0, 1],
  [2, 3],
];

t.test('requests of all kinds', async t => {
  const cases: readonly [string, Record<string, string>, object][] = [
    [
      'required and preferred together',
      { [berth.requiredTopology]: 'block', [berth.preferredTopology]: 'rack' },
      { requiredLevel: 0, preferredLevel: 1 },
    ],
    [
      'slices',
      { [berth.sliceTopology]: 'rack', [berth.sliceSize]: '2' },
      { slices: { level: 1, ranks: pairs, apart: false } },
    ],
    [
      "slices in Kueue's words",
      {
        [kueue.sliceTopology]: k8s.hostname,
        [kueue.sliceSize]: '2',
        [kueue.requiredTopology]: 'example.com/rack',
      },
      { requiredLevel: 1, slices: { level: host, ranks: pairs, apart: false } },
    ],
    [
      'subgroups as slices',
      { ...subgroups, [berth.sliceTopology]: 'rack' },
      { slices: { level: 1, ranks: pairs, apart: false } },
    ],
    ['subgroups alone ask for no place', subgroups, {}],
    [
      'subgroups apart',
      { ...subgroups, [lws.subgroupExclusiveTopology]: k8s.hostname },
      {
        slices: { level: host, ranks: pairs, apart: true },
        exclusiveLevel: host,
        exclusiveAmong: 'subgroups',
      },
    ],
    [
      'subgroups apart on a finer level than they were asked for',
      { ...subgroups, [lws.subgroupExclusiveTopology]: 'example.com/rack', [berth.sliceTopology]: 'block' },
      { slices: { level: 1, ranks: pairs, apart: true }, exclusiveLevel: 1, exclusiveAmong: 'subgroups' },
    ],
    [
      'subgroups apart, in one block that is all theirs',
      {
        ...subgroups,
        [lws.subgroupExclusiveTopology]: 'example.com/rack',
        [berth.exclusiveTopology]: 'block',
      },
      { slices: { level: 1, ranks: pairs, apart: true }, exclusiveLevel: 0 },
    ],
    ['a subgroup-exclusive-topology of nothing', { ...subgroups, [lws.subgroupExclusiveTopology]: '' }, {}],
    ['one without subgroups, which LWS ignores', { [lws.subgroupExclusiveTopology]: 'pool' }, {}],
    ['exclusive', { [berth.exclusiveTopology]: 'rack' }, { exclusiveLevel: 1 }],
    [
      'spread',
      { [berth.spreadTopology]: 'rack' },
      { spread: { level: 1, owner: 'serving/llm', required: false } },
    ],
    [
      'spread, said in full',
      { [berth.spreadTopology]: 'rack', [berth.spreadPolicy]: 'ScheduleAnyway' },
      { spread: { level: 1, owner: 'serving/llm', required: false } },
    ],
    [
      'spread by all means',
      { [berth.spreadTopology]: 'block', [berth.spreadPolicy]: 'DoNotSchedule' },
      { spread: { level: 0, owner: 'serving/llm', required: true } },
    ],
    [
      'beside another owner, on the required level',
      { [berth.requiredTopology]: 'rack', [berth.sameDomainAs]: 'prefill' },
      { requiredLevel: 1, sameDomainAs: { owner: 'serving/prefill', level: 1 } },
    ],
    [
      'on a level of its own',
      { [berth.requiredTopology]: 'rack', [berth.sameDomainAs]: 'block:other/prefill' },
      { requiredLevel: 1, sameDomainAs: { owner: 'other/prefill', level: 0 } },
    ],
    [
      'on a level named by its label',
      { [berth.sameDomainAs]: 'example.com/block:prefill' },
      { sameDomainAs: { owner: 'serving/prefill', level: 0 } },
    ],
    [
      "on the level of LWS's exclusive-topology",
      { [lws.exclusiveTopology]: 'example.com/rack', [berth.sameDomainAs]: 'prefill' },
      { requiredLevel: 1, sameDomainAs: { owner: 'serving/prefill', level: 1 } },
    ],
  ];
  for (const [name, annotations, expected] of cases)
    t.same(read(annotations), { ...nothing, ...expected }, name);
  t.same(
    readTopologyRequest(
      [{ [berth.sliceSize]: '2' }, { [berth.sliceTopology]: 'rack' }, { [berth.sliceSize]: '4' }],
      levels,
      { namespace: 'serving', owner: 'llm', size: 4 },
    ),
    { ...nothing, slices: { level: 1, ranks: pairs, apart: false } },
    'each annotation from its most specific source',
  );
});

t.test('requests that cannot be', async t => {
  const cases: readonly (readonly [string, Record<string, string>, string, RegExp, boolean])[] = [
    [
      'an unknown slice level',
      { [berth.sliceTopology]: 'row' },
      berth.sliceTopology,
      /unknown topology level "row"; known levels are block, rack, host/,
      false,
    ],
    [
      'an unknown exclusive level',
      { [berth.exclusiveTopology]: '' },
      berth.exclusiveTopology,
      /unknown topology level ""/,
      false,
    ],
    [
      'an unknown spread level',
      { [berth.spreadTopology]: 'row' },
      berth.spreadTopology,
      /unknown topology level/,
      false,
    ],
    [
      'a label for subgroups that is no level',
      { ...subgroups, [lws.subgroupExclusiveTopology]: 'cloud.google.com/gke-nodepool' },
      lws.subgroupExclusiveTopology,
      /unknown topology level "cloud.google.com\/gke-nodepool"/,
      false,
    ],
    [
      'slices without a size',
      { [berth.sliceTopology]: 'rack' },
      berth.sliceTopology,
      /needs berth.dev\/slice-size or a subGroupPolicy/,
      true,
    ],
    [
      'a size without slices',
      { [berth.sliceSize]: '2' },
      berth.sliceSize,
      /needs berth.dev\/slice-topology/,
      true,
    ],
    [
      'slices that do not come out even',
      { [berth.sliceTopology]: 'rack', [berth.sliceSize]: '3' },
      berth.sliceSize,
      /must divide the group size 4; got 3/,
      true,
    ],
    [
      'slices in a coarser level than the whole',
      { [berth.requiredTopology]: 'rack', [berth.sliceTopology]: 'block', [berth.sliceSize]: '2' },
      berth.sliceTopology,
      /names the level block, which is coarser than the level rack that must hold the whole group/,
      false,
    ],
    [
      'subgroups apart in one domain',
      { ...subgroups, [lws.subgroupExclusiveTopology]: 'example.com/rack', [berth.requiredTopology]: 'rack' },
      lws.subgroupExclusiveTopology,
      /keeps 2 subgroups in as many domains of the level rack/,
      false,
    ],
    [
      'subgroups apart on a coarser level than they are to be whole in',
      { ...subgroups, [lws.subgroupExclusiveTopology]: 'example.com/rack', [berth.sliceTopology]: 'host' },
      berth.sliceTopology,
      /names the level host, which is finer/,
      false,
    ],
    [
      'a policy of no such name',
      { [berth.spreadTopology]: 'rack', [berth.spreadPolicy]: 'required' },
      berth.spreadPolicy,
      /must be ScheduleAnyway or DoNotSchedule; got "required"/,
      true,
    ],
    [
      'a policy of nothing',
      { [berth.spreadPolicy]: 'DoNotSchedule' },
      berth.spreadPolicy,
      /needs berth.dev\/spread-topology/,
      true,
    ],
    [
      'a partner without a level',
      { [berth.sameDomainAs]: 'prefill' },
      berth.sameDomainAs,
      /needs a level: berth.dev\/required-topology, or level:prefill$/,
      true,
    ],
    [
      'a partner on an unknown level',
      { [berth.sameDomainAs]: 'row:prefill' },
      berth.sameDomainAs,
      /unknown topology level "row"/,
      false,
    ],
    [
      'a group as its own partner',
      { [berth.sameDomainAs]: 'rack:llm' },
      berth.sameDomainAs,
      /another owner than the group's own/,
      true,
    ],
    [
      'the same with its namespace',
      { [berth.sameDomainAs]: 'rack:serving/llm' },
      berth.sameDomainAs,
      /another owner/,
      true,
    ],
    ...['', 'a/b/c', 'rack:', 'a b', 'rack:/x', 'Prefill', 'a:b:c'].map(
      text =>
        [
          `partner ${JSON.stringify(text)}`,
          { [berth.requiredTopology]: 'rack', [berth.sameDomainAs]: text },
          berth.sameDomainAs,
          /must be \[level:\]\[namespace\/\]name/,
          true,
        ] as const,
    ),
  ];
  for (const [name, annotations, key, rule, permanent] of cases) {
    const field = `metadata.annotations[${key}]`;
    const found = read(annotations);
    t.match(found, { code: 'InvalidTopology', field, permanent }, name);
    t.match('message' in found ? found.message : '', rule, name);
    t.ok('message' in found && found.message.startsWith(field), 'the sentence starts with the field');
  }
});

t.test('the request of some ranks alone', async t => {
  const request = read(
    { [berth.sliceTopology]: 'rack', [berth.sliceSize]: '2', [berth.requiredTopology]: 'block' },
    6,
  );
  if ('code' in request) return t.fail(request.message);
  t.same(
    requestForRanks(request, [0, 5, 1, 4]),
    {
      ...request,
      slices: {
        level: 1,
        apart: false,
        ranks: [
          [0, 2],
          [3, 1],
        ],
      },
    },
    'slices of others are left out, and the rest is counted anew',
  );
  const plain = read({ [berth.requiredTopology]: 'rack' });
  if ('code' in plain) return t.fail(plain.message);
  t.equal(requestForRanks(plain, [0, 2]), plain);
});
