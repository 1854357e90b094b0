import t, { type Test } from 'tap';
import type { BerthProcess } from '../../hack/bed/berth.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { type Fleet, presetFleet, racks } from '../../hack/bed/fleet-presets.ts';
import type { Pod } from '../../src/api/kubernetes.ts';
import {
  domainsOf,
  listNodes,
  listPods,
  makeNamespace,
  openBed,
  runBerth,
  singlePod,
  until,
  waitForBound,
  withFleet,
} from './bed.ts';
import { countCalls, withExtender } from './extender.ts';

t.setTimeout(300_000);

const wantedSingles = 20;
const singles = { app: 'single' };
const singlesSelector = 'app=single';
/** The same share of a host's CPU and memory, for which stock prefers empty hosts: by GPUs alone it does not choose. */
const shareOfHost = { cpu: '12', memory: '128Gi' };

interface Outcome {
  /** Singles in racks that were whole. */
  readonly strayed: readonly string[];
  /** Calls of prioritize by outcome. */
  readonly calls: Readonly<Record<string, number>>;
}

interface BrokenFleet {
  readonly fleet: Fleet;
  /** GPUs in use by host; racks without any are whole. */
  readonly used: Readonly<Record<string, number>>;
}

t.test('24 hosts: three racks broken by a GPU, a host and two hosts, three whole', async t => {
  const used = { 'r00-h00': 1, 'r02-h01': 8, 'r04-h00': 1, 'r04-h03': 2 };
  await singlesGoToBrokenRacks(t, {
    fleet: { name: 'six-racks', nodes: racks({ racks: 6, hostsPerRack: 4, gpus: 8 }) },
    used,
  });
});

t.test('1,000 nodes: two racks of 56 broken', async t => {
  // Both far behind the 420 nodes at which the first sample ends.
  const used = { ...oneGpuOn('r30', 9), ...oneGpuOn('r55', 3) };
  await singlesGoToBrokenRacks(t, { fleet: presetFleet('thousand'), used });
});

async function singlesGoToBrokenRacks(t: Test, { fleet, used }: BrokenFleet): Promise<void> {
  const cluster = await openBed(t);
  const berth = await runBerth(t, cluster);
  const namespace = await makeNamespace(t, cluster, { 'berth.dev/mode': 'pin-extender' });
  const isSampled = fleet.nodes.length > 100;
  if (isSampled) {
    // Before there are nodes, so that it has them in the order of their creation: a sample is then a few whole racks.
    const configuration = { percentageOfNodesToScore: 0 };
    await withExtender(t, cluster, 'pin-extender', berth, { configuration });
  }
  await withFleet(t, cluster, fleet);
  const nodes = await listNodes(cluster);
  const rackOf = (host: string) => nodes.get(host)?.metadata.labels?.['example.com/rack'] ?? '';
  const broken = new Set(Object.keys(used).map(rackOf));
  const emptyBesideBroken =
    [...nodes.keys()].filter(host => broken.has(rackOf(host))).length - Object.keys(used).length;
  t.ok(
    emptyBesideBroken < wantedSingles,
    `broken racks have ${emptyBesideBroken} empty hosts, too few for who wants an empty host each`,
  );
  await breakRacks(cluster, namespace, used);

  /** Binds the singles and takes them away again. */
  const place = async (t: Test): Promise<Outcome> => {
    const before = await countCalls(berth, 'prioritize');
    const startedMs = Date.now();
    const pods = await bindSingles(cluster, namespace);
    const boundMs = Date.now() - startedMs;
    const calls = await callsSince(berth, before);
    const strayed = pods.filter(pod => !broken.has(rackOf(pod.spec.nodeName ?? '')));
    const opened = new Set(pods.map(pod => pod.spec.nodeName ?? '').filter(host => !(host in used)));
    t.comment(
      `${strayed.length} of ${pods.length} singles in ${domainsOf(strayed, nodes).size} racks that were whole, ${opened.size} untouched hosts opened, all bound after ${boundMs} ms, prioritize called ${JSON.stringify(calls)}`,
    );
    await removeSingles(cluster, namespace);
    return { strayed: strayed.map(({ metadata, spec }) => `${metadata.name} on ${spec.nodeName}`), calls };
  };

  if (isSampled) {
    await t.test('with stock sampling Berth is not shown the broken racks each time', async t => {
      const { strayed } = await place(t);
      t.ok(strayed.length > 0, `${strayed.length} opened whole racks`);
    });
    await cluster.restartScheduler('{}');
  }

  await t.test('stock kube-scheduler spreads them over whole racks', async t => {
    const { strayed, calls } = await place(t);
    t.ok(strayed.length >= wantedSingles - emptyBesideBroken, `${strayed.length} opened whole racks`);
    t.strictSame(calls, {}, 'it did not ask Berth');
  });

  await t.test('with the shipped configuration they land in broken racks', async t => {
    await withExtender(t, cluster, 'pin-extender', berth);
    const { strayed, calls } = await place(t);
    t.strictSame(strayed, [], 'all whole racks are still whole');
    t.strictSame(calls, { scored: wantedSingles }, 'kube-scheduler called prioritize for each of them');
  });
}

