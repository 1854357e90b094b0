import fc from 'fast-check';
import t from 'tap';
import { fewestSpans, spansOf } from '../../../src/cli/span-bounds.ts';
import type { ClusterSnapshot } from '../../../src/cluster/snapshot.ts';
import type { MemberDemand } from '../../../src/group/demand.ts';
import type { TopologyRequest } from '../../../src/group/topology-request.ts';
import { FitMemo } from '../../../src/planner/fit.ts';
import { drawFleet, snapshotOf } from '../../builders/fleet.ts';
import { questionOf } from '../../builders/planning.ts';

interface Question {
  readonly snapshot: ClusterSnapshot;
  readonly demands: readonly MemberDemand[];
  readonly topology: TopologyRequest;
}

/** All ways to give the members nodes, and of those that fit the fewest domains of each level and the fewest hosts. */
function bruteForce({ snapshot, demands, topology }: Question): ReturnType<typeof fewestSpans> {
  const { tree } = snapshot;
  const required = topology.requiredLevel ?? -1;
  const best: { domains: number[]; hosts: number } = {
    domains: tree.levels.map(() => Number.POSITIVE_INFINITY),
    hosts: Number.POSITIVE_INFINITY,
  };
  const gpus = [...snapshot.nodes].map(({ free }) => free.get('nvidia.com/gpu') ?? 0);
  const needs = demands.map(({ requests }) => requests.get('nvidia.com/gpu') ?? 0);
  const nodes: number[] = [];
  const visit = (rank: number) => {
    if (rank === needs.length) {
      const spans = spansOf(
        snapshot,
        nodes.map(node => tree.nodeNames[node] ?? ''),
      );
      if (required >= 0 && (spans.domains[required] ?? 0) > 1) return;
      best.hosts = Math.min(best.hosts, spans.hosts);
      best.domains = best.domains.map((count, i) => Math.min(count, spans.domains[i] ?? 0));
      return;
    }
    for (let node = 0; node < gpus.length; node++) {
      const left = (gpus[node] ?? 0) - (needs[rank] ?? 0);
      if (left < 0) continue;
      gpus[node] = left;
      nodes.push(node);
      visit(rank + 1);
      nodes.pop();
      gpus[node] = left + (needs[rank] ?? 0);
    }
  };
  visit(0);
  return best.hosts === Number.POSITIVE_INFINITY ? undefined : best;
}

const fleets = fc
  .array(
    fc.array(fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 2 }), {
      minLength: 1,
      maxLength: 2,
    }),
    {
      minLength: 1,
      maxLength: 2,
    },
  )
  .map(blocks =>
    blocks
      .map((racks, b) =>
        [
          `block b${b}`,
          ...racks.flatMap((hosts, r) => [
            `  rack r${r}`,
            ...hosts.map((gpu, h) => `    - b${b}r${r}h${h} gpu=${gpu}`),
          ]),
        ].join('\n'),
      )
      .join('\n'),
  );

t.test('the fewest hosts and domains are those of all ways to place the group', async t => {
  const groups = fc.record({
    drawing: fleets,
    size: fc.integer({ min: 1, max: 4 }),
    worker: fc.integer({ min: 1, max: 3 }),
    leader: fc.option(fc.integer({ min: 1, max: 3 }), { nil: undefined }),
    required: fc.constantFrom(undefined, 'block', 'rack'),
  });
  let held = 0;
  fc.assert(
    fc.property(groups, ({ drawing, size, worker, leader, required }) => {
      const question = questionOf(drawFleet(drawing), {
        size,
        worker: { gpu: worker },
        ...(leader !== undefined && { leader: { gpu: leader } }),
        ...(required !== undefined && { required }),
      });
      const want = bruteForce(question);
      const found = fewestSpans({ ...question, memo: new FitMemo() });
      if (want !== undefined) held++;
      t.strictSame(found, want, drawing);
    }),
    { numRuns: 400, seed: 11 },
  );
  t.ok(held > 100, 'most groups have a place');
});

t.test('what a plan uses is counted by whole paths: rack r0 of another block is another rack', async t => {
  const snapshot = snapshotOf(
    drawFleet('block b0\n  rack r0\n    - a gpu=8\n    - b gpu=8\nblock b1\n  rack r0\n    - c gpu=8'),
  );
  t.strictSame(spansOf(snapshot, ['a', 'a', 'b']), { domains: [1, 1], hosts: 2 });
  t.strictSame(spansOf(snapshot, ['a', 'c']), { domains: [2, 2], hosts: 2 });
});

t.test('a group with rules between members or of three kinds has no bound here', async t => {
  const fleet = drawFleet('rack r0\n  - a gpu=8\n  - b gpu=8');
  const plain = questionOf(fleet, { size: 2, worker: { gpu: 4 } });
  const memo = new FitMemo();
  t.ok(fewestSpans({ ...plain, memo }));
  const port = questionOf(fleet, { size: 2, worker: { gpu: 4, hostPort: 80 } });
  t.equal(fewestSpans({ ...port, memo }), undefined);
  const [first] = plain.demands;
  if (first === undefined) throw new Error('no demand');
  const kinds = ['x', 'y', 'z'].map(key => ({ ...first, key }));
  t.equal(fewestSpans({ ...plain, demands: kinds, memo }), undefined);
  const sliced = { ...plain.topology, slices: { level: 0, ranks: [[0], [1]], apart: false } };
  t.equal(fewestSpans({ ...plain, topology: sliced, memo }), undefined);
});
