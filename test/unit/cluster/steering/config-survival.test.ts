import fc from 'fast-check';
import t from 'tap';
import type { DeviceClaimConfiguration, DeviceRequest, ResourceClaimSpec } from '../../../../src/api/dra.ts';
import type { Device } from '../../../../src/cluster/devices/device.ts';
import { driverPolicy } from '../../../../src/cluster/devices/steering/driver-policy.ts';
import { isSteered } from '../../../../src/cluster/devices/steering/steer-claim.ts';
import { type AllocateInput, allocate, driverRules } from './driver-rules.ts';
import { buildDevice, exactly, steer } from './steering-builders.ts';

const tested = Object.keys(driverRules).filter(driver => driverPolicy(driver) === 'steer');

/** Names of classes are those of the drivers here. Every driver has enough devices for any claim below. */
const devicesOfNode = Object.keys(driverRules).flatMap(driver =>
  Array.from({ length: 8 }, (_, index) => buildDevice(driver, `d${index}`, { uuid: `${driver}-${index}` })),
);

/** One device for each request; a request with alternatives gets one of its alternative with that index. */
function planFor(
  requests: readonly DeviceRequest[],
  alternativeIndex: number,
): Record<string, readonly Device[]> {
  return Object.fromEntries(
    requests.map((request, index) => {
      const alternative = request.firstAvailable?.[alternativeIndex % request.firstAvailable.length];
      const { deviceClassName = '' } = request.exactly ?? alternative ?? {};
      const device = devicesOfNode.filter(({ id }) => id.driver === deviceClassName)[index];
      const name = alternative === undefined ? request.name : `${request.name}/${alternative.name}`;
      return [name, device === undefined ? [] : [device]];
    }),
  );
}

/** Every way to choose an alternative for each request. */
function choicesOf(requests: readonly DeviceRequest[]): readonly ReadonlyMap<string, string>[] {
  return requests.reduce<readonly ReadonlyMap<string, string>[]>(
    (choices, { name, firstAvailable = [] }) =>
      firstAvailable.length === 0
        ? choices
        : choices.flatMap(choice => firstAvailable.map(({ name: alt }) => new Map([...choice, [name, alt]]))),
    [new Map()],
  );
}

interface Compared {
  readonly spec: ResourceClaimSpec;
  readonly plannedIndex: number;
  readonly input: Pick<AllocateInput, 'classConfigs' | 'emptiesNames'>;
}

/** Pairs of what each driver applies without and with steering, for every choice that the allocator may make. */
function effects({ spec, plannedIndex, input }: Compared) {
  const requests = spec.devices?.requests ?? [];
  const steered = steer(spec, planFor(requests, plannedIndex), { devicesOfNode }).spec;
  const steeredRequests = steered.devices?.requests ?? [];
  const driverOf = (className: string) => className;
  return choicesOf(steeredRequests).flatMap(choice => {
    const withBerth = allocate({ ...input, spec: steered, driverOf, choice: ({ name }) => choice.get(name) });
    const without = allocate({
      ...input,
      spec,
      driverOf,
      choice: request => {
        if (request.exactly !== undefined) return undefined;
        const chosen = choice.get(request.name);
        const alternatives = request.firstAvailable ?? [];
        return chosen === 'berth' ? alternatives[plannedIndex % alternatives.length]?.name : chosen;
      },
    });
    return withBerth.results.map(({ request, driver }, index) => ({
      request,
      steered: steeredRequests.some(other => other.name === request.split('/')[0] && isSteered(other)),
      wanted: driverRules[driver]?.(without, without.results[index]?.request ?? ''),
      found: driverRules[driver]?.(withBerth, request),
    }));
  });
}

const parameters = (driver: string, value: string) => ({
  driver,
  parameters: {
    kind: driver === 'compute-domain.nvidia.com' ? 'ComputeDomainChannelConfig' : 'GpuConfig',
    value,
  },
});

