import t from 'tap';
import { halfMigrated, migRacks, nvlinkDomains, p4dRacks } from '../../../hack/bed/fleet-presets.ts';
import type { ResourceSlice } from '../../../src/api/dra.ts';
import { berth, k8s } from '../../../src/api/names.ts';
import type { PlanReport } from '../../../src/cli/plan-report.ts';
import { podOf } from '../../builders/pods.ts';
import { claimingSet, fleetFile, gpusAndCard, templateOf } from './device-files.ts';
import { filesFor, listOf, rackLevels, setManifest } from './input-files.ts';
import { runCli } from './run-cli.ts';

const twoHosts = p4dRacks({ racks: 1, hostsPerRack: 2 });
const pairs = templateOf('gpu-efa', gpusAndCard(2));
const triples = templateOf('gpu-efa', gpusAndCard(3));
/** The template is a file of its own. */
const template = 'gpu-efa';

async function planned(args: readonly string[], stdin = ''): Promise<PlanReport & { code: number }> {
  const { code, out, err } = await runCli(['plan', ...args, '--levels', rackLevels, '-o', 'json'], { stdin });
  if (out === '') throw new Error(err);
  const report: PlanReport = JSON.parse(out);
  return { ...report, code };
}

function message({ requests }: PlanReport, name: string): string | undefined {
  return requests.find(request => request.name === name)?.reason?.message;
}

t.test('prints the devices of every member, and how near they are', async t => {
  const file = filesFor(t, {
    'fleet.json': fleetFile(twoHosts),
    'template.json': JSON.stringify(pairs),
    'lws.json': claimingSet({ template, replicas: 3, size: 3 }),
  });
  const args = ['plan', '--fleet', file('fleet.json'), '-f', file('lws.json'), file('template.json')];
  const { code, out, err } = await runCli([...args, '--levels', rackLevels, '-o', 'picture']);
  t.equal(code, 3);
  t.equal(err, '');
  t.equal(
    out,
    `└─ rack r00
   ▕AAAAAA··▏ 0,1,2 ▕BBBBBB··▏ 0,1,2

A default/llm-0
B default/llm-1
▒ taken by others   · free   × not usable; numbers are ranks

GROUP OR POD   PRIORITY  SIZE  OUTCOME  WHERE             HOSTS  ALIGNMENT  LEAVES FREE
default/llm-0         0     3  fits     host r00/r00-h00      1  3 pcie     1 hosts, 0 whole rack
default/llm-1         0     3  fits     host r00/r00-h01      1  3 pcie     0 hosts, 0 whole rack
default/llm-2         0     3  refused  -                     -  -          -

default/llm-0
  RANK  NODE     RACK  ALIGNMENT  DEVICES
     0  r00-h00  r00   pcie       gpu: gpu-0 gpu-1, efa: pci-0000-10-1b-0
     1  r00-h00  r00   pcie       gpu: gpu-2 gpu-3, efa: pci-0000-20-1b-0
     2  r00-h00  r00   pcie       gpu: gpu-4 gpu-5, efa: pci-0000-90-1b-0

default/llm-1
  RANK  NODE     RACK  ALIGNMENT  DEVICES
     0  r00-h01  r00   pcie       gpu: gpu-0 gpu-1, efa: pci-0000-10-1b-0
     1  r00-h01  r00   pcie       gpu: gpu-2 gpu-3, efa: pci-0000-20-1b-0
     2  r00-h01  r00   pcie       gpu: gpu-4 gpu-5, efa: pci-0000-90-1b-0

default/llm-2
  3 pods do not fit in the cluster: there is room for 2 of 3
  fits if default/llm-0 ends

FREE                    BEFORE   AFTER
hosts                   2 of 2  0 of 2
whole rack              1 of 1  0 of 1
most hosts in one rack       2       0
`,
  );
});

