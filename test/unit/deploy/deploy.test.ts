import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import t from 'tap';
import { berth, k8s, lws, ownedAnnotations } from '../../../src/api/names.ts';
import { isAcceleratorResource } from '../../../src/cluster/resources.ts';
import { readConfig } from '../../../src/config.ts';
import { filterPath, preemptPath, prioritizePath } from '../../../src/extender/plugin.ts';
import { mutateClaimsPath } from '../../../webhooks/claim-plugin.ts';
import { claimMatchConditions } from '../../../webhooks/claim-scope.ts';
import { reviewOwnersPath } from '../../../webhooks/owner-plugin.ts';
import { mutatePodsPath } from '../../../webhooks/plugin.ts';
import { matchConditions } from '../../../webhooks/scope.ts';
import {
  at,
  deployFolder,
  documentsOf,
  type Fields,
  fieldsOf,
  listOf,
  type Manifest,
  readManifests,
  stringsOf,
  yamlFiles,
} from './manifests.ts';

const manifests = readManifests();
const namespace = 'berth-system';
/** Throws for a key that Berth does not know. */
const config = readConfig(
  String(at(manifest('ConfigMap', 'berth-config').object, 'data', 'config.yaml')),
  'base/config.yaml',
);

function manifest(kind: string, name: string): Manifest {
  const found = manifests.find(candidate => candidate.kind === kind && candidate.name === name);
  if (found === undefined) throw new Error(`there is no ${kind} ${name} below deploy/`);
  return found;
}

function ofKind(...kinds: readonly string[]): readonly Manifest[] {
  return manifests.filter(({ kind }) => kinds.includes(kind));
}

/** The files of a kustomization, by following its resources and components. */
function filesOf(folder: string): readonly string[] {
  const [kustomization = {}] = documentsOf(join(folder, 'kustomization.yaml'));
  const parts = [...stringsOf(kustomization['resources']), ...stringsOf(kustomization['components'])];
  return parts
    .map(part => normalize(join(folder, part)))
    .flatMap(part => (part.endsWith('.yaml') ? [part] : filesOf(part)));
}

function manifestsOf(folder: string): readonly Manifest[] {
  const files = filesOf(folder);
  return manifests.filter(({ file }) => files.includes(file));
}

t.test('kustomize layout', async t => {
  t.test('every file is YAML with an apiVersion and a kind', async t => {
    for (const file of yamlFiles) {
      for (const { apiVersion, kind } of documentsOf(file))
        t.match({ apiVersion, kind }, { apiVersion: /./, kind: /./ }, file);
    }
  });

  t.test('every manifest belongs to exactly one base or component', async t => {
    const owners = globSync('{base,components/*}/kustomization.yaml', { cwd: deployFolder }).map(dirname);
    const owned = owners.flatMap(filesOf).sort();
    t.same(owned, [...new Set(manifests.map(({ file }) => file))].sort());
  });

  t.test('every namespaced object lies in the namespace of Berth', async t => {
    const clusterScoped = [
      'Namespace',
      'ClusterRole',
      'ClusterRoleBinding',
      'MutatingWebhookConfiguration',
      'ValidatingAdmissionPolicy',
      'ValidatingAdmissionPolicyBinding',
    ];
    for (const { kind, name, object } of manifests) {
      const wanted = clusterScoped.includes(kind) ? undefined : namespace;
      t.equal(at(object, 'metadata', 'namespace'), wanted, `${kind} ${name}`);
    }
  });
});

