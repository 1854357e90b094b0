import t from 'tap';
import type { ResourceSlice } from '../../../../src/api/dra.ts';
import { chooseDevices } from '../../../../src/cluster/devices/choose-devices.ts';
import type { WantedClaim } from '../../../../src/cluster/devices/claims.ts';
import type { DeviceChoice, DeviceQuestion } from '../../../../src/cluster/devices/device-choice.ts';
import {
  dgxLike,
  gb300Like,
  migLike,
  nodeWith,
  p4dLike,
  pcieRoot,
  wants,
} from '../../../builders/device-nodes.ts';

const pair = [wants('devices', { gpu: ['gpu', 1], nic: ['nic', 1] })];
const gpuOnly = [wants('gpu', { gpu: ['gpu', 1] })];

function question(
  slices: readonly ResourceSlice[],
  members: readonly (readonly WantedClaim[])[],
  { taken = [], ...options }: Partial<DeviceQuestion> & { readonly taken?: readonly string[] } = {},
): DeviceQuestion {
  return { ...nodeWith(slices, { taken }), members, minRung: undefined, steerable: true, ...options };
}

/** The names of devices by member, and its rung. */
function told(choice: DeviceChoice): unknown {
  if (choice.kind !== 'chosen') return choice;
  return choice.members.map(({ claims, rung }) => [
    ...claims.flatMap(({ requests }) =>
      requests.flatMap(({ devices }) => devices.map(({ device }) => device)),
    ),
    rung,
  ]);
}

t.test('four pairs on a p4d stand on one PCIe root each', async t => {
  t.strictSame(told(chooseDevices(question(p4dLike(), [pair, pair, pair, pair]))), [
    ['gpu-0', 'efa0', 'pcie'],
    ['gpu-2', 'efa1', 'pcie'],
    ['gpu-4', 'efa2', 'pcie'],
    ['gpu-6', 'efa3', 'pcie'],
  ]);
});

t.test('without steering the prediction is what first fit gives, one after the other', async t => {
  const choice = chooseDevices(question(p4dLike(), [pair, pair, pair, pair], { steerable: false }));
  t.strictSame(told(choice), [
    ['gpu-0', 'efa0', 'pcie'],
    ['gpu-1', 'efa1', 'numa'],
    ['gpu-2', 'efa2', 'host'],
    ['gpu-3', 'efa3', 'host'],
  ]);
});

t.test(
  'a rung that is demanded is refused where first fit misses it, and steered to where it can be had',
  async t => {
    const pools = p4dLike();
    const asked = { minRung: 'pcie' as const, taken: ['gpu-0', 'gpu-1'] };
    t.strictSame(told(chooseDevices(question(pools, [pair], { ...asked, steerable: false }))), {
      kind: 'none',
      cause: 'no free devices that share a PCIe root',
      isCertain: true,
    });
    t.strictSame(told(chooseDevices(question(pools, [pair], asked))), [['gpu-2', 'efa1', 'pcie']]);
  },
);

t.test('a GPU alone leaves pairs whole', async t => {
  const pools = p4dLike();
  t.strictSame(
    told(chooseDevices(question(pools, [gpuOnly, gpuOnly], { taken: ['gpu-0', 'efa2'] }))),
    [
      ['gpu-4', 'pcie'],
      ['gpu-5', 'pcie'],
    ],
    'from the root whose NIC is gone',
  );
  t.strictSame(
    told(chooseDevices(question(dgxLike(), [gpuOnly], { taken: ['gpu-5'] }))),
    [['gpu-4', 'pcie']],
    'from the NUMA node that is broken already',
  );
});

t.test('GPUs and NICs that share no root are paired by NUMA node', async t => {
  t.strictSame(told(chooseDevices(question(gb300Like(), [pair, pair, pair, pair]))), [
    ['gpu-0', 'nic-0', 'numa'],
    ['gpu-1', 'nic-1', 'numa'],
    ['gpu-2', 'nic-2', 'numa'],
    ['gpu-3', 'nic-3', 'numa'],
  ]);
  t.strictSame(told(chooseDevices(question(gb300Like(), [pair], { minRung: 'pcie' }))), {
    kind: 'none',
    cause: 'no free devices that share a PCIe root',
    isCertain: true,
  });
});

t.test('a pod of several pairs takes whole roots of one NUMA node', async t => {
  const four = [wants('devices', { gpu: ['gpu', 4], nic: ['nic', 4] })];
  t.strictSame(told(chooseDevices(question(dgxLike(), [pair, four]))), [
    ['gpu-0', 'nic-0', 'pcie'],
    ['gpu-4', 'gpu-5', 'gpu-6', 'gpu-7', 'nic-7', 'nic-6', 'nic-5', 'nic-4', 'pcie'],
  ]);
});

t.test('constraints of a claim hold whatever rung is reached', async t => {
  const both = wants('devices', { gpu: ['gpu', 2], nic: ['nic', 2] }, pcieRoot);
  t.strictSame(told(chooseDevices(question(p4dLike(), [[both]]))), {
    kind: 'none',
    cause: 'no free devices for all claims',
    isCertain: true,
  });
});

t.test('a small partition comes from the GPU that is cut up already', async t => {
  const pools = migLike();
  const slice = [wants('mig', { mig: ['mig-1g', 1] })];
  t.strictSame(told(chooseDevices(question(pools, [slice, slice], { taken: ['gpu-1-3g-0'] }))), [
    ['gpu-1-1g-3', 'pcie'],
    ['gpu-1-1g-4', 'pcie'],
  ]);
  const whole = [wants('mig', { mig: ['mig-7g', 1] })];
  t.strictSame(told(chooseDevices(question(pools, [slice, slice, whole]))), [
    ['gpu-0-1g-3', 'pcie'],
    ['gpu-0-1g-0', 'pcie'],
    ['gpu-1-7g-0', 'pcie'],
  ]);
});