t.test(
  'a configuration for one of two requests reaches that request, whichever alternative is taken',
  async t => {
    for (const driver of tested) {
      const spec = {
        devices: {
          requests: [exactly('a', driver), exactly('b', driver)],
          config: [{ requests: ['a'], opaque: parameters(driver, 'for a') }],
        },
      };
      const input = { classConfigs: {}, emptiesNames: true };
      const found = effects({ spec, plannedIndex: 0, input });
      t.equal(found.length, 8, 'two requests in four choices');
      for (const { request, steered, found: effect } of found) {
        t.ok(steered, `${driver} ${request} is steered`);
        t.same(
          effect,
          request.startsWith('a/') ? parameters(driver, 'for a').parameters : 'default',
          request,
        );
      }
    }
  },
);

t.test(
  'with the name of the request alone in a configuration, drivers would fall back to their defaults',
  async t => {
    for (const driver of tested) {
      const config = [{ requests: ['a'], opaque: parameters(driver, 'for a') }];
      const alternatives = [{ name: 'berth', deviceClassName: driver }];
      const spec = {
        devices: { requests: [{ name: 'a', firstAvailable: alternatives }, exactly('b', driver)], config },
      };
      const choice = ({ exactly: body }: DeviceRequest) => (body === undefined ? 'berth' : undefined);
      const allocated = allocate({
        spec,
        choice,
        driverOf: name => name,
        classConfigs: {},
        emptiesNames: true,
      });
      t.equal(driverRules[driver]?.(allocated, 'a/berth'), 'default', driver);
    }
  },
);

t.test('every driver applies to every result what it would apply without steering', async t => {
  const drivers = fc.constantFrom(...Object.keys(driverRules));
  const alternative = (name: string) => drivers.map(deviceClassName => ({ name, deviceClassName }));
  const request = (name: string): fc.Arbitrary<DeviceRequest> =>
    fc.oneof(
      { weight: 3, arbitrary: drivers.map(deviceClassName => exactly(name, deviceClassName)) },
      fc
        .tuple(alternative('x'), alternative('y'))
        .map(firstAvailable => ({ name, firstAvailable }) satisfies DeviceRequest),
    );
  const names = ['a', 'b', 'c'];
  const cases = fc.tuple(...names.map(request)).chain(requests => {
    const nameable = requests.flatMap(({ name, firstAvailable = [] }) => [
      name,
      ...firstAvailable.map(({ name: alt }) => `${name}/${alt}`),
    ]);
    const opaque = fc.tuple(drivers, fc.constantFrom('GpuConfig', 'ComputeDomainChannelConfig'), fc.nat(99));
    const entry = opaque.map(([driver, kind, value]) => ({
      opaque: { driver, parameters: { kind, value } },
    }));
    const named = fc
      .tuple(entry, fc.subarray(nameable))
      .map(([one, named]): DeviceClaimConfiguration => ({ ...one, requests: named }));
    return fc.record({
      requests: fc.constant(requests),
      config: fc.array(named, { maxLength: 5 }),
      classConfig: fc.array(entry, { maxLength: 2 }),
      plannedIndex: fc.nat(1),
      emptiesNames: fc.boolean(),
    });
  });
  let results = 0;
  let configured = 0;
  fc.assert(
    fc.property(cases, ({ requests, config, classConfig, plannedIndex, emptiesNames }) => {
      const classConfigs = Object.fromEntries(Object.keys(driverRules).map(name => [name, classConfig]));
      const spec = { devices: { requests, config } };
      for (const { request, wanted, found } of effects({
        spec,
        plannedIndex,
        input: { classConfigs, emptiesNames },
      })) {
        if (JSON.stringify(found) !== JSON.stringify(wanted)) {
          t.same(found, wanted, `${request} of ${JSON.stringify(spec)}`);
          return false;
        }
        results += 1;
        if (found !== 'default') configured += 1;
      }
      return true;
    }),
    { numRuns: 2000 },
  );
  t.comment(`${results} results compared, ${configured} with parameters of their own`);
  t.ok(configured > 1000 && configured < results, 'with and without parameters');
});