t.test('rights', async t => {
  const readOnly = ['get', 'list', 'watch'];

  t.test('no role has a wildcard', async t => {
    for (const { name, object } of ofKind('ClusterRole', 'Role')) {
      for (const { apiGroups, resources, verbs, nonResourceURLs } of listOf(object['rules'])) {
        const words = [apiGroups, resources, verbs, nonResourceURLs].flatMap(stringsOf);
        t.notOk(
          words.some(word => word.includes('*')),
          name,
        );
      }
    }
  });

  t.test('every role is bound to the service account of Berth, and to nobody else', async t => {
    const account = manifest('ServiceAccount', 'berth');
    for (const { kind, name, object } of ofKind('ClusterRoleBinding', 'RoleBinding')) {
      t.same(object['subjects'], [{ kind: 'ServiceAccount', name: account.name, namespace }], name);
      t.equal(at(object, 'roleRef', 'kind'), kind.replace('Binding', ''), name);
    }
    const bound = ofKind('ClusterRoleBinding', 'RoleBinding').map(({ object }) =>
      at(object, 'roleRef', 'name'),
    );
    t.same(
      bound.sort(),
      ofKind('ClusterRole', 'Role')
        .map(({ name }) => name)
        .sort(),
    );
  });

  t.test('observing may change nothing outside of its own namespace', async t => {
    const observe = manifestsOf('overlays/observe');
    const verbs = observe
      .filter(({ kind }) => kind === 'ClusterRole')
      .flatMap(({ object }) => listOf(object['rules']))
      .flatMap(rule => stringsOf(rule['verbs']));
    t.same(
      verbs.filter(verb => !readOnly.includes(verb)),
      [],
    );
    t.notOk(observe.some(({ kind }) => kind.endsWith('WebhookConfiguration')));
  });

  t.test('what may be deleted or evicted stands in the roles for it alone', async t => {
    const destructive = (rule: Fields) =>
      stringsOf(rule['verbs']).some(verb => verb.startsWith('delete')) ||
      stringsOf(rule['resources']).includes('pods/eviction');
    const found = ofKind('ClusterRole', 'Role').flatMap(({ file, name, object }) =>
      listOf(object['rules'])
        .filter(destructive)
        .map(rule => `${dirname(file)} ${name}: ${stringsOf(rule['verbs'])} ${stringsOf(rule['resources'])}`),
    );
    t.same(found.sort(), [
      'components/failure berth-evict: create pods/eviction',
      'components/failure berth-evict: delete statefulsets',
      'components/failure berth-exclude: create,delete devicetaintrules',
      'components/failure berth-records: create,update,delete configmaps',
      'components/replan berth-replan: delete pods',
      'components/steering berth-steer: delete resourceclaims',
    ]);
    for (const overlay of ['observe', 'pin', 'pin-extender', 'extender'])
      t.notOk(
        filesOf(`overlays/${overlay}`).some(file => file.startsWith('components/failure')),
        `${overlay} has no rights to evict: they are added by hand`,
      );
  });

  t.test('what planning reads of devices may be read by all overlays, live pods as well', async t => {
    const rules = listOf(manifest('ClusterRole', 'berth-read').object['rules']);
    const verbsOf = (apiGroup: string, resource: string) =>
      rules
        .filter(rule => stringsOf(rule['apiGroups']).includes(apiGroup))
        .filter(rule => stringsOf(rule['resources']).includes(resource))
        .flatMap(rule => stringsOf(rule['verbs']));
    const devices = ['resourceslices', 'deviceclasses', 'resourceclaims', 'resourceclaimtemplates'];
    for (const resource of devices) t.same(verbsOf('resource.k8s.io', resource), readOnly, resource);
    t.same(verbsOf('resource.nvidia.com', 'computedomains'), readOnly);
    t.same(verbsOf('', 'pods'), readOnly);
  });

  t.test('who takes groups out of traffic may write conditions and see who sends requests', async t => {
    const rulesOf = (name: string) =>
      listOf(manifest('ClusterRole', name).object['rules']).map(({ resources, verbs }) =>
        [stringsOf(verbs), stringsOf(resources)].join(' '),
      );
    t.same(rulesOf('berth-drain'), ['list endpointslices', 'list inferencepools']);
    t.ok(rulesOf('berth-place').includes('patch pods/status'));
    for (const overlay of ['pin', 'pin-extender', 'extender'])
      t.ok(filesOf(`overlays/${overlay}`).includes('components/plan/rbac-place.yaml'), overlay);
  });

  t.test('each overlay has what its mode needs and nothing else', async t => {
    const componentsOf = (overlay: string) =>
      [...new Set(filesOf(`overlays/${overlay}`).map(file => dirname(file)))].sort();
    t.same(componentsOf('observe'), ['base']);
    const pin = [
      'base',
      'components/plan',
      'components/replan',
      'components/steering',
      'components/webhooks',
    ];
    t.same(componentsOf('pin'), pin);
    t.same(componentsOf('pin-extender'), [...pin, 'components/extender'].sort());
    t.same(componentsOf('extender'), ['base', 'components/extender', 'components/plan']);
  });

  t.test('secrets, leases and webhook configurations are changed by name only', async t => {
    const guarded = ['secrets', 'leases', 'mutatingwebhookconfigurations'];
    const rules = ofKind('ClusterRole', 'Role').flatMap(({ object }) => listOf(object['rules']));
    for (const { resources, verbs, resourceNames } of rules) {
      if (!stringsOf(resources).some(resource => guarded.includes(resource))) continue;
      if (stringsOf(verbs).join() === 'create') continue;
      t.equal(stringsOf(resourceNames).length, 1, stringsOf(resources).join());
    }
  });

  t.test('names in rules are those of the objects', async t => {
    const names = new Map(
      ofKind('ClusterRole', 'Role')
        .flatMap(({ object }) => listOf(object['rules']))
        .map(({ resources, resourceNames }) => [
          stringsOf(resources).join(),
          stringsOf(resourceNames).join(),
        ]),
    );
    t.equal(names.get('mutatingwebhookconfigurations'), webhookConfiguration.name);
    const leases = ofKind('Role')
      .flatMap(({ object }) => listOf(object['rules']))
      .filter(rule => stringsOf(rule['resources']).includes('leases'))
      .flatMap(rule => stringsOf(rule['resourceNames']));
    t.same(leases, [config.lease.name]);
  });
});

