import t from 'tap';
import type { PodSpec } from '../../../../src/api/kubernetes.ts';
import type { DeviceClassRecord } from '../../../../src/cluster/devices/claims.ts';
import {
  extendedResourceClasses,
  implicitClaim,
  isDelegatedToDra,
} from '../../../../src/cluster/devices/extended-resources.ts';

const classOf = (
  name: string,
  extendedResourceName: string | undefined,
  createdAtMs: number,
): DeviceClassRecord => ({
  name,
  extendedResourceName,
  createdAtMs,
  selectors: [],
  spec: {},
});
const gpu = 'example.com/gpu';
const classes = extendedResourceClasses([
  classOf('old', gpu, 1),
  classOf('new', gpu, 2),
  classOf('nu', gpu, 2),
  classOf('nic', undefined, 1),
]);
const container = (name: string, requests: Record<string, string>, restartPolicy?: string) => ({
  name,
  resources: { requests },
  ...(restartPolicy !== undefined && { restartPolicy }),
});
const asked = (spec: PodSpec) =>
  implicitClaim(spec, classes, () => true)?.spec.devices?.requests?.map(({ name, exactly }) => [
    name,
    exactly?.deviceClassName,
    exactly?.count,
  ]);

t.test('of two classes behind a resource the newer counts, then the first by name', async t => {
  t.equal(classes.get(gpu)?.name, 'new');
  t.equal(classes.get('deviceclass.resource.kubernetes.io/nic')?.name, 'nic');
});

t.test('a resource is left to DRA where a class stands behind it and no plugin offers any', async t => {
  t.ok(isDelegatedToDra(new Map([[gpu, 0]]), gpu, classes));
  t.notOk(isDelegatedToDra(new Map([[gpu, 8]]), gpu, classes));
  t.notOk(isDelegatedToDra(new Map(), 'example.com/other', classes));
});

t.test('requests are named by container and by place among its resources', async t => {
  const spec = {
    containers: [
      container('a', { memory: '1Gi', [gpu]: '2', cpu: '1' }),
      container('b', { 'deviceclass.resource.kubernetes.io/nic': '1' }),
    ],
  };
  t.strictSame(asked(spec), [
    ['container-0-request-1', 'new', 2],
    ['container-1-request-0', 'nic', 1],
  ]);
  t.equal(
    implicitClaim(spec, classes, () => false),
    undefined,
    'none where plugins serve them',
  );
  t.equal(asked({ containers: [container('a', { [gpu]: '0' })] }), undefined);
});

t.test('init containers use what later containers have, and the largest asks for what it lacks', async t => {
  const spec: PodSpec = {
    initContainers: [
      container('i', { [gpu]: '3' }),
      container('j', { [gpu]: '5' }),
      container('s', { [gpu]: '1' }, 'Always'),
    ],
    containers: [container('a', { [gpu]: '1' })],
  };
  t.strictSame(asked(spec), [
    ['container-1-request-0', 'new', 3],
    ['container-2-request-0', 'new', 1],
    ['container-3-request-0', 'new', 1],
  ]);
});

t.test('limits stand in for requests that a template leaves out', async t => {
  t.strictSame(asked({ containers: [{ name: 'a', resources: { limits: { [gpu]: 4 } } }] }), [
    ['container-0-request-0', 'new', 4],
  ]);
});
