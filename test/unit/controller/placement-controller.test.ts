import pino from 'pino';
import t from 'tap';
import type { Pod } from '../../../src/api/kubernetes.ts';
import { berth, k8s } from '../../../src/api/names.ts';
import { ClusterCache } from '../../../src/cache/cluster-cache.ts';
import type { JsonPatchOperation } from '../../../src/cluster/node-affinity.ts';
import { decodeNode } from '../../../src/cluster/node-info.ts';
import { PlacementController } from '../../../src/controller/placement-controller.ts';
import { PlacementReport, type PlacementReportSinks } from '../../../src/controller/placement-report.ts';
import { WaitingList } from '../../../src/controller/waiting-list.ts';
import { decodeLeaderWorkerSet, decodeNamespace, decodeStatefulSet } from '../../../src/group/owner.ts';
import { WorkQueue } from '../../../src/kube/work-queue.ts';
import { p4dLike, wants } from '../../builders/device-nodes.ts';
import { addClaim, addTemplate, type ClaimParts, publish } from '../../builders/dra.ts';
import { cacheOf, drawFleet } from '../../builders/fleet.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { decode } from '../../builders/planning.ts';
import { type PodParts, podOf } from '../../builders/pods.ts';
import { FakeClock, settle } from '../kube/fake-clock.ts';

const fleet = drawFleet(`
  rack r0
    - a gpu=8
    - b gpu=8
  rack r1
    - c gpu=8
    - d gpu=8
`);

const log = pino({ level: 'silent' });

interface Write {
  readonly kind: 'patch' | 'delete' | 'delete claim';
  readonly pod: string;
  readonly ops: readonly JsonPatchOperation[];
}

interface World {
  readonly cache?: ClusterCache;
  readonly mode?: 'pin' | 'extender';
  readonly singles?: boolean;
  readonly mayAct?: () => boolean;
  readonly remakesClaims?: boolean;
}

/** A controller on a real cache, whose writes are recorded and answered when the test says so. */
function world({
  cache = cacheOf(fleet),
  mode = 'pin',
  singles = false,
  mayAct = () => true,
  remakesClaims = true,
}: World = {}) {
  const labels = {
    [k8s.namespaceName]: 'serving',
    [berth.mode]: mode,
    ...(singles && { [berth.singles]: 'pin' }),
  };
  cache.namespaces.upsert(decodeNamespace({ metadata: { name: 'serving', labels } }));
  const clock = new FakeClock();
  const boundMeanwhile = new Set<string>();
  const failures: Error[] = [];
  const writes: Write[] = [];
  const conditions: string[] = [];
  const rungs: string[] = [];
  const answers: (() => void)[] = [];
  const answered = () => new Promise<void>(resolve => answers.push(resolve));
  const sinks: PlacementReportSinks = {
    event: () => {},
    ownerEvent: () => {},
    condition: (pod, status, reason) => void conditions.push(`${pod.name} ${status} ${reason}`),
    setWaiting: () => {},
    countPlaced: () => {},
    countSingle: () => {},
    countStranded: () => {},
    countReplan: () => {},
    countInvalid: () => {},
    countAlignment: rung => void rungs.push(rung),
    countClaimRemade: () => {},
    refused: () => {},
  };
  const time = { nowMs: () => clock.nowMs(), wallMs: () => clock.wallMs() };
  const waiting = new WaitingList({
    cache,
    ...time,
    agedAfterMs: 600_000,
    membersLateAfterMs: 5_000,
    onPlanned: () => {},
  });
  const controller = new PlacementController({
    cache,
    waiting,
    writes: {
      patchPod: (pod, ops) => {
        writes.push({ kind: 'patch', pod: pod.name, ops });
        if (failures.length > 0) return Promise.reject(failures.shift());
        return answered();
      },
      deletePod: pod => {
        writes.push({ kind: 'delete', pod: pod.name, ops: [] });
        return Promise.resolve(true);
      },
      isAsSeen: pod => Promise.resolve(!boundMeanwhile.has(pod.name)),
      deleteClaim: claim => {
        writes.push({ kind: 'delete claim', pod: claim.name, ops: [] });
        return Promise.resolve(true);
      },
      isStale: () => false,
    },
    report: new PlacementReport({ cache, sinks, log, ...time }),
    nowMs: time.nowMs,
    mayAct,
    remakesClaims: () => remakesClaims,
    strandedAfterMs: 10_000,
    replanBudget: { perGroup: 5, windowMs: 600_000 },
    membersLateAfterMs: 5_000,
    onWaits: () => undefined,
    makeQueue: process => new WorkQueue({ name: 'placement', process, log, clock, concurrency: 4 }),
  });
  controller.start();
  const answer = async () => {
    for (const next of answers.splice(0)) next();
    await settle();
  };
  const see = (...pods: Pod[]) => {
    for (const pod of pods) cache.pods.upsert(decode(pod));
  };
  return { boundMeanwhile, failures, cache, controller, clock, writes, conditions, rungs, answer, see };
}

