import t from 'tap';
import { berth } from '../../../src/api/names.ts';
import { parseIntent } from '../../../src/failure/intent.ts';
import { parsePreemption } from '../../../src/failure/preemption.ts';
import type { ApiRequest } from '../../../src/kube/api-client.ts';
import { ApiError, ApiUnreachable } from '../../../src/kube/api-errors.ts';
import { LwsGroup, type LwsParts } from '../../builders/lws-group.ts';
import { configOf, FakeCluster, groupsOf } from '../failure/fake-cluster.ts';
import { PreemptionReplica, type PreemptionReplicaOptions } from './preemption-replica.ts';

// Longer than it takes by far: machines may be busy.
t.setTimeout(180_000);

const patienceMs = 5_000;

/** Four racks of four nodes, all taken: by six groups of two that have a rack and a half each, or by singles. */
async function fullFleet(
  options: PreemptionReplicaOptions & { readonly singles?: number; readonly size?: number } = {},
) {
  const { singles = 0, size = 2, ...rest } = options;
  const cluster = new FakeCluster(groupsOf((16 - singles) / size, size, 'low'), 16, 4, { gated: true });
  for (let i = 0; i < singles; i += 1) cluster.addSingle(`single-${i}`, `n${15 - i}`);
  const replica = new PreemptionReplica(cluster, rest);
  await replica.run(5_000);
  return { cluster, replica };
}

function bigGroup(more: Partial<LwsParts> = {}): LwsGroup {
  const annotations = { [berth.requiredTopology]: 'rack' };
  return new LwsGroup({ name: 'big', size: 4, worker: { gpu: 8 }, annotations, ...more });
}

function nodesOf(cluster: FakeCluster, group: LwsGroup): readonly (string | undefined)[] {
  return cluster.podsOf(group).map(({ pod }) => pod.spec.nodeName);
}

const isPlaced = (cluster: FakeCluster, group: LwsGroup) =>
  nodesOf(cluster, group).length === group.parts.size && !nodesOf(cluster, group).includes(undefined);

function recordsOf(cluster: FakeCluster) {
  return [...cluster.configMaps.values()].flatMap(({ data }) => {
    const record = parsePreemption(data?.['preemption.json'] ?? '');
    return 'code' in record ? [] : [record];
  });
}

function intentsOf(cluster: FakeCluster) {
  return [...cluster.configMaps.values()].flatMap(({ data }) => {
    const intent = parseIntent(data?.['intent.json'] ?? '');
    return 'code' in intent ? [] : [intent];
  });
}

const isWrite = ({ method }: ApiRequest) => method !== 'GET';
const isEviction = ({ path }: ApiRequest) => path.endsWith('/eviction');

t.test('a group of higher priority gets its place from the fewest whole groups', async t => {
  const { cluster, replica } = await fullFleet();
  t.ok(
    cluster.groups.every(group => isPlaced(cluster, group)),
    'the fleet is full',
  );
  const big = bigGroup();
  cluster.arrive(big, 100);
  await replica.run(patienceMs - 1_000);
  t.same(cluster.destructive, [], 'not before it has waited');
  await replica.run(1_500);
  t.equal(recordsOf(cluster).length, 1);
  await replica.run(10_000);
  t.equal(cluster.destructive.length, 2, `${cluster.destructive}`);
  t.ok(isPlaced(cluster, big));
  const racks = new Set(nodesOf(cluster, big).map(node => Math.floor(Number(node?.slice(1)) / 4)));
  t.equal(racks.size, 1, 'whole in one rack');
  const [record] = recordsOf(cluster);
  t.match(record, { group: big.key, priority: 100, ended: { outcome: 'placed' } });
  t.same(
    record?.victims.map(({ uid }) => `evict ${uid}`).sort(),
    [...cluster.destructive].sort(),
    'those that were decided on, and nobody else',
  );
  t.same(replica.outcomes, ['begun', 'placed']);
  const intents = intentsOf(cluster);
  t.same(
    intents.map(({ signal, outcome }) => `${signal} ${outcome}`),
    ['Preempted preempted', 'Preempted preempted'],
  );
  for (const { group, leaderUid } of intents) {
    const own = cluster.groups.find(({ key }) => key === group);
    const pods = own === undefined ? [] : cluster.podsOf(own);
    t.notOk(
      pods.some(({ pod }) => pod.metadata.uid === leaderUid),
      `${group} is new`,
    );
    t.ok(
      pods.every(({ pod }) => pod.spec.nodeName === undefined),
      `${group} waits`,
    );
    t.match(replica.waits.get(own?.leaderName ?? ''), /2 pods do not fit/);
  }
  const told = [...new Set(replica.events)].filter(event => /^Preempt/.test(event));
  const [a, b] = record?.victims ?? [];
  t.same(told, [
    `Preempting: waits for ${a?.key} of priority 0 and ${b?.key} of priority 0 to leave`,
    'Preempted: preempted by group serving/big-0 of priority 100',
  ]);
  await replica.run(60_000);
  t.equal(cluster.destructive.length, 2, 'nothing follows');
  t.ok(isPlaced(cluster, big));
});

