import t from 'tap';
import type { WriteEvent } from '../../../hack/bed/audit.ts';
import { reactionsIn } from '../../../hack/bench/failure-latency.ts';
import { intentName } from '../../../src/kube/intent-store.ts';

const leader = {
  metadata: { name: 'serve-0-0', namespace: 'bench', uid: 'u' },
  spec: { containers: [] },
};
const told = [{ slice: 'n1-gpu', leader }];
const signal = write('patch', 'resourceslices', 'n1-gpu', 1_000, { user: 'bed-admin' });
const intent = write('create', 'configmaps', intentName('u'), 6_200, { code: 201 });
const evicted = write('create', 'pods', 'serve-0-0', 6_300, {
  subresource: 'eviction',
  namespace: 'bench',
  code: 201,
});
const gone = write('delete', 'pods', 'serve-0-0', 8_000, { namespace: 'bench', user: 'kwok' });

t.test('times run from the publication of the slice to the intent and to the eviction', async t => {
  t.same(reactionsIn([signal, intent, evicted, gone], told), [{ intentSeconds: 5.2, leaderSeconds: 5.3 }]);
});

t.test('what is not there, or twice, is an error', async t => {
  t.throws(() => reactionsIn([intent, evicted], told), /no publication of n1-gpu/);
  t.throws(() => reactionsIn([signal, evicted], told), /no intent of serve-0-0/);
  t.throws(() => reactionsIn([signal, { ...intent, code: 409 }, evicted], told), /no intent/);
  t.throws(() => reactionsIn([signal, intent, gone], told), /no eviction/);
  t.throws(() => reactionsIn([signal, intent, evicted, evicted], told), /more than one eviction/);
});

function write(
  verb: string,
  resource: string,
  name: string,
  atMs: number,
  more: Partial<WriteEvent>,
): WriteEvent {
  const rest = { subresource: '', namespace: '', uid: '', user: 'berth', code: 200, dryRun: false };
  return { ...rest, verb, resource, name, at: new Date(atMs), ...more };
}
