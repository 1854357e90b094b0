import t from 'tap';
import { berth } from '../../../src/api/names.ts';
import {
  type LiveRemaker,
  type Remaker,
  remakersOf,
  stillRemakes,
  whyNotRemade,
} from '../../../src/failure/remakers.ts';
import { decode } from '../../builders/planning.ts';
import { podOf } from '../../builders/pods.ts';

function podMadeBy(
  kind: string,
  name: string,
  more: { apiVersion?: string; terminating?: boolean; agrees?: boolean } = {},
) {
  const { apiVersion = kind === 'Job' ? 'batch/v1' : 'apps/v1', terminating = false, agrees = false } = more;
  return decode(
    podOf({
      name,
      terminating,
      ...(agrees && { annotations: { [berth.failure]: 'evict' } }),
      owner: { apiVersion, kind, name: 'web', uid: `uid-${kind}`, controller: true },
    }),
  );
}

t.test('who is made anew without harm, and who is not', async t => {
  const set = podMadeBy('StatefulSet', 'web-0');
  t.equal(whyNotRemade([set, podMadeBy('ReplicaSet', 'web-x')]), undefined);
  t.equal(whyNotRemade([podMadeBy('Job', 'web-y', { agrees: true })]), undefined);
  const cases = [
    [decode(podOf({ name: 'bare' })), /bare has no controller/],
    [podMadeBy('Job', 'web-y'), /backoffLimit/],
    [podMadeBy('RayCluster', 'web-r', { apiVersion: 'ray.io/v1' }), /RayCluster\.ray\.io web/],
    [podMadeBy('StatefulSet', 'web-k', { apiVersion: 'apps.kruise.io/v1' }), /StatefulSet\.apps\.kruise\.io/],
    [podMadeBy('ReplicationController', 'web-c', { apiVersion: 'v1', agrees: true }), /does not know/],
  ] as const;
  for (const [pod, why] of cases) t.match(whyNotRemade([set, pod]), why, 'one is enough');
});

t.test('whether a controller would make its pods anew', async t => {
  const live: LiveRemaker = { uid: 'u', isGoing: false, replicas: 2, firstOrdinal: 0, isOver: false };
  const of = (kind: Remaker['kind'], ...pods: readonly string[]): Remaker => ({
    kind,
    name: 'web',
    uid: 'u',
    pods,
  });
  const cases: readonly (readonly [string, Remaker, Partial<LiveRemaker> | undefined, boolean])[] = [
    ['a StatefulSet', of('StatefulSet', 'web-0', 'web-1'), {}, true],
    ['that is scaled down', of('StatefulSet', 'web-0', 'web-1'), { replicas: 1 }, false],
    ['that counts from elsewhere', of('StatefulSet', 'web-0'), { firstOrdinal: 1 }, false],
    ['and reaches it', of('StatefulSet', 'web-2'), { firstOrdinal: 1 }, true],
    ['whose pod has no ordinal', of('StatefulSet', 'other'), {}, false],
    ['whose pods are going already', of('StatefulSet'), {}, true],
    ['which wants none', of('StatefulSet'), { replicas: 0 }, false],
    ['a ReplicaSet', of('ReplicaSet', 'a', 'b'), {}, true],
    ['that has too many', of('ReplicaSet', 'a', 'b', 'c'), {}, false],
    ['that is rolled out away', of('ReplicaSet'), { replicas: 0 }, false],
    ['a Job', of('Job', 'a', 'b', 'c'), {}, true],
    ['that is over', of('Job', 'a'), { isOver: true }, false],
    ['one that is being deleted', of('ReplicaSet', 'a'), { isGoing: true }, false],
    ['another one of that name', of('ReplicaSet', 'a'), { uid: 'v' }, false],
    ['none', of('ReplicaSet', 'a'), undefined, false],
  ];
  for (const [what, remaker, more, wanted] of cases)
    t.equal(stillRemakes(remaker, more && { ...live, ...more }), wanted, what);
  const pods = [podMadeBy('ReplicaSet', 'web-a'), podMadeBy('ReplicaSet', 'web-b', { terminating: true })];
  t.same(remakersOf(pods), [{ kind: 'ReplicaSet', name: 'web', uid: 'uid-ReplicaSet', pods: ['web-a'] }]);
});
