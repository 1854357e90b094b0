import fc from 'fast-check';
import t from 'tap';
import type { Device } from '../../../../src/cluster/devices/device.ts';
import { exactSelector } from '../../../../src/cluster/devices/steering/exact-selector.ts';
import { type Attributes, buildDevice, dranet, gpus, nics, nvidia } from './steering-builders.ts';

function devices(...attributes: readonly Attributes[]): readonly Device[] {
  return attributes.map((each, index) => buildDevice(nvidia, `gpu-${index}`, each));
}

/** The expression for the devices with these indices among all. */
function pick(all: readonly Device[], ...indices: readonly number[]): string | undefined {
  return exactSelector(
    all.filter((_, index) => indices.includes(index)),
    all,
  );
}

const own = 'device.attributes["gpu.nvidia.com"]';

t.test('the best known identity is taken before all others', async t => {
  const busId = 'device.attributes["resource.kubernetes.io"].?pciBusID.orValue("")';
  t.equal(pick(gpus, 2), `${busId} in ["0000:20:1c.0"]`);
  t.equal(
    pick(gpus, 5, 1),
    `${busId} in ["0000:10:1c.0", "0000:50:1c.0"]`,
    'several, in the order of values',
  );
  t.equal(pick(nics, 3), 'device.attributes["dra.net"].?pciAddress.orValue("") in ["0000:30:1b.0"]');
  const small = devices({ uuid: 'GPU-a', i: 0 }, { uuid: 'GPU-b', i: 1 });
  t.equal(pick(small, 1), `${own}.?uuid.orValue("") in ["GPU-b"]`, 'though another would be shorter');
});

t.test('without a known identity the shortest that differs everywhere is taken, then by name', async t => {
  t.equal(
    pick(devices({ minor: 0, index: 0 }, { minor: 1, index: 1 }), 1),
    `${own}.?index.orValue("") in [1]`,
  );
  t.equal(pick(devices({ serial: 'a', id: 7 }, { serial: 'b', id: 8 }), 0), `${own}.?id.orValue("") in [7]`);
  t.equal(
    pick(devices({ bb: 1, slot: 'a' }, { bb: 2, slot: 'b' }, { bb: 2, slot: 'c' }), 0),
    `${own}.?slot.orValue("") in ["a"]`,
    'a longer one that differs everywhere before one that only happens to pick this device',
  );
});

t.test('an attribute that all devices share is no identity, whatever its name', async t => {
  const dump = devices(
    { uuid: 'GPU-same', index: 0 },
    { uuid: 'GPU-same', index: 1 },
    { uuid: 'GPU-same', index: 2 },
  );
  t.equal(pick(dump, 1), `${own}.?index.orValue("") in [1]`);
});

t.test('values that only the planned devices have do, if no attribute differs everywhere', async t => {
  const roots = devices({ root: 'a' }, { root: 'a' }, { root: 'b' }, { root: 'b' });
  t.equal(pick(roots, 0, 1), `${own}.?root.orValue("") in ["a"]`);
});

t.test('two attributes are put together where one is not enough', async t => {
  const partitions = devices(
    { uuid: 'a', partition: 0 },
    { uuid: 'a', partition: 1 },
    { uuid: 'b', partition: 0 },
    { uuid: 'b', partition: 1 },
    { uuid: 'b' },
  );
  t.equal(pick(partitions, 1), `${own}.?uuid.orValue("") in ["a"] && ${own}.?partition.orValue("") in [1]`);
  t.equal(pick(partitions, 1, 2), undefined, 'no product of values picks these two alone');
});

t.test('devices that no expression tells apart count as one, as long as others are left out', async t => {
  const places = [
    ...devices(
      { parent: 'a', profile: '1g' },
      { parent: 'a', profile: '1g' },
      { parent: 'b', profile: '1g' },
    ),
  ];
  t.equal(pick(places, 0), `${own}.?parent.orValue("") in ["a"]`);
  t.equal(pick(devices({ model: 'x' }, { model: 'x' }), 0), undefined, 'nothing would be steered');
  const [a, b, c] = places;
  if (a === undefined || b === undefined || c === undefined) throw new Error('three places');
  const larger = { ...b, capacity: new Map([['gpu.nvidia.com/memory', { value: 1n, policy: undefined }]]) };
  t.equal(exactSelector([a], [a, larger, c]), undefined, 'an expression can tell capacities apart');
});

