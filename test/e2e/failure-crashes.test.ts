import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { racks } from '../../hack/bed/fleet-presets.ts';
import type { Node, Pod } from '../../src/api/kubernetes.ts';
import { type Intent, isIntentError, parseIntent } from '../../src/failure/intent.ts';
import {
  createLws,
  groupsOf,
  isReady,
  listNodes,
  listPods,
  makeNamespace,
  nudger,
  openBed,
  splitGroups,
  until,
  waitForReady,
  watchPods,
  withFleet,
} from './bed.ts';
import {
  type DestructiveCalls,
  describeCall,
  fastFailure,
  forgetFailures,
  listIntents,
  reportDevice,
  watchDestruction,
} from './failures.ts';
import { type MortalBerth, startMortalBerth } from './mortal-berth.ts';
import { holderOf, startReplicas } from './replicas.ts';
import { seededRandom, seedOf } from './seeded-random.ts';
import { type BerthWrite, openWriteGate, type Verdict, type WriteGate } from './write-gate.ts';

t.setTimeout(600_000);

/** Brakes are for another test: here every fault is to be acted on as soon as it can be. */
const failure = {
  ...fastFailure,
  unhealthyAfterSeconds: 1,
  domainMinNodes: 1_000,
  massMinNodes: 1_000,
  inFlightMin: 100,
  inFlightPerOwner: 100,
  servingBurst: 100,
  brokenBurst: 100,
};
/** A new process waits this long for the Lease of a killed one. */
const killLease = { durationSeconds: 1, renewDeadlineSeconds: 0.8, retryPeriodSeconds: 0.2 };
const stopLease = { durationSeconds: 2, renewDeadlineSeconds: 1.5, retryPeriodSeconds: 0.4 };
const size = 2;
const randomFaults = 8;

interface Scene {
  readonly cluster: Cluster;
  readonly namespace: string;
  readonly nodes: ReadonlyMap<string, Node>;
  readonly gate: WriteGate;
  /** UIDs of all leaders that there ever were, by name. */
  readonly leaders: ReadonlyMap<string, ReadonlySet<string>>;
}

interface Fault {
  readonly group: string;
  readonly old: readonly Pod[];
  readonly leaderUid: string;
  readonly badNode: string;
  /** Members of all other groups. */
  readonly others: readonly (string | undefined)[];
  readonly calls: DestructiveCalls;
  readonly sinceMs: number;
}

interface Gap {
  readonly name: string;
  /** The write of Berth to kill it at. */
  readonly at: (scene: Scene, group: string) => (write: BerthWrite) => boolean;
  readonly verdict: Verdict;
  readonly found: Partial<Found>;
}

/** How far it had come when it was killed. */
interface Found {
  readonly phase: string;
  /** The old leader. */
  readonly leader: 'stays' | 'goes' | 'gone';
  readonly oldMembers: number;
  /** Members of the new incarnation that have a node. */
  readonly newMembers: number;
}

const gaps = {
  beforeIntent: {
    name: 'before the intent',
    at: (scene, group) => isIntentOf(scene, group, 'CREATE', 'evicting'),
    verdict: 'refuse',
    found: { phase: 'none', leader: 'stays', oldMembers: size, newMembers: 0 },
  },
  intentMade: {
    name: 'intent made, not evicted',
    at: isEvictionOf,
    verdict: 'refuse',
    found: { phase: 'evicting', leader: 'stays', oldMembers: size, newMembers: 0 },
  },
  evicted: {
    name: 'evicted, not recorded',
    at: (scene, group) => isIntentOf(scene, group, 'UPDATE', 'leaving'),
    verdict: 'refuse',
    found: { phase: 'evicting', leader: 'goes', newMembers: 0 },
  },
  leaving: {
    name: 'recorded, and the group is leaving',
    at: (scene, group) => isIntentOf(scene, group, 'UPDATE', 'leaving'),
    verdict: 'allow',
    found: { phase: 'leaving', leader: 'goes', newMembers: 0 },
  },
  gone: {
    name: 'the group is gone, not recorded',
    at: (scene, group) => isIntentOf(scene, group, 'UPDATE', 'returning'),
    verdict: 'refuse',
    found: { phase: 'leaving', leader: 'gone', oldMembers: 0 },
  },
  unplaced: {
    name: 'the group is gone, the new one not placed',
    at: isPlacementOf,
    verdict: 'refuse',
    found: { leader: 'gone', oldMembers: 0, newMembers: 0 },
  },
  placed: {
    name: 'placed, the intent not closed',
    at: (scene, group) => isIntentOf(scene, group, 'UPDATE', 'closed'),
    verdict: 'refuse',
    found: { phase: 'returning', leader: 'gone', oldMembers: 0, newMembers: size },
  },
} satisfies Record<string, Gap>;