const webhookConfiguration = manifest(
  'MutatingWebhookConfiguration',
  'zz-berth-mutating-webhook-configuration',
);
const webhooks = listOf(webhookConfiguration.object['webhooks']);

t.test('webhooks', async t => {
  const exists = (key: string) => ({ key, operator: 'Exists' });
  const absent = (key: string) => ({ key, operator: 'DoesNotExist' });
  const optedIn = [
    { key: berth.mode, operator: 'In', values: ['pin', 'pin-extender', 'extender'] },
    { key: k8s.namespaceName, operator: 'NotIn', values: ['kube-system', namespace] },
  ];
  const singlesOptedIn = [...optedIn, { key: berth.singles, operator: 'In', values: ['pin'] }];
  const single = [absent(berth.group), absent(lws.name)];
  const failClosed = { failurePolicy: 'Fail', timeoutSeconds: 3 };
  const failOpen = { failurePolicy: 'Ignore', timeoutSeconds: 2 };
  const wanted = [
    { name: 'lws.pods.berth.dev', pods: [exists(lws.name)], namespaces: optedIn, extra: [], ...failClosed },
    {
      name: 'groups.pods.berth.dev',
      pods: [exists(berth.group), absent(lws.name)],
      namespaces: optedIn,
      extra: [],
      ...failClosed,
    },
    { name: 'models.pods.berth.dev', pods: single, namespaces: optedIn, extra: ['has-model'], ...failOpen },
    {
      name: 'singles.pods.berth.dev',
      pods: single,
      namespaces: singlesOptedIn,
      extra: ['has-no-model', 'asks-for-devices'],
      ...failOpen,
    },
  ];

  const claimWebhookName = 'resourceclaims.berth.dev';
  const ownerWebhookName = 'leaderworkersets.berth.dev';

  t.test('are called after those of LWS, for configurations are sorted by name', async t => {
    t.ok(webhookConfiguration.name > 'lws-mutating-webhook-configuration');
  });

  t.test('are these', async t => {
    t.same(
      webhooks.map(({ name }) => name),
      [...wanted.map(({ name }) => name), claimWebhookName, ownerWebhookName],
    );
  });

  for (const { name, pods, namespaces, extra, failurePolicy, timeoutSeconds } of wanted) {
    const webhook = webhooks.find(candidate => candidate['name'] === name) ?? {};

    t.test(`${name} selects its pods and fails as it should`, async t => {
      t.same(at(webhook, 'objectSelector'), { matchExpressions: pods });
      t.same(at(webhook, 'namespaceSelector'), { matchExpressions: namespaces });
      t.equal(webhook['failurePolicy'], failurePolicy);
      t.equal(webhook['timeoutSeconds'], timeoutSeconds);
    });

    t.test(`${name} has the conditions of the process itself`, async t => {
      const conditions = listOf(webhook['matchConditions']);
      t.same(conditions.slice(0, matchConditions.length), matchConditions);
      t.same(
        conditions.slice(matchConditions.length).map(condition => condition['name']),
        extra,
      );
    });

    t.test(`${name} reviews pods at CREATE, again if needed, without side effects`, async t => {
      t.same(webhook['rules'], [
        {
          apiGroups: [''],
          apiVersions: ['v1'],
          operations: ['CREATE'],
          resources: ['pods'],
          scope: 'Namespaced',
        },
      ]);
      t.match(webhook, {
        matchPolicy: 'Equivalent',
        sideEffects: 'None',
        reinvocationPolicy: 'IfNeeded',
        admissionReviewVersions: ['v1'],
      });
    });

    t.test(`${name} calls the Service of Berth, whose caBundle Berth fills in`, async t => {
      t.same(webhook['clientConfig'], {
        service: {
          namespace,
          name: manifest('Service', 'berth-webhook').name,
          port: 443,
          path: mutatePodsPath,
        },
      });
    });
  }

  t.test(`${ownerWebhookName} reviews owners at CREATE, and lets them pass without an answer`, async t => {
    t.strictSame(
      webhooks.find(candidate => candidate['name'] === ownerWebhookName),
      {
        name: ownerWebhookName,
        rules: [
          {
            apiGroups: ['leaderworkerset.x-k8s.io'],
            apiVersions: ['v1'],
            operations: ['CREATE'],
            resources: ['leaderworkersets'],
            scope: 'Namespaced',
          },
        ],
        matchPolicy: 'Equivalent',
        namespaceSelector: { matchExpressions: optedIn },
        failurePolicy: 'Ignore',
        timeoutSeconds: 2,
        reinvocationPolicy: 'Never',
        sideEffects: 'None',
        admissionReviewVersions: ['v1'],
        clientConfig: {
          service: {
            namespace,
            name: manifest('Service', 'berth-webhook').name,
            port: 443,
            path: reviewOwnersPath,
          },
        },
      },
    );
  });

  t.test(`${claimWebhookName} reviews claims at CREATE, and lets them pass without an answer`, async t => {
    t.strictSame(
      webhooks.find(candidate => candidate['name'] === claimWebhookName),
      {
        name: claimWebhookName,
        rules: [
          {
            apiGroups: ['resource.k8s.io'],
            apiVersions: ['v1'],
            operations: ['CREATE'],
            resources: ['resourceclaims'],
            scope: 'Namespaced',
          },
        ],
        matchPolicy: 'Equivalent',
        namespaceSelector: { matchExpressions: optedIn },
        matchConditions: claimMatchConditions,
        failurePolicy: 'Ignore',
        timeoutSeconds: 2,
        reinvocationPolicy: 'Never',
        sideEffects: 'None',
        admissionReviewVersions: ['v1'],
        clientConfig: {
          service: {
            namespace,
            name: manifest('Service', 'berth-webhook').name,
            port: 443,
            path: mutateClaimsPath,
          },
        },
      },
    );
  });
});