t.test('what it waits for stands on its leader', async t => {
  const { cluster, replica } = await fullFleet();
  cluster.interrupt = request => {
    if (isEviction(request)) throw new ApiUnreachable('no answer');
  };
  cluster.arrive(bigGroup(), 100);
  await replica.run(patienceMs + 8_000);
  t.match(
    replica.waits.get('big-0'),
    /4 pods do not fit .*; waits for serving\/low-\d of priority 0 and serving\/low-\d of priority 0 to leave$/,
  );
});

t.test('off by default: nothing is read, written or evicted for it', async t => {
  const { cluster, replica } = await fullFleet({ mode: 'off' });
  cluster.arrive(bigGroup(), 100);
  await replica.run(60_000);
  t.same(cluster.destructive, []);
  t.same(
    replica.requests.filter(({ query }) => String(query?.['labelSelector']).includes('preemption')),
    [],
  );
  t.same([...cluster.configMaps.keys()], []);
  t.match(replica.waits.get('big-0'), /4 pods do not fit/);
  t.notMatch(replica.waits.get('big-0'), /preemption/);
});

t.test('in observe it is told what would be done, once, and nothing is done', async t => {
  const { cluster, replica } = await fullFleet({ mode: 'observe' });
  cluster.arrive(bigGroup(), 100);
  await replica.run(90_000);
  t.same(cluster.destructive, []);
  t.same([...cluster.configMaps.keys()], []);
  t.same(replica.outcomes, ['would-preempt']);
  t.match(
    replica.waits.get('big-0'),
    /no preemption: preemption is in dry run; it would evict serving\/low-\d, /,
  );
});

