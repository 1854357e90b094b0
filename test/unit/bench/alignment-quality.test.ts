import t from 'tap';
import {
  type AlignmentRun,
  type ArrivingPod,
  alignmentShares,
} from '../../../hack/bench/alignment-quality.ts';
import { dgxLike, nodeWith, p4dLike, wants } from '../../builders/device-nodes.ts';

function pod(gpus: number, nics: number, weight: number): ArrivingPod {
  const requests = {
    ...(gpus > 0 && { gpu: ['gpu', gpus] as const }),
    ...(nics > 0 && { nic: ['nic', nics] as const }),
  };
  return { claims: [wants('devices', requests)], weight, gpus, nics };
}

const p4d: Omit<AlignmentRun, 'load'> = {
  nodes: Array.from({ length: 6 }, () => nodeWith(p4dLike())),
  gpusPerNode: 8,
  nicsPerNode: 4,
  pods: [pod(2, 1, 5), pod(1, 1, 3), pod(1, 0, 3), pod(4, 2, 1)],
  arrivals: 250,
  seed: 20,
};
const dgx: Omit<AlignmentRun, 'load'> = {
  ...p4d,
  nodes: Array.from({ length: 6 }, () => nodeWith(dgxLike())),
  nicsPerNode: 8,
  pods: [pod(1, 1, 5), pod(2, 2, 3), pod(1, 0, 2), pod(4, 4, 1)],
};

for (const [name, run] of [
  ['p4d', p4d],
  ['DGX', dgx],
] as const) {
  for (const load of [0.8, 0.95]) {
    t.test(
      `the choice aligns nearly as many pods as can be, first fit far fewer: ${name} at ${load}`,
      async t => {
        const shares = alignmentShares({ ...run, load });
        t.comment(JSON.stringify(shares));
        t.ok(shares.berth <= shares.optimum + 1e-9, 'no more than the optimum');
        t.ok(shares.berth >= shares.optimum - 10, `within 10 points of it: ${JSON.stringify(shares)}`);
        t.ok(shares.firstFit <= shares.berth - 20, `20 points above first fit: ${JSON.stringify(shares)}`);
        t.ok(shares.load > 100 * load - 15 && shares.load <= 100 * load, 'the load is as asked for');
      },
    );
  }
}

t.test('equal runs have equal shares', async t => {
  const run = { ...p4d, load: 0.8, arrivals: 60 };
  t.strictSame(alignmentShares(run), alignmentShares(run));
});