t.test('JSON names each device in full and counts members by the rung they reach', async t => {
  const file = filesFor(t, {
    'fleet.json': fleetFile(twoHosts),
    'mixed.json': listOf([triples, templateOf('single', gpusAndCard(1))]),
  });
  const fleet = ['--fleet', file('fleet.json'), '-f', file('mixed.json'), '-'];
  const three = await planned(fleet, claimingSet({ template, size: 2 }));
  t.same(three.requests[0]?.alignment, { numa: 2 }, 'three GPUs are at no root together');
  t.same(three.requests[0]?.ranks?.[0]?.devices?.at(0), {
    claim: 'fabric',
    request: 'gpu',
    driver: 'gpu.nvidia.com',
    pool: 'r00-h00',
    device: 'gpu-0',
  });
  const demanded = await planned(
    fleet,
    claimingSet({ template, size: 2, annotations: { [berth.minAlignment]: 'pcie' } }),
  );
  t.equal(demanded.code, 3);
  t.match(
    message(demanded, 'default/llm-0'),
    /2 of 2 nodes .*: 2 no free devices that share a PCIe root; no node could give .*alignment pcie: none of 2 nodes/,
  );
  const steered = await planned(fleet, claimingSet({ template: 'single', size: 4 }));
  t.same(steered.requests[0]?.alignment, { pcie: 4 });
  const unsteered = listOf([
    { kind: 'Namespace', metadata: { name: 'default', labels: { [berth.steerClaims]: 'false' } } },
    ...JSON.parse(claimingSet({ template: 'single', size: 4 })).items,
  ]);
  t.not((await planned(fleet, unsteered)).requests[0]?.alignment?.pcie, 4, 'as kube-scheduler would choose');
});

t.test('claims that are allocated in the fleet have their devices', async t => {
  const holder = podOf({ name: 'holder', namespace: 'default', node: 'r00-h00' });
  const claim = (uid: string | undefined) => ({
    apiVersion: 'resource.k8s.io/v1',
    kind: 'ResourceClaim',
    metadata: {
      name: 'holder-fabric',
      namespace: 'default',
      annotations: { [k8s.podClaimName]: 'fabric' },
      ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: 'holder', controller: true, uid }],
    },
    spec: {
      devices: { requests: [{ name: 'gpu', exactly: { deviceClassName: 'gpu.nvidia.com', count: 8 } }] },
    },
    status: {
      allocation: {
        devices: {
          results: Array.from({ length: 8 }, (_, index) => ({
            request: 'gpu',
            driver: 'gpu.nvidia.com',
            pool: 'r00-h00',
            device: `gpu-${index}`,
          })),
        },
      },
      reservedFor: [{ resource: 'pods', name: 'holder', uid }],
    },
  });
  for (const uid of [holder.metadata.uid, undefined]) {
    const file = filesFor(t, {
      'fleet.json': fleetFile(twoHosts),
      'used.json': listOf([holder, claim(uid)]),
      'template.json': JSON.stringify(pairs),
    });
    const args = ['--fleet', file('fleet.json'), file('used.json'), '-f', file('template.json'), '-'];
    const { requests, before } = await planned(args, claimingSet({ template, replicas: 2, size: 4 }));
    t.match(requests, [
      { outcome: 'fits', ranks: [{ node: 'r00-h01' }] },
      {
        reason: { message: /1 devices in use/ },
        unblock: { message: /fits if .*default\/holder.* ends/ },
      },
    ]);
    t.equal(before.freeHosts, 1);
  }
});