t.test('nobody is evicted', async t => {
  const cases: readonly {
    readonly when: string;
    readonly priority?: number;
    readonly big?: Partial<LwsParts>;
    readonly settings?: PreemptionReplicaOptions['settings'];
    readonly set?: (cluster: FakeCluster) => void;
    readonly note: RegExp;
  }[] = [
    { when: 'priorities are equal', priority: 0, note: /no preemption: nothing of lower priority/ },
    {
      when: 'its own priority is lower',
      priority: -5,
      note: /no preemption: nothing of lower priority/,
    },
    {
      when: 'evictions are halted',
      set: cluster => cluster.configMaps.set('berth-config', configOf(true)),
      note: /no preemption: an administrator has halted all evictions/,
    },
    {
      when: 'it would cost too many',
      settings: { maxVictims: 1 },
      note: /no preemption: it would/,
    },
    {
      when: 'the namespace of the others has opted out',
      set: cluster => {
        cluster.namespaceLabels = { [berth.mode]: 'pin', [berth.failure]: 'off' };
      },
      note: /no preemption: nothing of lower priority/,
    },
    {
      when: 'their budgets do not allow it',
      set: cluster => {
        cluster.budgets.push({
          uid: 'uid-pdb',
          namespace: 'serving',
          name: 'keep',
          selector: {},
          disruptionsAllowed: 1,
          upToDate: true,
        });
      },
      note: /no preemption: it would have to evict serving\/low-\d, but PodDisruptionBudget keep/,
    },
    {
      when: 'a record cannot be read',
      set: cluster =>
        cluster.configMaps.set('berth-preemption-x', {
          metadata: { name: 'berth-preemption-x', labels: { [berth.preemption]: 'open' } },
          data: { 'preemption.json': '{}' },
        }),
      note: /no preemption: the record berth-preemption-x cannot be read \(version must be 1\); delete/,
    },
  ];
  for (const { when, priority = 100, big, settings, set, note } of cases) {
    await t.test(`when ${when}`, async t => {
      const { cluster, replica } = await fullFleet({ ...(settings && { settings }) });
      set?.(cluster);
      replica.preemption.reviewAll();
      cluster.arrive(bigGroup(big), priority);
      await replica.run(45_000, 500);
      t.same(cluster.destructive, []);
      t.equal(recordsOf(cluster).length, 0);
      t.match(replica.waits.get('big-0'), note);
    });
  }
});

t.test('preemptionPolicy Never is respected', async t => {
  const { cluster, replica } = await fullFleet();
  const big = bigGroup();
  cluster.arrive(big, 100);
  cluster.tick(250);
  for (const state of cluster.podsOf(big))
    state.pod = { ...state.pod, spec: { ...state.pod.spec, preemptionPolicy: 'Never' } };
  await replica.run(60_000, 500);
  t.same(cluster.destructive, []);
  t.match(replica.waits.get('big-0'), /no preemption: its preemptionPolicy is Never$/);
});

t.test('the leader of higher priority does not take along workers of another class', async t => {
  const { cluster, replica } = await fullFleet();
  const big = bigGroup();
  cluster.arrive(big, 100);
  const owner = cluster.owners.get('big');
  if (owner === undefined) throw new Error('no owner');
  const { leaderWorkerTemplate: template } = owner.spec;
  const { workerTemplate } = template;
  const leaderTemplate = {
    ...workerTemplate,
    spec: { ...workerTemplate.spec, priorityClassName: 'high' },
  };
  cluster.owners.set('big', {
    ...owner,
    spec: { ...owner.spec, leaderWorkerTemplate: { ...template, leaderTemplate } },
  });
  cluster.tick(250);
  for (const state of cluster.podsOf(big))
    if (state.rank > 0) state.pod = { ...state.pod, spec: { ...state.pod.spec, priority: 0 } };
  await replica.run(60_000, 500);
  t.same(cluster.destructive, []);
});

t.test('a group that vanishes before anybody was evicted costs nobody anything', async t => {
  const { cluster, replica } = await fullFleet();
  cluster.interrupt = ({ method, path, body }, when) => {
    const isRecord = JSON.stringify(body ?? '').includes('preemption.json');
    if (method !== 'POST' || !path.endsWith('/configmaps') || when !== 'after' || !isRecord) return;
    // Decided, and gone before the first step.
    cluster.owners.delete('big');
    cluster.groups.splice(
      cluster.groups.findIndex(group => group.setName === 'big'),
      1,
    );
    for (const state of cluster.pods.values())
      if (state.group?.setName === 'big') cluster.pods.delete(state.pod.metadata.uid ?? '');
    cluster.show(replica.cache);
  };
  cluster.arrive(bigGroup(), 100);
  await replica.run(30_000);
  t.same(cluster.destructive, []);
  t.match(recordsOf(cluster), [{ ended: { outcome: 'preemptor-gone' } }]);
  t.same(replica.outcomes, ['begun', 'preemptor-gone']);
});