/** Each for one failure, so that it is dealt with by as many processes as there are gaps, and one more. */
const series: readonly { readonly name: string; readonly gaps: readonly Gap[] }[] = [
  {
    name: 'before the intent, before the eviction is recorded, before the end is, before the intent is closed',
    gaps: [gaps.beforeIntent, gaps.evicted, gaps.gone, gaps.placed],
  },
  {
    name: 'before the eviction, while the group is leaving, before the new one is placed',
    gaps: [gaps.intentMade, gaps.leaving, gaps.unplaced],
  },
];

t.test('Berth is lost while it deals with a failure', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, { name: 'racks-12', nodes: racks({ racks: 12, hostsPerRack: 4, gpus: 8 }) });
  await t.test('fault 23, fault 24: kill -9', t => killed(t, cluster));
  await t.test('fault 25: SIGSTOP of the Lease holder, and SIGCONT later', t => suspended(t, cluster));
});

async function killed(t: Test, cluster: Cluster): Promise<void> {
  const berth = await startMortalBerth(t, cluster, { lease: killLease, failure });
  t.teardown(() => forgetFailures(cluster));
  const scene = await setTheScene(t, cluster, series.length + randomFaults);

  for (const [i, { name, gaps }] of series.entries()) {
    await t.test(`${name}: one eviction, and whole in the end`, async t => {
      const group = `llama-${i}`;
      let fault: Fault | undefined;
      for (const gap of gaps) {
        const met = killAt(scene, berth, group, gap);
        if (fault === undefined) fault = await hurt(scene, group);
        else await berth.start();
        await met;
        t.match(await lookAt(scene, fault), gap.found, gap.name);
        t.comment(`killed ${Date.now() - fault.sinceMs} ms after the report: ${gap.name}`);
      }
      await berth.start();
      if (fault === undefined) throw new Error('no gap');
      await recovery(t, scene, fault);
      await assertOneEviction(t, scene, fault);
    });
  }

  await t.test(`at random moments of ${randomFaults} failures: one eviction each`, async t => {
    const seed = seedOf(20_261_125);
    const random = seededRandom(seed);
    t.comment(`seed ${seed}`);
    const faults: Fault[] = [];
    for (let i = 0; i < randomFaults; i += 1) {
      await until('the Lease to be taken over', 30_000, () => isHolder(berth));
      const fault = await hurt(scene, `llama-${series.length + i}`);
      faults.push(fault);
      // Its last write comes about 3 s after the report.
      const afterMs = Math.round(random() * 3_500);
      await delay(afterMs);
      await berth.kill();
      const phases = (await listIntents(cluster))
        .filter(intent => faults.some(({ leaderUid }) => leaderUid === intent.leaderUid))
        .map(({ phase }) => phase);
      t.comment(`kill ${i + 1}, ${afterMs} ms after the report: intents ${phases.join(', ') || 'none'}`);
      await berth.start();
    }
    for (const fault of faults) await recovery(t, scene, fault);
    for (const fault of faults) await assertOneEviction(t, scene, fault, faults);
  });
}

async function suspended(t: Test, cluster: Cluster): Promise<void> {
  const replicas = await startReplicas(t, cluster, { lease: stopLease, failure });
  t.teardown(() => forgetFailures(cluster));
  const scene = await setTheScene(t, cluster, 3);

  await t.test('stopped as it makes the intent: the other one evicts, once', async t => {
    const holder = await holderOf(cluster, replicas);
    const stopped = scene.gate.holdNext(isIntentOf(scene, 'llama-0', 'CREATE', 'evicting'), async () => {
      holder.process.kill('SIGSTOP');
      return 'allow';
    });
    const fault = await hurt(scene, 'llama-0');
    await stopped;
    await takenOver(t, scene, replicas, holder, fault);
  });

  await t.test('stopped as it evicts: the other one sees it through, and evicts nothing', async t => {
    const holder = await holderOf(cluster, replicas);
    const stopped = scene.gate.holdNext(isEvictionOf(scene, 'llama-1'), async () => {
      holder.process.kill('SIGSTOP');
      return 'allow';
    });
    const fault = await hurt(scene, 'llama-1');
    await stopped;
    await takenOver(t, scene, replicas, holder, fault);
  });

  await t.test(
    'stopped with its eviction under way, which arrives when the group is new already',
    async t => {
      const holder = await holderOf(cluster, replicas);
      const release = Promise.withResolvers<Verdict>();
      t.teardown(() => release.resolve('refuse'));
      const arrived = Promise.withResolvers<void>();
      const late = scene.gate.holdNext(isEvictionOf(scene, 'llama-2'), () => {
        holder.process.kill('SIGSTOP');
        arrived.resolve();
        return release.promise;
      });
      const fault = await hurt(scene, 'llama-2');
      await arrived.promise;
      await recovery(t, scene, fault);
      release.resolve('allow');
      await late;
      await until('the API server to answer the late eviction', 20_000, async () => {
        return (await evictionsOf(fault)).length === 2;
      });
      t.strictSame(
        (await evictionsOf(fault)).map(({ code }) => code).sort(),
        [201, 409],
        'the late one meets another UID and is refused',
      );
      await takenOver(t, scene, replicas, holder, fault);
    },
  );
}

