import { X509Certificate } from 'node:crypto';
import t from 'tap';
import { parse, parseAllDocuments } from 'yaml';
import { ApiClient } from '../../../hack/bed/api-client.ts';
import { splitManifest } from '../../../hack/bed/apply.ts';
import { Authority } from '../../../hack/bed/certificates.ts';
import { argumentsOf, auditPolicy, type Component, type Layout } from '../../../hack/bed/components.ts';
import { kubeconfig } from '../../../hack/bed/kubeconfig.ts';
import { lwsAccess, lwsWebhookConfigurations } from '../../../hack/bed/lws-manifests.ts';
import { schedulerConfiguration } from '../../../hack/bed/scheduler-config.ts';

const layout: Layout = {
  directory: '/tmp/berth-bed-x',
  dataDirectory: '/dev/shm/berth-bed-x',
  logDirectory: '/tmp/berth-bed-x/logs',
  nodes: 'few',
  ports: {
    'kube-apiserver': 1,
    'kube-controller-manager': 2,
    'kube-scheduler': 3,
    'lws-webhook': 4,
    'lws-health': 5,
  },
};

const running: readonly Component[] = [
  'etcd',
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'lws',
  'kwok',
];

t.test('every component names the run folder, by which its process is known again', async t => {
  for (const component of running) {
    t.match(argumentsOf(component, layout).join(' '), 'berth-bed-x', component);
  }
});

t.test('kube-controller-manager is more patient than a node lease lasts, in both scales', async t => {
  for (const nodes of ['few', 'many'] as const) {
    const secondsIn = (component: Component, flag: string) =>
      Number(new RegExp(`${flag}=(\\d+)`).exec(argumentsOf(component, { ...layout, nodes }).join(' '))?.[1]);
    const lease = secondsIn('kwok', 'node-lease-duration-seconds');
    const grace = secondsIn('kube-controller-manager', 'node-monitor-grace-period');
    t.ok(grace > lease, `${nodes}: ${grace} > ${lease}`);
  }
});

t.test('the audit log takes writes of anything but leases and events', async t => {
  const { rules } = parse(auditPolicy());
  t.strictSame(
    rules.map((rule: { level: string }) => rule.level),
    ['None', 'None', 'None', 'None', 'Request', 'Request', 'Request', 'Metadata'],
  );
  t.strictSame(rules.at(-1).verbs, ['create', 'update', 'patch', 'delete', 'deletecollection']);
});

t.test(
  'the stock scheduler configuration gets the kubeconfig, a high client rate and no leader election',
  async t => {
    t.strictSame(parse(schedulerConfiguration(undefined, '/k')), {
      apiVersion: 'kubescheduler.config.k8s.io/v1',
      kind: 'KubeSchedulerConfiguration',
      clientConnection: { qps: 1000, burst: 2000, kubeconfig: '/k' },
      leaderElection: { leaderElect: false },
    });
  },
);

t.test("a caller's scheduler configuration stays, but for the kubeconfig", async t => {
  const caller =
    'percentageOfNodesToScore: 100\nclientConnection: {qps: 50, kubeconfig: /other}\nextenders: [{urlPrefix: u}]\n';
  const config = parse(schedulerConfiguration(caller, '/k'));
  t.equal(config.percentageOfNodesToScore, 100);
  t.strictSame(config.extenders, [{ urlPrefix: 'u' }]);
  t.strictSame(config.clientConnection, { qps: 50, burst: 2000, kubeconfig: '/k' });
});

t.test('certificates chain to the authority and say who the client is', async t => {
  const authority = await Authority.create();
  const ca = new X509Certificate(authority.pem);
  const server = new X509Certificate((await authority.issueServer()).certificatePem);
  const client = new X509Certificate(
    (await authority.issueClient({ user: 'system:x', groups: ['system:masters', 'a,b=c'] })).certificatePem,
  );
  t.ok(ca.ca);
  t.ok(server.verify(ca.publicKey) && client.verify(ca.publicKey));
  t.equal(server.checkIP('127.0.0.1'), '127.0.0.1');
  t.equal(server.checkHost('localhost'), 'localhost');
  t.equal(client.subject, 'O=system:masters\nO=a\\,b=c\nCN=system:x');
});

