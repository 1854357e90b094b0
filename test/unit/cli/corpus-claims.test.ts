import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { halfMigrated, migRacks } from '../../../hack/bed/fleet-presets.ts';
import type { PlanReport } from '../../../src/cli/plan-report.ts';
import { nodeOf } from '../../builders/fleet.ts';
import { corpusFolder } from '../webhooks/lws-pods.ts';
import { claimingSet, classOf, fleetFile } from './device-files.ts';
import { filesFor, listOf } from './input-files.ts';
import { runCli } from './run-cli.ts';

const gpuClass = classOf('gpu.nvidia.com', 'device.driver == "gpu.nvidia.com"');
const host = (name: string) => nodeOf({ name, labels: {} });
/** Nodes whose slices are in the corpus, each with what its driver's chart would install. */
const fleets = {
  p4d: listOf([host('ip-192-168-153-160.ec2.internal'), gpuClass]),
  gb300: listOf([
    host('aks-gpu-45139532-vmss000081'),
    gpuClass,
    classOf('dranet.net', 'device.driver == "dra.net"'),
  ]),
  cpu: listOf([host('dra-driver-cpu-worker'), classOf('dra.cpu', 'device.driver == "dra.cpu"')]),
  mig: fleetFile(migRacks({ racks: 1, hostsPerRack: 1 })),
  half: fleetFile(halfMigrated({ racks: 2, hostsPerRack: 1 })),
} as const;
type FleetName = keyof typeof fleets;

interface Case {
  readonly about: string;
  readonly fleet: FleetName;
  /** Entries of the corpus that are part of the fleet. */
  readonly slices?: readonly string[];
  /** The entry with the claims, and the template that each member of the group names. */
  readonly entry: string;
  readonly template: string;
  readonly namespace?: string;
  readonly size: number;
  /** Devices of the members, whichever has which, or why there are none. */
  readonly want: readonly (readonly string[])[] | RegExp;
  readonly alignment?: string;
}

