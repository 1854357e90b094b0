import t, { type Test } from 'tap';
import { readAudit } from '../../hack/bed/audit.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { p4dRacks } from '../../hack/bed/fleet-presets.ts';
import type { DeviceRequestAllocationResult, ResourceClaim, SliceDevice } from '../../src/api/dra.ts';
import type { Pod } from '../../src/api/kubernetes.ts';
import {
  createLws,
  createPod,
  isGatedByBerth,
  listNodes,
  listPods,
  openBed,
  rankOf,
  sentenceOn,
  singlePod,
  splitGroups,
  until,
  waitForBound,
  withFleet,
} from './bed.ts';
import {
  alignedPairs,
  claiming,
  claimOf,
  countSteered,
  createClaim,
  createClaimTemplate,
  deviceNamespaces,
  doublyHeld,
  exactly,
  holdGate,
  isSteered,
  listClaims,
  named,
  pairRequests,
  plannedDevice,
  publishedDevices,
  release,
  resultsOf,
  selecting,
  takeDevices,
} from './devices.ts';
import { startMortalBerth } from './mortal-berth.ts';

t.setTimeout(300_000);

const size = 4;
const lease = { durationSeconds: 2, renewDeadlineSeconds: 1.5, retryPeriodSeconds: 0.4 };
const berthUser = 'system:serviceaccount:berth-system:berth';

/** A group that is planned and pinned, while somebody else's gate keeps it from kube-scheduler. */
interface HeldGroup {
  readonly pods: readonly Pod[];
  /** The GPU that the plan has for rank 1, and its UUID. */
  readonly gpu: DeviceRequestAllocationResult;
  readonly uuid: string;
}

