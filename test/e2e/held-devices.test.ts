import t, { type Test } from 'tap';
import { readAudit } from '../../hack/bed/audit.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { racks } from '../../hack/bed/fleet-presets.ts';
import type { Pod } from '../../src/api/kubernetes.ts';
import {
  conditionOf,
  createLws,
  gpuResources,
  listNodes,
  listPods,
  makeNamespace,
  openBed,
  rankOf,
  runBerth,
  sentenceOn,
  singlePod,
  splitGroups,
  until,
  waitForBound,
  waitForReady,
  withFleet,
} from './bed.ts';
import { awaitSteering, withExtender } from './extender.ts';
import { plannedNodes } from './invariants.ts';

t.setTimeout(300_000);

const notReady = 'bed.berth.test/not-ready';
const groupSize = 4;
const hosts = 12;
const gpusPerHost = 8;
const gpusPerFiller = 2;
const fleetGpus = hosts * gpusPerHost;

/** As many fillers as find room beside the leader alone, and beside the whole group. */
function fillersBeside(gpusPerMember: number): { readonly leader: number; readonly group: number } {
  const beside = (members: number) => (fleetGpus - members * gpusPerMember) / gpusPerFiller;
  return { leader: beside(1), group: beside(groupSize) };
}

t.test('strangers want all GPUs after the leader is ready and before its workers exist', async t => {
  const cluster = await openBed(t);
  const fleet = { name: 'three-racks', nodes: racks({ racks: 3, hostsPerRack: 4, gpus: gpusPerHost }) };
  await withFleet(t, cluster, fleet);
  const nodes = await listNodes(cluster);
  const berth = await runBerth(t, cluster, { placement: { strandedAfterSeconds: 1 } });
  const fillers = await makeNamespace(t, cluster, {});

  const cases = [
    { mode: 'pin-extender', gpusPerMember: 8, what: 'whole hosts' },
    { mode: 'pin-extender', gpusPerMember: 6, what: 'a part of each host' },
    { mode: 'extender', gpusPerMember: 8, what: 'whole hosts' },
    { mode: 'extender', gpusPerMember: 6, what: 'a part of each host' },
  ] as const;
  for (const { mode, gpusPerMember, what } of cases) {
    await t.test(`mode ${mode}, ${what}: held devices stay held, and workers get them`, async t => {
      const beside = fillersBeside(gpusPerMember);
      await withExtender(t, cluster, mode, berth);
      const namespace = await makeNamespace(t, cluster, { 'berth.dev/mode': mode });
      if (mode === 'extender') await awaitSteering(cluster, berth, namespace);
      const { nextOffset } = await readAudit(cluster.auditLogPath);
      const plan = await readyLeaderWithoutWorkers(t, cluster, namespace, gpusPerMember);

      const startedMs = Date.now();
      await createFillers(cluster, fillers, beside.leader);
      await until('fillers to fill what is not held', 60_000, async () => {
        const pods = await listPods(cluster, fillers);
        return pods.every(isSettled) && pods.filter(isBound).length >= beside.group;
      });
      const pods = await listPods(cluster, fillers);
      const bound = pods.filter(isBound);
      const refused = pods.filter(pod => !isBound(pod));
      t.comment(
        `${bound.length} of ${beside.leader} fillers bound and ${refused.length} refused within ${Date.now() - startedMs} ms`,
      );
      t.equal(bound.length, beside.group, 'fillers have all GPUs but those that are held');
      t.strictSame(robbedSeats(bound, plan, gpusPerMember), [], 'none of them has a held one');
      const reasons = refused.map(pod => conditionOf(pod, 'PodScheduled')?.message ?? '');
      t.ok(
        reasons.every(reason => reason.includes('berth: the devices of this node are held')),
        `those that wait are told why: ${reasons[0]}`,
      );

      const resumedMs = Date.now();
      await cluster.startComponent('lws');
      const members = await waitForBound(cluster, namespace, groupSize);
      t.comment(`all workers bound ${Date.now() - resumedMs} ms after LWS was started again`);
      t.strictSame(seatsOf(members), plan, 'every member is on its planned node');
      t.strictSame(splitGroups(members, nodes), [], 'the group is whole in one rack');
      await assertNobodyRemoved(t, cluster, { fromOffset: nextOffset, namespace, fillers });
    });
  }

  await t.test(
    'mode pin without the extender: they take the seats, and the workers wait for them',
    async t => {
      const namespace = await makeNamespace(t, cluster);
      const { nextOffset } = await readAudit(cluster.auditLogPath);
      const plan = await readyLeaderWithoutWorkers(t, cluster, namespace, 8);
      const wanted = fillersBeside(8).leader;
      await createFillers(cluster, fillers, wanted);
      const pods = await waitForBound(cluster, fillers, wanted);
      const robbed = robbedSeats(pods, plan, 8);
      t.comment(`${pods.length} of ${wanted} fillers bound; ${robbed.join('; ')}`);
      t.equal(robbed.length, groupSize - 1, 'the seats of all workers are taken');

      await cluster.startComponent('lws');
      const sentence = await sentenceOn(cluster, namespace, 'late-0');
      t.comment(`the leader says: ${sentence}`);
      t.match(sentence, /^no other seat for late-0-\d in the domain of its group$/, 'the leader says so');
      await until('all workers to exist', 20_000, async () => {
        return (await listPods(cluster, namespace)).length === groupSize;
      });
      const members = await listPods(cluster, namespace);
      t.equal(members.filter(isBound).length, 1, 'the leader keeps its GPUs, alone');

      const startedMs = Date.now();
      await assertNobodyRemoved(t, cluster, { fromOffset: nextOffset, namespace, fillers });
      const whole = await waitForBound(cluster, namespace, groupSize);
      t.comment(`all workers bound ${Date.now() - startedMs} ms after the fillers were told to go`);
      t.strictSame(
        splitGroups(whole, nodes),
        [],
        'when the fillers have gone the group is whole in one rack',
      );
    },
  );
});

