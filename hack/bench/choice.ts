import { CelSelectors } from '../../src/cluster/devices/cel/engine.ts';
import type { NodeDevices } from '../../src/cluster/devices/choice-input.ts';
import { chooseDevices } from '../../src/cluster/devices/choose-devices.ts';
import type { WantedClaim } from '../../src/cluster/devices/claims.ts';
import type { DeviceQuestion } from '../../src/cluster/devices/device-choice.ts';
import { membersThatFit } from '../../src/cluster/devices/members-that-fit.ts';
import { dgxLike, nodeWith, p4dLike, pcieRoot, wants } from '../../test/builders/device-nodes.ts';
import { mulberry32 } from '../../test/unit/planner/instances.ts';
import { type BenchContext, scaled } from './context.ts';
import type { Figure } from './figures.ts';
import { percentile, summarize } from './statistics.ts';

const part = 'choice';
/** Nodes of which different devices are taken, from none to four fifths. */
const nodeCount = 40;
const fullRounds = 50;
const warmUp = 20;
const mostTaken = 0.8;
const coldRounds = 5;

const shapes = {
  'p4d-like (8 GPUs, 4 NICs, 4 roots)': p4dLike,
  'DGX-like (8 GPUs, 8 NICs, 8 roots)': dgxLike,
} as const;

const pairRequests = { gpu: ['gpu', 1], nic: ['nic', 1] } as const;

interface ChoiceQuestion {
  readonly what: string;
  readonly ask: (node: NodeDevices) => unknown;
  /** Choices are asked for where there are devices, for planning has counted before; counts everywhere. */
  readonly isAsked: (node: NodeDevices) => boolean;
}

const questions: readonly ChoiceQuestion[] = [
  choosing('devices of 1 pod of GPU and NIC', pods(1, 1, 1)),
  choosing('devices of 2 pods of 2 GPUs and a NIC', pods(2, 2, 1)),
  choosing('devices of 4 pods of GPU and NIC', pods(4, 1, 1)),
  choosing('devices of 1 pod of 8 GPUs and 4 NICs', pods(1, 8, 4)),
  choosing('devices of 8 pods of a GPU', pods(8, 1, 0)),
  counting('count pods of GPU and NIC', pods(1, 1, 1), {}),
  counting('count pods of GPU and NIC at one root', pods(1, 1, 1), { minRung: 'pcie' }),
  counting('count pods whose claim demands one root', [[wants('devices', pairRequests, pcieRoot)]], {}),
  counting('count pods of 2 GPUs and a NIC', pods(1, 2, 1), {}),
  counting('count pods of 8 GPUs and 4 NICs', pods(1, 8, 4), {}),
  counting('count pods of GPU and NIC as kube-scheduler serves them', pods(1, 1, 1), { steerable: false }),
];

/** How long it takes to choose devices for pods on a node, and to count how many pods find devices there. */
export function measureChoice(context: BenchContext): readonly Figure[] {
  const figures: Figure[] = [];
  const rounds = scaled(context, fullRounds);
  for (const [shape, slices] of Object.entries(shapes)) {
    for (const { what, ask, isAsked } of questions) {
      context.say(`choice: ${what}, ${shape}`);
      const nodes = nodesOf(slices, new CelSelectors()).filter(isAsked);
      const { wall, processor } = warmTimes(nodes, ask, rounds);
      const cold = coldTimes(slices, { ask, isAsked });
      const text = `${shape}: ${what}`;
      const beside = { name: 'new expressions', value: summarize([percentile(cold, 50)]) };
      figures.push(
        { ...figureOf(`${text}, median`, percentile(wall, 50)), beside },
        figureOf(`${text}, p99`, percentile(wall, 99)),
        {
          ...figureOf(`${text}, processor time on the slowest node`, Math.max(...processor)),
          aim: { of: 'value', atMost: 1_000 },
        },
      );
    }
  }
  context.note(
    `Devices were chosen on ${nodeCount} nodes of each shape of which 0 to 80 % of the devices were taken. New ` +
      'expressions are compiled first, and evaluated for devices that were never seen. Medians and p99 are of the clock, ' +
      'with other work on the machine in them; processor time is a mean for each node.',
  );
  return figures;
}

/** In µs: each answer's, and each node's mean of processor time, which other work on the machine does not lengthen. */
function warmTimes(nodes: readonly NodeDevices[], ask: ChoiceQuestion['ask'], rounds: number) {
  for (let round = 0; round < warmUp; round++) for (const node of nodes) ask(node);
  const wall: number[] = [];
  const processor: number[] = [];
  for (const node of nodes) {
    const before = process.threadCpuUsage();
    for (let round = 0; round < rounds; round++) {
      const startedMs = performance.now();
      ask(node);
      wall.push(1e3 * (performance.now() - startedMs));
    }
    const { user, system } = process.threadCpuUsage(before);
    processor.push((user + system) / rounds);
  }
  return { wall, processor };
}

function coldTimes(
  slices: typeof p4dLike,
  { ask, isAsked }: Omit<ChoiceQuestion, 'what'>,
): readonly number[] {
  const times: number[] = [];
  for (let round = 0; round < coldRounds; round++) {
    const fitting = nodesOf(slices, new CelSelectors()).map(isAsked);
    for (const node of nodesOf(slices, undefined).filter((_, index) => fitting[index])) {
      const startedMs = performance.now();
      ask(node);
      times.push(1e3 * (performance.now() - startedMs));
    }
  }
  return times;
}

/** @param selectors undefined: new ones for each node */
function nodesOf(slices: typeof p4dLike, selectors: CelSelectors | undefined): readonly NodeDevices[] {
  const random = mulberry32(7);
  return Array.from({ length: nodeCount }, (_, index) => {
    const share = (mostTaken * index) / (nodeCount - 1);
    const names = slices().flatMap(({ spec }) => (spec.devices ?? []).map(({ name }) => name));
    const taken = names.filter(() => random() < share);
    return nodeWith(slices(), { selectors: selectors ?? new CelSelectors(), taken });
  });
}

function choosing(what: string, members: DeviceQuestion['members']): ChoiceQuestion {
  const ask = (node: NodeDevices) => chooseDevices({ ...node, members, minRung: undefined, steerable: true });
  return { what: `choose ${what}`, ask, isAsked: node => ask(node).kind === 'chosen' };
}

function counting(
  what: string,
  [demand = []]: DeviceQuestion['members'],
  { minRung, steerable = true }: Partial<Pick<DeviceQuestion, 'minRung' | 'steerable'>>,
): ChoiceQuestion {
  const rest = { demand, beside: undefined, most: 8, minRung, steerable };
  return { what, ask: node => membersThatFit({ ...node, ...rest }), isAsked: () => true };
}

function pods(count: number, gpus: number, nics: number): readonly (readonly WantedClaim[])[] {
  const requests = { gpu: ['gpu', gpus] as const, ...(nics > 0 && { nic: ['nic', nics] as const }) };
  return Array.from({ length: count }, () => [wants('devices', requests)]);
}

function figureOf(what: string, microseconds: number): Figure {
  return { part, what, unit: 'µs', berth: summarize([microseconds]) };
}