t.test('claims are dropped between the last live look and the eviction', async t => {
  const { cluster, replica } = await fullFleet();
  const big = bigGroup();
  // The last answer before the eviction is about the halt, once an intent is there.
  cluster.interrupt = ({ path }, when) => {
    if (!path.endsWith('/berth-config') || when !== 'before' || intentsOf(cluster).length === 0) return;
    cluster.groups.splice(cluster.groups.indexOf(big), 1);
    cluster.owners.delete('big');
    for (const { pod } of cluster.podsOf(big)) cluster.pods.delete(pod.metadata.uid ?? '');
    cluster.show(replica.cache);
  };
  cluster.arrive(big, 100);
  await replica.run(30_000);
  t.same(cluster.destructive, []);
  t.equal(intentsOf(cluster)[0]?.outcome, 'overtaken');
});

t.test('room that comes by itself after the decision spares those who are not needed', async t => {
  const cases: readonly (readonly [string, (group: string, victims: readonly string[]) => boolean])[] = [
    ['the very victims end', (group, victims) => victims.includes(group)],
    ['others end elsewhere', (group, victims) => !victims.includes(group)],
  ];
  for (const [what, ends] of cases) {
    const { cluster, replica } = await fullFleet();
    let decided = false;
    cluster.interrupt = (_, when) => {
      const [record] = recordsOf(cluster);
      if (when !== 'after' || decided || record === undefined) return;
      decided = true;
      const victims = record.victims.map(({ key }) => key);
      for (const group of cluster.groups.filter(
        ({ key, setName }) => setName === 'low' && ends(key, victims),
      )) {
        cluster.groups.splice(cluster.groups.indexOf(group), 1);
        for (const { pod } of cluster.podsOf(group)) cluster.deleteInBackground(pod.metadata.uid ?? '');
      }
      cluster.show(replica.cache);
    };
    const big = bigGroup();
    cluster.arrive(big, 100);
    await replica.run(30_000);
    t.ok(decided, what);
    t.same(cluster.destructive, [], what);
    t.ok(isPlaced(cluster, big), what);
  }
});

t.test('victims that come back do not get the place, whoever is first', async t => {
  const { cluster, replica } = await fullFleet();
  const big = bigGroup();
  cluster.arrive(big, 100);
  const stolen: string[] = [];
  for (let i = 0; i < 80; i += 1) {
    await replica.run(250);
    for (const { pod, group } of cluster.pods.values()) {
      const wanted = recordsOf(cluster)[0]?.nodes ?? [];
      const isNew = group?.setName === 'low' && pod.metadata.uid?.endsWith('-2');
      if (isNew && wanted.includes(pod.spec.nodeName ?? '')) stolen.push(pod.metadata.name ?? '');
    }
  }
  t.same(stolen, []);
  t.ok(isPlaced(cluster, big));
});

t.test('one preemption at a time, and no more victims than the hour allows', async t => {
  const { cluster, replica } = await fullFleet({ settings: { maxVictimsPerHour: 3 } });
  const [first, second] = [bigGroup({ name: 'big' }), bigGroup({ name: 'huge' })];
  cluster.arrive(first, 100);
  cluster.arrive(second, 90);
  let most = 0;
  for (let i = 0; i < 60; i += 1) {
    await replica.run(500);
    most = Math.max(most, recordsOf(cluster).filter(({ ended }) => ended === undefined).length);
  }
  t.equal(most, 1);
  t.ok(isPlaced(cluster, first), 'the higher priority first');
  t.notOk(isPlaced(cluster, second));
  t.equal(cluster.destructive.length, 2);
  t.match(replica.waits.get('huge-0'), /no preemption: no more than 3 groups and pods .* within an hour$/);
});