t.test('guard of owned keys', async t => {
  const policies = ofKind('ValidatingAdmissionPolicy');
  const ruleOf = ({ object }: Manifest) => at(object, 'spec', 'matchConstraints', 'resourceRules', 0);
  const variablesOf = ({ object }: Manifest) =>
    new Map(
      listOf(at(object, 'spec', 'variables')).map(({ name, expression }) => [
        String(name),
        String(expression),
      ]),
    );

  t.test('watches every way to a pod that exists', async t => {
    const guarded = new Map(
      policies.map(policy => [
        stringsOf(at(ruleOf(policy), 'operations')).join(),
        stringsOf(at(ruleOf(policy), 'resources')),
      ]),
    );
    t.same(guarded.get('UPDATE'), ['pods', 'pods/status', 'pods/resize']);
    t.same(guarded.get('CREATE'), ['bindings', 'pods/binding']);
  });

  t.test('covers every owned annotation', async t => {
    const list = `[${ownedAnnotations.map(key => `'${key}'`).join(', ')}].exists(key,`;
    for (const policy of policies) {
      const variables = variablesOf(policy);
      const expression = variables.get('changesAnnotation') ?? variables.get('setsAnnotation') ?? '';
      t.ok(expression.startsWith(list), `${policy.name}: ${expression}`);
    }
  });

  t.test('covers the scheduling gate', async t => {
    const expression =
      variablesOf(manifest('ValidatingAdmissionPolicy', 'berth-owned-keys-pods')).get('dropsGate') ?? '';
    t.equal(
      expression.split(`gate.name == '${berth.placementGate}'`).length,
      3,
      'once for the old, once for the new pod',
    );
  });

  t.test('lets those through who may write placements, and Berth may', async t => {
    for (const policy of policies) {
      const mayWrite = variablesOf(policy).get('mayWrite');
      t.equal(
        mayWrite,
        "authorizer.group('berth.dev').resource('placements').namespace(request.namespace).check('write').allowed()",
      );
      for (const { expression } of listOf(at(policy.object, 'spec', 'validations'))) {
        t.match(expression, /^!variables\.\w+ \|\| variables\.mayWrite$/, 'the authorizer is asked last');
      }
    }
    t.match(listOf(manifest('ClusterRole', 'berth-place').object['rules']), {
      3: { apiGroups: ['berth.dev'], resources: ['placements'], verbs: ['write'] },
    });
  });

  t.test('refuses, everywhere in the cluster', async t => {
    const bindings = ofKind('ValidatingAdmissionPolicyBinding');
    t.same(
      bindings.map(({ object }) => at(object, 'spec', 'policyName')),
      policies.map(({ name }) => name),
    );
    for (const { object } of bindings) {
      t.same(at(object, 'spec', 'validationActions'), ['Deny']);
      t.equal(at(object, 'spec', 'matchResources'), undefined);
    }
    for (const { object } of policies) t.equal(at(object, 'spec', 'failurePolicy'), 'Fail');
  });
});