/** Puts pods with GPUs on hosts, past kube-scheduler. */
async function breakRacks(
  cluster: Cluster,
  namespace: string,
  used: Readonly<Record<string, number>>,
): Promise<void> {
  const hosts = Object.entries(used);
  await Promise.all(
    hosts.map(([nodeName, gpus]) =>
      cluster.request(
        'POST',
        `/api/v1/namespaces/${namespace}/pods`,
        singlePod(namespace, `on-${nodeName}`, resourcesOf(gpus), { nodeName }),
      ),
    ),
  );
  await waitForBound(cluster, namespace, hosts.length);
}

/** Never the same twice: the simulated kubelet ends pods by name, and a little late. */
let singlesMade = 0;

/** One after the other, as users come. */
async function bindSingles(cluster: Cluster, namespace: string): Promise<Pod[]> {
  for (let i = 0; i < wantedSingles; i++) {
    const pod = singlePod(namespace, `single-${++singlesMade}`, resourcesOf(1 + (i % 2)), {}, singles);
    await cluster.request('POST', `/api/v1/namespaces/${namespace}/pods`, pod);
  }
  let pods: Pod[] = [];
  await until('all singles to be bound', 60_000, async () => {
    pods = await listPods(cluster, namespace, singlesSelector);
    return pods.length === wantedSingles && pods.every(({ spec }) => spec.nodeName !== undefined);
  });
  return pods;
}

async function removeSingles(cluster: Cluster, namespace: string): Promise<void> {
  const query = `gracePeriodSeconds=0&labelSelector=${encodeURIComponent(singlesSelector)}`;
  await cluster.request('DELETE', `/api/v1/namespaces/${namespace}/pods?${query}`);
  await until('the singles to be gone', 20_000, async () => {
    return (await listPods(cluster, namespace, singlesSelector)).length === 0;
  });
}

function resourcesOf(gpus: number): Record<string, unknown> {
  return { limits: { 'nvidia.com/gpu': String(gpus) }, requests: shareOfHost };
}

function oneGpuOn(rack: string, hosts: number): Record<string, number> {
  return Object.fromEntries(
    Array.from({ length: hosts }, (_, i) => [`${rack}-h${String(i).padStart(2, '0')}`, 1]),
  );
}

/** Calls by outcome; outcomes without any are left out. */
async function callsSince(
  berth: BerthProcess,
  before: ReadonlyMap<string, number>,
): Promise<Record<string, number>> {
  const now = [...(await countCalls(berth, 'prioritize'))];
  const grown = now.map(([outcome, count]) => [outcome, count - (before.get(outcome) ?? 0)] as const);
  return Object.fromEntries(grown.filter(([, count]) => count > 0));
}
