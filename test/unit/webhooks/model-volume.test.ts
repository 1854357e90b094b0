import t from 'tap';
import type { Container, Pod, PodSpec } from '../../../src/api/kubernetes.ts';
import { berth } from '../../../src/api/names.ts';
import { modelOps } from '../../../webhooks/model-volume.ts';
import { whyNotReference } from '../../../webhooks/oci-reference.ts';
import { isRefusal } from '../../../webhooks/review.ts';
import { buildPod, patched } from './pod-builders.ts';

const reference = 'ghcr.io/example/llama-3-405b:v1';
const gpu = { resources: { limits: { 'nvidia.com/gpu': '8' } } };
const ownVolume = { name: 'berth-model', image: { reference, pullPolicy: 'IfNotPresent' } };
const ownMount = { name: 'berth-model', mountPath: '/models', readOnly: true };

function modelPod(spec: Partial<PodSpec>, annotations: Readonly<Record<string, string>> = {}): Pod {
  return buildPod({ annotations: { [berth.model]: reference, ...annotations }, spec });
}

function inject(pod: Pod): { pod: Pod; warnings: readonly string[] } {
  const result = modelOps(pod);
  if (isRefusal(result)) throw new Error(result.message);
  return { pod: patched(pod, result.ops), warnings: result.warnings };
}

/** Containers with something at /models, init containers first. */
function mounted({ spec }: Pod, path = '/models'): readonly string[] {
  const has = (container: Container) =>
    container.volumeMounts?.some(mount => mount.mountPath === path) ?? false;
  return [...(spec.initContainers ?? []), ...spec.containers].filter(has).map(({ name }) => name);
}

t.test('mounts one image volume, read-only, and changes nothing the second time', async t => {
  const pod = modelPod({ containers: [{ name: 'server', ...gpu }] });
  const after = inject(pod).pod;
  t.same(
    after,
    modelPod({ containers: [{ name: 'server', ...gpu, volumeMounts: [ownMount] }], volumes: [ownVolume] }),
  );
  t.same(modelOps(after), { ops: [], warnings: [] });
});

t.test('keeps the volumes and mounts that are there', async t => {
  const shm = { name: 'shm', emptyDir: { medium: 'Memory' } };
  const mount = { name: 'shm', mountPath: '/dev/shm' };
  const { pod } = inject(
    modelPod({ containers: [{ name: 'server', volumeMounts: [mount] }], volumes: [shm] }),
  );
  t.same(pod.spec.volumes, [shm, ownVolume]);
  t.same(pod.spec.containers[0]?.volumeMounts, [mount, ownMount]);
});

t.test('takes mount path and pull policy from annotations', async t => {
  const annotations = { [berth.modelMountPath]: '/mnt/models/', [berth.modelPullPolicy]: 'Never' };
  const { pod } = inject(modelPod({ containers: [{ name: 'server' }] }, annotations));
  t.same(pod.spec.volumes, [{ name: 'berth-model', image: { reference, pullPolicy: 'Never' } }]);
  t.same(pod.spec.containers[0]?.volumeMounts, [
    { name: 'berth-model', mountPath: '/mnt/models', readOnly: true },
  ]);
});

t.test('chooses the containers that compute', async t => {
  const sidecar = { name: 'proxy', restartPolicy: 'Always' };
  const cases: { name: string; spec: Partial<PodSpec>; names?: string; want: string[] }[] = [
    {
      name: 'with an extended resource',
      spec: { containers: [{ name: 'a' }, { name: 'b', ...gpu }] },
      want: ['b'],
    },
    {
      name: 'with a device class',
      spec: {
        containers: [
          { name: 'a' },
          { name: 'b', resources: { requests: { 'deviceclass.resource.kubernetes.io/gpu': 1 } } },
        ],
      },
      want: ['b'],
    },
    {
      name: 'with a resource claim',
      spec: { containers: [{ name: 'a' }, { name: 'b', resources: { claims: [{ name: 'gpus' }] } }] },
      want: ['b'],
    },
    {
      name: 'all ordinary ones if none asks for devices',
      spec: {
        initContainers: [{ name: 'init' }, sidecar],
        containers: [
          { name: 'a', resources: { limits: { cpu: '8', memory: '1Gi', 'nvidia.com/gpu': '0' } } },
          { name: 'b' },
        ],
      },
      want: ['a', 'b'],
    },
    {
      name: 'those that are named, whatever they are',
      spec: {
        initContainers: [{ name: 'init' }, sidecar],
        containers: [{ name: 'a', ...gpu }, { name: 'b' }],
      },
      names: ' b, proxy ,init,b,',
      want: ['init', 'proxy', 'b'],
    },
  ];
  for (const { name, spec, names, want } of cases) {
    const { pod, warnings } = inject(
      modelPod(spec, names === undefined ? {} : { [berth.modelContainers]: names }),
    );
    t.same(mounted(pod), want, name);
    t.same(warnings, []);
    t.same(modelOps(pod), { ops: [], warnings: [] });
  }
});

