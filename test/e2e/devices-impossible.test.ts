import { readFile } from 'node:fs/promises';
import { Agent, request as httpsRequest } from 'node:https';
import t, { type Test } from 'tap';
import { parse } from 'yaml';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { p4dRacks, presetFleet } from '../../hack/bed/fleet-presets.ts';
import {
  conditionOf,
  createLws,
  isGatedByBerth,
  type LwsShape,
  listEvents,
  listPods,
  lwsObject,
  lwsPath,
  openBed,
  runBerth,
  sentenceOn,
  singlePod,
  until,
  waitForBound,
  waitForReady,
  withFleet,
} from './bed.ts';
import { claiming, createClaimTemplate, deviceNamespaces, exactly, named, pairRequests } from './devices.ts';

t.setTimeout(300_000);

const setName = 'leaderworkerset.sigs.k8s.io/name';
const pin = { 'berth.dev/mode': 'pin' };
const root = 'resource.kubernetes.io/pcieRoot';
const alignment = 'berth.dev/min-alignment';
const rdmaPair = [exactly('gpu', 'gpu.nvidia.com'), exactly('nic', 'dranet-rdma')];
const pairs: LwsShape = {
  name: 'pairs',
  size: 2,
  gpus: 0,
  worker: claiming({ templates: { devices: 'pair' } }),
};
const never = 'no node could give what its members ask for, even if it were empty';

t.test('groups that ask for devices no node could ever give', async t => {
  const cluster = await openBed(t);
  const create = await creator(t, cluster);
  const freshNamespace = deviceNamespaces(t, cluster);

  await t.test('are told so at creation and while they wait', async t => {
    await withFleet(t, cluster, presetFleet('gb300'));
    await runBerth(t, cluster);
    const namespace = await freshNamespace(t, pin);
    await createClaimTemplate(cluster, namespace, 'pair', rdmaPair, [{ matchAttribute: root }]);
    const sentence = `${never}: request nic: 64 devices of class dranet-rdma on 16 nodes, none has attribute ${root}`;

    const owner = lwsObject(namespace, pairs);
    // Berth sees the template a moment after it was created.
    await until('the warning', 20_000, async () => {
      return (await create(`${lwsPath(namespace)}?dryRun=All`, owner)).warnings.length > 0;
    });
    const { warnings } = await create(lwsPath(namespace), owner);
    t.match(warnings, [sentence], 'whoever creates the LeaderWorkerSet reads it');
    t.match(await sentenceOn(cluster, namespace, 'pairs-0'), sentence);
    const [leader] = await listPods(cluster, namespace);
    t.equal(leader && conditionOf(leader, 'berth.dev/Placed')?.reason, 'NeverFits');
    t.ok(leader && isGatedByBerth(leader), 'it waits');
    await until('an event on the LeaderWorkerSet', 20_000, async () =>
      (await listEvents(cluster, namespace)).some(
        ({ involvedObject, message }) =>
          involvedObject.kind === 'LeaderWorkerSet' && message.includes(sentence),
      ),
    );

    await t.test('but are let alone where the template is still to come', async t => {
      const shape = { ...pairs, name: 'early', worker: claiming({ templates: { devices: 'late' } }) };
      t.same((await create(lwsPath(namespace), lwsObject(namespace, shape))).warnings, []);
      t.match(await sentenceOn(cluster, namespace, 'early-0'), /ResourceClaimTemplate .*late is not there/);
      await createClaimTemplate(cluster, namespace, 'late', rdmaPair);
      await waitForReady(cluster, namespace, 2, 60_000, `${setName}=early`);
    });

    await t.test('and a demanded alignment that nobody can read is refused', async t => {
      const shape = { ...pairs, name: 'odd', annotations: { [alignment]: 'socket' } };
      const { status, text } = await create(lwsPath(namespace), lwsObject(namespace, shape));
      t.equal(status, 422);
      t.match(text, /min-alignment\] must be pcie, numa or host; got/);
    });
  });

  await t.test('are refused where that is the policy, until a node has what they lack', async t => {
    const { slices = [], ...rest } = p4dRacks({ racks: 1, hostsPerRack: 2 });
    const [nics, gpus] = [true, false].map(wanted =>
      slices.filter(({ spec }) => (spec.driver === 'dra.net') === wanted),
    );
    await withFleet(t, cluster, named('without-nics', { ...rest, slices: gpus ?? [] }));
    await runBerth(t, cluster, { devices: { impossible: 'refuse' } });
    const namespace = await freshNamespace(t, pin);
    await createClaimTemplate(cluster, namespace, 'pair', pairRequests);
    const owner = lwsObject(namespace, pairs);
    const reason = 'request nic: no device of class efa.networking.k8s.aws on 2 nodes';

    await until('the refusal', 20_000, async () => {
      return (await create(`${lwsPath(namespace)}?dryRun=All`, owner)).status !== 201;
    });
    const refused = await create(lwsPath(namespace), owner);
    t.match([refused.status, refused.text], [422, `${never}: ${reason}`], 'a LeaderWorkerSet');
    const labels = { 'berth.dev/group': 'g', 'berth.dev/group-size': '1', 'berth.dev/group-rank': '0' };
    const member = singlePod(namespace, 'g-0', {}, claiming({ templates: { devices: 'pair' } }), labels);
    const pods = `/api/v1/namespaces/${namespace}/pods`;
    const leader = await create(pods, member);
    t.match([leader.status, leader.text], [422, reason], 'a leader of a group without one');
    t.same((await listPods(cluster, namespace)).length, 0);

    const sliceApi = '/apis/resource.k8s.io/v1/resourceslices';
    for (const slice of nics ?? []) await cluster.request('POST', sliceApi, slice);
    t.teardown(async () => {
      for (const { metadata } of nics ?? []) await cluster.request('DELETE', `${sliceApi}/${metadata?.name}`);
    });
    await until(
      'the group to be let in',
      20_000,
      async () => (await create(lwsPath(namespace), owner)).status === 201,
    );
    await waitForBound(cluster, namespace, 2);
  });

  await t.test('are none where nodes have their devices by device plugin', async t => {
    await withFleet(t, cluster, presetFleet('half'));
    await runBerth(t, cluster, { devices: { impossible: 'refuse' } });
    const namespace = await freshNamespace(t, pin);
    await createLws(cluster, namespace, { name: 'many', size: 2, gpus: 9 });
    t.notMatch(await sentenceOn(cluster, namespace, 'many-0'), /even if it were empty/);
    await createLws(cluster, namespace, { name: 'fits', size: 2, gpus: 8 });
    await waitForReady(cluster, namespace, 2, 60_000, `${setName}=fits`);
  });
});