t.test('kube-scheduler is configured', async t => {
  const [service] = listOf(at(manifest('Service', 'berth-extender').object, 'spec', 'ports'));
  const serverName = `berth-extender.${namespace}.svc`;

  t.test('the extender has a Service and a port, and its name is in the certificate', async t => {
    t.match(service, { port: 443, targetPort: 'extender' });
    t.ok(config.webhook.dnsNames.includes(serverName));
    const [component = {}] = documentsOf('components/extender/kustomization.yaml');
    const patch = String(at(listOf(component['patches'])[0], 'patch'));
    t.match(patch, `name: extender\n    containerPort: ${config.extender.port}`);
  });

  for (const mode of ['pin-extender', 'extender']) {
    const [configuration = {}] = documentsOf(`scheduler/${mode}.yaml`);
    const [extender = {}, ...others] = listOf(configuration['extenders']);

    t.test(`for ${mode} to show a certificate and to be answered by names`, async t => {
      t.same(others, []);
      t.match(configuration, {
        apiVersion: 'kubescheduler.config.k8s.io/v1',
        kind: 'KubeSchedulerConfiguration',
        percentageOfNodesToScore: 100,
      });
      t.match(extender, {
        filterVerb: filterPath.slice(1),
        prioritizeVerb: prioritizePath.slice(1),
        preemptVerb: preemptPath.slice(1),
        enableHTTPS: true,
        nodeCacheCapable: true,
        tlsConfig: { serverName, caFile: /./, certFile: /./, keyFile: /./ },
      });
      t.equal(at(extender, 'tlsConfig', 'insecure'), undefined);
      // All scores of a stock profile together: weights of 14, each up to 100. A point of an extender counts tenfold.
      t.ok(Number(extender['weight']) * 10 > 1400, 'one point outweighs every plugin');
    });
  }

  t.test('to go on without Berth where pins hold, and to wait for it where they do not', async t => {
    const [pinned] = listOf(documentsOf('scheduler/pin-extender.yaml')[0]?.['extenders']);
    const [steered] = listOf(documentsOf('scheduler/extender.yaml')[0]?.['extenders']);
    t.match(pinned, { ignorable: true, httpTimeout: '300ms' });
    t.match(steered, { ignorable: false, httpTimeout: '1s' });
    const managed = listOf(pinned?.['managedResources']);
    t.ok(managed.some(({ name }) => name === 'nvidia.com/gpu'));
    for (const { name, ignoredByScheduler } of managed) {
      t.ok(isAcceleratorResource(String(name)), String(name));
      t.equal(ignoredByScheduler, false, 'kube-scheduler goes on counting it');
    }
    t.equal(steered?.['managedResources'], undefined, 'a leader that asks for CPU alone comes too');
  });
});

