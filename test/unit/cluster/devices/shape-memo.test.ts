import t from 'tap';
import type { ResourceSlice } from '../../../../src/api/dra.ts';
import type { NodeDevices } from '../../../../src/cluster/devices/choice-input.ts';
import { chooseDevices } from '../../../../src/cluster/devices/choose-devices.ts';
import type { WantedClaim } from '../../../../src/cluster/devices/claims.ts';
import { decodeResourceSlice } from '../../../../src/cluster/devices/decode-slice.ts';
import { membersThatFit } from '../../../../src/cluster/devices/members-that-fit.ts';
import { poolsFor } from '../../../../src/cluster/devices/pools.ts';
import { ShapeMemo } from '../../../../src/cluster/devices/shape-memo.ts';
import { SliceIndex } from '../../../../src/cluster/devices/slice-index.ts';
import {
  dgxLike,
  gb300Like,
  gpu,
  gpusAndNics,
  migLike,
  nodeClasses,
  p4dLike,
  pcieRoot,
  wants,
} from '../../../builders/device-nodes.ts';
import { simpleSelectors } from '../../../builders/devices.ts';
import { onNode } from '../../../builders/dra.ts';
import { mulberry32 } from '../../planner/instances.ts';

const demands: readonly WantedClaim[] = [
  wants('pair', { gpu: ['gpu', 1], nic: ['nic', 1] }),
  wants('rooted', { gpu: ['gpu', 1], nic: ['nic', 1] }, pcieRoot),
  wants('four', { gpu: ['gpu', 4] }),
  wants('mig', { one: ['mig-1g', 2], three: ['mig-3g', 1] }),
  wants('first', {
    gpu: {
      deviceClassName: 'gpu',
      selectors: [{ cel: { expression: 'device.attributes["gpu.nvidia.com"].uuid == "GPU-1"' } }],
    },
  }),
];

function nodeOf(name: string, slices: readonly ResourceSlice[], isTaken: () => boolean): NodeDevices {
  const node = { name, labels: {} };
  const pools = poolsFor(node, new SliceIndex(onNode(slices, name).map(decodeResourceSlice)));
  const devices = new Set(pools.candidates.flatMap(({ device }) => (isTaken() ? [device.key] : [])));
  return {
    node,
    pools,
    used: { devices, capacity: new Map() },
    classes: name => nodeClasses.get(name),
    selectors: simpleSelectors,
  };
}

t.test('answers are those of nodes that are asked for themselves', async t => {
  const random = mulberry32(11);
  const memo = new ShapeMemo();
  const shapes = [p4dLike(), dgxLike(), gb300Like(), migLike()];
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
  let chosen = 0;
  for (let index = 0; index < 600; index++) {
    // A few devices taken, often the same ones, so that answers are remembered.
    const share = pick([0, 0, 0.1, 0.5]);
    const node = nodeOf(`m${index}`, pick(shapes), () => random() < share);
    const claim = pick(demands);
    const rungs = { minRung: pick([undefined, 'pcie', 'numa'] as const), steerable: random() < 0.8 };
    const asked = { ...node, ...rungs, demand: [claim], beside: undefined, most: pick([1, 4, 8]) };
    t.same(memo.count(asked), membersThatFit(asked), `${claim.name} on ${node.node.name}`);
    const question = { ...node, ...rungs, members: Array.from({ length: pick([1, 2]) }, () => [claim]) };
    const choice = memo.choose(question);
    t.same(choice, chooseDevices(question), `devices of ${claim.name} on ${node.node.name}`);
    if (choice.kind === 'chosen') chosen++;
  }
  t.ok(chosen > 100, `${chosen} choices`);
});

t.test('nodes that differ in what is asked for are told apart', async t => {
  const memo = new ShapeMemo();
  const nodeWith = (name: string, uuid: string) =>
    nodeOf(name, gpusAndNics([gpu(0, { [pcieRoot]: 'pci0', uuid })], []), () => false);
  const asked = (node: NodeDevices, claim: WantedClaim) =>
    memo.count({ ...node, demand: [claim], beside: undefined, most: 4, minRung: undefined, steerable: true });
  const first = demands.filter(({ name }) => name === 'first');
  for (const claim of first) {
    t.match(asked(nodeWith('a', 'GPU-1'), claim), { members: 1 });
    t.match(asked(nodeWith('b', 'GPU-2'), claim), { members: 0 });
  }
});
