import t, { type Test } from 'tap';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { p4dRacks } from '../../hack/bed/fleet-presets.ts';
import { createLws, listNodes, openBed, runBerth, splitGroups, waitForBound, withFleet } from './bed.ts';
import {
  alignedPairs,
  claiming,
  countSteered,
  createClaimTemplate,
  deviceNamespaces,
  doublyHeld,
  listClaims,
  named,
  pairRequests,
  publishedDevices,
} from './devices.ts';

t.setTimeout(300_000);

const groups = 2;
const size = 4;
const members = groups * size;

t.test('groups of 4 pods with one GPU and one RDMA NIC each, on two p4d machines in two racks', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, named('two-p4d', p4dRacks({ racks: 2, hostsPerRack: 1 })));
  const nodes = await listNodes(cluster);
  const freshNamespace = deviceNamespaces(t, cluster);
  const devices = await publishedDevices(cluster);

  const placed = async (t: Test, labels: Readonly<Record<string, string>>) => {
    const namespace = await freshNamespace(t, labels);
    await createPairs(cluster, namespace);
    const pods = await waitForBound(cluster, namespace, members);
    const claims = await listClaims(cluster, namespace);
    t.equal(claims.length, members, 'every pod has a claim');
    t.strictSame(doublyHeld(claims), [], 'no device is held twice');
    return { pods, claims, aligned: alignedPairs(claims, devices).length };
  };

  let stockAligned = members;
  await t.test('stock takes the first devices that fit', async t => {
    const { pods, claims, aligned } = await placed(t, {});
    stockAligned = aligned;
    const split = splitGroups(pods, nodes);
    t.comment(
      `stock: ${aligned} of ${members} pairs on one PCIe root, ${split.length} of ${groups} groups split`,
    );
    t.ok(aligned < members, 'some GPUs work with a NIC across the machine');
    t.strictSame(countSteered(claims), { steered: 0, other: 2 * members });
  });

  const berth = await runBerth(t, cluster);
  await t.test('with Berth each GPU has the NIC of its own PCIe root', async t => {
    const { pods, claims, aligned } = await placed(t, { 'berth.dev/mode': 'pin' });
    t.comment(`Berth: ${aligned} of ${members} pairs on one PCIe root, stock had ${stockAligned}`);
    t.equal(aligned, members, 'all pairs');
    t.strictSame(countSteered(claims), { steered: 2 * members, other: 0 });
    t.strictSame(splitGroups(pods, nodes), [], 'every group is whole in one rack');
  });

  await t.test(
    'a namespace that wants no steering has its groups whole, with devices as stock takes them',
    async t => {
      const before = await countUnsteered(berth);
      const labels = { 'berth.dev/mode': 'pin', 'berth.dev/steer-claims': 'false' };
      const { pods, claims } = await placed(t, labels);
      t.strictSame(countSteered(claims), { steered: 0, other: 2 * members });
      t.strictSame(splitGroups(pods, nodes), [], 'every group is whole in one rack');
      t.ok((await countUnsteered(berth)) - before >= members, 'each unsteered claim is counted');
    },
  );
});

async function createPairs(cluster: Cluster, namespace: string): Promise<void> {
  await createClaimTemplate(cluster, namespace, 'pair', pairRequests);
  await createLws(cluster, namespace, {
    name: 'llama',
    replicas: groups,
    size,
    annotations: { 'berth.dev/required-topology': 'rack' },
    worker: claiming({ templates: { devices: 'pair' } }),
  });
}

/** Over all reasons. */
async function countUnsteered({ metrics }: { metrics(): Promise<string> }): Promise<number> {
  const lines = (await metrics()).split('\n').filter(line => line.startsWith('berth_claims_unsteered_total'));
  return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}