const group = new LwsGroup({ size: 2, worker: { gpu: 8 } });

function addOwner({ cache }: ReturnType<typeof world>): void {
  cache.leaderWorkerSets.upsert(decodeLeaderWorkerSet(group.owner()));
  cache.statefulSets.upsert(decodeStatefulSet(group.workerSet()));
}

/** What a patch does, in short. */
function words({ ops }: Write): readonly string[] {
  return ops.flatMap(({ op, path }) => {
    if (op === 'test') return [];
    if (path.includes('annotations')) return ['plan'];
    return [path.includes('schedulingGates') ? 'ungate' : 'pin'];
  });
}

/** The leader as the watch shows it after the first write. */
function leaderAfter(write: Write | undefined, more: Partial<PodParts> = {}): Pod {
  const plan = write?.ops.find(({ path }) => path.includes('annotations'));
  const text = plan !== undefined && 'value' in plan ? String(plan.value) : '';
  return group.leader({ gated: false, annotations: { [berth.plan]: text }, ...more });
}

t.test('a gated leader gets plan, pin and the end of its gate in one write', async t => {
  const w = world();
  addOwner(w);
  w.see(group.leader());
  await w.clock.advance(50);
  t.equal(w.writes.length, 1);
  t.match(w.writes[0], { kind: 'patch', pod: group.leaderName });
  t.strictSame(
    new Set(words(w.writes[0] ?? { kind: 'patch', pod: '', ops: [] })),
    new Set(['plan', 'pin', 'ungate']),
  );
  await w.clock.advance(60_000);
  t.equal(w.writes.length, 1, 'not again while the answer is on its way');
});

t.test('in mode extender the leader gets its plan and nothing else', async t => {
  const w = world({ mode: 'extender' });
  addOwner(w);
  w.see(group.leader({ gated: false }), group.worker(1, { gated: false }));
  await w.clock.advance(50);
  t.strictSame(w.writes.map(words), [['plan']]);
  await w.answer();
  w.see(leaderAfter(w.writes[0], { node: 'a' }));
  await w.clock.advance(50);
  t.equal(w.writes.length, 1, 'members are pinned to nothing');

  await t.test('a member that kube-scheduler refuses at its seat gets another by a new plan', async t => {
    const refused = (): Pod => {
      const pod = group.worker(1, { gated: false });
      const reason = { type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message: 'no room' };
      return { ...pod, status: { conditions: [reason] } };
    };
    w.see(podOf({ name: 'thief', namespace: 'others', gpu: 8, node: 'b' }), refused());
    await w.clock.advance(9_000);
    t.equal(w.writes.length, 1, 'not before it has been refused for long');
    await w.clock.advance(2_000);
    await w.answer();
    t.strictSame(
      w.writes.map(({ kind }) => kind),
      ['patch', 'patch'],
      'nothing is deleted: nothing was pinned',
    );
    t.strictSame(w.writes.slice(1).map(words), [['plan']]);
    t.ok(
      w.conditions.includes(`${group.leaderName}-1 True Planned`),
      'it is touched, so that it is tried again',
    );
  });
});

t.test('in mode extender the seats of a group are no obstacle to planning it again', async t => {
  const required = { ...group.parts, size: 3, annotations: { [berth.requiredTopology]: 'rack' } };
  const three = new LwsGroup(required);
  const w = world({ mode: 'extender' });
  const extra = fleet.nodes.slice(0, 2).map((node, i) => ({
    ...node,
    metadata: { ...node.metadata, name: `r0-more-${i}`, uid: `uid-r0-more-${i}` },
  }));
  for (const node of extra) w.cache.nodes.upsert(decodeNode(node));
  w.cache.leaderWorkerSets.upsert(decodeLeaderWorkerSet(three.owner()));
  w.see(three.leader({ gated: false }));
  await w.clock.advance(50);
  await w.answer();
  const plan = w.writes[0]?.ops.find(({ path }) => path.includes('annotations'));
  const text = plan !== undefined && 'value' in plan ? String(plan.value) : '';
  w.see(three.leader({ gated: false, annotations: { [berth.plan]: text } }));
  const seat = w.cache.group(three.key)?.plan?.nodes[0] ?? '';
  w.cache.setExcludedNodes(new Map([[seat, 'a device is unhealthy']]));
  await w.clock.advance(50);
  await w.answer();
  t.strictSame(w.writes.map(words), [['plan'], ['plan']], 'three of the four hosts of its rack are left');
  const nodes = w.cache.group(three.key)?.plan?.nodes ?? [];
  t.equal(new Set(nodes).size, 3);
  t.notOk(nodes.includes(seat));
});

