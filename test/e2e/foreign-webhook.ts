import { createServer } from 'node:https';
import type { Test } from 'tap';
import { Authority } from '../../hack/bed/certificates.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import type { Pod } from '../../src/api/kubernetes.ts';
import type { JsonPatchOperation } from '../../src/cluster/node-affinity.ts';
import { until } from './bed.ts';

export interface ForeignWebhook {
  /** The API server calls webhooks in the order of these names. */
  readonly name: string;
  readonly namespace: string;
  /** Changes to a pod at CREATE. */
  readonly mutate: (pod: Pod) => readonly JsonPatchOperation[];
}

/** Has somebody else's mutating webhook look at each new pod of a namespace, such as a sidecar injector; ends with the test. */
export async function runForeignWebhook(t: Test, cluster: Cluster, webhook: ForeignWebhook): Promise<void> {
  const authority = await Authority.create();
  const { certificatePem, keyPem } = await authority.issueServer();
  let trials = 0;
  const server = createServer({ cert: certificatePem, key: keyPem }, async (request, response) => {
    let text = '';
    for await (const chunk of request.setEncoding('utf8')) text += chunk;
    const review = JSON.parse(text);
    const pod: Pod = review.request.object;
    if (pod.metadata.name === trialName) trials++;
    const patch = Buffer.from(JSON.stringify(webhook.mutate(pod))).toString('base64');
    const answer = { uid: review.request.uid, allowed: true, patchType: 'JSONPatch', patch };
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ apiVersion: review.apiVersion, kind: review.kind, response: answer }));
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;

  const path = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations';
  await cluster.request('POST', path, configurationOf(webhook, port, authority.pem));
  t.teardown(() => cluster.request('DELETE', `${path}/${webhook.name}`).then(() => {}));
  const trial = { name: trialName, labels: { app: trialName } };
  const spec = { containers: [{ name: 'main', image: 'trial' }] };
  await until('the API server to call the foreign webhook', 20_000, async () => {
    await cluster.request('POST', `/api/v1/namespaces/${webhook.namespace}/pods?dryRun=All`, {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: trial,
      spec,
    });
    return trials > 0;
  });
}

const trialName = 'foreign-webhook-trial';

function configurationOf({ name, namespace }: ForeignWebhook, port: number, caPem: string): object {
  return {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'MutatingWebhookConfiguration',
    metadata: { name },
    webhooks: [
      {
        name: 'foreign.example.com',
        rules: [{ apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE'], resources: ['pods'] }],
        namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': namespace } },
        clientConfig: {
          url: `https://127.0.0.1:${port}/mutate`,
          caBundle: Buffer.from(caPem).toString('base64'),
        },
        failurePolicy: 'Fail',
        sideEffects: 'None',
        reinvocationPolicy: 'IfNeeded',
        admissionReviewVersions: ['v1'],
      },
    ],
  };
}