t.test('leaves a container alone that has something in the place, and says so', async t => {
  const weights = { name: 'weights', persistentVolumeClaim: { claimName: 'weights' } };
  for (const mountPath of ['/models', '/models/', '/models/cache']) {
    const taken = { name: 'a', volumeMounts: [{ name: 'weights', mountPath }] };
    const both = modelPod({ containers: [taken, { name: 'b' }], volumes: [weights] });
    const { pod, warnings } = inject(both);
    t.same(pod.spec.containers, [taken, { name: 'b', volumeMounts: [ownMount] }]);
    t.same(warnings, [`container a has volume weights at ${mountPath}, so the model is not mounted there`]);
    const alone = modelOps(modelPod({ containers: [taken], volumes: [weights] }));
    t.match(alone, { ops: [], warnings: [/container a/] }, 'and adds no volume that nobody would use');
  }
  const above = {
    name: 'a',
    volumeMounts: [
      { name: 'weights', mountPath: '/model' },
      { name: 'weights', mountPath: '/modelsets' },
    ],
  };
  t.same(
    inject(modelPod({ containers: [above], volumes: [weights] })).warnings,
    [],
    'other paths do not matter',
  );
});

t.test('uses an image volume of the same reference that the pod brings along', async t => {
  const users = { name: 'oci', image: { reference, pullPolicy: 'Always' } };
  const mountedAlready = {
    name: 'a',
    volumeMounts: [{ name: 'oci', mountPath: '/models', subPath: 'models' }],
  };
  const done = modelPod({ containers: [mountedAlready], volumes: [users] });
  t.same(modelOps(done), { ops: [], warnings: [] });
  const { pod } = inject(modelPod({ containers: [mountedAlready, { name: 'b' }], volumes: [users] }));
  t.same(pod.spec.volumes, [users]);
  t.same(pod.spec.containers[1]?.volumeMounts, [{ name: 'oci', mountPath: '/models', readOnly: true }]);
});

t.test('does nothing without the model annotation', async t => {
  t.same(modelOps(buildPod({ annotations: { [berth.modelMountPath]: 'nonsense' } })), {
    ops: [],
    warnings: [],
  });
});

t.test('refuses what cannot be, naming the field', async t => {
  const annotation = (key: string) => `metadata.annotations[${key}]`;
  const cases: [string, Pod][] = [
    [annotation(berth.model), modelPod({}, { [berth.model]: 'oci://ghcr.io/x' })],
    ...['models', '', '/', '//', '/a//b', '/a/../b', '/./a', '/a:b'].map((path): [string, Pod] => [
      annotation(berth.modelMountPath),
      modelPod({}, { [berth.modelMountPath]: path }),
    ]),
    [annotation(berth.modelPullPolicy), modelPod({}, { [berth.modelPullPolicy]: 'always' })],
    [annotation(berth.modelContainers), modelPod({}, { [berth.modelContainers]: 'main,sidecar' })],
    [annotation(berth.modelContainers), modelPod({}, { [berth.modelContainers]: ' , ' })],
    ['spec.volumes[1].name', modelPod({ volumes: [{ name: 'a' }, { name: 'berth-model', emptyDir: {} }] })],
    [
      'spec.volumes[0].name',
      modelPod({ volumes: [{ ...ownVolume, image: { reference, pullPolicy: 'Always' } }] }),
    ],
  ];
  for (const [field, pod] of cases) {
    const result = modelOps(pod);
    t.match(result, { code: 'InvalidField', field });
    t.ok(isRefusal(result) && result.message.startsWith(field), 'the message stands alone');
  }
});

t.test('reads references as container runtimes do', async t => {
  const sha = 'a'.repeat(64);
  const valid = [
    'llama',
    'library/llama',
    'localhost/llama',
    'localhost:5000/llama:v1',
    'ghcr.io/org/llama:v1.0_rc-1',
    `ghcr.io/org/llama@sha256:${sha}`,
    `ghcr.io/org/llama:v1@sha256:${sha}`,
    `x/y@sha512:${'0'.repeat(128)}`,
    '10.0.0.1:5000/a/b__c/d.e/f---g',
    '[fd00::1]:5000/models',
    'Registry.Example.COM/models',
    `a:${'t'.repeat(128)}`,
    'a-b.c/d:5000',
  ];
  for (const text of valid) t.equal(whyNotReference(text), undefined, text);
  const invalid = [
    '',
    ' llama',
    'llama ',
    'oci://ghcr.io/llama',
    'https://ghcr.io/llama',
    'ghcr.io/Org/llama',
    'Llama',
    'a//b',
    '/a',
    'a/',
    'a:',
    'a:-x',
    `a:${'t'.repeat(129)}`,
    'a@',
    'a@sha256',
    'a@sha256:abc',
    `a@sha256:${'A'.repeat(64)}`,
    `a@sha256:${sha}b`,
    `a@sha256:${sha}@sha256:${sha}`,
    sha,
    'a..b',
    'a___b',
    '.a',
    'a-',
    'host:port/a',
    '-host.io/a',
    '[fd00::1/a',
    'a\nb',
    'ä',
    `ghcr.io/${'a'.repeat(250)}`,
    'a/'.repeat(600),
  ];
  for (const text of invalid) t.type(whyNotReference(text), 'string', JSON.stringify(text.slice(0, 80)));
});