t.test('in mode extender an adopted group has seats for the workers that wait', async t => {
  const w = world({ mode: 'extender' });
  addOwner(w);
  w.see(group.leader({ gated: false, node: 'a' }), group.worker(1, { gated: false }));
  await w.clock.advance(50);
  await w.answer();
  t.strictSame(w.writes.map(words), [['plan']]);
  t.notOk(w.cache.group(group.key)?.plan?.nodes.includes(''), 'nobody is left to kube-scheduler');
});

t.test('a plan that kube-scheduler has acted on already is written all the same', async t => {
  const w = world({ mode: 'extender' });
  addOwner(w);
  w.failures.push(new Error('the API server is away'), new Error('still away'));
  w.see(group.leader({ gated: false }));
  await w.clock.advance(12);
  const held = () => [...w.cache.heldNodes()].sort();
  t.same(held(), ['a', 'b']);
  w.see(group.leader({ gated: false, node: 'a' }));
  await w.clock.advance(1);
  t.same(held(), ['b'], 'the other seat stays held while the write is tried again');
  await w.clock.advance(1_000);
  await w.answer();
  t.strictSame(w.writes.map(words), [['plan'], ['plan'], ['plan']]);
  t.equal(new Set(w.writes.map(({ ops }) => JSON.stringify(ops))).size, 1, 'the same plan each time');
  t.same(held(), ['b']);
});

t.test('a pod pinned to a node that fails is made anew elsewhere', async t => {
  const w = world();
  addOwner(w);
  w.see(group.leader());
  await w.clock.advance(50);
  await w.answer();
  w.see(leaderAfter(w.writes[0], { node: 'a' }), group.worker(1, { gated: false, pinnedTo: 'b' }));
  await w.clock.advance(50);
  t.equal(w.writes.length, 1);
  w.cache.setExcludedNodes(new Map([['b', 'a device is unhealthy']]));
  await w.clock.advance(50);
  await w.answer();
  await w.clock.advance(50);
  const deleted = w.writes.filter(({ kind }) => kind === 'delete').map(({ pod }) => pod);
  t.strictSame(deleted, [`${group.leaderName}-1`]);
});

t.test('a leader whose pinned node has gone is made anew with its group', async t => {
  const w = world();
  addOwner(w);
  w.see(group.leader());
  await w.clock.advance(50);
  await w.answer();
  w.see(leaderAfter(w.writes[0], { pinnedTo: 'a' }));
  const node = w.cache.node('a');
  if (node === undefined) throw new Error('there is no node a');
  w.cache.nodes.remove(node);
  await w.clock.advance(50);
  t.match(w.writes.at(-1), { kind: 'delete', pod: group.leaderName });
});

t.test('a group is not made anew for a member that was bound meanwhile', async t => {
  for (const bound of [true, false]) {
    const w = world();
    addOwner(w);
    w.see(group.leader());
    await w.clock.advance(50);
    await w.answer();
    w.see(leaderAfter(w.writes[0], { pinnedTo: 'a' }), group.worker(1, { gated: false, pinnedTo: 'b' }));
    // Only two nodes are left, and not in reach of each other: the member has no other seat beside its leader.
    w.cache.leaderWorkerSets.upsert(
      decodeLeaderWorkerSet(
        new LwsGroup({ ...group.parts, annotations: { [berth.requiredTopology]: 'rack' } }).owner(),
      ),
    );
    if (bound) w.boundMeanwhile.add(`${group.leaderName}-1`);
    w.cache.setExcludedNodes(new Map([['b', 'a device is unhealthy']]));
    await w.clock.advance(50);
    const deleted = w.writes.filter(({ kind }) => kind === 'delete').map(({ pod }) => pod);
    t.strictSame(deleted, bound ? [] : [group.leaderName], bound ? 'it was' : 'it was not');
  }
});