t.test('the Deployment', async t => {
  const deployment = manifest('Deployment', 'berth').object;
  const pod = at(deployment, 'spec', 'template', 'spec');
  const [container = {}, ...others] = listOf(at(pod, 'containers'));

  t.test('satisfies the restricted Pod Security Standard, which its namespace enforces', async t => {
    t.equal(
      at(manifest('Namespace', namespace).object, 'metadata', 'labels', 'pod-security.kubernetes.io/enforce'),
      'restricted',
    );
    t.same(others, []);
    t.equal(at(pod, 'initContainers'), undefined);
    t.match(at(pod, 'securityContext'), { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } });
    t.not(at(pod, 'securityContext', 'runAsUser'), 0);
    t.same(container['securityContext'], {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
    for (const field of ['hostNetwork', 'hostPID', 'hostIPC', 'hostUsers'])
      t.equal(at(pod, field), undefined, field);
    t.same(
      listOf(at(pod, 'volumes')).flatMap(({ name, ...source }) => Object.keys(source)),
      ['configMap'],
    );
    for (const port of listOf(container['ports'])) t.equal(port['hostPort'], undefined);
  });

  t.test('runs as a service account that exists, in a user of the image', async t => {
    t.equal(at(pod, 'serviceAccountName'), manifest('ServiceAccount', 'berth').name);
    const dockerfile = readFileSync(join(deployFolder, 'Dockerfile'), 'utf8');
    t.match(dockerfile, new RegExp(`^USER ${at(pod, 'securityContext', 'runAsUser')}:`, 'm'));
  });

  t.test('is selected by Service, disruption budget and spread', async t => {
    const labels = fieldsOf(at(deployment, 'spec', 'template', 'metadata', 'labels'));
    const selectors = [
      at(manifest('Service', 'berth-webhook').object, 'spec', 'selector'),
      at(manifest('PodDisruptionBudget', 'berth').object, 'spec', 'selector', 'matchLabels'),
      at(manifest('NetworkPolicy', 'berth').object, 'spec', 'podSelector', 'matchLabels'),
      at(manifest('PodMonitor', 'berth').object, 'spec', 'selector', 'matchLabels'),
      ...listOf(at(pod, 'topologySpreadConstraints')).map(constraint =>
        at(constraint, 'labelSelector', 'matchLabels'),
      ),
    ];
    for (const selector of selectors) t.same(selector, labels);
  });

  t.test('opens the ports that the configuration names, and nobody refers to another', async t => {
    const ports = new Map(listOf(container['ports']).map(port => [port['name'], port['containerPort']]));
    t.same(Object.fromEntries(ports), {
      webhook: config.webhook.port,
      admin: config.admin.port,
    });
    const references = [
      at(manifest('Service', 'berth-webhook').object, 'spec', 'ports', 0, 'targetPort'),
      at(manifest('PodMonitor', 'berth').object, 'spec', 'podMetricsEndpoints', 0, 'port'),
      ...['startupProbe', 'livenessProbe', 'readinessProbe'].map(probe =>
        at(container, probe, 'httpGet', 'port'),
      ),
    ];
    t.same(references, ['webhook', 'admin', 'admin', 'admin', 'admin']);
  });

  t.test('is configured for the names under which it is called and writes', async t => {
    const service = manifest('Service', 'berth-webhook').name;
    t.ok(config.webhook.dnsNames.includes(`${service}.${namespace}.svc`));
    t.equal(config.namespace, namespace);
    t.equal(config.webhook.configurationName, webhookConfiguration.name);
    const mount = at(container, 'volumeMounts', 0, 'mountPath');
    t.same(stringsOf(container['command']).slice(-2), ['--config', `${mount}/config.yaml`]);
  });

  t.test('is given the time that it takes to drain', async t => {
    t.ok(Number(at(pod, 'terminationGracePeriodSeconds')) >= config.shutdownDelaySeconds + 10);
  });

  t.test('never loses both replicas at once by its own doing', async t => {
    t.match(at(deployment, 'spec'), { replicas: 2, strategy: { rollingUpdate: { maxUnavailable: 0 } } });
    t.equal(at(manifest('PodDisruptionBudget', 'berth').object, 'spec', 'minAvailable'), 1);
    t.match(at(pod, 'topologySpreadConstraints', 0), {
      topologyKey: k8s.hostname,
      whenUnsatisfiable: 'DoNotSchedule',
    });
    t.equal(at(pod, 'priorityClassName'), 'system-cluster-critical');
  });
});

t.test('alerts', async t => {
  const rules = listOf(at(manifest('PrometheusRule', 'berth').object, 'spec', 'groups', 0, 'rules'));
  const source = readFileSync(join(deployFolder, '../src/telemetry/metrics.ts'), 'utf8');

  t.test('ask only for metrics that exist', async t => {
    const asked = rules.flatMap(rule =>
      [...String(rule['expr']).matchAll(/\bberth_\w+/g)].map(([name]) => name),
    );
    t.ok(asked.length >= rules.length);
    for (const name of asked) t.match(source, `'${name.replace(/_(bucket|count|sum)$/, '')}'`);
  });

  t.test('say what happened and what it means', async t => {
    for (const rule of rules)
      t.match(rule, { alert: /^Berth/, annotations: { summary: /\.$/, description: /\.|\?$/ } });
  });
});

t.test('the image takes what the Deployment runs', async t => {
  const dockerfile = readFileSync(join(deployFolder, 'Dockerfile'), 'utf8');
  const command: Fields =
    listOf(at(manifest('Deployment', 'berth').object, 'spec', 'template', 'spec', 'containers'))[0] ?? {};
  t.match(dockerfile, /^COPY src src$/m);
  t.match(dockerfile, /^COPY webhooks webhooks$/m);
  t.equal(stringsOf(command['command'])[1], 'src/main.ts');
});
