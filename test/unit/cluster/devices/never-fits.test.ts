import t from 'tap';
import type { ResourceSlice } from '../../../../src/api/dra.ts';
import type { WantedClaim } from '../../../../src/cluster/devices/claims.ts';
import { type NeverFitsQuestion, whyNeverFits } from '../../../../src/cluster/devices/never-fits.ts';
import {
  dgxLike,
  gb300Like,
  nodeWith,
  numaNode,
  p4dLike,
  pcieRoot,
  wants,
} from '../../../builders/device-nodes.ts';
import { device, slice } from '../../../builders/devices.ts';

const { classes, selectors } = nodeWith([]);

/** The verdict over nodes of these shapes, so many of each. */
function verdict(
  fleet: readonly (readonly [ResourceSlice[] | readonly ResourceSlice[], number])[],
  demand: readonly WantedClaim[],
  minRung?: NeverFitsQuestion['minRung'],
) {
  const nodes = fleet.flatMap(([slices, count]) => Array.from({ length: count }, () => nodeWith(slices)));
  return whyNeverFits({ demand, minRung, fleet: nodes, classes, selectors });
}

const pairs = (gpus: number, nics: number, ...matchAttributes: readonly string[]) => [
  wants('devices', { gpu: ['gpu', gpus], nic: ['nic', nics] }, ...matchAttributes),
];

const cases: readonly {
  readonly what: string;
  readonly demand: readonly WantedClaim[];
  readonly fleet: Parameters<typeof verdict>[0];
  readonly minRung?: NeverFitsQuestion['minRung'];
  readonly want: ReturnType<typeof whyNeverFits>;
}[] = [
  {
    what: 'a root shared by GPU and NIC where NICs tell no root',
    demand: pairs(1, 1, pcieRoot),
    fleet: [[gb300Like(), 16]],
    want: {
      constraint: 'matchAttribute',
      attribute: pcieRoot,
      message: `request nic: 64 devices of class nic on 16 nodes, none has attribute ${pcieRoot}`,
    },
  },
  {
    what: 'two NICs on a root that has one',
    demand: pairs(1, 2, pcieRoot),
    fleet: [
      [p4dLike(), 2],
      [dgxLike(), 1],
    ],
    want: {
      constraint: 'matchAttribute',
      attribute: pcieRoot,
      message: `constraint matchAttribute ${pcieRoot}: none of 3 nodes has 1 device of class gpu and 2 devices of class nic with one value of it`,
    },
  },
  {
    what: 'an attribute that no driver publishes',
    demand: pairs(1, 1, 'example.com/rail'),
    fleet: [[dgxLike(), 1]],
    want: {
      constraint: 'matchAttribute',
      attribute: 'example.com/rail',
      message: 'request gpu: 8 devices of class gpu on 1 node, none has attribute example.com/rail',
    },
  },
  {
    what: 'more GPUs than any node has',
    demand: [wants('gpus', { gpu: ['gpu', 9] })],
    fleet: [
      [dgxLike(), 3],
      [gb300Like(), 3],
    ],
    want: {
      constraint: 'count',
      attribute: undefined,
      message:
        'request gpu: asks for 9 devices of class gpu, but none of 6 nodes has more than 8 that it allows',
    },
  },
  {
    what: 'a class that does not exist',
    demand: [wants('gpus', { gpu: ['gpx', 1] })],
    fleet: [[dgxLike(), 1]],
    want: {
      constraint: 'class',
      attribute: undefined,
      message: 'request gpu: device class gpx does not exist',
    },
  },
  {
    what: 'a class of which there is no device',
    demand: [wants('gpus', { gpu: ['mig-7g', 1] })],
    fleet: [[[slice('nics', [device('nic-0', { rdma: true })], { driver: 'dra.net' })], 2]],
    want: {
      constraint: 'class',
      attribute: undefined,
      message: 'request gpu: no device of class mig-7g on 2 nodes',
    },
  },
  {
    what: 'a selector that leaves none',
    demand: [
      wants('gpus', {
        gpu: {
          deviceClassName: 'gpu',
          selectors: [{ cel: { expression: 'device.attributes["gpu.nvidia.com"].uuid == "GPU-9"' } }],
        },
      }),
    ],
    fleet: [[dgxLike(), 2]],
    want: {
      constraint: 'selectors',
      attribute: undefined,
      message:
        'request gpu: 16 devices of class gpu on 2 nodes, none that its selectors and tolerations allow',
    },
  },
  {
    what: 'alignment by root where NICs tell none',
    demand: pairs(1, 1),
    minRung: 'pcie',
    fleet: [[gb300Like(), 2]],
    want: {
      constraint: 'alignment',
      attribute: pcieRoot,
      message: `request nic: 8 devices of class nic on 2 nodes, none has attribute ${pcieRoot}`,
    },
  },
  {
    what: 'alignment by NUMA node of more than one has',
    demand: pairs(1, 3),
    minRung: 'numa',
    fleet: [[gb300Like(), 2]],
    want: {
      constraint: 'alignment',
      attribute: numaNode,
      message: `alignment numa: none of 2 nodes has 1 device of class gpu and 3 devices of class nic that share a NUMA node (attribute ${numaNode})`,
    },
  },
  {
    what: 'two requests that together take more than there is',
    demand: [wants('a', { gpu: ['gpu', 5] }), wants('b', { gpu: ['gpu', 4] })],
    fleet: [[dgxLike(), 2]],
    want: {
      constraint: 'claims',
      attribute: undefined,
      message:
        'none of 2 nodes has 5 devices of class gpu and 4 devices of class gpu as the claims ask for them together',
    },
  },
];