t.test('devices that change hands between plan and bind', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, named('four-p4d', p4dRacks({ racks: 2, hostsPerRack: 2 })));
  const nodes = await listNodes(cluster);
  const devices = await publishedDevices(cluster);
  const berth = await startMortalBerth(t, cluster, { lease });
  const freshNamespace = deviceNamespaces(t, cluster);

  await t.test('a stranger takes a planned GPU: the member gets another, as its template has it', async t => {
    const namespace = await freshNamespace(t);
    const strangers = await freshNamespace(t, {});
    const { pods, gpu, uuid } = await heldGroup(t, cluster, namespace, devices);
    await takeDevices(cluster, strangers, 'stranger', gpu.pool, [gpuByUuid(uuid)]);
    await release(cluster, pods);
    const bound = await waitForBound(cluster, namespace, size);
    const claims = await listClaims(cluster, namespace);
    t.strictSame(uidsOf(bound), uidsOf(pods), 'no member was made again');
    t.strictSame(splitGroups(bound, nodes), [], 'the group is whole in one rack');
    t.strictSame(doublyHeld([...claims, ...(await listClaims(cluster, strangers))]), []);
    const robbed = claimOf(claims, memberOf(bound, 1), 'devices');
    t.notOk(resultsOf(robbed === undefined ? [] : [robbed]).some(isDevice(gpu)), 'rank 1 has another GPU');
    const { steered, other } = countSteered(claims);
    t.comment(`${steered} requests got what was planned, ${other} what their template asks for`);
    t.equal(steered + other, 2 * size, 'every request was met');
    t.ok(other > 0, 'one of them by the original request');
  });

  await t.test('a planned GPU is tainted: nobody gets it, and the group is whole', async t => {
    const namespace = await freshNamespace(t);
    const strangers = await freshNamespace(t, {});
    const { pods, gpu, uuid } = await heldGroup(t, cluster, namespace, devices);
    await taint(t, cluster, gpu);
    await untilRefused(cluster, strangers, gpu.pool, uuid);
    await release(cluster, pods);
    // Berth may have made the member again, which then waits behind the stranger's gate, too.
    await until('the group to be bound', 60_000, async () => {
      const current = (await listPods(cluster, namespace)).filter(pod => !pod.metadata.deletionTimestamp);
      await release(cluster, current.filter(isHeld));
      return current.length === size && current.every(pod => pod.spec.nodeName !== undefined);
    });
    const bound = await listPods(cluster, namespace);
    t.strictSame(splitGroups(bound, nodes), [], 'whole in one rack');
    const claims = await listClaims(cluster, namespace);
    t.equal(resultsOf(claims).length, 2 * size, 'every request was met');
    t.notOk(resultsOf(claims).some(isDevice(gpu)), 'the tainted GPU is unused');
  });

  await t.test('claims that were made while Berth was down are made anew, steered', async t => {
    const namespace = await freshNamespace(t);
    const fillers = await freshNamespace(t, {});
    const allGpus = [exactly('gpus', 'gpu.nvidia.com', { count: 8 })];
    await Promise.all([...nodes.keys()].map(node => takeDevices(cluster, fillers, node, node, allGpus)));
    await createPairs(cluster, namespace);
    t.comment(`it waits: ${await sentenceOn(cluster, namespace, 'llama-0')}`);
    // While Berth is down the API server takes no member.
    await until('all members to be there', 30_000, async () => {
      return (await listPods(cluster, namespace)).length === size;
    });
    t.strictSame(await listClaims(cluster, namespace), [], 'no claim is made for pods without a plan');

    await berth.kill();
    let made = 0;
    await until(
      () => `claims to be made without Berth, ${made} of ${size} are there`,
      30_000,
      async () => {
        await nudge(cluster, await listPods(cluster, namespace));
        made = (await listClaims(cluster, namespace)).length;
        return made === size;
      },
    );
    const unsteered = await listClaims(cluster, namespace);
    t.notOk(unsteered.some(isSteered), 'they are as the template has them');
    const pods = await listPods(cluster, namespace);
    t.ok(pods.every(isGatedByBerth), 'their pods are gated still');
    const { nextOffset } = await readAudit(cluster.auditLogPath);
    await cluster.request('DELETE', `/api/v1/namespaces/${fillers}/pods`);
    await berth.start();

    const bound = await waitForBound(cluster, namespace, size);
    t.strictSame(uidsOf(bound), uidsOf(pods), 'no member was made again');
    const claims = await listClaims(cluster, namespace);
    const old = new Set(unsteered.map(({ metadata }) => metadata.uid));
    t.notOk(
      claims.some(({ metadata }) => old.has(metadata.uid)),
      'all claims are new',
    );
    t.ok(claims.every(isSteered), 'and steered');
    t.equal(alignedPairs(claims, devices).length, size, 'all pairs are on one PCIe root');
    const { events } = await readAudit(cluster.auditLogPath, nextOffset);
    const deletions = events
      .filter(({ user, verb, code }) => user === berthUser && verb.startsWith('delete') && code < 300)
      .map(({ resource, namespace: where, name }) => `${resource} ${where}/${name}`);
    const wanted = unsteered.map(({ metadata }) => `resourceclaims ${namespace}/${metadata.name}`);
    t.strictSame(deletions.sort(), wanted.sort(), 'Berth has deleted these claims and nothing else');
  });
});

/** Has a group planned and its claims steered; it stays unbound until it is released. */
async function heldGroup(
  t: Test,
  cluster: Cluster,
  namespace: string,
  devices: ReadonlyMap<string, SliceDevice>,
): Promise<HeldGroup> {
  await createPairs(cluster, namespace, [{ name: holdGate }]);
  let pods: Pod[] = [];
  let claims: ResourceClaim[] = [];
  await until('the group to be planned and its claims to be made', 30_000, async () => {
    pods = await listPods(cluster, namespace);
    claims = await listClaims(cluster, namespace);
    return pods.length === size && claims.length === size && !pods.some(isGatedByBerth);
  });
  t.ok(claims.every(isSteered), 'all claims are steered');
  const member = memberOf(pods, 1);
  const gpu = plannedDevice(claimOf(claims, member, 'devices'), 'gpu', pinnedNodeOf(member), devices);
  const attributes = gpu && devices.get(`${gpu.driver}/${gpu.pool}/${gpu.device}`)?.attributes;
  const uuid = attributes?.['uuid']?.string;
  if (gpu === undefined || uuid === undefined) throw new Error('the claim of rank 1 names no planned GPU');
  t.comment(`rank 1 is to get ${gpu.device} of ${gpu.pool}`);
  return { pods, gpu, uuid };
}