t.test('a claim is shared by a group, and one in the fleet stays as it is', async t => {
  const shared = (results: readonly object[]) => ({
    apiVersion: 'resource.k8s.io/v1',
    kind: 'ResourceClaim',
    metadata: { name: 'shared', namespace: 'default' },
    spec: { devices: { requests: [{ name: 'gpu', exactly: { deviceClassName: 'gpu.nvidia.com' } }] } },
    ...(results.length > 0 && {
      status: {
        allocation: {
          devices: { results },
          nodeSelector: {
            nodeSelectorTerms: [
              { matchFields: [{ key: 'metadata.name', operator: 'In', values: ['r00-h01'] }] },
            ],
          },
        },
      },
    }),
  });
  const set = JSON.parse(claimingSet({ template, size: 2 })).items[0];
  set.spec.leaderWorkerTemplate.workerTemplate.spec.resourceClaims = [
    { name: 'fabric', resourceClaimName: 'shared' },
  ];
  const allocated = shared([{ request: 'gpu', driver: 'gpu.nvidia.com', pool: 'r00-h01', device: 'gpu-3' }]);
  const file = filesFor(t, { 'fleet.json': fleetFile(twoHosts), 'claim.json': JSON.stringify(allocated) });
  const beside = listOf([set, shared([])]);
  const fresh = await planned(['--fleet', file('fleet.json'), '-f', '-'], beside);
  t.match(fresh.requests, [{ outcome: 'fits', level: 'host', hosts: 1 }]);
  const known = await planned(['--fleet', file('fleet.json'), file('claim.json'), '-f', '-'], beside);
  t.match(known.requests, [{ outcome: 'fits', ranks: [{ node: 'r00-h01' }, { node: 'r00-h01' }] }]);
  t.same(known.notes, ['ResourceClaim default/shared is in the fleet already and stays as it is']);
  const absent = await planned(['--fleet', file('fleet.json'), '-f', '-'], listOf([set]));
  t.match(absent.requests, [{ outcome: 'invalid', reason: { code: 'ClaimMissing' } }]);
  t.equal(message(absent, 'default/llm-0'), 'the ResourceClaim default/shared is not there');
});

t.test(
  'a template beside the workload is in its namespace, and goes before the one of the fleet',
  async t => {
    const file = filesFor(t, {
      'fleet.json': fleetFile(twoHosts),
      'old.json': JSON.stringify({ ...triples, metadata: { name: template, namespace: 'serving' } }),
      'new.json': JSON.stringify(pairs),
    });
    const set = claimingSet({ template });
    const fleet = ['--fleet', file('fleet.json'), file('old.json')];
    const devicesOf = ({ requests }: PlanReport) => requests[0]?.ranks?.[0]?.devices?.length;
    t.equal(devicesOf(await planned([...fleet, '-f', '-', '-n', 'serving'], set)), 4);
    t.equal(devicesOf(await planned([...fleet, '-f', file('new.json'), '-', '-n', 'serving'], set)), 3);
    const elsewhere = await planned([...fleet, '-f', '-'], set);
    t.equal(message(elsewhere, 'default/llm-0'), 'the ResourceClaimTemplate default/gpu-efa is not there');
  },
);

t.test('a rule that taints devices, beside a workload, says what would become of it', async t => {
  const rule = {
    apiVersion: 'resource.k8s.io/v1',
    kind: 'DeviceTaintRule',
    metadata: { name: 'no-gpus-here' },
    spec: {
      deviceSelector: { driver: 'gpu.nvidia.com', pool: 'r00-h00' },
      taint: { key: 'example.com/broken', effect: 'NoSchedule' },
    },
  };
  const file = filesFor(t, { 'fleet.json': fleetFile(twoHosts), 'rule.json': listOf([rule, pairs]) });
  const { requests } = await planned(
    ['--fleet', file('fleet.json'), '-f', file('rule.json'), '-'],
    claimingSet({ template, replicas: 2, size: 4 }),
  );
  t.match(requests, [
    { outcome: 'fits', ranks: [{ node: 'r00-h01' }] },
    { outcome: 'refused', reason: { message: /1 no matching devices/ } },
  ]);
});

t.test('slices are of the fleet, and are not read among the manifests', async t => {
  const { nodes, slices = [], deviceClasses = [] } = twoHosts;
  const file = filesFor(t, {
    'fleet.json': fleetFile({ nodes, deviceClasses }),
    'slices.json': listOf(slices),
  });
  const args = ['--fleet', file('fleet.json'), '-f', file('slices.json'), '-'];
  const { requests, notes } = await planned(
    args,
    listOf([pairs, ...JSON.parse(claimingSet({ template })).items]),
  );
  t.same(notes, ['ResourceSlices among the manifests are not read; name them with --fleet']);
  t.match(requests, [{ reason: { message: /2 no matching devices/ } }]);
});