for (const { what, demand, fleet, minRung, want } of cases)
  t.test(`no node can give ${what}`, async t => t.strictSame(verdict(fleet, demand, minRung), want));

t.test('one node that can do it is enough', async t => {
  t.equal(
    verdict(
      [
        [gb300Like(), 5],
        [p4dLike(), 1],
      ],
      pairs(1, 1, pcieRoot),
    ),
    undefined,
  );
  t.equal(verdict([[gb300Like(), 5]], pairs(2, 2), 'numa'), undefined);
});

t.test('nothing is said of what is not known', async t => {
  t.equal(verdict([], pairs(1, 1, pcieRoot)), undefined, 'an empty fleet');
  const beyond = { deviceClassName: 'gpu', selectors: [{ cel: { expression: 'beyond()' } }] };
  t.equal(
    verdict([[dgxLike(), 1]], [wants('gpu', { gpu: beyond })]),
    undefined,
    'a selector without a verdict',
  );
  const [nics, gpus] = gb300Like();
  const half = {
    ...gpus,
    spec: { ...gpus?.spec, pool: { name: 'n1', generation: 1, resourceSliceCount: 2 } },
  };
  if (nics === undefined || gpus === undefined) throw new Error('no slices');
  t.equal(
    verdict([[[nics, half as ResourceSlice], 1]], pairs(9, 9)),
    undefined,
    'a pool that is being written',
  );
  t.equal(verdict([[dgxLike(), 1]], []), undefined, 'no claims');
});

t.test('a fleet of equal nodes costs one node', async t => {
  let asked = 0;
  const counting = {
    matches: (...args: Parameters<typeof selectors.matches>) => {
      asked++;
      return selectors.matches(...args);
    },
  };
  const fleet = Array.from({ length: 500 }, () => nodeWith(gb300Like()));
  const question = { demand: pairs(1, 1, pcieRoot), minRung: undefined, classes, selectors: counting };
  const message = (nodes: number) =>
    `request nic: ${4 * nodes} devices of class nic on ${nodes} node${nodes === 1 ? '' : 's'}, none has attribute ${pcieRoot}`;
  t.equal(whyNeverFits({ ...question, fleet: fleet.slice(0, 1) })?.message, message(1));
  const askedOfOne = asked;
  t.equal(whyNeverFits({ ...question, fleet })?.message, message(500));
  t.equal(asked, 2 * askedOfOne);
});
