import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type BerthProcess, type SchedulerMode, startBerthOn } from '../../hack/bed/berth.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { cpuHosts, racks } from '../../hack/bed/fleet-presets.ts';
import type { Pod } from '../../src/api/kubernetes.ts';
import {
  conditionOf,
  createLws,
  genericTopology,
  gpuResources,
  isGatedByBerth,
  listNodes,
  listPods,
  makeNamespace,
  openBed,
  rankOf,
  singlePod,
  splitGroups,
  until,
  watchPods,
  withFleet,
} from './bed.ts';
import { quantile } from './cpu-pods.ts';
import { awaitSteering, withExtender } from './extender.ts';
import { plannedNodes } from './invariants.ts';

t.setTimeout(600_000);

const lease = { durationSeconds: 4, renewDeadlineSeconds: 3, retryPeriodSeconds: 1 };
const groupSize = 4;
const podsPerArm = 8;
/** What one call may take in the shipped configuration of pin-extender. */
const timeoutMs = 300;

t.test('Berth is killed or stands still', async t => {
  const cluster = await openBed(t);
  // A rack for each group, and one for singles.
  await withFleet(t, cluster, {
    name: 'five-racks',
    nodes: [...racks({ racks: 5, hostsPerRack: 4, gpus: 8 }), ...cpuHosts(2)],
  });
  const bed = await startTrouble(t, cluster);

  await t.test('pin-extender: pins hold, and nobody waits for Berth', async t => {
    await bed.use(t, 'pin-extender');
    const runs = await bed.measure('runs');

    const pinned = await bed.plannedGroup('pinned-killed');
    await bed.kill();
    await cluster.startComponent('kube-scheduler');
    t.comment(`killed: a group pinned before is bound in ${await pinned.bound()} ms`);
    t.strictSame(await pinned.misplaced(), [], 'each member is where its pin says');
    const killed = await bed.measure('killed');
    await bed.restart();

    const stood = await bed.plannedGroup('pinned-stopped');
    bed.process().kill('SIGSTOP');
    await cluster.startComponent('kube-scheduler');
    t.comment(`stands still: a group pinned before is bound in ${await stood.bound()} ms`);
    t.strictSame(await stood.misplaced(), [], 'each member is where its pin says');
    const stopped = await bed.measure('stands still');
    const together = await bed.measureTogether('stands still, all at once');
    bed.process().kill('SIGCONT');

    t.comment(table([runs, killed, stopped, together]));
    for (const { name, cpuMs, gpuMs } of [killed, stopped]) {
      const limitMs = quantile(runs.cpuMs, 0.5) + timeoutMs;
      t.ok(quantile(cpuMs, 0.5) < limitMs, `${name}: pods that the extender does not manage are not delayed`);
      t.ok(gpuMs.every(Number.isFinite), `${name}: pods with GPUs are bound without Berth`);
    }
    t.ok(
      stopped.gpuMs.every(ms => ms >= timeoutMs),
      'control: a Berth that stands still delays those that it is asked about',
    );
  });

  await t.test('extender: members wait, and are bound when Berth is back', async t => {
    await bed.use(t, 'extender');
    t.comment(table([await bed.measure('runs')]));
    for (const trouble of ['killed', 'stopped'] as const) {
      const group = await bed.plannedGroup(`steered-${trouble}`);
      if (trouble === 'killed') await bed.kill();
      else bed.process().kill('SIGSTOP');
      await cluster.startComponent('kube-scheduler');
      const others = await bed.create(2);
      const allPods = async () => [...(await group.pods()), ...(await others.pods())];
      const wasTried = (pod: Pod) => conditionOf(pod, 'PodScheduled')?.reason === 'SchedulerError';
      await until('all pods to have been tried', 60_000, async () => (await allPods()).every(wasTried));
      await delay(2_000);
      const pods = await allPods();
      t.equal(pods.length, groupSize + 4, 'there are members and others');
      t.strictSame(
        pods.filter(({ spec }) => spec.nodeName !== undefined).map(({ metadata }) => metadata.name),
        [],
        `${trouble}: members wait, and so does every other pod`,
      );
      t.comment(`${trouble}: ${pods[0] && conditionOf(pods[0], 'PodScheduled')?.message}`);
      if (trouble === 'killed') await bed.restart();
      else bed.process().kill('SIGCONT');
      const [groupMs, othersMs] = await Promise.all([group.bound(), others.bound()]);
      t.comment(
        `${trouble}: once Berth is back the group is bound in ${groupMs} ms, others in ${othersMs} ms`,
      );
      t.strictSame(await group.misplaced(), [], 'each member is where the plan says');
      await others.remove();
    }
  });
});

