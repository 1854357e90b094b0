import t from 'tap';
import type { DeviceTaint, DeviceToleration } from '../../../../src/api/dra.ts';
import { berth } from '../../../../src/api/names.ts';
import { type DeviceId, deviceKey } from '../../../../src/cluster/devices/device.ts';
import { failedDevices } from '../../../../src/cluster/devices/failed-devices.ts';

const lost: DeviceTaint = { key: 'gpu.nvidia.com/gpu-lost', effect: 'NoSchedule' };
const dead: DeviceTaint = { key: 'example.com/dead', effect: 'NoExecute' };
const own: DeviceTaint = { key: berth.excluded, effect: 'NoSchedule' };
const any: DeviceToleration = { operator: 'Exists' };
const idOf = (device: string): DeviceId => ({ driver: 'd', pool: 'p', device });

interface Case {
  readonly what: string;
  readonly taints: readonly DeviceTaint[];
  readonly excluded: boolean;
  readonly tolerations?: readonly DeviceToleration[];
  readonly adminAccess?: true;
  readonly failed: boolean;
}

const cases: readonly Case[] = [
  { what: 'well', taints: [], excluded: false, failed: false },
  { what: 'excluded without a taint of its driver', taints: [own], excluded: true, failed: true },
  { what: 'excluded for a taint', taints: [lost, own], excluded: true, failed: true },
  { what: 'tainted, but not excluded', taints: [lost], excluded: false, failed: false },
  {
    what: 'with a taint of no effect',
    taints: [{ ...lost, effect: 'None' }],
    excluded: false,
    failed: false,
  },
  {
    what: 'excluded beside a taint of no effect',
    taints: [{ ...lost, effect: 'None' }],
    excluded: true,
    failed: true,
  },
  {
    what: 'excluded, its taint tolerated',
    taints: [lost, own],
    excluded: true,
    tolerations: [any],
    failed: false,
  },
  {
    what: 'excluded, one of two taints tolerated',
    taints: [lost, { ...lost, key: 'example.com/odd' }],
    excluded: true,
    tolerations: [{ key: lost.key, operator: 'Exists' }],
    failed: true,
  },
  {
    what: 'excluded for no taint, all tolerated',
    taints: [own],
    excluded: true,
    tolerations: [any],
    failed: true,
  },
  { what: 'NoExecute', taints: [dead], excluded: false, failed: true },
  { what: 'NoExecute, tolerated', taints: [dead], excluded: false, tolerations: [any], failed: false },
  {
    what: 'NoExecute, tolerated for a while',
    taints: [dead],
    excluded: false,
    tolerations: [{ ...any, tolerationSeconds: 60 }],
    failed: true,
  },
  { what: 'only looked at', taints: [dead, own], excluded: true, adminAccess: true, failed: false },
];

for (const { what, taints, excluded, failed, ...result } of cases)
  t.test(`a device that is ${what} ${failed ? 'is' : 'is not'} kept from new users of its claim`, async t => {
    const lookup = { isExcluded: () => excluded, taintsOf: () => taints };
    t.equal(failedDevices([{ request: 'r', ...idOf('a'), ...result }], lookup).length, failed ? 1 : 0);
  });

t.test('of several devices those that failed are named', async t => {
  const lookup = { isExcluded: (key: string) => key === deviceKey(idOf('b')), taintsOf: () => [] };
  const results = ['a', 'b', 'c'].map(device => ({ request: 'r', ...idOf(device) }));
  t.strictSame(
    failedDevices(results, lookup).map(({ device }) => device),
    ['b'],
  );
});
