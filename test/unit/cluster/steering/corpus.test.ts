import t, { type Test } from 'tap';
import type {
  DeviceClaim,
  DeviceRequest,
  ResourceClaimSpec,
  ResourceClaimTemplate,
} from '../../../../src/api/dra.ts';
import type { Device } from '../../../../src/cluster/devices/device.ts';
import {
  askedAlternative,
  plannedAlternative,
} from '../../../../src/cluster/devices/steering/steer-claim.ts';
import { corpusFolder } from '../../webhooks/lws-pods.ts';
import { buildDevice, corpusDevices, corpusObjects, steer } from './steering-builders.ts';

const notThere = `NOT CHECKED against real claims: there is no corpus at ${corpusFolder} (set BERTH_CORPUS)`;

/** Classes of the corpus, and drivers whose devices they select. */
const driverOfClass: Readonly<Record<string, string>> = {
  'gpu.nvidia.com': 'gpu.nvidia.com',
  'mig.nvidia.com': 'gpu.nvidia.com',
  'efa.networking.k8s.aws': 'dra.net',
  'dranet.net': 'dra.net',
  dranet: 'dra.net',
  'mrdma.google.com': 'dra.net',
  'netdev.google.com': 'dra.net',
  'gpu.amd.com': 'gpu.amd.com',
  'gpu.example.com': 'gpu.example.com',
  'compute-domain-default-channel.nvidia.com': 'compute-domain.nvidia.com',
};

/** Entries of the corpus: how many claims, and which of all their requests are steered. */
const entries: readonly {
  readonly id: string;
  readonly claims: number;
  readonly steered: readonly string[];
}[] = [
  { id: 'C83', claims: 2, steered: ['gpu', 'efa', 'gpu', 'efa'] },
  { id: 'C88', claims: 2, steered: ['gpu', 'nic', 'gpu', 'nic'] },
  { id: 'C90', claims: 1, steered: ['mig-1g-5gb-0', 'mig-1g-5gb-1', 'mig-2g-10gb', 'mig-3g-20gb'] },
  { id: 'C100', claims: 1, steered: ['p0', 'p1'] },
  { id: 'C101', claims: 1, steered: ['gpu'] },
  { id: 'C51', claims: 1, steered: [] },
  { id: 'C35', claims: 1, steered: [] },
  { id: 'C40', claims: 1, steered: ['req-mrdma'] },
  { id: 'C49', claims: 1, steered: [] },
  { id: 'C86', claims: 3, steered: ['gpu', 'nic', 'gpu', 'nic', 'gpu', 'nic'] },
  { id: 'C89', claims: 1, steered: ['gpu', 'nic'] },
  { id: 'C95', claims: 1, steered: [] },
];

/** Claims whose templates controllers make from these entries, so that no manifest has them. */
const madeByControllers: readonly {
  readonly id: string;
  readonly from: string;
  readonly spec: ResourceClaimSpec;
  readonly steered: readonly string[];
}[] = [
  ...['C53', 'C92'].map(id => ({
    id,
    from: 'the ComputeDomain controller',
    spec: {
      devices: {
        requests: [
          { name: 'channel', exactly: { deviceClassName: 'compute-domain-default-channel.nvidia.com' } },
        ],
        config: [
          {
            requests: ['channel'],
            opaque: {
              driver: 'compute-domain.nvidia.com',
              parameters: { kind: 'ComputeDomainChannelConfig', domainID: 'd' },
            },
          },
        ],
      },
    },
    steered: [],
  })),
  {
    id: 'C61',
    from: 'KServe',
    spec: {
      devices: {
        requests: [
          {
            name: 'gpu',
            exactly: {
              deviceClassName: 'gpu.nvidia.com',
              count: 2,
              selectors: [
                { cel: { expression: `device.attributes['gpu.nvidia.com']['type'] == 'A100'` } },
                {
                  cel: {
                    expression: `device.capacity['gpu.nvidia.com']['memory'].compareTo(quantity('40Gi')) >= 0`,
                  },
                },
              ],
            },
          },
        ],
      },
    },
    steered: ['gpu'],
  },
];

for (const { id, claims, steered } of entries) {
  t.test(`${id}: the steered claim is valid and asks for the same`, async t => {
    const specs = specsOf(id);
    if (specs === undefined) return t.comment(notThere);
    t.equal(specs.length, claims);
    t.same(
      specs.flatMap(spec => steerChecked(t, spec)),
      steered,
    );
  });
}

for (const { id, from, spec, steered } of madeByControllers) {
  t.test(`${id}: the claim that ${from} makes from it, too`, async t => {
    t.same(steerChecked(t, spec), steered);
  });
}

t.test('C78, C79: aligned pairs of a real p4d are picked by bus and PCI address', async t => {
  const gpus = corpusDevices('C78');
  const nics = corpusDevices('C79');
  const [, aligned] = specsOf('C83') ?? [];
  if (gpus === undefined || nics === undefined || aligned === undefined) return t.comment(notThere);
  const root = 'resource.kubernetes.io/pcieRoot';
  const rootOf = (device: Device) => device.attributes.get(root)?.value;
  const efas = nics.filter(({ attributes }) => attributes.get('dra.net/rdma')?.value === true);
  t.equal(efas.length, 4);
  for (const nic of efas) {
    const gpu = gpus.find(device => rootOf(device) === rootOf(nic));
    if (gpu === undefined) throw new Error('no GPU on the root of the NIC');
    const { spec, unsteered } = steer(
      aligned,
      { gpu: [gpu], efa: [nic] },
      { devicesOfNode: [...gpus, ...nics] },
    );
    t.same(unsteered, []);
    t.same(
      spec.devices?.requests?.map(
        ({ firstAvailable }) => firstAvailable?.[0]?.selectors?.at(-1)?.cel?.expression,
      ),
      [
        `device.attributes["resource.kubernetes.io"].?pciBusID.orValue("") in ` +
          `["${gpu.attributes.get('resource.kubernetes.io/pciBusID')?.value}"]`,
        `device.attributes["dra.net"].?pciAddress.orValue("") in ["${nic.attributes.get('dra.net/pciAddress')?.value}"]`,
      ],
    );
    t.same(spec.devices?.constraints, aligned.devices?.constraints);
    t.equal(whyInvalid(spec.devices ?? {}), undefined);
  }
});