const p4dSlices = ['C78', 'C79'];
const cases: readonly Case[] = [
  {
    about:
      'one GPU and one card at one root each, beside the allocated claim that has gpu-6 and the card a0-1b',
    fleet: 'p4d',
    slices: [...p4dSlices, 'C84'],
    entry: 'C83',
    template: 'gpu-efa-aligned',
    size: 3,
    want: [
      ['gpu-0', 'pci-0000-10-1b-0'],
      ['gpu-2', 'pci-0000-20-1b-0'],
      ['gpu-4', 'pci-0000-90-1b-0'],
    ],
    alignment: 'pcie',
  },
  {
    about: 'no fourth card beside that claim',
    fleet: 'p4d',
    slices: [...p4dSlices, 'C84'],
    entry: 'C83',
    template: 'gpu-efa-aligned',
    size: 4,
    want: /room for 3 of 4/,
  },
  {
    about: 'aligned by steering where the claim does not ask for it',
    fleet: 'p4d',
    slices: p4dSlices,
    entry: 'C83',
    template: 'gpu-efa-unaligned',
    size: 4,
    want: [
      ['gpu-0', 'pci-0000-10-1b-0'],
      ['gpu-2', 'pci-0000-20-1b-0'],
      ['gpu-4', 'pci-0000-90-1b-0'],
      ['gpu-6', 'pci-0000-a0-1b-0'],
    ],
    alignment: 'pcie',
  },
  {
    about: 'an attribute that no driver publishes any more fails the pod',
    fleet: 'p4d',
    slices: p4dSlices,
    entry: 'C89',
    template: '2-gpu-nic-aligned',
    size: 1,
    want: /claims cannot be allocated \(.*request gpu.*index/,
  },
  {
    about: 'an attribute of another cloud fails the pod',
    fleet: 'gb300',
    slices: ['C80'],
    entry: 'C86',
    template: '2nic-aligned-local-block',
    size: 1,
    want: /claims cannot be allocated \(.*request nic/,
  },
  {
    about: 'GPUs at bus addresses of another machine are not there',
    fleet: 'gb300',
    slices: ['C80'],
    entry: 'C88',
    template: 'h100-4gpu-4nic-numa-aligned',
    size: 1,
    want: /1 no matching devices/,
  },
  {
    about: 'a class that nobody has installed',
    fleet: 'p4d',
    slices: p4dSlices,
    entry: 'C95',
    template: 'multi-tpu',
    namespace: 'tpu-test',
    size: 1,
    want: /device class tpu\.google\.com does not exist/,
  },
  {
    about: 'the same for another vendor',
    fleet: 'p4d',
    slices: p4dSlices,
    entry: 'C51',
    template: 'intel-gaudi-claim-template-decode',
    size: 1,
    want: /device class gaudi\.intel\.com does not exist/,
  },
  {
    about: 'a template that only the controller of ComputeDomains makes',
    fleet: 'p4d',
    slices: p4dSlices,
    entry: 'C92',
    template: 'nvbandwidth-test-compute-domain-channel',
    size: 4,
    want: /the ResourceClaimTemplate default\/nvbandwidth-test-compute-domain-channel is not there/,
  },
  {
    about: 'the same, named by a rendered chart',
    fleet: 'p4d',
    slices: p4dSlices,
    entry: 'C53',
    template: 'llm-d-imex-channel-0',
    size: 2,
    want: /the ResourceClaimTemplate default\/llm-d-imex-channel-0 is not there/,
  },
];

async function reportOf(args: readonly string[], stdin: string): Promise<PlanReport & { code: number }> {
  const { code, out, err } = await runCli(['plan', ...args, '-o', 'json'], { stdin });
  if (out === '') throw new Error(err);
  const report: PlanReport = JSON.parse(out);
  return { ...report, code };
}

t.test('claims of real manifests are planned on nodes whose slices are real', async t => {
  if (!existsSync(corpusFolder)) {
    t.comment(`NOT CHECKED against real claims: there is no corpus at ${corpusFolder} (set BERTH_CORPUS)`);
    return;
  }
  const folders = new Map(readdirSync(corpusFolder).map(name => [name.split('-')[0] ?? '', name]));
  const folderOf = (entry: string) => join(corpusFolder, folders.get(entry) ?? entry);
  const file = filesFor(t, fleets);
  for (const { about, fleet, slices = [], entry, want, alignment, ...set } of cases) {
    const { code, requests } = await reportOf(
      ['--fleet', file(fleet), ...slices.map(folderOf), '-f', '-', folderOf(entry)],
      claimingSet(set),
    );
    const request = requests.find(({ name }) => name.endsWith('/llm-0'));
    if (want instanceof RegExp) {
      t.equal(code, 3, about);
      t.match(request?.reason?.message, want, about);
      continue;
    }
    const devices = request?.ranks?.map(rank => rank.devices?.map(({ device }) => device));
    t.same(devices?.map(names => names?.join(' ')).sort(), want.map(names => names.join(' ')).sort(), about);
    t.same(request?.alignment, { [alignment ?? '']: want.length }, about);
  }

  const shares = await reportOf(
    ['--fleet', file('cpu'), join(folderOf('C97'), 'resourceslice-grouped.yaml'), '-f', '-'],
    claimingSet({
      template: 'cpus',
      size: 2,
      body: { deviceClassName: 'dra.cpu', capacity: { requests: { 'dra.cpu/cpu': '48' } } },
    }),
  );
  t.same(
    shares.requests[0]?.ranks?.map(rank =>
      rank.devices?.map(({ device, consumedCapacity }) => [device, consumedCapacity]),
    ),
    [[['cpudevnuma000', { 'dra.cpu/cpu': '48' }]], [['cpudevnuma001', { 'dra.cpu/cpu': '48' }]]],
    'shares of a device that others may use too',
  );
  t.equal(shares.requests[0]?.alignment, undefined, 'a share of CPUs has no place to align');

  const extended = await reportOf(['--fleet', file('half'), '-f', folderOf('C94')], '');
  t.match(extended.requests, [{ outcome: 'fits', kind: 'single' }], 'a pod whose GPU may come either way');

  const mig = await reportOf(
    ['--fleet', file('mig'), '-f', folderOf('C90'), '-'],
    claimingSet({ template: 'mig-devices', namespace: 'gpu-test4', size: 1 }),
  );
  const [member] = mig.requests[0]?.ranks ?? [];
  t.same(
    member?.devices?.map(({ request }) => request),
    ['mig-1g-5gb-0', 'mig-1g-5gb-1', 'mig-2g-10gb', 'mig-3g-20gb'],
  );
  t.equal(member?.alignment, 'pcie', 'parts of one GPU are at one root');

  const inference = await reportOf(['--fleet', file('p4d'), '-f', folderOf('C61')], '');
  t.same(inference.requests, []);
  t.match(inference.notes.join(), /not 1 LLMInferenceService/, 'claims that another controller makes');
});
