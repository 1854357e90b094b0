import t from 'tap';
import type { Node, Pod } from '../../src/api/kubernetes.ts';
import { checkHistory, type WatchedChange } from './invariants.ts';

const rules = { domainLabel: 'rack' };
const labelKey = 'leaderworkerset.sigs.k8s.io/worker-index';

/** Writes a history down, one resource version after the other. */
function history() {
  let version = 0;
  const changes: WatchedChange[] = [];
  const meta = () => ({ resourceVersion: String(++version), namespace: 'made-up' });
  const self = {
    changes,
    node(name: string, rack: string) {
      const allocatable = { cpu: '4', 'nvidia.com/gpu': '8' };
      const object: Node = { metadata: { ...meta(), name, labels: { rack } }, status: { allocatable } };
      changes.push({ resource: 'nodes', type: 'ADDED', object });
      return self;
    },
    set(leader: string) {
      const owner = { apiVersion: 'v1', kind: 'Pod', name: leader, uid: leader, controller: true };
      const object = {
        metadata: { ...meta(), name: leader, uid: `set-${leader}`, ownerReferences: [owner] },
      };
      changes.push({ resource: 'statefulsets', type: 'ADDED', object });
      return self;
    },
    pod(uid: string, facts: Facts) {
      changes.push({ resource: 'pods', type: facts.type ?? 'MODIFIED', object: podOf(uid, facts, meta()) });
      return self;
    },
  };
  return self;
}

interface Facts {
  readonly type?: string;
  readonly gpus?: number;
  readonly node?: string;
  readonly rank?: number;
  /** The worker StatefulSet's leader. */
  readonly of?: string;
  readonly plan?: readonly string[];
  readonly planFor?: string;
  readonly going?: boolean;
  readonly pin?: string;
  readonly unschedulable?: boolean;
}