t.test('groups that wait for the rate of failures keep no preemption waiting', async t => {
  const failure = {
    mode: 'evict',
    servingEvictionsPerSecond: 0.001,
    servingBurst: 1,
    certainAfterSeconds: 1,
    inFlightMin: 100,
    inFlightPerOwner: 100,
    inFlightPerDomain: 100,
  } as const;
  const { cluster, replica } = await fullFleet({ failure });
  const high = groupsOf(2, 2, 'high');
  for (const group of high) cluster.arrive(group, 200);
  await replica.run(60_000);
  const [first = '', second = ''] = high.map(group => nodesOf(cluster, group)[1]);
  cluster.setTaint(first, 'example.com/sick');
  await replica.run(3_000);
  cluster.setTaint(second, 'example.com/sick');
  await replica.run(3_000);
  t.ok(
    replica.events.some(text => /other groups were evicted only just now/.test(text)),
    'control: a failure is held by the rate',
  );
  const before = cluster.destructive.length;
  const big = bigGroup();
  cluster.arrive(big, 100);
  await replica.run(60_000);
  t.ok(cluster.destructive.length > before, 'others are evicted for it meanwhile');
  t.ok(isPlaced(cluster, big));
});

t.test('after one that came to nothing it waits, longer each time', async t => {
  const { cluster, replica } = await fullFleet({ settings: { keepPlaceSeconds: 10 } });
  cluster.evictionError = new ApiError({
    status: 429,
    reason: 'TooManyRequests',
    message: 'budget',
    causes: [{ reason: 'DisruptionBudget' }],
  });
  cluster.arrive(bigGroup(), 100);
  const begun: number[] = [];
  for (let i = 0; i < 400; i += 1) {
    await replica.run(1_000, 500);
    const known = replica.outcomes.filter(outcome => outcome === 'begun').length;
    if (known > begun.length) begun.push(i);
  }
  t.same(cluster.destructive, []);
  const [a = 0, b = 0, c = 0] = begun;
  t.ok(b - a >= 70 && c - b >= 130, `began after ${begun.join(', ')} s`);
  t.ok(replica.outcomes.includes('given-up'));
  t.ok(intentsOf(cluster).every(({ times, phase }) => times.evicted === undefined && phase === 'closed'));
});

t.test('pods outside groups', async t => {
  await t.test('are evicted by UID where they are the least damage', async t => {
    const { cluster, replica } = await fullFleet({ singles: 16 });
    const big = bigGroup();
    cluster.arrive(big, 100);
    await replica.run(20_000);
    t.equal(cluster.destructive.length, 4);
    t.ok(isPlaced(cluster, big));
    t.equal(intentsOf(cluster).length, 0);
    t.match(recordsOf(cluster), [{ ended: { outcome: 'placed' } }]);
    t.equal(replica.events.filter(event => event.startsWith('Preempted: ')).length, 4);
  });
  await t.test(
    'hold all when the API server refuses one, and are asked again no sooner than in 10 s',
    async t => {
      // Two singles and a group of two share the one rack that could be freed for less than two groups.
      const { cluster, replica } = await fullFleet({ singles: 2, size: 2 });
      cluster.evictionError = new ApiError({
        status: 429,
        reason: 'TooManyRequests',
        message: 'budget',
        causes: [{ reason: 'DisruptionBudget' }],
      });
      for (const group of cluster.groups)
        for (const state of cluster.podsOf(group)) {
          const inLastRack = ['n12', 'n13'].includes(state.pod.spec.nodeName ?? '');
          if (!inLastRack) state.pod = { ...state.pod, spec: { ...state.pod.spec, priority: 500 } };
        }
      const big = bigGroup();
      cluster.arrive(big, 100);
      await replica.run(20_000);
      t.same(cluster.destructive, []);
      t.equal(intentsOf(cluster).length, 0, 'the group is not touched before the singles go');
      t.ok(cluster.refusedEvictions <= 2, `${cluster.refusedEvictions} tries`);
      t.ok(
        replica.events.some(event => /^EvictionHeld: .*a PodDisruptionBudget does not allow it$/.test(event)),
      );
      cluster.evictionError = undefined;
      await replica.run(30_000);
      t.equal(cluster.destructive.length, 3);
      t.ok(isPlaced(cluster, big));
    },
  );
  await t.test('are spared where they would be back at once', async t => {
    const { cluster, replica } = await fullFleet({ singles: 16 });
    const owner = { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'rs', uid: 'uid-rs', controller: true };
    for (const state of cluster.pods.values())
      state.pod = { ...state.pod, metadata: { ...state.pod.metadata, ownerReferences: [owner] } };
    cluster.arrive(bigGroup(), 100);
    await replica.run(40_000);
    t.same(cluster.destructive, []);
    t.match(replica.waits.get('big-0'), /no preemption/);
    cluster.namespaceLabels = { [berth.mode]: 'pin', [berth.singles]: 'pin' };
    await replica.run(60_000);
    t.equal(cluster.destructive.length, 4, 'their successors are gated there');
  });
});