t.test('C80: every device of a real GB300 node can be picked alone', async t => {
  const devices = corpusDevices('C80');
  if (devices === undefined) return t.comment(notThere);
  t.ok(devices.length > 4);
  for (const device of devices) {
    const spec = { devices: { requests: [{ name: 'r', exactly: { deviceClassName: 'any' } }] } };
    t.same(steer(spec, { r: [device] }, { devicesOfNode: devices }).steered, ['r'], device.key);
  }
});

function specsOf(id: string): readonly ResourceClaimSpec[] | undefined {
  const templates = corpusObjects(id, 'ResourceClaimTemplate');
  const claims = corpusObjects(id, 'ResourceClaim');
  if (templates === undefined || claims === undefined) return undefined;
  return [
    ...templates.filter(isTemplate).map(({ spec }) => spec.spec),
    ...claims.filter(hasSpec).map(({ spec }) => spec),
  ];
}

function isTemplate(object: object): object is ResourceClaimTemplate {
  return hasSpec(object) && 'spec' in object.spec;
}

function hasSpec(object: object): object is { readonly spec: ResourceClaimSpec } {
  return 'spec' in object && typeof object.spec === 'object' && object.spec !== null;
}

/** Steers with as many devices as each request asks for, checks the result, and tells what was steered. */
function steerChecked(t: Test, spec: ResourceClaimSpec): readonly string[] {
  const requests = spec.devices?.requests ?? [];
  const chosen = requests.map(({ name, exactly }, index): [string, readonly Device[]] => {
    const driver = driverOfClass[exactly?.deviceClassName ?? ''] ?? 'untested.example.com';
    const count = exactly?.count ?? 1;
    const devices = Array.from({ length: count }, (_, nth) =>
      buildDevice(driver, `d-${index}-${nth}`, {
        uuid: `${index}-${nth}`,
        'resource.kubernetes.io/pcieRoot': 'r',
      }),
    );
    return [name, devices];
  });
  const devicesOfNode = chosen.flatMap(([, devices]) => devices);
  const outcome = steer(spec, Object.fromEntries(chosen), { devicesOfNode });
  t.equal(whyInvalid(outcome.spec.devices ?? {}), undefined);
  t.same(withoutSteering(outcome.spec), spec, 'nothing is lost');
  t.same(
    [...outcome.steered, ...outcome.unsteered.map(({ request }) => request)].sort(),
    requests.map(({ name }) => name).sort(),
    'every request is accounted for',
  );
  return outcome.steered;
}

/** What was asked for before Berth came; requests with alternatives of their own are not in the corpus. */
function withoutSteering(spec: ResourceClaimSpec): ResourceClaimSpec {
  const { requests = [], config } = spec.devices ?? {};
  const before = requests.map((request): DeviceRequest => {
    const asked = request.firstAvailable?.find(({ name }) => name === askedAlternative);
    if (asked === undefined) return request;
    const { name: _, ...exactly } = asked;
    return { name: request.name, exactly };
  });
  const parents = (names: readonly string[]) => [...new Set(names.map(name => name.split('/')[0] ?? ''))];
  return {
    ...spec,
    devices: {
      ...spec.devices,
      requests: before,
      ...(config && {
        config: config.map(entry =>
          entry.requests ? { ...entry, requests: parents(entry.requests) } : entry,
        ),
      }),
    },
  };
}

/** The rules of the API that steering could break (kubernetes v1.37 pkg/apis/resource/validation). */
function whyInvalid({ requests = [], constraints = [], config = [] }: DeviceClaim): string | undefined {
  const label = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
  const known = new Set<string>();
  for (const { name, exactly, firstAvailable = [] } of requests) {
    if ((exactly === undefined) === (firstAvailable.length === 0)) return `${name}: one of two forms`;
    if (firstAvailable.length > 8) return `${name}: too many alternatives`;
    const names = [name, ...firstAvailable.map(alternative => `${name}/${alternative.name}`)];
    for (const full of names) {
      if (known.has(full) || !full.split('/').every(part => label.test(part))) return `${full}: bad name`;
      known.add(full);
    }
    for (const { selectors = [] } of firstAvailable) {
      if (selectors.length > 32) return `${name}: too many selectors`;
      if (selectors.some(({ cel }) => (cel?.expression.length ?? 0) > 10_240)) return `${name}: too long`;
    }
    if (firstAvailable.findIndex(alternative => alternative.name === plannedAlternative) > 0)
      return `${name}: the plan comes first`;
  }
  for (const { requests: names = [] } of [...constraints, ...config]) {
    if (names.length > 32 || new Set(names).size < names.length) return 'too many names, or one twice';
    const unknown = names.find(name => !known.has(name));
    if (unknown !== undefined) return `${unknown} is no request`;
  }
  return undefined;
}
