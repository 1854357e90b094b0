import { CelSelectors } from '../../src/cluster/devices/cel/engine.ts';
import { dgxLike, nodeWith, p4dLike, wants } from '../../test/builders/device-nodes.ts';
import {
  type AlignmentRun,
  type AlignmentShares,
  type ArrivingPod,
  alignmentShares,
} from './alignment-quality.ts';
import { type BenchContext, scaled } from './context.ts';
import type { Figure } from './figures.ts';
import { summarize } from './statistics.ts';

const fullNodes = 16;
const fullArrivals = 1_000;
const seeds = [1, 2, 3];
const loads = [0.8, 0.95];
const part = 'alignment';

type Shape = Pick<AlignmentRun, 'gpusPerNode' | 'nicsPerNode' | 'pods'> & {
  readonly slices: typeof p4dLike;
};

const shapes: Readonly<Record<string, Shape>> = {
  '4 roots of 2 GPUs and a NIC (p4d)': {
    slices: p4dLike,
    gpusPerNode: 8,
    nicsPerNode: 4,
    pods: [arriving(2, 1, 5), arriving(1, 1, 3), arriving(1, 0, 3), arriving(4, 2, 1)],
  },
  '8 roots of a GPU and a NIC (DGX)': {
    slices: dgxLike,
    gpusPerNode: 8,
    nicsPerNode: 8,
    pods: [arriving(1, 1, 5), arriving(2, 2, 3), arriving(1, 0, 2), arriving(4, 4, 1)],
  },
};

/** How many of the pods with GPUs and NICs have them at common PCIe roots, while pods come and go. */
export function measureAlignment(context: BenchContext): readonly Figure[] {
  const figures: Figure[] = [];
  const arrivals = scaled(context, fullArrivals);
  const nodeCount = scaled(context, fullNodes);
  const selectors = new CelSelectors();
  for (const [name, { slices, ...shape }] of Object.entries(shapes)) {
    for (const load of loads) {
      const text = `${name} at ${Math.round(100 * load)} % load`;
      context.say(`alignment: ${text}`);
      const runs = seeds.map(seed => {
        const nodes = Array.from({ length: nodeCount }, () => nodeWith(slices(), { selectors }));
        return alignmentShares({ ...shape, nodes, load, arrivals, seed });
      });
      figures.push(...figuresOf(text, runs));
      const mean = (pick: (shares: AlignmentShares) => number) =>
        (runs.reduce((sum, run) => sum + pick(run), 0) / runs.length).toFixed(1);
      context.note(
        `${text}: ${mean(run => run.load)} % of the GPUs were in use, and ${mean(run => run.turnedAway)} % of the pods ` +
          'were turned away for want of GPUs or NICs.',
      );
    }
  }
  context.note(
    `Shares of aligned pods are averages over ${arrivals.toLocaleString('en')} arrivals at ${nodeCount} nodes for each of ` +
      `${seeds.length} seeds. Every pod is on the same node in all arms: devices chosen by Berth as the pod comes, those ` +
      'that the allocator of kube-scheduler finds first, and all of a node dealt out anew at every change.',
  );
  return figures;
}

function figuresOf(text: string, runs: readonly AlignmentShares[]): readonly Figure[] {
  const of = (pick: (shares: AlignmentShares) => number) => summarize(runs.map(pick));
  const what = `${text}: pods with their GPUs and NICs at common PCIe roots`;
  const berth = of(run => run.berth);
  return [
    { part, what, unit: '%', berth, beside: { name: 'first fit', value: of(run => run.firstFit) } },
    { part, what, unit: '%', berth, beside: { name: 'optimum', value: of(run => run.optimum) } },
  ];
}

function arriving(gpus: number, nics: number, weight: number): ArrivingPod {
  const requests = {
    gpu: ['gpu', gpus] as const,
    ...(nics > 0 && { nic: ['nic', nics] as const }),
  };
  return { claims: [wants('devices', requests)], weight, gpus, nics };
}