/** How long pods outside groups took from CREATE to their node, sorted, in milliseconds. */
interface Arm {
  readonly name: string;
  readonly cpuMs: readonly number[];
  readonly gpuMs: readonly number[];
}

/** Pods that kube-scheduler is to bind. */
interface Awaited {
  pods(): Promise<readonly Pod[]>;
  /** Resolves when they are bound, with the time since this was called, in milliseconds. */
  bound(): Promise<number>;
}

interface Group extends Awaited {
  /** Members that are not on the node that the plan names, and racks if there are several. */
  misplaced(): Promise<readonly string[]>;
}

interface Others extends Awaited {
  remove(): Promise<void>;
}

interface Trouble {
  /** Has kube-scheduler ask Berth, as deploy/ ships it, and the namespace placed in this mode. */
  use(t: Test, mode: SchedulerMode): Promise<void>;
  process(): BerthProcess;
  kill(): Promise<void>;
  /** At the same address, as a container of a Deployment. */
  restart(): Promise<void>;
  /** Of pods made one after the other. */
  measure(name: string): Promise<Arm>;
  measureTogether(name: string): Promise<Arm>;
  create(ofEach: number): Promise<Others>;
  /** A group whose plan is written, of which kube-scheduler has seen nothing: this stops it. */
  plannedGroup(name: string): Promise<Group>;
}