t.test('IMEX channels have no place to be near to, and stay in one clique', async t => {
  const channel = templateOf('channel', {
    channel: { deviceClassName: 'compute-domain-default-channel.nvidia.com' },
    gpus: { deviceClassName: 'gpu.nvidia.com', count: 4 },
  });
  const alone = templateOf('alone', {
    channel: { deviceClassName: 'compute-domain-default-channel.nvidia.com' },
  });
  const file = filesFor(t, {
    'fleet.json': fleetFile(nvlinkDomains({ racks: 1 })),
    't.json': listOf([channel, alone]),
  });
  const args = ['--fleet', file('fleet.json'), '-f', file('t.json'), '-'];
  const { requests } = await planned(args, claimingSet({ template: 'channel', size: 2 }));
  t.match(requests[0], { outcome: 'fits', hosts: 2, ranks: [{ devices: { length: 5 } }] });
  const lone = await planned(args, claimingSet({ template: 'alone' }));
  t.match(lone.requests[0]?.ranks?.[0], { devices: [{ driver: 'compute-domain.nvidia.com' }] });
  t.equal(lone.requests[0]?.ranks?.[0]?.alignment, undefined);
  const { out } = await runCli(['plan', ...args, '--levels', rackLevels], {
    stdin: claimingSet({ template: 'alone' }),
  });
  t.match(out, /RANK {2}NODE +RACK {2}ALIGNMENT {2}DEVICES\n +0 +\S+ +- +- +channel: channel-0\n/);
});

t.test('one resource comes by device plugin here and by DRA there, and both are counted', async t => {
  const file = filesFor(t, { 'fleet.json': fleetFile(halfMigrated({ racks: 2, hostsPerRack: 1 })) });
  const args = ['--fleet', file('fleet.json'), '-f', '-'];
  const { requests, before, after } = await planned(args, setManifest({ size: 2, replicas: 2 }));
  t.same(before.hosts, 2);
  t.same(after.freeHosts, 0);
  const [plugged, published] = requests[0]?.ranks ?? [];
  t.match(plugged, { node: 'r00-h00', alignment: 'host' });
  t.equal(plugged?.devices, undefined);
  t.match(published, { node: 'r01-h00', devices: { length: 8 } });
  t.equal(published?.devices?.[0]?.claim, '<extended-resources>');
  t.equal(requests[1]?.outcome, 'refused');
  const single = (name: string) => ({
    kind: 'Pod',
    metadata: { name },
    spec: {
      nodeSelector: { [k8s.hostname]: 'r01-h00' },
      containers: [{ name: 'c', resources: { limits: { 'nvidia.com/gpu': 5 } } }],
    },
  });
  const singles = await planned(args, listOf([single('a'), single('b')]));
  t.same(
    singles.requests.map(({ name, outcome }) => `${name} ${outcome}`),
    ['default/a fits', 'default/b refused'],
    'the first has its devices when the second asks',
  );
  t.match(singles.requests[1]?.unblock?.message, /fits if pod default\/a ends/);
});

t.test('hosts are drawn by the devices that drivers publish', async t => {
  const cards = (twoHosts.slices ?? []).filter(({ spec }: ResourceSlice) => spec.driver === 'dra.net');
  const { nodes, deviceClasses = [] } = twoHosts;
  const file = filesFor(t, {
    'fleet.json': fleetFile(twoHosts),
    'cards.json': fleetFile({ nodes, slices: cards, deviceClasses }),
  });
  const pictureOf = async (name: string) =>
    (await runCli(['plan', '--fleet', file(name), '--levels', rackLevels, '-o', 'picture'])).out.split(
      '\n',
    )[1];
  t.equal(await pictureOf('fleet.json'), '   ▕········▏ ▕········▏');
  t.equal(await pictureOf('cards.json'), '   ▕·▏ ▕·▏', 'cards alone make no host with devices');

  const mig = filesFor(t, {
    'mig.json': fleetFile(migRacks({ racks: 1, hostsPerRack: 1 })),
    'part.json': claimingSet({ template: 'part', body: { deviceClassName: 'mig.nvidia.com', count: 2 } }),
  });
  const { out } = await runCli([
    ...['plan', '--fleet', mig('mig.json'), '-f', mig('part.json')],
    ...['--levels', rackLevels, '-o', 'picture'],
  ]);
  t.match(out, /^└─ rack r00\n {3}▕A·▏ 0\n/, 'two parts of one GPU are that GPU');
});
