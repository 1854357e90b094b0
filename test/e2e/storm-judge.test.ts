import t, { type Test } from 'tap';
import type { DeviceTaint } from '../../src/api/dra.ts';
import type { Node, Pod } from '../../src/api/kubernetes.ts';
import { formatIntent, type Intent } from '../../src/failure/intent.ts';
import { seededRandom } from './seeded-random.ts';
import { judgeStorm } from './storm-judge.ts';
import { faultKinds, hardshipKinds, planStorm } from './storm-plan.ts';
import type { StormCall, StormChange, StormStory } from './storm-story.ts';

const limits = {
  servingEvictionsPerSecond: 0.1,
  servingBurst: 2,
  brokenEvictionsPerSecond: 0.1,
  brokenBurst: 2,
  inFlight: 2,
  inFlightPerOwner: 1,
};
const lost: DeviceTaint = { key: 'gpu-lost', effect: 'NoSchedule' };
const startMs = Date.parse('2026-01-01T00:00:00Z');

/** Writes a storm down, one resource version after the other, at seconds since its beginning. */
class Storm {
  readonly #changes: StormChange[] = [];
  readonly #calls: StormCall[] = [];
  readonly #halts: { fromMs: number; toMs: number }[] = [];
  #version = 0;
  #second = 0;
  innocents: readonly string[] = [];

  /** What comes now happens then. */
  at(second: number): this {
    this.#second = second;
    return this;
  }

  node(name: string, ready = 'True', type = 'MODIFIED'): this {
    const status: Node['status'] = { conditions: [{ type: 'Ready', status: ready }] };
    return this.#tell('nodes', type, { metadata: this.#meta(name), status });
  }

  /** A slice of one device, that of the member on this node. */
  slice(node: string, ...taints: readonly DeviceTaint[]): this {
    const pool = { name: node, generation: 1, resourceSliceCount: 1 };
    const spec = { driver: 'gpu', pool, nodeName: node, devices: [{ name: 'gpu-0', taints }] };
    return this.#tell('resourceslices', 'MODIFIED', { metadata: this.#meta(`slice-${node}`), spec });
  }

  rule(
    name: string,
    pool: string,
    labels: Readonly<Record<string, string>> = {},
    effect = 'NoSchedule',
  ): this {
    const deviceSelector = { driver: 'gpu', pool, device: 'gpu-0' };
    const spec = { deviceSelector, taint: { key: 'k', effect } };
    return this.#tell('devicetaintrules', 'ADDED', { metadata: { ...this.#meta(name), labels }, spec });
  }