/**
 * Has a group planned and its leader Ready, with LWS stopped before it makes the workers; LWS runs again when the test
 * ends. The planned nodes by rank.
 */
async function readyLeaderWithoutWorkers(
  t: Test,
  cluster: Cluster,
  namespace: string,
  gpusPerMember: number,
): Promise<readonly string[]> {
  t.teardown(() => cluster.startComponent('lws').catch(() => {}));
  await createLws(cluster, namespace, {
    name: 'late',
    size: groupSize,
    gpus: gpusPerMember,
    annotations: { 'berth.dev/required-topology': 'rack' },
    podAnnotations: { [notReady]: 'true' },
    spec: { startupPolicy: 'LeaderReady' },
  });
  // In mode extender the leader may be bound a moment before the plan is written, and without LWS's webhook it cannot be.
  await until('the leader to be bound and to carry its plan', 30_000, async () => {
    const [leader] = await listPods(cluster, namespace);
    return leader?.spec.nodeName !== undefined && plannedNodes(leader) !== undefined;
  });
  await cluster.stopComponent('lws');
  // As a kubelet would: for anything but the status LWS's webhook would have to answer.
  const conditions = [{ type: 'Ready', status: 'True', lastTransitionTime: new Date().toISOString() }];
  await cluster.request(
    'PATCH',
    `/api/v1/namespaces/${namespace}/pods/late-0/status`,
    { status: { phase: 'Running', conditions } },
    'application/strategic-merge-patch+json',
  );
  const [leader] = await waitForReady(cluster, namespace, 1);
  const plan = leader && plannedNodes(leader);
  t.equal(plan?.length, groupSize, 'the leader is ready, alone, and carries the plan of the whole group');
  return plan ?? [];
}

/** Never the same twice: the simulated kubelet ends pods by name, and a little late. */
let fillersMade = 0;

async function createFillers(cluster: Cluster, namespace: string, count: number): Promise<void> {
  const path = `/api/v1/namespaces/${namespace}/pods`;
  await Promise.all(
    Array.from({ length: count }, () => {
      const name = `filler-${++fillersMade}`;
      return cluster.request('POST', path, singlePod(namespace, name, gpuResources(gpusPerFiller)));
    }),
  );
}

function isBound(pod: Pod): boolean {
  return pod.spec.nodeName !== undefined;
}

function isSettled(pod: Pod): boolean {
  return isBound(pod) || conditionOf(pod, 'PodScheduled')?.reason === 'Unschedulable';
}

function seatsOf(members: readonly Pod[]): readonly (string | undefined)[] {
  return [...members].sort((a, b) => rankOf(a) - rankOf(b)).map(pod => pod.spec.nodeName);
}

/** Seats for which there is no room left beside the fillers. */
function robbedSeats(fillers: readonly Pod[], plan: readonly string[], gpusPerMember: number): string[] {
  return plan.flatMap((node, rank) => {
    const taken = fillers.filter(pod => pod.spec.nodeName === node).length * gpusPerFiller;
    const free = gpusPerHost - taken;
    return free >= gpusPerMember ? [] : [`rank ${rank} on ${node} wants ${gpusPerMember}, ${free} are free`];
  });
}

/** Judged from the audit log, which is then shown to tell of removals: the fillers are taken away. */
async function assertNobodyRemoved(
  t: Test,
  cluster: Cluster,
  since: { readonly fromOffset: number; readonly namespace: string; readonly fillers: string },
): Promise<void> {
  const { fromOffset, namespace, fillers } = since;
  const removals = async () =>
    (await readAudit(cluster.auditLogPath, fromOffset)).events
      .filter(event => [namespace, fillers].includes(event.namespace) && !event.dryRun && event.code < 300)
      .filter(event => event.verb.startsWith('delete') || event.subresource === 'eviction')
      .map(({ verb, resource, name, user }) => `${user}: ${verb} ${resource} ${name}`);
  t.strictSame(await removals(), [], 'nobody was deleted or evicted');
  await cluster.request('DELETE', `/api/v1/namespaces/${fillers}/pods?gracePeriodSeconds=0`);
  await until('the audit log to tell of it', 10_000, async () => (await removals()).length > 0);
  t.match(await removals(), [/: deletecollection pods/], 'control: the audit log tells of deletions');
}
