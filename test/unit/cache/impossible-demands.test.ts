import t from 'tap';
import { presetFleet } from '../../../hack/bed/fleet-presets.ts';
import type { PodTemplateSpec } from '../../../src/api/kubernetes.ts';
import { berth } from '../../../src/api/names.ts';
import { ImpossibleDemands } from '../../../src/cache/impossible-demands.ts';
import { decodeDeviceClass } from '../../../src/cluster/devices/decode-claim.ts';
import { decodeResourceSlice } from '../../../src/cluster/devices/decode-slice.ts';
import { decodeNode } from '../../../src/cluster/node-info.ts';
import { demandsOfTemplates } from '../../../src/group/template-demands.ts';
import { FitMemo } from '../../../src/planner/fit.ts';
import { planGroup } from '../../../src/planner/plan.ts';
import { cacheWithDevices, claimingTemplate } from '../../builders/device-cache.ts';
import { request } from '../../builders/devices.ts';
import { mulberry32 } from '../planner/instances.ts';

const namespace = 'serving';
const claiming = claimingTemplate;
const root = 'resource.kubernetes.io/pcieRoot';
const gpu = (count = 1) => request('gpu', { deviceClassName: 'gpu.nvidia.com', count });
const efa = request('nic', { deviceClassName: 'efa.networking.k8s.aws' });
const rdma = request('nic', { deviceClassName: 'dranet-rdma' });

const plain: PodTemplateSpec = { metadata: {}, spec: { containers: [{ name: 'main' }] } };

function limiting(gpus: number): PodTemplateSpec {
  const resources = {
    limits: { 'nvidia.com/gpu': String(gpus) },
    requests: { 'nvidia.com/gpu': String(gpus) },
  };
  return { metadata: {}, spec: { containers: [{ name: 'main', resources }] } };
}

/** A cluster of these machines, in which template `devices` asks for what is given. */
function world(...parts: Parameters<typeof cacheWithDevices>) {
  const cache = cacheWithDevices(...parts);
  const impossible = new ImpossibleDemands(cache);
  const why = (
    leader: PodTemplateSpec,
    worker: PodTemplateSpec | undefined = leader,
    { size = 4, minAlignment }: { readonly size?: number; readonly minAlignment?: string } = {},
  ) => {
    const sources = [minAlignment === undefined ? {} : { [berth.minAlignment]: minAlignment }];
    const demands = demandsOfTemplates({ namespace, leader, worker, size, sources }, cache.claims);
    return demands && impossible.why(demands)?.message;
  };
  return { cache, why };
}

const never = (who: string, why: string) =>
  `no node could give what ${who} for, even if it were empty: ${why}`;

t.test(
  'what no machine of the fleet could give is said with the constraint, the attribute and what is there',
  async t => {
    const pairs = world(presetFleet('gb300'), [gpu(), rdma], [{ matchAttribute: root }]);
    const noRoot = `request nic: 64 devices of class dranet-rdma on 16 nodes, none has attribute ${root}`;
    t.equal(pairs.why(claiming), never('its members ask', noRoot));
    t.equal(pairs.why(plain, claiming), never('its workers ask', noRoot));
    t.equal(pairs.why(claiming, plain), never('its leader asks', noRoot));
    t.equal(pairs.why(claiming, undefined, { size: 1 }), never('the pod asks', noRoot));
    t.equal(pairs.why(plain), undefined);

    const rails = world(presetFleet('p4d'), [gpu(), efa], [{ matchAttribute: 'example.com/rail' }]);
    const noRail =
      'request gpu: 128 devices of class gpu.nvidia.com on 16 nodes, none has attribute example.com/rail';
    t.equal(rails.why(claiming), never('its members ask', noRail));

    const unknown = world(presetFleet('p4d'), [rdma]);
    t.equal(
      unknown.why(claiming),
      never('its members ask', 'request nic: device class dranet-rdma does not exist'),
    );
  },
);

t.test('the alignment that a group demands counts, and nothing that is in use', async t => {
  const pairs = world(presetFleet('gb300'), [gpu(), rdma]);
  const noRoot = `request nic: 64 devices of class dranet-rdma on 16 nodes, none has attribute ${root}`;
  t.equal(pairs.why(claiming), undefined);
  t.equal(pairs.why(claiming, claiming, { minAlignment: 'numa' }), undefined);
  t.equal(pairs.why(claiming, claiming, { minAlignment: 'pcie' }), never('its members ask', noRoot));
  const near = world(presetFleet('p4d'), [gpu(2), efa]);
  t.equal(
    near.why(claiming, claiming, { minAlignment: 'pcie' }),
    undefined,
    'two GPUs and a NIC share a root',
  );
  const far = world(presetFleet('p4d'), [gpu(3), efa]);
  t.match(
    far.why(claiming, claiming, { minAlignment: 'pcie' }),
    /alignment pcie: none of 16 nodes has 3 devices/,
  );
});

t.test('devices that nodes have by device plugin are never said to be impossible', async t => {
  const { cache, why } = world(presetFleet('half'));
  t.equal(why(limiting(8)), undefined);
  t.equal(why(limiting(9)), undefined, 'though no node has 9 as yet');
  for (const node of [...cache.allNodes()])
    if (node.allocatable.has('nvidia.com/gpu')) cache.nodes.remove(node);
  t.equal(why(limiting(8)), undefined);
  t.match(
    why(limiting(9)),
    /its members ask for, .*: request container-0-request-0: asks for 9 devices of class gpu.nvidia.com, but none of 8 nodes has more than 8/,
    'where all nodes have them by DRA it can be told',
  );
});