  claim(pod: string, node: string): this {
    const results = [{ request: 'gpu', driver: 'gpu', pool: node, device: 'gpu-0' }];
    const metadata = { ...this.#meta(`${pod}-claim`), ownerReferences: [ownedBy(pod)] };
    return this.#tell('resourceclaims', 'ADDED', {
      metadata,
      spec: {},
      status: { allocation: { devices: { results } } },
    });
  }

  /** A leader of a group called `name`, or the worker of a leader. */
  pod(uid: string, facts: PodFacts = {}): this {
    const { name = uid, leader, node, ready, going, unhealthy, type = 'MODIFIED' } = facts;
    const resources = [{ resourceID: 'gpu-0', health: 'Unhealthy' }];
    const object: Pod = {
      metadata: {
        ...this.#meta(name),
        uid,
        labels: { 'leaderworkerset.sigs.k8s.io/worker-index': leader === undefined ? '0' : '1' },
        ...(leader !== undefined && { ownerReferences: [ownedBy(`set-${leader}`)] }),
        ...(going !== undefined && { deletionTimestamp: '2026-01-01T00:00:00Z' }),
        ...(going === 'foreground' && { finalizers: ['foregroundDeletion'] }),
      },
      spec: { containers: [], ...(node !== undefined && { nodeName: node }) },
      status: {
        conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }],
        ...(unhealthy && {
          containerStatuses: [{ name: 'main', allocatedResourcesStatus: [{ name: 'claim:gpu', resources }] }],
        }),
      },
    };
    return this.#tell('pods', type, object);
  }

  /** A group of two that serves, leader on the first node and worker on the second. */
  group(uid: string, nodes: readonly [string, string], name = uid): this {
    const [first, second] = nodes;
    return this.pod(uid, { name, node: first, ready: true })
      .#tell('statefulsets', 'ADDED', {
        metadata: { ...this.#meta(name), uid: `set-${uid}`, ownerReferences: [ownedBy(uid)] },
      })
      .pod(`${uid}-w`, { name: `${name}-1`, leader: uid, node: second, ready: true })
      .claim(uid, first)
      .claim(`${uid}-w`, second);
  }

  record(leaderUid: string, change: Partial<Intent> = {}, name = `berth-intent-${leaderUid}`): this {
    const owner = { name: 'llama', uid: `owner-of-${leaderUid}` };
    const intent: Intent = {
      shape: 'lws',
      remakers: [],
      domains: [],
      group: `made-up/${leaderUid}`,
      owner,
      leaderName: leaderUid,
      leaderUid,
      workerSetUid: `set-${leaderUid}`,
      members: [],
      avoid: [],
      plan: undefined,
      class: 'certain',
      signal: 'DeviceNoSchedule',
      cause: 'because',
      entity: undefined,
      device: undefined,
      serving: true,
      phase: 'evicting',
      hold: undefined,
      outcome: undefined,
      nextUid: undefined,
      times: { ...noTimes, signal: this.#nowMs, intent: this.#nowMs },
      ...change,
    };
    const data = { 'intent.json': formatIntent(intent) };
    return this.#tell('configmaps', 'MODIFIED', { metadata: this.#meta(name), data });
  }

  call(what: StormCall['what'], uid: string, done = true): this {
    this.#calls.push({ atMs: this.#nowMs, what, namespace: 'made-up', name: uid, uid, done });
    return this;
  }

  halt(forSeconds: number): this {
    this.#halts.push({ fromMs: this.#nowMs, toMs: this.#nowMs + forSeconds * 1_000 });
    return this;
  }

  get findings() {
    const story: StormStory = {
      changes: this.#changes,
      calls: this.#calls,
      halts: this.#halts,
      innocents: new Set(this.innocents),
      size: 2,
      limits,
    };
    return judgeStorm(story);
  }

  get violations(): readonly string[] {
    return this.findings.violations;
  }

  get #nowMs(): number {
    return startMs + this.#second * 1_000;
  }

  #meta(name: string) {
    this.#version += 1;
    return { resourceVersion: String(this.#version), namespace: 'made-up', name, uid: name };
  }

  #tell(resource: StormChange['resource'], type: string, object: object): this {
    this.#changes.push({ atMs: this.#nowMs, resource, type, object } as StormChange);
    return this;
  }
}

interface PodFacts {
  readonly type?: string;
  readonly name?: string;
  /** UID of the leader, for a worker. */
  readonly leader?: string;
  readonly node?: string;
  readonly ready?: boolean;
  readonly going?: 'foreground' | 'background';
  readonly unhealthy?: boolean;
}

const noTimes = { drain: undefined, evicted: undefined, gone: undefined, bound: undefined, ready: undefined };

function ownedBy(uid: string) {
  return { apiVersion: 'v1', kind: 'Any', name: uid, uid, controller: true };
}

/** Two groups that serve, on nodes that are well. */
function calm(): Storm {
  const storm = new Storm();
  for (const name of ['n1', 'n2', 'n3', 'n4']) storm.node(name).slice(name);
  return storm.group('a', ['n1', 'n2']).group('b', ['n3', 'n4']);
}

/** The first of them is hurt after 10 s and evicted a second later; 16 s after the beginning it is back elsewhere. */
function evicted(leaderGoes: PodFacts['going'] = 'foreground'): Storm {
  return calm()
    .at(10)
    .slice('n2', lost)
    .record('a')
    .at(11)
    .call('evict', 'a')
    .pod('a', { node: 'n1', ready: true, going: leaderGoes })
    .pod('a-w', { leader: 'a', node: 'n2', ready: true, going: 'background' })
    .record('a', { phase: 'leaving' })
    .at(13)
    .pod('a', { type: 'DELETED' })
    .record('a', { phase: 'returning' })
    .node('n5')
    .slice('n5')
    .group('c', ['n1', 'n5'], 'a')
    .at(16)
    .record('a', { phase: 'closed', outcome: 'recovered' });
}

/** That one and nothing else. */
function finds(
  t: Test,
  violations: readonly string[],
  what: readonly [RegExp | string],
  why = 'what it finds',
): void {
  t.match(violations, what, why);
  t.equal(violations.length, 1, violations.join('; '));
}

t.test('the judge has nothing against a storm in which every promise was kept', async t => {
  const storm = evicted();
  storm.innocents = ['b', 'b-w'];
  const { violations, ...figures } = storm.findings;
  t.strictSame(violations, []);
  t.match(figures, { evictions: 1, setDeletions: 0, intents: 1, allocations: 6, mostInFlight: 1 });
});

