import fc from 'fast-check';
import t from 'tap';
import type { ResourceSlice } from '../../../../src/api/dra.ts';
import type { Rung } from '../../../../src/cluster/devices/alignment.ts';
import type { WantedClaim } from '../../../../src/cluster/devices/claims.ts';
import { type FitQuestion, membersThatFit } from '../../../../src/cluster/devices/members-that-fit.ts';
import {
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
import { bestAssignment } from './choice-oracle.ts';

function count(
  slices: readonly ResourceSlice[],
  demand: readonly WantedClaim[],
  { taken = [], ...options }: Partial<FitQuestion> & { readonly taken?: readonly string[] } = {},
): number | string | undefined {
  const defaults = { beside: undefined, most: 8, minRung: undefined, steerable: true };
  const fit = membersThatFit({ ...nodeWith(slices, { taken }), demand, ...defaults, ...options });
  return fit.kind === 'count' ? fit.members : `${fit.kind}: ${fit.message}`;
}

const fabric = (gpus: number, nics: number, ...matchAttributes: readonly string[]) => [
  wants('devices', { gpu: ['gpu', gpus], nic: ['nic', nics] }, ...matchAttributes),
];

const cases: readonly {
  readonly what: string;
  readonly slices: readonly ResourceSlice[];
  readonly demand: readonly WantedClaim[];
  readonly options?: Parameters<typeof count>[2];
  readonly want: number | undefined;
}[] = [
  { what: '4 pairs on a p4d, for it has 4 NICs', slices: p4dLike(), demand: fabric(1, 1), want: 4 },
  { what: 'no more than asked for', slices: p4dLike(), demand: fabric(1, 1), options: { most: 3 }, want: 3 },
  {
    what: '4 pairs on one root each',
    slices: p4dLike(),
    demand: fabric(1, 1),
    options: { minRung: 'pcie' },
    want: 4,
  },
  {
    what: '1 of 4 pairs on one root when first fit serves them, and the second is not aligned',
    slices: p4dLike(),
    demand: fabric(1, 1),
    options: { minRung: 'pcie', steerable: false },
    want: 1,
  },
  {
    what: '2 of 4 pairs on one NUMA node when first fit serves them',
    slices: p4dLike(),
    demand: fabric(1, 1),
    options: { minRung: 'numa', steerable: false },
    want: 2,
  },
  {
    what: '3 GPUs each, of 8',
    slices: p4dLike(),
    demand: [wants('gpu', { gpu: ['gpu', 3] })],
    want: 2,
  },
  {
    what: '3 beside a leader that takes 2 GPUs of one root',
    slices: p4dLike(),
    demand: fabric(1, 1),
    options: { beside: fabric(2, 1), minRung: 'pcie' },
    want: 3,
  },
  {
    what: 'nothing, when the leader does not fit',
    slices: p4dLike(),
    demand: fabric(1, 1),
    options: { beside: fabric(1, 5) },
    want: undefined,
  },
  {
    what: 'none without free devices',
    slices: gb300Like(),
    demand: fabric(1, 1),
    options: { taken: ['nic-0', 'nic-1', 'nic-2', 'nic-3'] },
    want: 0,
  },
  {
    what: '3 of 7 slices in pieces of 3 and 4',
    slices: migLike(),
    demand: [wants('mig', { mig: ['mig-3g', 1] })],
    want: 4,
  },
];

for (const { what, slices, demand, options, want } of cases)
  t.test(`there fit ${what}`, async t => t.equal(count(slices, demand, options), want));

t.test(
  'alternatives are counted as the allocator takes them: a later one only without any of an earlier',
  async t => {
    const either = (first: readonly [string, number], second: readonly [string, number]): WantedClaim => {
      const alternative = (name: string, [deviceClassName, count]: readonly [string, number]) => ({
        name,
        deviceClassName,
        count,
      });
      const firstAvailable = [alternative('one', first), alternative('other', second)];
      return { name: 'devices', spec: { devices: { requests: [{ name: 'some', firstAvailable }] } } };
    };
    t.equal(count(p4dLike(), [either(['gpu', 3], ['gpu', 2])]), 3, '3, 3 and the last 2');
    t.equal(count(p4dLike(), [either(['gpu', 3], ['nic', 2])]), 4, 'twice 3 GPUs, then twice 2 NICs');
    t.equal(
      count(p4dLike(), [either(['gpu', 3], ['gpu', 2])], { minRung: 'pcie' }),
      0,
      'there are 3, but not near',
    );
  },
);

t.test('shares, and devices for all, are counted by the allocator alone', async t => {
  const all = [wants('devices', { gpu: { deviceClassName: 'gpu', allocationMode: 'All' } })];
  t.equal(count(dgxLike(), all), 1);
  t.equal(count(dgxLike(), all, { taken: ['gpu-3'] }), 0);
  t.equal(
    count(dgxLike(), [wants('gpu', { gpu: ['gpx', 1] })]),
    'error: claim gpu, request gpu: device class gpx does not exist',
  );
  const beyond = { deviceClassName: 'gpu', selectors: [{ cel: { expression: 'beyond()' } }] };
  t.equal(
    count(dgxLike(), [wants('gpu', { gpu: beyond })]),
    'unknown: claim gpu, request gpu: selector on device gpu.nvidia.com/n1/gpu-0: beyond this engine',
  );
});

const place = fc.record(
  { [pcieRoot]: fc.constantFrom('a', 'b', 'c'), [numaNode]: fc.constantFrom(0, 1) },
  { requiredKeys: [] },
);
const nodes = fc
  .tuple(fc.array(place, { minLength: 1, maxLength: 5 }), fc.array(place, { minLength: 1, maxLength: 4 }))
  .map(([gpus, nics]) =>
    gpusAndNics(
      gpus.map((at, index) => gpu(index, at)),
      nics.map((at, index) => nic(index, at)),
    ),
  );
const demands = fc
  .tuple(fc.integer({ min: 1, max: 2 }), fc.integer({ min: 1, max: 2 }), fc.boolean())
  .map(([gpus, nics, constrained]) => fabric(gpus, nics, ...(constrained ? [pcieRoot] : [])));

t.test('as many members are counted as brute force finds devices for', async () => {
  const rungs = fc.constantFrom<Rung | undefined>(undefined, 'numa', 'pcie');
  fc.assert(
    fc.property(
      nodes,
      demands,
      fc.option(demands, { nil: undefined }),
      rungs,
      (slices, demand, beside, minRung) => {
        const most = 3;
        const before = beside === undefined ? [] : [beside];
        let want: number | undefined;
        for (let members = 0; members <= most; members++) {
          const all = [...before, ...Array.from({ length: members }, () => demand)];
          const asked = { ...nodeWith(slices), members: all, minRung, steerable: true };
          if (bestAssignment(asked) !== undefined) want = members;
        }
        const found = count(slices, demand, { beside, most, minRung });
        if (found !== want) throw new Error(`counted ${found}, but brute force finds ${want}`);
      },
    ),
    { numRuns: 250, seed: 139929 },
  );
});