interface Answer {
  readonly status: number;
  readonly text: string;
  /** What the answer's Warning headers say. */
  readonly warnings: readonly string[];
}

type Create = (path: string, object: unknown) => Promise<Answer>;

/** Creates as admin and tells the warnings, which clients show and forget. */
async function creator(t: Test, cluster: Cluster): Promise<Create> {
  const { users } = parse(await readFile(cluster.kubeconfigPath, 'utf8'));
  const pemOf = (field: string) => Buffer.from(users[0].user[field], 'base64').toString();
  const agent = new Agent({
    ca: cluster.caPem,
    cert: pemOf('client-certificate-data'),
    key: pemOf('client-key-data'),
  });
  t.teardown(() => agent.destroy());
  const { hostname, port } = new URL(cluster.server);
  return (path, object) =>
    new Promise((resolve, reject) => {
      const options = { method: 'POST', path, hostname, port, agent };
      const headers = { 'content-type': 'application/json' };
      const request = httpsRequest({ ...options, headers }, async response => {
        let text = '';
        for await (const chunk of response.setEncoding('utf8')) text += chunk;
        const warning = response.headersDistinct['warning'] ?? [];
        const warnings = warning.map(value => /^299 - "(.*)"$/.exec(value)?.[1] ?? value);
        resolve({ status: response.statusCode ?? 0, text, warnings });
      });
      request.on('error', reject);
      request.end(JSON.stringify(object));
    });
}
