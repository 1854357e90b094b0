import t from 'tap';
import { berth, kueue, lws } from '../../../src/api/names.ts';
import { lwsSubgroups, readSlicing } from '../../../src/group/slices.ts';

/** Ranks of each slice in one text. */
function textOf(ranks: readonly (readonly number[])[]): string {
  return ranks.map(slice => slice.join(' ')).join(' | ');
}

t.test('subgroups are counted as LWS counts them', async t => {
  const cases: readonly [number, number, string, string | undefined][] = [
    [8, 4, '0 1 2 3 | 4 5 6 7', undefined],
    [9, 4, '0 1 2 3 4 | 5 6 7 8', '1 2 3 4 | 5 6 7 8'],
    [5, 2, '0 1 2 | 3 4', '1 2 | 3 4'],
    [4, 4, '0 1 2 3', undefined],
    [4, 3, '0 1 2 3', '1 2 3'],
    [3, 1, '0 | 1 | 2', '1 | 2'],
    [2, 1, '0 | 1', '1'],
    [1, 1, '0', ''],
  ];
  for (const [size, subgroupSize, included, excluded] of cases) {
    const name = `size ${size}, subGroupSize ${subgroupSize}`;
    t.equal(textOf(lwsSubgroups({ size, subgroupSize, leaderExcluded: false })), included, name);
    if (excluded !== undefined)
      t.equal(textOf(lwsSubgroups({ size, subgroupSize, leaderExcluded: true })), excluded, name);
  }
});

/** LWS v0.10, getSubGroupIndex of pkg/webhooks/pod_webhook.go, told once more in other words. */
function subgroupOf(rank: number, size: number, subgroupSize: number): number {
  if (rank === 0) return 0;
  const leaderIsExtra = (size - 1) % subgroupSize === 0 && size % subgroupSize !== 0;
  return Math.trunc((leaderIsExtra ? rank - 1 : rank) / subgroupSize);
}

t.test('every rank is in the subgroup that its label will name', async t => {
  for (let size = 1; size <= 24; size++) {
    for (let subgroupSize = 1; subgroupSize <= size; subgroupSize++) {
      if (size % subgroupSize !== 0 && (size - 1) % subgroupSize !== 0) continue;
      const ranks = lwsSubgroups({ size, subgroupSize, leaderExcluded: false });
      const labels = ranks.flatMap((subgroup, index) => subgroup.map(rank => [rank, index]));
      const expected = Array.from({ length: size }, (_, rank) => [
        rank,
        subgroupOf(rank, size, subgroupSize),
      ]);
      t.same(labels, expected, `size ${size}, subGroupSize ${subgroupSize}`);
    }
  }
});

t.test('where the size of a slice is read', async t => {
  const subgroups = { [lws.subgroupSize]: '2' };
  const excluded = { ...subgroups, [lws.subgroupPolicyType]: 'LeaderExcluded' };
  const cases: readonly [string, Record<string, string>, number, string][] = [
    ['slice-size', { [berth.sliceSize]: '2' }, 6, '0 1 | 2 3 | 4 5'],
    ["Kueue's slice size", { [kueue.sliceSize]: '3' }, 6, '0 1 2 | 3 4 5'],
    ["Berth's word before Kueue's", { [berth.sliceSize]: '6', [kueue.sliceSize]: '3' }, 6, '0 1 2 3 4 5'],
    ['a subGroupPolicy', subgroups, 4, '0 1 | 2 3'],
    ['an old one without type', subgroups, 5, '0 1 2 | 3 4'],
    ['LeaderExcluded', excluded, 5, '1 2 | 3 4'],
    ['both, when they agree', { ...subgroups, [berth.sliceSize]: '2' }, 4, '0 1 | 2 3'],
  ];
  for (const [name, annotations, size, expected] of cases) {
    const slicing = readSlicing([undefined, annotations], size);
    t.equal(slicing !== undefined && 'ranks' in slicing ? textOf(slicing.ranks) : undefined, expected, name);
  }
  t.equal(readSlicing([{}, undefined], 4), undefined, 'no size at all');
});

t.test('a size that does not come out even is an error that names it', async t => {
  const cases: readonly [string, Record<string, string>, number, string, string][] = [
    ['slice-size', { [berth.sliceSize]: '3' }, 8, berth.sliceSize, 'must divide the group size 8; got 3'],
    [
      'one that leaves the leader',
      { [berth.sliceSize]: '4' },
      9,
      berth.sliceSize,
      'must divide the group size 9; got 4',
    ],
    ["Kueue's", { [kueue.sliceSize]: '5' }, 4, kueue.sliceSize, 'must divide the group size 4; got 5'],
    [
      'nothing',
      { [berth.sliceSize]: '0' },
      4,
      berth.sliceSize,
      'must be a whole number of at least 1; got "0"',
    ],
    [
      'words',
      { [berth.sliceSize]: 'two' },
      4,
      berth.sliceSize,
      'must be a whole number of at least 1; got "two"',
    ],
    [
      'too large',
      { [berth.sliceSize]: '10000000' },
      4,
      berth.sliceSize,
      'must be a whole number of at least 1; got "10000000"',
    ],
    [
      'a subGroupSize',
      { [lws.subgroupSize]: '3' },
      8,
      lws.subgroupSize,
      'must divide the group size 8 or its workers; got 3',
    ],
    [
      'one that counts the leader, LeaderExcluded',
      { [lws.subgroupSize]: '4', [lws.subgroupPolicyType]: 'LeaderExcluded' },
      8,
      lws.subgroupSize,
      'must divide the 7 workers; got 4',
    ],
    [
      'more than there are',
      { [lws.subgroupSize]: '2' },
      1,
      lws.subgroupSize,
      'must divide the group size 1 or its workers; got 2',
    ],
    [
      'two that differ',
      { [lws.subgroupSize]: '2', [berth.sliceSize]: '4' },
      8,
      berth.sliceSize,
      'must not differ from the subGroupSize 2 of the LeaderWorkerSet; got "4"',
    ],
  ];
  for (const [name, annotations, size, key, rule] of cases) {
    const field = `metadata.annotations[${key}]`;
    const message = `${field} ${rule}`;
    t.same(
      readSlicing([annotations], size),
      { code: 'InvalidTopology', field, message, permanent: true },
      name,
    );
  }
});