t.test('a worker that tolerates the taint of its planned node is pinned there', async t => {
  const w = world();
  const tolerations = [{ key: 'gpu', operator: 'Exists', effect: 'NoSchedule' }];
  const tolerant = new LwsGroup({ size: 2, worker: { gpu: 8, tolerations } });
  w.cache.leaderWorkerSets.upsert(decodeLeaderWorkerSet(tolerant.owner()));
  w.cache.statefulSets.upsert(decodeStatefulSet(tolerant.workerSet()));
  for (const node of fleet.nodes) {
    const taints = [{ key: 'gpu', value: 'true', effect: 'NoSchedule' }];
    w.cache.nodes.upsert(decodeNode({ ...node, spec: { taints } }));
  }
  w.see(tolerant.leader());
  await w.clock.advance(50);
  await w.answer();
  w.see(leaderAfter(w.writes[0], { node: 'a', tolerations }), tolerant.worker(1));
  await w.clock.advance(50);
  t.match(w.writes.at(-1), { kind: 'patch', pod: `${tolerant.leaderName}-1` });
  t.strictSame(words(w.writes.at(-1) ?? { kind: 'patch', pod: '', ops: [] }), ['pin', 'ungate']);
});

t.test('a single pod is pinned once, however late the watch shows it', async t => {
  const w = world({ singles: true });
  const pod = podOf({ name: 's', gpu: 4, gated: true });
  w.see(pod);
  await w.clock.advance(50);
  t.equal(w.writes.length, 1);
  // Answered, and the watch still shows the pod gated; something about it changes.
  await w.answer();
  w.see({ ...pod, status: { phase: 'Pending' } });
  w.controller.reviewAll();
  await w.clock.advance(50);
  t.equal(w.writes.length, 1);
});

t.test('who may not act writes nothing, and nothing is lost by that', async t => {
  let acts = false;
  const w = world({ mayAct: () => acts });
  addOwner(w);
  w.see(group.leader());
  await w.clock.advance(1_000);
  t.strictSame(w.writes, []);
  acts = true;
  w.controller.reviewAll();
  await w.clock.advance(50);
  t.equal(w.writes.length, 1);
});

t.test('who may not act makes nobody anew whose place is gone, and does when it may', async t => {
  for (const rank of [0, 1]) {
    let acts = true;
    const w = world({ mayAct: () => acts });
    addOwner(w);
    w.see(group.leader());
    await w.clock.advance(50);
    await w.answer();
    if (rank === 0) w.see(leaderAfter(w.writes[0], { pinnedTo: 'a' }));
    else w.see(leaderAfter(w.writes[0], { node: 'a' }), group.worker(1, { gated: false, pinnedTo: 'b' }));
    await w.clock.advance(50);
    acts = false;
    const node = w.cache.node(rank === 0 ? 'a' : 'b');
    if (node === undefined) throw new Error('there is no such node');
    w.cache.nodes.remove(node);
    await w.clock.advance(60_000);
    const deletions = () => w.writes.filter(({ kind }) => kind === 'delete').length;
    t.equal(deletions(), 0);
    acts = true;
    w.controller.reviewAll();
    await w.clock.advance(50);
    await w.answer();
    await w.clock.advance(50);
    t.equal(deletions(), 1, `rank ${rank}`);
  }
});