async function createPairs(
  cluster: Cluster,
  namespace: string,
  schedulingGates: readonly { readonly name: string }[] = [],
): Promise<void> {
  await createClaimTemplate(cluster, namespace, 'pair', pairRequests);
  await createLws(cluster, namespace, {
    name: 'llama',
    size,
    annotations: { 'berth.dev/required-topology': 'rack' },
    worker: { schedulingGates, ...claiming({ templates: { devices: 'pair' } }) },
  });
}

function gpuByUuid(uuid: string) {
  const expression = `device.attributes["gpu.nvidia.com"].?uuid.orValue("") == "${uuid}"`;
  return exactly('gpu', 'gpu.nvidia.com', selecting(expression));
}

/** Takes a device out of use for new claims; ends with the test. */
async function taint(t: Test, cluster: Cluster, device: DeviceRequestAllocationResult): Promise<void> {
  const path = '/apis/resource.k8s.io/v1/devicetaintrules';
  const name = `e2e-${process.pid}`;
  const { driver, pool, device: deviceName } = device;
  await cluster.request('POST', path, {
    apiVersion: 'resource.k8s.io/v1',
    kind: 'DeviceTaintRule',
    metadata: { name },
    spec: {
      deviceSelector: { driver, pool, device: deviceName },
      taint: { key: 'example.com/broken', effect: 'NoSchedule' },
    },
  });
  t.teardown(() => cluster.request('DELETE', `${path}/${name}`));
}

/** Waits until kube-scheduler gives a GPU to nobody any more; until it knows of the taint it does. */
async function untilRefused(cluster: Cluster, namespace: string, node: string, uuid: string): Promise<void> {
  let trials = 0;
  await until('kube-scheduler to know of the taint', 60_000, async () => {
    const name = `trial-${trials++}`;
    await createClaim(cluster, namespace, name, [gpuByUuid(uuid)]);
    const nodeSelector = { 'kubernetes.io/hostname': node };
    const spec = { nodeSelector, ...claiming({ claims: { devices: name } }) };
    await createPod(cluster, singlePod(namespace, name, {}, spec));
    const path = `/api/v1/namespaces/${namespace}/pods/${name}`;
    let verdict: boolean | undefined;
    await until('a trial to be decided', 20_000, async () => {
      const { spec, status } = await cluster.request<Pod>('GET', path);
      const scheduled = status?.conditions?.find(({ type }) => type === 'PodScheduled');
      if (scheduled?.reason === 'Unschedulable') verdict = true;
      if (spec.nodeName !== undefined) verdict = false;
      return verdict !== undefined;
    });
    await cluster.request('DELETE', path, { gracePeriodSeconds: 0 });
    return verdict === true;
  });
}

/** A change of a pod has kube-controller-manager look for its claims at once. */
async function nudge(cluster: Cluster, pods: readonly Pod[]): Promise<void> {
  const annotations = { 'example.com/nudged': String(Date.now()) };
  await Promise.all(
    pods.map(({ metadata }) =>
      cluster.request('PATCH', `/api/v1/namespaces/${metadata.namespace}/pods/${metadata.name}`, {
        metadata: { annotations },
      }),
    ),
  );
}

function isDevice(one: DeviceRequestAllocationResult) {
  return ({ driver, pool, device }: DeviceRequestAllocationResult) =>
    driver === one.driver && pool === one.pool && device === one.device;
}

function isHeld(pod: Pod): boolean {
  return !isGatedByBerth(pod) && (pod.spec.schedulingGates?.length ?? 0) > 0;
}

function memberOf(pods: readonly Pod[], rank: number): Pod {
  const pod = pods.find(candidate => rankOf(candidate) === rank);
  if (pod === undefined) throw new Error(`there is no rank ${rank}`);
  return pod;
}

function pinnedNodeOf(pod: Pod): string {
  const required = pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  const [term] = required?.nodeSelectorTerms ?? [];
  return term?.matchFields?.find(({ key }) => key === 'metadata.name')?.values?.[0] ?? '';
}

function uidsOf(pods: readonly Pod[]): (string | undefined)[] {
  return pods.map(({ metadata }) => metadata.uid).sort();
}