async function startTrouble(t: Test, cluster: Cluster): Promise<Trouble> {
  const config = { topology: genericTopology, shutdownDelaySeconds: 0, lease };
  let berth = await startBerthOn(cluster, { config });
  const { webhookPort, extenderPort } = berth;
  t.teardown(async () => {
    berth.kill('SIGCONT');
    await berth.stop();
  });
  const opted = await makeNamespace(t, cluster, { 'berth.dev/mode': 'pin-extender' });
  const elsewhere = await makeNamespace(t, cluster, {});
  const pathOfPods = `/api/v1/namespaces/${elsewhere}/pods`;
  const boundAtMs = new Map<string, number>();
  watchPods(t, cluster, elsewhere, (_type, { metadata, spec }) => {
    const uid = metadata.uid ?? '';
    if (spec.nodeName !== undefined && !boundAtMs.has(uid)) boundAtMs.set(uid, performance.now());
  });
  const removeOthers = async () => {
    await cluster.request('DELETE', pathOfPods, { gracePeriodSeconds: 0 });
    await until('pods to be gone', 30_000, async () => (await listPods(cluster, elsewhere)).length === 0);
  };
  let made = 0;
  const createOne = async (kind: 'cpu' | 'gpu') => {
    // A name used again would be taken away by the simulated kubelet, which ends the pod before it a little later.
    const name = `${kind}-${++made}`;
    const resources = kind === 'cpu' ? { requests: { cpu: '1' } } : gpuResources(1);
    const startedMs = performance.now();
    const pod = await cluster.request<Pod>('POST', pathOfPods, singlePod(elsewhere, name, resources));
    return { startedMs, uid: pod.metadata.uid ?? '' };
  };
  /** Infinite when it is not bound in time. */
  const delayOf = async ({ startedMs, uid }: { readonly startedMs: number; readonly uid: string }) => {
    while (!boundAtMs.has(uid) && performance.now() - startedMs < 20_000) await delay(5);
    return (boundAtMs.get(uid) ?? Number.POSITIVE_INFINITY) - startedMs;
  };
  const sorted = (ms: readonly number[]) => [...ms].sort((a, b) => a - b);
  const inTurn = async (kind: 'cpu' | 'gpu') => {
    const tookMs: number[] = [];
    while (tookMs.length < podsPerArm) tookMs.push(await delayOf(await createOne(kind)));
    return sorted(tookMs);
  };
  return {
    async use(t, mode) {
      const metadata = { labels: { 'berth.dev/mode': mode } };
      await cluster.request('PATCH', `/api/v1/namespaces/${opted}`, { metadata });
      await withExtender(t, cluster, mode, berth);
      if (mode === 'extender') await awaitSteering(cluster, berth, opted);
    },
    process: () => berth,
    async kill() {
      berth.kill('SIGKILL');
      await berth.ended;
    },
    async restart() {
      berth = await startBerthOn(cluster, { config, install: false, webhookPort, extenderPort });
    },
    async measure(name) {
      const arm = { name, cpuMs: await inTurn('cpu'), gpuMs: await inTurn('gpu') };
      await removeOthers();
      return arm;
    },
    async measureTogether(name) {
      const waits = { cpu: [] as Promise<number>[], gpu: [] as Promise<number>[] };
      for (let each = 0; each < podsPerArm; each++) {
        for (const kind of ['gpu', 'cpu'] as const) waits[kind].push(delayOf(await createOne(kind)));
      }
      const arm = {
        name,
        cpuMs: sorted(await Promise.all(waits.cpu)),
        gpuMs: sorted(await Promise.all(waits.gpu)),
      };
      await removeOthers();
      return arm;
    },
    async create(ofEach) {
      for (let each = 0; each < ofEach; each++) {
        await createOne('gpu');
        await createOne('cpu');
      }
      return awaited(cluster, elsewhere, '', removeOthers);
    },
    async plannedGroup(name) {
      await cluster.stopComponent('kube-scheduler');
      const selector = `leaderworkerset.sigs.k8s.io/name=${name}`;
      const annotations = { 'berth.dev/required-topology': 'rack' };
      await createLws(cluster, opted, { name, size: groupSize, gpus: 8, annotations });
      let plan: readonly string[] = [];
      await until(`the plan of ${name}`, 30_000, async () => {
        const pods = await listPods(cluster, opted, selector);
        const leader = pods.find(pod => rankOf(pod) === 0);
        plan = (leader && plannedNodes(leader)) ?? [];
        return plan.length === groupSize && pods.length === groupSize && !pods.some(isGatedByBerth);
      });
      const group = awaited(cluster, opted, selector, () => Promise.resolve());
      return {
        ...group,
        async misplaced() {
          const pods = await group.pods();
          const astray = pods.filter(pod => pod.spec.nodeName !== plan[rankOf(pod)]);
          return [
            ...astray.map(({ metadata, spec }) => `${metadata.name} on ${spec.nodeName}`),
            ...splitGroups(pods, await listNodes(cluster)),
          ];
        },
      };
    },
  };
}

function awaited(cluster: Cluster, namespace: string, selector: string, remove: () => Promise<void>): Others {
  const pods = () => listPods(cluster, namespace, selector);
  return {
    pods,
    async bound() {
      const startedMs = performance.now();
      await until('pods to be bound', 60_000, async () =>
        (await pods()).every(({ spec }) => spec.nodeName !== undefined),
      );
      return Math.round(performance.now() - startedMs);
    },
    remove,
  };
}

function table(arms: readonly Arm[]): string {
  const cells = (ms: readonly number[]) =>
    [0.5, 1].map(share => quantile(ms, share).toFixed(0).padStart(8)).join('');
  const columns = ['CPU', 'worst', 'GPU', 'worst'].map(column => column.padStart(8)).join('');
  const rows = arms.map(({ name, cpuMs, gpuMs }) => `${name.padEnd(28)}${cells(cpuMs)}${cells(gpuMs)}`);
  const title = `CREATE to node in ms, medians; ${podsPerArm} pods of a kind one after the other`;
  return [title, `${'Berth'.padEnd(28)}${columns}`, ...rows].join('\n');
}