t.test('the judge finds a second eviction of a leader, and one without a UID', async t => {
  finds(t, evicted().at(12).call('evict', 'a').violations, [/^evict a .* was done before$/]);
  t.strictSame(evicted().at(12).call('evict', 'a', false).violations, [], 'one that was refused is none');
  const nameless = calm().at(10).slice('n2', lost).record('').at(11).call('evict', '');
  t.ok(nameless.violations.some(text => text.endsWith('names no UID')));
});

t.test('the judge finds workers that are told twice', async t => {
  const after = (second: number) =>
    evicted()
      .at(11 + second)
      .call('delete-set', 'set-a').violations;
  finds(t, after(1), [/^delete-set set-a .* right after the eviction of its leader$/]);
  t.strictSame(after(11), [], 'nobody had told them');
  const byOthers = evicted('background').at(12).call('delete-set', 'set-a').violations;
  t.strictSame(byOthers, [], 'others had deleted the leader in background');
});

t.test('the judge finds an eviction before its record, and one without', async t => {
  const hurt = () => calm().at(10).slice('n2', lost).at(11);
  finds(t, hurt().call('evict', 'a').violations, [/^evict a .* without a record before$/]);
  finds(t, hurt().call('evict', 'a').at(20).record('a').violations, [/without a record before$/]);
  t.strictSame(hurt().record('a').call('evict', 'a').violations, []);
});

t.test('the judge finds two records of a leader, and one that goes back', async t => {
  finds(t, evicted().record('a', { phase: 'leaving' }, 'berth-intent-other').violations, [
    /^leader a has the records berth-intent-a, berth-intent-other$/,
  ]);
  finds(t, evicted().at(20).record('a', { phase: 'leaving' }).violations, [
    /^berth-intent-a went from closed/,
  ]);
  const again = calm().at(10).slice('n2', lost).record('a').record('a', { phase: 'returning' });
  t.strictSame(again.record('a', { phase: 'leaving' }).violations, [], 'an old member may show up late');
});

t.test('the judge finds an eviction of a group with nothing wrong', async t => {
  const asked = (storm: Storm) => storm.record('b').at(40).call('evict', 'b').violations;
  finds(t, asked(evicted().at(40)), [/^evict b .* of a group with nothing wrong$/]);
  const since = (change: (storm: Storm) => Storm) => asked(change(calm().at(39)));
  t.strictSame(
    since(storm => storm.slice('n4', lost)),
    [],
  );
  t.strictSame(
    since(storm => storm.rule('r', 'n4')),
    [],
  );
  t.strictSame(
    since(storm => storm.node('n4', 'Unknown')),
    [],
  );
  t.strictSame(
    since(storm => storm.node('n4', 'True', 'DELETED')),
    [],
  );
  t.strictSame(
    since(storm => storm.pod('b-w', { leader: 'b', node: 'n4', ready: true, unhealthy: true })),
    [],
  );
  t.strictSame(
    since(storm => storm.pod('b-w', { leader: 'b', node: 'n4', going: 'background' })),
    [],
  );
  const nothing = /of a group with nothing wrong$/;
  finds(
    t,
    since(storm => storm.slice('n2', lost)),
    [nothing],
    'a device of another group',
  );
  finds(
    t,
    since(storm => storm.slice('n4', { ...lost, effect: 'None' })),
    [nothing],
  );
  finds(
    t,
    since(storm => storm.rule('r', 'n4', { 'berth.dev/excluded': 'out' })),
    [nothing],
    'a rule of Berth',
  );
  const passed = calm().at(20).slice('n4', lost).at(25).slice('n4').at(40);
  finds(t, asked(passed), [nothing], 'what has passed long ago');
  const after = calm().record('b').at(40).call('evict', 'b').at(41);
  const gone = after
    .pod('b', { node: 'n3', going: 'background' })
    .pod('b-w', { leader: 'b', node: 'n4', going: 'background' });
  finds(t, gone.violations, [nothing], 'its own doing is no reason');
});

t.test(
  'the judge finds workers that are told while their leader stays, and a bound pod that is deleted',
  async t => {
    const left = calm()
      .at(10)
      .pod('a', { node: 'n1', going: 'background' })
      .record('a', { signal: 'Foreign' })
      .at(12);
    t.strictSame(left.call('delete-set', 'set-a').violations, []);
    finds(t, calm().record('a').at(10).call('delete-set', 'set-a').violations, [/while its leader stayed$/]);
    finds(t, calm().at(10).call('delete-pod', 'a').violations, [/of a pod that was bound$/]);
    t.strictSame(calm().pod('gated').at(10).call('delete-pod', 'gated').violations, []);
    finds(t, calm().call('delete-pod', 'nobody').violations, [/of what nobody has seen$/]);
  },
);