t.test('what cannot be told is not said', async t => {
  const missing = world(presetFleet('p4d'));
  t.equal(missing.why(claiming), undefined, 'a template that may still come');
  const asked = [gpu(9)] as const;
  const { nodes, slices = [], deviceClasses = [] } = presetFleet('p4d');
  t.match(world({ nodes, slices, deviceClasses }, asked).why(claiming), /asks for 9 devices/);
  t.equal(
    world({ nodes: [], slices, deviceClasses }, asked).why(claiming),
    undefined,
    'a fleet without nodes',
  );
  const growing = slices.map((slice, index) => {
    const { pool } = slice.spec;
    return index > 0
      ? slice
      : { ...slice, spec: { ...slice.spec, pool: { ...pool, resourceSliceCount: 2 } } };
  });
  t.equal(
    world({ nodes, slices: growing, deviceClasses }, asked).why(claiming),
    undefined,
    'a pool of which a slice is missing',
  );
  const odd = request('gpu', {
    deviceClassName: 'gpu.nvidia.com',
    selectors: [{ cel: { expression: 'device.beyondAllKnowledge()' } }],
  });
  t.equal(world(presetFleet('p4d'), [odd]).why(claiming), undefined, 'a selector that nobody here can read');
  t.equal(
    world(presetFleet('p4d'), [gpu()]).why(limitingBadly()),
    undefined,
    'a quantity that cannot be read',
  );
});

function limitingBadly(): PodTemplateSpec {
  return {
    ...claiming,
    spec: { ...claiming.spec, containers: [{ name: 'main', resources: { requests: { cpu: 'two' } } }] },
  };
}

t.test('an answer holds until nodes, slices or classes change, and no longer', async t => {
  const { nodes, slices = [], deviceClasses = [] } = presetFleet('gb300');
  const { cache, why } = world({ nodes: nodes.slice(0, 2), slices, deviceClasses }, [gpu(), efa]);
  t.match(why(claiming), /device class efa.networking.k8s.aws does not exist/);
  const p4d = presetFleet('p4d');
  cache.deviceClasses.replace([...deviceClasses, ...(p4d.deviceClasses ?? [])].map(decodeDeviceClass));
  t.match(why(claiming), /no device of class efa.networking.k8s.aws on 2 nodes/, 'the class has come');
  cache.nodes.upsert(decodeNode(nodes[2] ?? fail()));
  t.match(why(claiming), /no device of class efa.networking.k8s.aws on 3 nodes/, 'a node more');
  const own = (name: string) => (p4d.slices ?? []).filter(slice => slice.spec.nodeName === name);
  const name = nodes[2]?.metadata.name ?? '';
  cache.resourceSlices.replace(
    [...slices.filter(slice => slice.spec.nodeName !== name), ...own(name)].map(decodeResourceSlice),
  );
  t.equal(why(claiming), undefined, 'which turns out to have them');
  cache.resourceSlices.replace(slices.map(decodeResourceSlice));
  t.match(why(claiming), /no device of class efa/, 'and then not');
});

function fail(): never {
  throw new Error('the fleet is too small');
}

t.test('one pod on an empty fleet is impossible exactly when the planner finds no place for it', async t => {
  const random = mulberry32(17);
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)] ?? fail();
  const fleets = (
    [
      ['p4d', 'efa.networking.k8s.aws'],
      ['gb300', 'dranet-rdma'],
      ['mig', 'mig.nvidia.com'],
    ] as const
  ).map(([name, other]) => {
    const { nodes, slices = [], ...rest } = presetFleet(name);
    const [first] = nodes;
    const ofFirst = slices.filter(({ spec }) => spec.nodeName === first?.metadata.name);
    return { name, other, fleet: { ...rest, nodes: nodes.slice(0, 1), slices: ofFirst } };
  });
  const tally = { fits: 0, never: 0 };
  for (let instance = 0; instance < 90; instance++) {
    const { name, other, fleet } = pick(fleets);
    const requests = [
      gpu(pick([1, 2, 3])),
      request('other', { deviceClassName: other, count: pick([1, 2]) }),
    ];
    const constraints = pick([[], [], [{ matchAttribute: root }]]);
    const { cache, why } = world(fleet, requests, constraints);
    const minAlignment = pick(['pcie', 'numa', 'host']);
    const sources = [{ [berth.minAlignment]: minAlignment }];
    const demands = demandsOfTemplates(
      { namespace, leader: claiming, worker: undefined, size: 1, sources },
      cache.claims,
    );
    const topology = { requiredLevel: undefined, preferredLevel: undefined, sameLabels: [] };
    const plan = planGroup({
      demands: demands ?? [],
      topology,
      snapshot: cache.snapshot(),
      memo: new FitMemo(),
    });
    const never = why(claiming, undefined, { size: 1, minAlignment });
    const told = JSON.stringify({ name, requests, constraints, minAlignment, plan: plan.kind, never });
    if ((plan.kind === 'plan') !== (never === undefined)) t.fail(told);
    tally[never === undefined ? 'fits' : 'never']++;
  }
  t.ok(tally.fits > 20 && tally.never > 20, JSON.stringify(tally));
});
