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

for (const [name, run, fromOptimum] of [
  ['p4d', p4d, 25],
  ['DGX', dgx, 0],
] as const) {
  for (const load of [0.8, 0.95]) {
    t.test(`the choice aligns far more pods than first fit, none too many: ${name} at ${load}`, async t => {
      const shares = alignmentShares({ ...run, load });
      const text = JSON.stringify(shares);
      t.ok(shares.berth <= shares.optimum, `no more than can be: ${text}`);
      t.ok(shares.berth >= shares.optimum - fromOptimum, `near to as many as can be: ${text}`);
      t.ok(shares.firstFit <= shares.berth - 20, `20 points above first fit: ${text}`);
      t.ok(shares.load > 100 * load - 6 && shares.load <= 100 * load, `the load is as asked for: ${text}`);
    });
  }
}

t.test('pods that find no node with enough free are turned away, and the others stay', async t => {
  const [node] = p4d.nodes;
  if (node === undefined) return t.fail('no node');
  // Beside a pod of 4 GPUs another of 2 NICs fits, and then no third: all 4 NICs are in use.
  const run = { ...p4d, nodes: [node], pods: [pod(4, 2, 1), pod(1, 2, 1)], load: 1, arrivals: 400 };
  const { turnedAway, load } = alignmentShares(run);
  t.ok(turnedAway > 10 && turnedAway < 90, `${turnedAway}`);
  t.ok(load <= 100);
});

t.test('equal runs have equal shares', async t => {
  const run = { ...p4d, load: 0.8, arrivals: 60 };
  t.strictSame(alignmentShares(run), alignmentShares(run));
});