t.test('the judge finds an innocent that is gone', async t => {
  const storm = evicted();
  storm.innocents = ['b', 'a-w'];
  t.strictSame(storm.violations, ['a-1 was innocent and is gone']);
});

t.test('the judge finds what is asked for under a halt, refused or not', async t => {
  const halted = (from: number, seconds: number) => evicted().at(from).halt(seconds).violations;
  finds(t, halted(5, 10), [/^evict a .* while all evictions were halted$/]);
  t.strictSame(halted(10, 10), [], 'it was in flight');
  t.strictSame(halted(5, 5), [], 'it was over');
  const refused = evicted().at(30).halt(10).at(35).call('evict', 'b', false);
  finds(t, refused.violations, [/^evict b .* while all evictions were halted$/]);
  t.ok(calm().slice('n2', lost).halt(10).findings.heldMoments > 5, 'somebody was hurt meanwhile');
  t.equal(calm().halt(10).findings.heldMoments, 0);
});

t.test('the judge finds evictions that follow each other too fast, by kind', async t => {
  const evictions = (serving: readonly boolean[]) => {
    const storm = calm();
    for (const [i, isServing] of serving.entries()) {
      const uid = `x${i}`;
      storm
        .at(10 + i)
        .node(uid)
        .group(uid, ['n1', uid])
        .slice(uid, lost)
        .record(uid, { serving: isServing, phase: 'leaving' });
      storm.call('evict', uid).pod(uid, { node: 'n1', going: 'background' });
    }
    return storm.violations;
  };
  finds(t, evictions([true, true, true]), [/^3 evictions within 2000 ms, serving: true$/]);
  finds(t, evictions([false, false, false]), [/^3 evictions within 2000 ms, serving: false$/]);
  t.strictSame(evictions([true, false, true, false]), []);
});

t.test('the judge finds more groups in flight than may be, of all and of one owner', async t => {
  const owner = { name: 'llama', uid: 'one' };
  const two = evicted().at(30).record('x').record('y');
  t.strictSame(two.violations, []);
  finds(t, two.record('z').violations, ['made-up/z is number 3 in flight']);
  finds(t, evicted().record('x', { owner }).record('y', { owner }).violations, [
    /y is not the first of its owner/,
  ]);
  const closed = evicted()
    .record('x', { owner })
    .record('x', { owner, phase: 'closed', outcome: 'overtaken' });
  t.strictSame(closed.record('y', { owner }).violations, []);
  t.strictSame(two.record('w', { serving: false }).violations.length, 1, 'one that is broken costs nothing');
});

t.test('the judge finds a record that says recovered though the group was not whole', async t => {
  const early = calm().at(10).record('a').record('a', { phase: 'closed', outcome: 'recovered' });
  t.strictSame(early.violations, ['the record of made-up/a says recovered, and it was not whole']);
});

t.test('the judge finds a claim that was given a device long kept off, by whoever', async t => {
  const given = (storm: Storm) => storm.at(40).pod('x', { node: 'n4' }).claim('x', 'n4').violations;
  const kept = /^made-up\/x-claim was given gpu\/\/n4\/\/gpu-0, which was kept off$/;
  finds(t, given(calm().at(30).slice('n4', lost)), [kept]);
  finds(t, given(calm().at(30).rule('r', 'n4', { 'berth.dev/excluded': 'out' })), [kept]);
  t.strictSame(given(calm().at(39).slice('n4', lost)), [], 'kube-scheduler could not know');
  t.strictSame(given(calm().at(30).slice('n4', lost).at(35).slice('n4')), []);
});

t.test('the judge finds a rule of Berth that ends pods or means too much', async t => {
  const labels = { 'berth.dev/excluded': 'out' };
  finds(t, calm().rule('r', 'n1', labels, 'NoExecute').violations, ['rule r of Berth means too much']);
  finds(t, calm().rule('r', '', labels).violations, ['rule r of Berth means too much']);
  t.strictSame(calm().rule('r', 'n1', labels).violations, []);
});

t.test('a storm of a seed is the same each time, has every kind, and lasts as long as it is to', async t => {
  const plan = planStorm(seededRandom(7), 200, 200_000);
  t.strictSame(plan, planStorm(seededRandom(7), 200, 200_000));
  t.strictNotSame(plan, planStorm(seededRandom(8), 200, 200_000));
  t.equal(plan.faults.length, 200);
  t.strictSame(new Set(plan.faults.map(({ kind }) => kind)), new Set(faultKinds));
  t.strictSame(new Set(plan.hardships.map(({ kind }) => kind)), new Set(hardshipKinds));
  t.ok(plan.faults.every(({ atMs }) => atMs >= 0 && atMs <= 200_000));
});