t.test('a kubeconfig carries its credentials inside', async t => {
  const byToken = parse(kubeconfig('https://s', 'ca', { kind: 'token', token: 'tok' }, 'ns'));
  t.strictSame(byToken.users, [{ name: 'bed', user: { token: 'tok' } }]);
  t.equal(byToken.contexts[0].context.namespace, 'ns');
  const pair = { certificatePem: 'cert', keyPem: 'key' };
  const byCertificate = parse(kubeconfig('https://s', 'ca', { kind: 'certificate', pair }));
  t.equal(Buffer.from(byCertificate.users[0].user['client-key-data'], 'base64').toString(), 'key');
  t.equal(byCertificate.clusters[0].cluster['certificate-authority-data'], 'Y2E=');
});

t.test('a manifest is split into its documents, each with its own text', async t => {
  const text = [
    '# a comment',
    '---',
    'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: n}\ndata: {text: "--- not a separator"}',
    '--- # the next',
    'apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: b}}',
    '---',
    '',
  ].join('\n');
  const documents = splitManifest(text);
  t.match(documents, [
    { kind: 'ConfigMap', name: 'a', namespace: 'n', text: /not a separator/ },
    { kind: 'Secret', name: 'b', namespace: undefined, text: /^\{"apiVersion":"v1"/ },
  ]);
  t.equal(documents.length, 2);
});

t.test('a document without kind or name is named in the error', async t => {
  t.throws(() => splitManifest('foo: bar'), { message: /no apiVersion or kind:\nfoo: bar/ });
  t.throws(() => splitManifest('{apiVersion: v1, kind: Pod, metadata: {generateName: a-}}'), {
    message: /Pod .*metadata\.name/,
  });
});

const webhookSources = {
  manifests: `---
kind: MutatingWebhookConfiguration
metadata: {name: mutating-webhook-configuration}
webhooks:
- {name: a, failurePolicy: Fail, clientConfig: {service: {name: s, namespace: system, path: /mutate-a}}}
- {name: pod, clientConfig: {service: {name: s, namespace: system, path: /mutate--v1-pod}}}
---
kind: ValidatingWebhookConfiguration
metadata: {name: validating-webhook-configuration}
webhooks:
- {name: b, clientConfig: {service: {name: s, namespace: system, path: /validate-b}}}
`,
  mutatingPatch: `- op: replace
  path: /webhooks/1
  value: {name: pod, objectSelector: {matchExpressions: []}, clientConfig: {service: {path: /mutate--v1-pod}}}
`,
  validatingPatch: '[]',
};

t.test(
  'LWS webhooks are called by URL under their names of a real installation, patches applied',
  async t => {
    const text = lwsWebhookConfigurations(webhookSources, 'https://127.0.0.1:4', 'ca');
    t.strictSame(
      parseAllDocuments(text).map(document => document.toJS()),
      [
        {
          kind: 'MutatingWebhookConfiguration',
          metadata: { name: 'lws-mutating-webhook-configuration' },
          webhooks: [
            {
              name: 'a',
              failurePolicy: 'Fail',
              clientConfig: { url: 'https://127.0.0.1:4/mutate-a', caBundle: 'Y2E=' },
            },
            {
              name: 'pod',
              objectSelector: { matchExpressions: [] },
              clientConfig: { url: 'https://127.0.0.1:4/mutate--v1-pod', caBundle: 'Y2E=' },
            },
          ],
        },
        {
          kind: 'ValidatingWebhookConfiguration',
          metadata: { name: 'lws-validating-webhook-configuration' },
          webhooks: [
            { name: 'b', clientConfig: { url: 'https://127.0.0.1:4/validate-b', caBundle: 'Y2E=' } },
          ],
        },
      ],
    );
  },
);

t.test("LWS gets its own module's role under its service account", async t => {
  const documents = parseAllDocuments(
    lwsAccess('kind: ClusterRole\nmetadata: {name: manager-role}\nrules: [{verbs: [get]}]\n'),
  );
  const [, , role, binding] = documents.map(document => document.toJS());
  t.strictSame(role, {
    kind: 'ClusterRole',
    metadata: { name: 'lws-manager-role' },
    rules: [{ verbs: ['get'] }],
  });
  t.equal(binding.roleRef.name, 'lws-manager-role');
  t.strictSame(binding.subjects, [
    { kind: 'ServiceAccount', name: 'lws-controller-manager', namespace: 'lws-system' },
  ]);
});

t.test('a server that is not there answers no', async t => {
  const authority = await Authority.create();
  const client = new ApiClient(
    'https://127.0.0.1:1',
    authority.pem,
    await authority.issueClient({ user: 'u' }),
  );
  t.equal(await client.answers('/readyz'), false);
  client.close();
});