t.test('the driver is named only where another one would match, too', async t => {
  const gpu = buildDevice(nvidia, 'gpu-0', { 'example.com/slot': 'a' });
  const sibling = buildDevice(nvidia, 'gpu-1', { 'example.com/slot': 'b' });
  const nic = buildDevice(dranet, 'nic-0', { 'example.com/slot': 'a' });
  const slot = 'device.attributes["example.com"].?slot.orValue("") in ["a"]';
  t.equal(exactSelector([gpu], [gpu, sibling]), slot);
  t.equal(exactSelector([gpu], [gpu, sibling, nic]), `device.driver == "gpu.nvidia.com" && ${slot}`);
});

t.test('no value that devices without the attribute seem to have', async t => {
  t.equal(pick(devices({ alias: '' }, { alias: 'x' }), 0), undefined);
});

t.test('lists, and values of different kinds under one name, are left aside', async t => {
  t.equal(pick(devices({ a: { strings: ['x'] } }, { a: { strings: ['y'] } }), 0), undefined);
  t.equal(pick(devices({ a: 1 }, { a: 'x' }, { a: 'y' }), 0, 1), undefined);
  t.equal(pick(devices({ a: 1 }, { a: '1' }), 0), `${own}.?a.orValue("") in [1]`, '1 and "1" differ');
});

t.test('versions are compared as CEL does, without the build', async t => {
  const versioned = (...versions: readonly string[]) =>
    devices(...versions.map(version => ({ v: { version } })));
  t.equal(pick(versioned('1.0.0', '1.0.1'), 0), `${own}.?v.orValue("") in [semver("1.0.0")]`);
  t.equal(pick(versioned('1.0.0+a', '1.0.0+b'), 0), undefined);
});

t.test('names and values are quoted, and names that CEL reserves are indexed', async t => {
  t.equal(pick(devices({ in: 'a"\\\n' }, { in: 'b' }), 0), `${own}[?"in"].orValue("") in ["a\\"\\\\\\n"]`);
});

t.test('the same devices in any order give the same expression, and it never picks others', async t => {
  const attributes = fc.record(
    {
      uuid: fc.constantFrom('a', 'b', 'c', 'd', ''),
      index: fc.integer({ min: 0, max: 3 }),
      model: fc.constantFrom('x', 'y'),
    },
    { requiredKeys: [] },
  );
  const fleets = fc.array(attributes, { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(fleets, fc.nat({ max: 63 }), (fleet, mask) => {
      const all = devices(...fleet);
      const planned = all.filter((_, index) => (mask >> index) % 2 === 1);
      if (planned.length === 0) return;
      const expression = exactSelector(planned, all);
      t.equal(exactSelector(planned.toReversed(), all.toReversed()), expression);
      if (expression === undefined) return;
      const looks = (device: Device) =>
        JSON.stringify(fleet[all.indexOf(device)], ['index', 'model', 'uuid']);
      const alike = new Set(planned.map(looks));
      for (const device of all) {
        if (picks(expression, device)) t.ok(alike.has(looks(device)), `${expression} picks ${looks(device)}`);
        else t.notOk(planned.includes(device), `${expression} leaves out ${looks(device)}`);
      }
    }),
  );
});

/** Reads the few forms that exist; what CEL itself makes of them is asked in test/oracles. */
function picks(expression: string, device: Device): boolean {
  return expression.split(' && ').every(part => {
    const [, domain, id, list] =
      /^device\.attributes\["([^"]+)"\]\.\?(\w+)\.orValue\(""\) in (\[.*\])$/.exec(part) ?? [];
    const value = device.attributes.get(`${domain}/${id}`)?.value ?? '';
    return JSON.parse(list ?? '[]').includes(typeof value === 'bigint' ? Number(value) : value);
  });
}
