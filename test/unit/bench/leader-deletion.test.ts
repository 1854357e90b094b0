import t from 'tap';
import type { WriteEvent } from '../../../hack/bed/audit.ts';
import { deviceUnhealthy, type Fault, nodeTainted } from '../../../hack/bench/faults.ts';
import { leaderDeletionIn } from '../../../hack/bench/leader-deletion.ts';
import type { Pod } from '../../../src/api/kubernetes.ts';

const leader = member('hurt-1-0', 'node-a');
const victim = member('hurt-1-0-2', 'node-b');
const lwsUser = 'system:serviceaccount:lws-system:lws-controller-manager';
const berthUser = 'system:serviceaccount:berth-system:berth';

const taint = write({ verb: 'patch', resource: 'nodes', name: 'node-b', atMs: 1_000 });
const sickness = write({
  verb: 'patch',
  resource: 'pods',
  subresource: 'status',
  namespace: 'bench',
  name: 'hurt-1-0-2',
  atMs: 1_000,
});
const eviction = write({
  verb: 'create',
  resource: 'pods',
  subresource: 'eviction',
  namespace: 'bench',
  name: 'hurt-1-0',
  user: berthUser,
  code: 201,
  atMs: 1_080,
});
const deletion = write({
  verb: 'delete',
  resource: 'pods',
  namespace: 'bench',
  name: 'hurt-1-0',
  user: lwsUser,
  atMs: 1_050,
});

t.test('the time runs from the answer to the signal to that of the first eviction or deletion', async t => {
  t.strictSame(found(deviceUnhealthy, [sickness, eviction]), { afterMs: 80, user: berthUser });
  t.strictSame(found(nodeTainted, [taint, deletion, eviction]), { afterMs: 50, user: lwsUser });
});

t.test('what is no deletion of the leader does not count', async t => {
  const table: readonly (readonly [string, WriteEvent])[] = [
    ['a refused eviction', { ...eviction, code: 429 }],
    ['a dry run', { ...eviction, dryRun: true }],
    ['the deletion of a worker', { ...deletion, name: 'hurt-1-0-2' }],
    ['the same name elsewhere', { ...deletion, namespace: 'other' }],
    ['a patch of its status', { ...deletion, verb: 'patch', subresource: 'status' }],
    ['the deletion of its StatefulSet', { ...deletion, resource: 'statefulsets' }],
  ];
  for (const [name, event] of table) t.equal(found(nodeTainted, [taint, event]), undefined, name);
});

t.test('what happened before the signal has another cause', async t => {
  t.equal(found(nodeTainted, [deletion, taint]), undefined);
});

t.test('only the write of the bench is the signal', async t => {
  const byKubelet = { ...sickness, user: 'kwok', at: new Date(500) };
  t.strictSame(found(deviceUnhealthy, [byKubelet, sickness, eviction]), { afterMs: 80, user: berthUser });
  t.throws(() => found(deviceUnhealthy, [byKubelet, eviction]), /no device of a worker/);
});

function found(fault: Fault, events: readonly WriteEvent[]) {
  return leaderDeletionIn(events, fault, { leader, victim });
}

function member(name: string, node: string): Pod {
  return { metadata: { name, namespace: 'bench' }, spec: { nodeName: node, containers: [] } };
}

function write({
  atMs,
  ...event
}: Partial<WriteEvent> & Pick<WriteEvent, 'verb' | 'resource' | 'name'> & { atMs: number }): WriteEvent {
  const at = new Date(atMs);
  return {
    subresource: '',
    namespace: '',
    user: 'bed-admin',
    code: 200,
    uid: '',
    dryRun: false,
    ...event,
    at,
  };
}
