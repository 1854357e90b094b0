import t from 'tap';
import { DeviceLedger } from '../../../../src/cluster/devices/device-ledger.ts';

const id = { request: 'r', driver: 'd', pool: 'p' };

t.test('admin access takes nothing, a share takes its part, all else takes the device', async t => {
  const ledger = new DeviceLedger();
  const results = [
    { ...id, device: 'whole' },
    { ...id, device: 'watched', adminAccess: true },
    { ...id, device: 'shared', shareID: '1', consumedCapacity: { memory: '1' } },
    { ...id, device: 'shared', shareID: '2', consumedCapacity: { memory: '2' } },
    { ...id, device: 'free-of-charge', shareID: '3' },
  ];
  ledger.add(results);
  t.strictSame([...ledger.devices], ['d//p//whole']);
  t.equal(ledger.capacity.get('d//p//shared')?.get('d/memory'), 3_000_000_000n);
  t.ok(ledger.capacity.has('d//p//free-of-charge'), 'for its counters are drawn');
  ledger.remove(results.slice(2, 3));
  t.equal(ledger.capacity.get('d//p//shared')?.get('d/memory'), 2_000_000_000n);
  ledger.remove([...results.slice(0, 2), ...results.slice(3)]);
  t.strictSame([ledger.devices.size, ledger.capacity.size], [0, 0]);
});

t.test('a device that plan and allocation both name stays taken until both let go', async t => {
  const ledger = new DeviceLedger();
  ledger.add([{ ...id, device: 'a' }]);
  ledger.add([{ ...id, device: 'a' }]);
  ledger.remove([{ ...id, device: 'a' }]);
  t.ok(ledger.devices.has('d//p//a'));
});