/** Kills Berth in the moment in which it asks for a write. */
async function killAt(scene: Scene, berth: MortalBerth, group: string, gap: Gap): Promise<void> {
  const { cluster, gate } = scene;
  const { verdict } = gap;
  let allowed = false;
  const write = await gate.holdNext(gap.at(scene, group), async () => {
    if (verdict === 'refuse') await berth.kill();
    else allowed = true;
    return verdict;
  });
  if (!allowed) return;
  const wanted = write.object.data?.['intent.json'];
  await until('the write to be done', 20_000, async () => {
    const path = `/api/v1/namespaces/berth-system/configmaps/${write.name}`;
    return (await cluster.request<BerthWrite['object']>('GET', path)).data?.['intent.json'] === wanted;
  });
  await berth.kill();
}

async function lookAt({ cluster, namespace }: Scene, fault: Fault): Promise<Found> {
  const intents = await listIntents(cluster);
  const oldUids = new Set(fault.old.map(pod => pod.metadata.uid));
  const members = groupsOf(await listPods(cluster, namespace)).get(fault.group) ?? [];
  const leader = members.find(pod => pod.metadata.uid === fault.leaderUid);
  const leaderState = leader?.metadata.deletionTimestamp === undefined ? 'stays' : 'goes';
  return {
    phase: intents.find(intent => intent.leaderUid === fault.leaderUid)?.phase ?? 'none',
    leader: leader === undefined ? 'gone' : leaderState,
    oldMembers: members.filter(pod => oldUids.has(pod.metadata.uid)).length,
    newMembers: members.filter(pod => !oldUids.has(pod.metadata.uid) && pod.spec.nodeName !== undefined)
      .length,
  };
}

/** Groups of one LWS, each in a rack, with a gate before what Berth writes. */
async function setTheScene(t: Test, cluster: Cluster, replicas: number): Promise<Scene> {
  const nodes = await listNodes(cluster);
  const namespace = await makeNamespace(t, cluster);
  const leaders = new Map<string, Set<string>>();
  watchPods(t, cluster, namespace, (_type, { metadata }) => {
    if (metadata.labels?.['leaderworkerset.sigs.k8s.io/worker-index'] !== '0') return;
    const { name = '', uid = '' } = metadata;
    leaders.set(name, (leaders.get(name) ?? new Set()).add(uid));
  });
  const annotations = { 'berth.dev/required-topology': 'rack' };
  await createLws(cluster, namespace, { name: 'llama', replicas, size, annotations });
  await waitForReady(cluster, namespace, replicas * size);
  const gate = await openWriteGate(t, cluster, namespace);
  return { cluster, namespace, nodes, gate, leaders };
}

/** A device of the group's last rank breaks. */
async function hurt({ cluster, namespace }: Scene, group: string): Promise<Fault> {
  const groups = groupsOf(await listPods(cluster, namespace));
  const old = groups.get(group) ?? [];
  const victim = old.at(-1);
  if (victim === undefined || old.length !== size) throw new Error(`${group} is not whole`);
  const others = [...groups].flatMap(([name, pods]) =>
    name === group ? [] : pods.map(pod => pod.metadata.uid),
  );
  const calls = await watchDestruction(cluster);
  const sinceMs = Date.now();
  await reportDevice(cluster, victim, 'Unhealthy');
  const [leader] = old;
  const { nodeName = '' } = victim.spec;
  return { group, old, leaderUid: leader?.metadata.uid ?? '', badNode: nodeName, others, calls, sinceMs };
}