function podOf(uid: string, facts: Facts, meta: { resourceVersion: string; namespace: string }): Pod {
  const { gpus = 8, node, rank, of, plan, planFor = uid, going, pin, unschedulable } = facts;
  const requests = { 'nvidia.com/gpu': String(gpus) };
  const text = JSON.stringify({
    leaderUID: planFor,
    nodes: plan,
    requests: [requests],
    requestOf: plan?.map(() => 0),
  });
  const owner = { apiVersion: 'apps/v1', kind: 'StatefulSet', name: 'x', uid: `set-${of}`, controller: true };
  const matchFields = [{ key: 'metadata.name', operator: 'In', values: [pin ?? ''] }];
  const required = {
    requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [{ matchFields }] },
  };
  return {
    metadata: {
      ...meta,
      name: uid,
      uid,
      ...(rank !== undefined && { labels: { [labelKey]: String(rank) } }),
      ...(plan && { annotations: { 'berth.dev/plan': text } }),
      ...(of !== undefined && { ownerReferences: [owner] }),
      ...(going && { deletionTimestamp: '2026-01-01T00:00:00Z' }),
    },
    spec: {
      containers: [{ name: 'main', resources: { requests } }],
      ...(node !== undefined && { nodeName: node }),
      ...(pin !== undefined && { affinity: { nodeAffinity: required } }),
    },
    ...(unschedulable && {
      status: { conditions: [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable' }] },
    }),
  };
}

/** A leader on n1 whose plan keeps n2 for its worker. */
function groupOfTwo() {
  return history()
    .node('n1', 'r1')
    .node('n2', 'r1')
    .node('n3', 'r2')
    .pod('a', { rank: 0, plan: ['n1', 'n2'] })
    .set('a')
    .pod('a', { rank: 0, plan: ['n1', 'n2'], node: 'n1' });
}

t.test('the checker has nothing against a history that keeps every promise', async t => {
  const { changes } = groupOfTwo()
    .pod('a-1', { rank: 1, of: 'a', pin: 'n2' })
    .pod('a-1', { rank: 1, of: 'a', pin: 'n2', node: 'n2' })
    .pod('stranger', { node: 'n3' });
  const findings = checkHistory(changes, rules);
  t.strictSame(
    [findings.overcommitted, findings.unschedulable, findings.misplaced, findings.split],
    [[], [], [], []],
  );
  t.equal(findings.mostSeatsKept, 2);
  t.equal(findings.changes, 9);
});

t.test('the checker finds a stranger on a kept seat, whatever order the watches told it in', async t => {
  const { changes } = groupOfTwo().pod('stranger', { node: 'n2', gpus: 1 });
  for (const told of [changes, [...changes].reverse()]) {
    const { overcommitted } = checkHistory(told, rules);
    t.match(overcommitted, [
      /n2 has 8 nvidia.com\/gpu and is to give 9 to .*stranger.*, seat of rank 1 of .*a, at \d+$/,
    ]);
  }
});

t.test('the checker finds two plans for one node, and two bound pods', async t => {
  const plans = groupOfTwo().pod('b', { rank: 0, plan: ['n3', 'n2'] });
  t.match(checkHistory(plans.changes, rules).overcommitted, [/seat of rank 1 of .*a, seat of rank 1 of .*b/]);
  const pods = history().node('n1', 'r1').pod('x', { node: 'n1', gpus: 5 }).pod('y', { node: 'n1', gpus: 4 });
  t.match(checkHistory(pods.changes, rules).overcommitted, [/is to give 9 to .*x, .*y/]);
});

t.test('the checker counts cpu as well', async t => {
  const { changes } = history().node('n1', 'r1').pod('x', { node: 'n1', gpus: 0 });
  const greedy = changes.map(change => {
    if (change.resource !== 'pods') return change;
    const containers = [{ name: 'main', resources: { requests: { cpu: '4001m' } } }];
    return { ...change, object: { ...change.object, spec: { ...change.object.spec, containers } } };
  });
  t.match(checkHistory(greedy, rules).overcommitted, [/n1 has 4000 cpu and is to give 4001/]);
});

t.test('an overcommitted moment that passes again is found too', async t => {
  const { changes } = groupOfTwo()
    .pod('stranger', { node: 'n2' })
    .pod('stranger', { type: 'DELETED', node: 'n2' });
  t.equal(checkHistory(changes, rules).overcommitted.length, 1);
});

t.test('a worker of another incarnation does not fill a seat', async t => {
  const { changes } = groupOfTwo().set('old').pod('a-1', { rank: 1, of: 'old', node: 'n2' });
  t.match(checkHistory(changes, rules).overcommitted, [/seat of rank 1/]);
});

t.test('a going member fills its own seat and no other', async t => {
  const on = (node: string) =>
    groupOfTwo().pod('a-1', { rank: 1, of: 'a', node, going: true }).pod('stranger', { node: 'n2', gpus: 1 });
  t.match(checkHistory(on('n2').changes, rules).overcommitted, [/n2 .* is to give 9/]);
  t.match(checkHistory(on('n3').changes, rules).overcommitted, [/stranger, seat of rank 1/]);
});

t.test('the plan of a going leader, and one made for another, keep nothing', async t => {
  const going = groupOfTwo()
    .pod('a', { rank: 0, plan: ['n1', 'n2'], node: 'n1', going: true })
    .pod('s', { node: 'n2' });
  t.strictSame(checkHistory(going.changes, rules).overcommitted, []);
  const copied = groupOfTwo()
    .pod('a', { rank: 0, plan: ['n1', 'n2'], planFor: 'somebody', node: 'n1' })
    .pod('s', { node: 'n2' });
  t.strictSame(checkHistory(copied.changes, rules).overcommitted, []);
});

t.test('the checker finds pinned pods that were Unschedulable once, and only those', async t => {
  const { changes } = history()
    .node('n1', 'r1')
    .pod('free', { unschedulable: true })
    .pod('pinned', { pin: 'n1', unschedulable: true })
    .pod('pinned', { pin: 'n1', node: 'n1' });
  t.strictSame(checkHistory(changes, rules).unschedulable, ['made-up/pinned pinned to n1, at 3']);
});

t.test('the checker finds members that are elsewhere than planned, and split groups', async t => {
  const { changes } = groupOfTwo().pod('a-1', { rank: 1, of: 'a', node: 'n3' });
  const findings = checkHistory(changes, rules);
  t.strictSame(findings.misplaced, ['made-up/a-1 is on n3, its plan says n2']);
  t.strictSame(findings.split, ["made-up/a-1's group is in r1, r2"]);
});
