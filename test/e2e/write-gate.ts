import { createServer } from 'node:https';
import type { Test } from 'tap';
import { Authority } from '../../hack/bed/certificates.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import type { KubernetesObject } from '../../src/api/kubernetes.ts';
import { until } from './bed.ts';

/** A write that Berth has asked for and the API server has not done yet. */
export interface BerthWrite {
  readonly operation: 'CREATE' | 'UPDATE';
  /** `pods`, `pods/eviction` or `configmaps`. */
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
  readonly object: KubernetesObject & { readonly data?: Readonly<Record<string, string>> };
}

export type Verdict = 'allow' | 'refuse';

/** Stands between Berth and what it writes. */
export interface WriteGate {
  /**
   * Holds the next write that matches until `meet` says what becomes of it, 25 s at most. Resolves with the write once
   * that is said.
   */
  holdNext(
    matches: (write: BerthWrite) => boolean,
    meet: (write: BerthWrite) => Promise<Verdict>,
  ): Promise<BerthWrite>;
}

interface Review {
  readonly apiVersion: string;
  readonly kind: string;
  readonly request: {
    readonly uid: string;
    readonly operation: BerthWrite['operation'];
    readonly resource: { readonly resource: string };
    readonly subResource?: string;
    readonly namespace: string;
    readonly name: string;
    readonly userInfo: { readonly username: string };
    readonly object: BerthWrite['object'];
  };
}

interface Hold {
  readonly matches: (write: BerthWrite) => boolean;
  readonly meet: (write: BerthWrite) => Promise<Verdict>;
  readonly resolve: (write: BerthWrite) => void;
  readonly reject: (error: unknown) => void;
}

const berthUser = 'system:serviceaccount:berth-system:berth';
const gateName = 'write-gate';
const configurations = '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations';

/**
 * Has the API server ask this process before it does what Berth writes to ConfigMaps of its own and to the pods of one
 * namespace. So a test can act exactly between two steps, rather than at about that time. Ends with the test.
 */
export async function openWriteGate(t: Test, cluster: Cluster, namespace: string): Promise<WriteGate> {
  const authority = await Authority.create();
  const { certificatePem, keyPem } = await authority.issueServer();
  const holds: Hold[] = [];
  let reviews = 0;
  const judge = async ({ request }: Review): Promise<Verdict> => {
    reviews++;
    if (request.userInfo.username !== berthUser) return 'allow';
    const { operation, resource, subResource, name, object } = request;
    const write: BerthWrite = {
      operation,
      resource: subResource ? `${resource.resource}/${subResource}` : resource.resource,
      namespace: request.namespace,
      name,
      object,
    };
    const hold = holds.find(({ matches }) => matches(write));
    if (hold === undefined) return 'allow';
    holds.splice(holds.indexOf(hold), 1);
    try {
      const verdict = await hold.meet(write);
      hold.resolve(write);
      return verdict;
    } catch (error) {
      hold.reject(error);
      return 'allow';
    }
  };
  const server = createServer({ cert: certificatePem, key: keyPem }, async (request, response) => {
    let text = '';
    for await (const chunk of request.setEncoding('utf8')) text += chunk;
    const review: Review = JSON.parse(text);
    const answer = { uid: review.request.uid, allowed: (await judge(review)) === 'allow' };
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
  await cluster.request('POST', configurations, configurationOf(namespace, port, authority.pem));
  t.teardown(() => cluster.request('DELETE', `${configurations}/${gateName}`).then(() => {}));
  const metadata = { name: 'write-gate-trial' };
  const trial = { apiVersion: 'v1', kind: 'ConfigMap', metadata };
  await until('the API server to ask the gate', 20_000, async () => {
    await cluster.request('POST', '/api/v1/namespaces/berth-system/configmaps?dryRun=All', trial);
    return reviews > 0;
  });
  return {
    holdNext: (matches, meet) =>
      new Promise((resolve, reject) => holds.push({ matches, meet, resolve, reject })),
  };
}

function configurationOf(namespace: string, port: number, caPem: string): object {
  const core = { apiGroups: [''], apiVersions: ['v1'] };
  return {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'ValidatingWebhookConfiguration',
    metadata: { name: gateName },
    webhooks: [
      {
        name: 'gate.example.com',
        rules: [
          { ...core, operations: ['CREATE', 'UPDATE'], resources: ['configmaps'] },
          { ...core, operations: ['UPDATE'], resources: ['pods'] },
          { ...core, apiVersions: ['*'], operations: ['CREATE'], resources: ['pods/eviction'] },
        ],
        namespaceSelector: {
          matchExpressions: [
            { key: 'kubernetes.io/metadata.name', operator: 'In', values: ['berth-system', namespace] },
          ],
        },
        clientConfig: {
          url: `https://127.0.0.1:${port}/review`,
          caBundle: Buffer.from(caPem).toString('base64'),
        },
        // A test that was aborted must not stop the cluster.
        failurePolicy: 'Ignore',
        timeoutSeconds: 25,
        sideEffects: 'None',
        admissionReviewVersions: ['v1'],
      },
    ],
  };
}
