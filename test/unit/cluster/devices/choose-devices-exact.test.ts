import fc from 'fast-check';
import t from 'tap';
import type { ResourceSlice, SliceDevice } from '../../../../src/api/dra.ts';
import { isWithin, type Rung } from '../../../../src/cluster/devices/alignment.ts';
import { chooseDevices } from '../../../../src/cluster/devices/choose-devices.ts';
import type { WantedClaim } from '../../../../src/cluster/devices/claims.ts';
import { decodeDeviceClass } from '../../../../src/cluster/devices/decode-claim.ts';
import { deviceKey } from '../../../../src/cluster/devices/device.ts';
import type { DeviceQuestion } from '../../../../src/cluster/devices/device-choice.ts';
import {
  type Attributes,
  dgxLike,
  gb300Like,
  gpu,
  gpusAndNics,
  migLike,
  nic,
  nodeWith,
  numaNode,
  p4dLike,
  pcieRoot,
  wants,
} from '../../../builders/device-nodes.ts';
import { deviceClass } from '../../../builders/devices.ts';
import { bestAssignment } from './choice-oracle.ts';

const place = fc.record(
  {
    [pcieRoot]: fc.oneof(
      { weight: 6, arbitrary: fc.constantFrom('a', 'b', 'c') },
      { weight: 1, arbitrary: fc.constantFrom(['a', 'b'], ['b', 'c']) },
    ),
    [numaNode]: fc.oneof(
      { weight: 6, arbitrary: fc.constantFrom(0, 1) },
      { weight: 1, arbitrary: fc.constant([0, 1]) },
    ),
  },
  { requiredKeys: [] },
);
const places = (maxLength: number) => fc.array(place, { minLength: 1, maxLength });
const numbered = (make: (index: number, place: Attributes) => SliceDevice) => (all: readonly Attributes[]) =>
  all.map((each, index) => make(index, each));
const anyNode = fc
  .tuple(places(5).map(numbered(gpu)), places(4).map(numbered(nic)))
  .map(([gpus, nics]) => gpusAndNics(gpus, nics));

const fabric = (name: string, gpus: number, nics: number, constrained: boolean) =>
  wants(
    name,
    { ...(gpus > 0 ? { gpu: ['gpu', gpus] } : {}), ...(nics > 0 ? { nic: ['nic', nics] } : {}) },
    ...(constrained ? [pcieRoot] : []),
  );
const demand: fc.Arbitrary<readonly WantedClaim[]> = fc.oneof(
  fc
    .tuple(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 2 }), fc.integer({ min: 0, max: 3 }))
    .map(([gpus, nics, odds]) => [fabric('devices', gpus, nics, odds === 0)]),
  fc.constant([fabric('gpu', 1, 0, false), fabric('nic', 0, 1, false)]),
  fc.constant([wants('devices', { first: ['gpu', 1], second: ['gpu', 1], nic: ['nic', 1] })]),
);
const partitions: fc.Arbitrary<readonly WantedClaim[]> = fc.constantFrom(
  [wants('mig', { mig: ['mig-1g', 1] })],
  [wants('mig', { mig: ['mig-3g', 1] })],
  [wants('mig', { mig: ['mig-7g', 1] })],
  [wants('mig', { mig: ['mig-3g', 1], nic: ['nic', 1] })],
);
const minRung = fc.constantFrom<Rung | undefined>(undefined, undefined, 'numa', 'pcie');

/** A question on a node with some devices taken. */
function questions(
  slices: fc.Arbitrary<readonly ResourceSlice[]>,
  members: fc.Arbitrary<readonly (readonly WantedClaim[])[]>,
): fc.Arbitrary<DeviceQuestion> {
  return fc
    .tuple(slices, members, minRung, fc.infiniteStream(fc.integer({ min: 0, max: 4 })))
    .map(([slices, members, minRung, odds]) => {
      const devices = slices.flatMap(({ spec }) => spec.devices ?? []);
      // Partitions overlap: taken blindly, they would be more than there is.
      const taken = devices.filter(
        ({ consumesCounters }) => odds.next().value === 0 && consumesCounters === undefined,
      );
      return {
        ...nodeWith(slices, { taken: taken.map(({ name }) => name) }),
        members,
        minRung,
        steerable: true,
      };
    });
}