t.test('groups with claims', async t => {
  const claiming = new LwsGroup({ size: 2, worker: { cpu: 1, claims: { devices: 'pair' } } });
  const claimOf = (pod: Pod, more: Partial<ClaimParts> = {}): ClaimParts => ({
    name: `${pod.metadata.name}-devices`,
    spec: wants('pair', { gpu: ['gpu', 1], nic: ['nic', 1] }).spec,
    pod: { name: pod.metadata.name ?? '', uid: pod.metadata.uid ?? '', calls: 'devices' },
    ...more,
  });

  const withDevices = (steersClaims = true, remakesClaims = true) => {
    const cache = new ClusterCache({ levels: fleet.levels, steersClaims });
    cache.nodes.replace(fleet.nodes.map(decodeNode));
    publish(cache, { a: p4dLike() });
    addTemplate(cache, wants('pair', { gpu: ['gpu', 1], nic: ['nic', 1] }));
    const here = world({ cache, remakesClaims });
    cache.leaderWorkerSets.upsert(decodeLeaderWorkerSet(claiming.owner()));
    cache.statefulSets.upsert(decodeStatefulSet(claiming.workerSet()));
    return here;
  };
  const told = ({ writes }: ReturnType<typeof world>) => writes.map(({ kind, pod }) => `${kind} ${pod}`);

  t.test('get a plan with devices, and each pod is told how near its own stand', async t => {
    const here = withDevices();
    here.see(claiming.leader(), claiming.worker(1));
    await here.clock.advance(20);
    await settle();
    const written = here.writes[0]?.ops.flatMap(op => ('value' in op ? [op.value] : [])) ?? [];
    t.ok(written.includes('pcie'), 'the leader has its alignment');
    t.ok(written.some(value => typeof value === 'string' && value.includes('"devices"')));
    await here.answer();
    await here.clock.advance(20);
    await settle();
    t.match(here.writes.find(({ pod }) => pod === 'llm-0-1')?.ops, [
      { path: '/metadata/annotations/berth.dev~1alignment', value: 'pcie' },
    ]);
    t.same(here.rungs, ['pcie', 'pcie'], 'counted once for each member');
  });

  t.test('have claims that nobody steered made again before their pods go on', async t => {
    const here = withDevices();
    addClaim(here.cache, claimOf(claiming.leader()));
    addClaim(here.cache, claimOf(claiming.worker(1)));
    here.see(claiming.leader(), claiming.worker(1));
    await here.clock.advance(20);
    await settle();
    t.same(told(here), ['delete claim llm-0-devices', 'patch llm-0']);
    await here.answer();
    await here.clock.advance(20);
    await settle();
    t.same(told(here).slice(2), ['delete claim llm-0-1-devices', 'patch llm-0-1']);
  });

  t.test('have claims that were steered by an earlier plan made again', async t => {
    const steeredTo = (uuid: string) => {
      const expression = `device.attributes["gpu.nvidia.com"].uuid == "${uuid}"`;
      const selectors = [{ cel: { expression } }];
      return {
        spec: {
          devices: {
            requests: [
              {
                name: 'gpu',
                firstAvailable: [
                  { name: 'berth', deviceClassName: 'gpu', selectors },
                  { name: 'asked', deviceClassName: 'gpu' },
                ],
              },
            ],
          },
        },
      };
    };
    for (const [uuid, wanted] of [
      ['GPU-5', ['delete claim llm-0-devices', 'patch llm-0']],
      ['GPU-0', ['patch llm-0']],
    ] as const) {
      const here = withDevices();
      addClaim(here.cache, claimOf(claiming.leader(), steeredTo(uuid)));
      here.see(claiming.leader());
      await here.clock.advance(20);
      await settle();
      t.same(told(here), wanted, uuid);
    }
  });

  t.test('keep every claim that is not for Berth to make again', async t => {
    const steered = wants('pair', { gpu: ['gpu', 1], nic: ['nic', 1] }).spec;
    const [first] = steered.devices?.requests ?? [];
    const alternatives = first?.exactly === undefined ? [] : [{ name: 'berth', ...first.exactly }];
    const cases: [string, ClaimParts, ReturnType<typeof withDevices>][] = [
      ['it has devices', claimOf(claiming.leader(), { allocated: ['gpu.nvidia.com/b/x'] }), withDevices()],
      [
        'it is steered already',
        claimOf(claiming.leader(), {
          spec: { devices: { requests: [{ name: 'gpu', firstAvailable: alternatives }] } },
        }),
        withDevices(),
      ],
      [
        'its user forbids steering',
        claimOf(claiming.leader(), { annotations: { [berth.steerClaims]: 'false' } }),
        withDevices(),
      ],
      ['steering is off', claimOf(claiming.leader()), withDevices(false)],
      ['nobody would make it again', claimOf(claiming.leader()), withDevices(true, false)],
      [
        'another pod had it',
        claimOf(claiming.leader(), { pod: { name: 'llm-0', uid: 'of-before', calls: 'devices' } }),
        withDevices(),
      ],
      ['it was made by hand', { name: 'by-hand', reservedFor: [claiming.leaderUid()] }, withDevices()],
    ];
    for (const [why, parts, here] of cases) {
      addClaim(here.cache, parts);
      here.see(claiming.leader());
      await here.clock.advance(20);
      await settle();
      t.same(told(here), ['patch llm-0'], why);
    }
  });

  t.test('delete nothing when the Lease is lost', async t => {
    let acts = true;
    const cache = new ClusterCache({ levels: fleet.levels, steersClaims: true });
    cache.nodes.replace(fleet.nodes.map(decodeNode));
    publish(cache, { a: p4dLike() });
    addTemplate(cache, wants('pair', { gpu: ['gpu', 1], nic: ['nic', 1] }));
    const here = world({ cache, mayAct: () => acts });
    cache.leaderWorkerSets.upsert(decodeLeaderWorkerSet(claiming.owner()));
    addClaim(cache, claimOf(claiming.leader()));
    here.see(claiming.leader());
    acts = false;
    await here.clock.advance(20);
    await settle();
    t.same(told(here), []);
  });
});