/** Waits until the group is new and whole, and its intent closed. */
async function recovery(t: Test, { cluster, namespace }: Scene, fault: Fault): Promise<void> {
  const oldUids = new Set(fault.old.map(pod => pod.metadata.uid));
  const nudge = nudger(cluster);
  let state = '';
  await until(
    () => `${fault.group} to be new and whole and its intent closed (${state})`,
    60_000,
    async () => {
      const pods = await listPods(cluster, namespace);
      await nudge(pods);
      const members = groupsOf(pods).get(fault.group) ?? [];
      const intent = (await listIntents(cluster)).find(({ leaderUid }) => leaderUid === fault.leaderUid);
      const fresh = members.filter(pod => !oldUids.has(pod.metadata.uid) && isReady(pod));
      state = `${fresh.length} of ${members.length} members are new and ready, intent ${intent?.phase}`;
      return fresh.length === size && members.length === size && intent?.phase === 'closed';
    },
  );
  t.comment(`${fault.group}: new, whole and closed ${Date.now() - fault.sinceMs} ms after the report`);
}

async function evictionsOf({ calls, group }: Fault) {
  return (await calls.byBerth()).filter(
    ({ subresource, name }) => subresource === 'eviction' && name === group,
  );
}

/** @param all faults at about the same time, whose groups are not innocent either */
async function assertOneEviction(
  t: Test,
  { cluster, namespace, nodes, leaders }: Scene,
  fault: Fault,
  all: readonly Fault[] = [fault],
): Promise<void> {
  const { group, badNode } = fault;
  const own = (await fault.calls.byBerth()).filter(
    call => call.namespace === namespace && call.name === group && call.code < 300,
  );
  t.strictSame(own.map(describeCall), [`create pods/eviction ${group} 201`], `${group} was evicted once`);
  // KWOK deletes by name, and now and then a new pod for the old one of that name; LWS then starts over by itself.
  t.ok((leaders.get(group)?.size ?? 0) >= 2, `it is a new incarnation, of ${leaders.get(group)?.size}`);
  const intents = (await listIntents(cluster)).filter(intent => intent.group === `${namespace}/${group}`);
  t.strictSame(
    intents.map(({ leaderUid, phase, outcome }) => ({ leaderUid, phase, outcome })),
    [{ leaderUid: fault.leaderUid, phase: 'closed', outcome: 'recovered' }],
    'its one intent is closed as recovered',
  );
  const pods = await listPods(cluster, namespace);
  const members = groupsOf(pods).get(group) ?? [];
  t.notOk(
    members.some(pod => pod.spec.nodeName === badNode),
    'the bad node is not used',
  );
  t.strictSame(splitGroups(members, nodes), [], 'it is whole in one rack');
  const hurtUids = new Set(all.flatMap(({ old }) => old.map(pod => pod.metadata.uid)));
  const uids = new Set(pods.map(pod => pod.metadata.uid));
  t.strictSame(
    fault.others.filter(uid => !hurtUids.has(uid) && !uids.has(uid)),
    [],
    'all members of other groups are still there',
  );
}

/** Lets a stopped holder go on once the other one is done, and sees that it does no harm. */
async function takenOver(
  t: Test,
  scene: Scene,
  replicas: readonly MortalBerth[],
  stopped: MortalBerth,
  fault: Fault,
): Promise<void> {
  await recovery(t, scene, fault);
  t.not(await holderOf(scene.cluster, replicas), stopped, 'the other replica holds the Lease');
  stopped.process.kill('SIGCONT');
  await until('the stopped replica to know that it is no holder', 20_000, async () =>
    /^berth_lease_holder 0$/m.test(await stopped.process.metrics()),
  );
  // Whatever it had in hand is tried within a second.
  await delay(1_500);
  await assertOneEviction(t, scene, fault);
}

async function isHolder(berth: MortalBerth): Promise<boolean> {
  return /^berth_lease_holder 1$/m.test(await berth.process.metrics());
}

function isEvictionOf({ namespace }: Scene, group: string) {
  return (write: BerthWrite) =>
    write.resource === 'pods/eviction' && write.namespace === namespace && write.name === group;
}

/** Berth ungates a leader with its plan. */
function isPlacementOf({ namespace }: Scene, group: string) {
  return (write: BerthWrite) =>
    write.resource === 'pods' && write.namespace === namespace && write.name === group;
}

function isIntentOf(
  { namespace }: Scene,
  group: string,
  operation: BerthWrite['operation'],
  phase: Intent['phase'],
) {
  return (write: BerthWrite): boolean => {
    if (write.resource !== 'configmaps' || write.operation !== operation) return false;
    const intent = parseIntent(write.object.data?.['intent.json'] ?? '');
    return !isIntentError(intent) && intent.group === `${namespace}/${group}` && intent.phase === phase;
  };
}
