import t from 'tap';
import { berth } from '../../../src/api/names.ts';
import { deviceKey } from '../../../src/cluster/devices/device.ts';
import { decodeTaintRule } from '../../../src/cluster/devices/taint-rules.ts';
import type { Exclusion } from '../../../src/failure/exclusions.ts';
import type { ApiClient, ApiRequest } from '../../../src/kube/api-client.ts';
import { ApiError } from '../../../src/kube/api-errors.ts';
import {
  ExclusionStore,
  exclusionName,
  exclusionObject,
  exclusionRule,
} from '../../../src/kube/exclusion-store.ts';

const device = { driver: 'gpu.example.com', pool: 'a', device: 'gpu-0' };
const exclusion: Exclusion = {
  device,
  key: deviceKey(device),
  class: 'certain',
  cause: 'it is lost',
  uuid: 'GPU-1',
  sinceMs: 1_000,
  untilMs: undefined,
  quarantineUntilMs: undefined,
  groups: ['serving/llm-0'],
};
const hourMs = 3_600_000;
const wallMs = Date.UTC(2026, 0, 1);

function decoded(of: Exclusion) {
  return decodeTaintRule(exclusionObject(of, 2_000, wallMs));
}

t.test('what a rule says is what was written', async t => {
  t.match(exclusionRule(decoded(exclusion), wallMs), {
    name: exclusionName(exclusion),
    isReleased: false,
    written: {
      device,
      class: 'certain',
      cause: 'it is lost',
      uuid: 'GPU-1',
      group: 'serving/llm-0',
      quarantineLeftMs: undefined,
    },
  });
  const quarantine = { ...exclusion, quarantineUntilMs: 2_000 + 3 * hourMs };
  t.equal(exclusionRule(decoded(quarantine), wallMs + hourMs)?.written.quarantineLeftMs, 2 * hourMs);
  const raw = exclusionObject(exclusion, 2_000, wallMs);
  t.same(raw.spec, { deviceSelector: device, taint: { key: berth.excluded, effect: 'NoSchedule' } });
  t.equal(JSON.parse(raw.metadata.annotations?.[berth.exclusion] ?? '').since, '2025-12-31T23:59:59.000Z');
});

t.test('a device, another one under its name and a quarantine have rules of their own', async t => {
  const names = [
    exclusion,
    { ...exclusion, uuid: 'GPU-2' },
    { ...exclusion, uuid: undefined },
    { ...exclusion, quarantineUntilMs: 5 },
    { ...exclusion, key: deviceKey({ ...device, pool: 'b' }) },
  ].map(exclusionName);
  t.equal(new Set(names).size, names.length);
  t.equal(exclusionName({ ...exclusion, quarantineUntilMs: 6 }), names[3], 'whenever that ends');
});

t.test('no rule is ever made that could mean more than one device', async t => {
  for (const part of ['driver', 'pool', 'device'])
    t.throws(() => exclusionObject({ ...exclusion, device: { ...device, [part]: '' } }, 0, 0), TypeError);
});

t.test('a record that cannot be read is a suspicion of unknown cause', async t => {
  const rule = decoded(exclusion);
  for (const record of ['', 'null', '{"class":7,"quarantineUntil":"soon"}'])
    t.match(exclusionRule({ ...rule, ofBerth: { uid: 'u', isReleased: true, record } }, wallMs), {
      uid: 'u',
      isReleased: true,
      written: { device, class: 'suspect', uuid: undefined, quarantineLeftMs: undefined },
    });
});

t.test('the API server is asked whether it serves such rules', async t => {
  const storeOf = (answer: () => unknown) =>
    new ExclusionStore(
      {
        request: async <T>({ method, path }: ApiRequest): Promise<T> => {
          t.equal(`${method} ${path}`, 'GET /apis/resource.k8s.io/v1');
          return answer() as T;
        },
        stream: () => {
          throw new Error('nothing here watches');
        },
      } satisfies ApiClient,
      1_000,
    );
  const resources = (...names: string[]) => ({ resources: names.map(name => ({ name })) });
  const fail = (status: number) => () => {
    throw new ApiError({ status, message: 'no' });
  };
  t.equal(await storeOf(() => resources('resourceclaims', 'devicetaintrules')).isServed(), true);
  t.equal(await storeOf(() => resources('resourceclaims', 'devicetaintrules/status')).isServed(), false);
  t.equal(await storeOf(fail(404)).isServed(), false, 'nor without DRA');
  t.equal(await storeOf(() => 'a proxy speaks').isServed(), false);
  await t.rejects(storeOf(fail(503)).isServed(), 'but who does not answer says nothing');
});