const upTo = (demands: fc.Arbitrary<readonly WantedClaim[]>, most: number) =>
  fc.oneof(
    fc.array(demands, { minLength: 1, maxLength: most }),
    fc
      .tuple(demands, fc.integer({ min: 1, max: most }))
      .map(([demand, count]) => Array.from({ length: count }, () => demand)),
  );

function reaches(question: DeviceQuestion) {
  const choice = chooseDevices(question);
  if (choice.kind === 'none') return undefined;
  if (choice.kind !== 'chosen') throw new Error(choice.message);
  const rungs = choice.members.map(({ rung }) => rung);
  const keys = choice.members.flatMap(({ claims }) =>
    claims.flatMap(({ requests }) => requests.flatMap(({ devices }) => devices.map(deviceKey))),
  );
  if (new Set(keys).size !== keys.length) throw new Error('a device was given twice');
  if (keys.some(key => question.used.devices.has(key))) throw new Error('a taken device was given');
  if (!rungs.every(rung => isWithin(rung, question.minRung))) throw new Error('a demand was not met');
  return {
    pcie: rungs.filter(rung => isWithin(rung, 'pcie')).length,
    numa: rungs.filter(rung => rung === 'numa').length,
  };
}

const nodes: readonly (readonly [string, fc.Arbitrary<DeviceQuestion>, number])[] = [
  ['p4d', questions(fc.constant(p4dLike()), upTo(demand, 3)), 150],
  ['GB300', questions(fc.constant(gb300Like()), upTo(demand, 4)), 200],
  ['DGX', questions(fc.constant(dgxLike()), upTo(demand, 2)), 100],
  ['partitions', questions(fc.constant(migLike()), upTo(partitions, 4)), 60],
  ['nodes of any shape', questions(anyNode, upTo(demand, 3)), 600],
];

for (const [name, question, numRuns] of nodes) {
  t.test(`as many members are aligned as brute force can align: ${name}`, async () => {
    fc.assert(
      fc.property(question, asked => {
        const found = reaches(asked);
        const want = bestAssignment(asked);
        if (JSON.stringify(found) !== JSON.stringify(want))
          throw new Error(`${JSON.stringify(found)}, but brute force finds ${JSON.stringify(want)}`);
      }),
      { numRuns, seed: 6072 },
    );
  });
}

t.test('a member gives way where two others can be aligned in its place', async t => {
  const at = (root: string) => ({ [pcieRoot]: root });
  const slices = gpusAndNics(
    ['a', 'a', 'b', 'b'].map((root, index) => gpu(index, at(root))),
    ['a', 'a', 'c', 'c'].map((root, index) => nic(index, at(root))),
  );
  const pair = [fabric('devices', 1, 1, false)];
  const members = [[fabric('devices', 2, 2, false)], pair, pair];
  const asked: DeviceQuestion = { ...nodeWith(slices), members, minRung: undefined, steerable: true };
  t.strictSame(reaches(asked), { pcie: 2, numa: 0 });
  t.strictSame(bestAssignment(asked), { pcie: 2, numa: 0 });
});

t.test(
  'devices of several kinds that one request may get are aligned only where all of them are',
  async t => {
    const at = (root: string) => ({ [pcieRoot]: root });
    const anything = [wants('devices', { some: ['any', 2] })];
    const classes = (name: string) => (name === 'any' ? decodeDeviceClass(deviceClass('any')) : undefined);
    const asked = (nics: readonly string[], minRung: Rung | undefined): DeviceQuestion => {
      const slices = gpusAndNics(
        [gpu(0, at('a'))],
        nics.map((root, index) => nic(index, at(root))),
      );
      return { ...nodeWith(slices, { classes }), members: [anything], minRung, steerable: true };
    };
    const cases = [
      [['b'], undefined, { pcie: 0, numa: 0 }],
      [['b'], 'pcie', undefined],
      [['b', 'c', 'a'], 'pcie', { pcie: 1, numa: 0 }],
    ] as const;
    for (const [nics, minRung, want] of cases) {
      t.strictSame(reaches(asked(nics, minRung)), want);
      t.strictSame(bestAssignment(asked(nics, minRung)), want);
    }
  },
);

t.test('equal questions have equal answers', async () => {
  const question = questions(anyNode, upTo(demand, 3));
  fc.assert(
    fc.property(question, asked => {
      const [first, second] = [chooseDevices(asked), chooseDevices({ ...asked })];
      if (JSON.stringify(first) !== JSON.stringify(second)) throw new Error('the answers differ');
    }),
    { numRuns: 60, seed: 6072 },
  );
});