t.test('a kill or a lost answer at any write leaves one eviction per victim and a placed group', async t => {
  async function story(killAt: number, fault: (typeof faults)[number], singles: number) {
    const when = fault === 'killed before' ? 'before' : 'after';
    const { cluster, replica: first } = await fullFleet({ singles });
    let replica = first;
    let writes = 0;
    let killed = '';
    cluster.interrupt = (request, now) => {
      if (!isWrite(request) || request.method === 'PATCH' || now !== when) return;
      if (writes++ !== killAt) return;
      killed = `${request.method} ${request.path}`;
      if (fault !== 'answer lost') replica.kill();
      throw new ApiUnreachable('killed');
    };
    const big = bigGroup();
    cluster.arrive(big, 100);
    const isOver = () =>
      isPlaced(cluster, big) && recordsOf(cluster).every(({ ended }) => ended !== undefined);
    for (let i = 0; i < 240 && !(i % 20 === 19 && isOver()); i += 1) {
      if (replica.isDead) replica = new PreemptionReplica(cluster, { clock: replica.clock });
      if (i % 30 === 29) {
        replica.placement.reviewAll();
        replica.failure.reviewAll();
        replica.preemption.reviewAll();
      }
      await replica.run(250);
    }
    return { cluster, big, killed };
  }
  const faults = ['killed before', 'killed after', 'answer lost'] as const;
  for (const singles of [0, 16]) {
    let kills = 0;
    for (const fault of faults) {
      for (let killAt = 0; killAt < 30; killAt += 1) {
        const { cluster, big, killed } = await story(killAt, fault, singles);
        if (killed === '') break;
        kills += 1;
        const open = [...recordsOf(cluster).filter(({ ended }) => ended === undefined)];
        const openIntents = intentsOf(cluster).filter(({ phase }) => phase !== 'closed');
        const found = {
          evictions: cluster.destructive.length,
          twice: cluster.destructive.length - new Set(cluster.destructive).size,
          placed: isPlaced(cluster, big),
          open: open.length + openIntents.length,
        };
        const wanted = { evictions: singles === 0 ? 2 : 4, twice: 0, placed: true, open: 0 };
        if (JSON.stringify(found) !== JSON.stringify(wanted)) t.same(found, wanted, `${fault}: ${killed}`);
      }
    }
    t.ok(kills > 10, `killed at ${kills} steps`);
  }
});

t.test('a replica that loses the Lease does nothing more, and keeps the places', async t => {
  const { cluster, replica } = await fullFleet();
  cluster.interrupt = request => {
    if (isEviction(request)) throw new ApiUnreachable('no answer');
  };
  cluster.arrive(bigGroup(), 100);
  await replica.run(patienceMs + 2_000);
  const [record] = recordsOf(cluster);
  t.ok(record !== undefined && record.ended === undefined);
  replica.standDown();
  cluster.interrupt = () => {};
  await replica.run(30_000);
  t.same(cluster.destructive, []);
  const kept = new Set(replica.cache.heldNodes());
  t.ok(
    record?.nodes.every(node => kept.has(node)),
    'kube-scheduler may ask it still',
  );
});
