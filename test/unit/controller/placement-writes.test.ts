import t from 'tap';
import type { KubernetesObject } from '../../../src/api/kubernetes.ts';
import { placementWrites } from '../../../src/controller/placement-writes.ts';
import type { ApiClient, ApiRequest } from '../../../src/kube/api-client.ts';
import { ApiError } from '../../../src/kube/api-errors.ts';
import { decode } from '../../builders/planning.ts';
import { podOf } from '../../builders/pods.ts';

/** Answers each read with what is there by now, and notes what is deleted. */
function world(live: object | undefined) {
  const deleted: ApiRequest[] = [];
  const client = {
    async request(request: ApiRequest) {
      if (request.method === 'DELETE') deleted.push(request);
      else if (live === undefined) throw new ApiError({ status: 404, message: 'none' });
      return live;
    },
  } as unknown as ApiClient;
  return { deleted, writes: placementWrites(client) };
}

t.test('a pod is deleted only as long as it is what the cache shows', async t => {
  const seen = decode(podOf({ name: 'p', uid: 'uid-1' }));
  const live = podOf({ name: 'p', uid: 'uid-1' });
  const cases: readonly (readonly [string, object | undefined, number])[] = [
    ['as it was', live, 1],
    ['gone', undefined, 0],
    ['another of its name', podOf({ name: 'p', uid: 'uid-2' }), 0],
    ['bound meanwhile', podOf({ name: 'p', uid: 'uid-1', node: 'a' }), 0],
    ['going', { ...live, metadata: { ...live.metadata, deletionTimestamp: '2026-01-01T00:00:00Z' } }, 0],
  ];
  for (const [what, now, count] of cases) {
    const { deleted, writes } = world(now);
    t.equal(await writes.deletePod(seen, 'Background'), count === 1, what);
    t.equal(deleted.length, count, what);
    for (const { body } of deleted) t.match(body, { preconditions: { uid: 'uid-1' } });
  }
});

t.test('a claim is deleted only in the version that has no devices and nobody to have them', async t => {
  const claim: KubernetesObject = {
    metadata: { name: 'c', namespace: 'serving', uid: 'uid-1', resourceVersion: '7' },
  };
  const cases: readonly (readonly [string, object | undefined, number])[] = [
    ['as it was', claim, 1],
    ['gone', undefined, 0],
    ['another of its name', { metadata: { ...claim.metadata, uid: 'uid-2' } }, 0],
    ['with devices', { ...claim, status: { allocation: {} } }, 0],
    [
      'about to have some',
      { ...claim, status: { reservedFor: [{ resource: 'pods', name: 'p', uid: 'u' }] } },
      0,
    ],
  ];
  for (const [what, now, count] of cases) {
    const { deleted, writes } = world(now);
    const seen = { namespace: 'serving', name: 'c', uid: 'uid-1' };
    t.equal(await writes.deleteClaim(seen as never), count === 1, what);
    t.equal(deleted.length, count, what);
    for (const { body } of deleted) t.match(body, { preconditions: { uid: 'uid-1', resourceVersion: '7' } });
  }
});
