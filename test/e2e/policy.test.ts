import { readFile } from 'node:fs/promises';
import { Agent, request as httpsRequest } from 'node:https';
import t from 'tap';
import { parse } from 'yaml';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { racks } from '../../hack/bed/fleet-presets.ts';
import type { Pod } from '../../src/api/kubernetes.ts';
import {
  createLws,
  isGatedByBerth,
  listPods,
  makeNamespace,
  openBed,
  runBerth,
  sentenceOn,
  singlePod,
  until,
  waitForReady,
  withFleet,
} from './bed.ts';

t.setTimeout(300_000);

const plan = 'berth.dev/plan';
const other = 'example.com/note';
const forged = '{"version":1,"leaderUID":"x","generation":9,"nodes":[],"requests":[],"requestOf":[]}';
const inOneRack = { 'berth.dev/required-topology': 'rack' };
const mergePatch = 'application/merge-patch+json';
const jsonPatch = 'application/json-patch+json';
const dropGate = [{ op: 'remove', path: '/spec/schedulingGates/0' }];

t.test('only Berth writes plans and takes its gate away', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, { name: 'one-rack', nodes: racks({ racks: 1, hostsPerRack: 4, gpus: 8 }) });
  await runBerth(t, cluster);
  const namespace = await makeNamespace(t, cluster);
  const pods = `/api/v1/namespaces/${namespace}/pods`;
  await createLws(cluster, namespace, { name: 'runs', size: 2, annotations: inOneRack });
  await waitForReady(cluster, namespace, 2);
  await createLws(cluster, namespace, { name: 'waits', size: 4, annotations: inOneRack });
  await sentenceOn(cluster, namespace, 'waits-0');

  // `edit` is what a team gets in its namespace; controllers of third parties may also write status and bind.
  const editor = await callerOf(cluster, namespace, 'editor', 'edit');
  const operator = await callerOf(cluster, namespace, 'operator', 'admin', [
    'pods/status',
    'pods/binding',
    'pods/resize',
    'pods/ephemeralcontainers',
    'bindings',
  ]);
  const berth = await tokenCaller(cluster, 'berth-system', 'berth');
  await until('the policies to be in force', 20_000, async () => {
    return (
      (await editor('PATCH', `${pods}/runs-0?dryRun=All`, annotate(plan, forged), mergePatch)).status === 403
    );
  });

  await t.test('a user with the rights of `edit`', async t => {
    const set = await editor('PATCH', `${pods}/runs-0`, annotate(plan, forged), mergePatch);
    t.equal(set.status, 403, 'cannot change the plan');
    t.match(
      set.text,
      /annotations berth\.dev\/plan and berth\.dev\/alignment are written by Berth alone/,
      'and is told why',
    );
    const removed = await editor('PATCH', `${pods}/runs-0`, annotate(plan, null), mergePatch);
    t.equal(removed.status, 403, 'cannot remove it');
    const added = await editor('PATCH', `${pods}/runs-0-1`, annotate(plan, forged), mergePatch);
    t.equal(added.status, 403, 'cannot put one onto a worker');
    const whole = JSON.parse((await editor('GET', `${pods}/runs-0`)).text);
    delete whole.metadata.annotations[plan];
    t.equal((await editor('PUT', `${pods}/runs-0`, whole)).status, 403, 'cannot leave it out of an update');
    const ungated = await editor('PATCH', `${pods}/waits-0`, dropGate, jsonPatch);
    t.equal(ungated.status, 403, 'cannot take the gate away');
    t.match(
      ungated.text,
      /scheduling gate berth\.dev\/placement is removed by Berth alone/,
      'and is told why',
    );

    t.equal(
      (await editor('PATCH', `${pods}/runs-0`, annotate(other, 'x'), mergePatch)).status,
      200,
      'can annotate',
    );
    const label = { metadata: { labels: { [other]: 'x' } } };
    t.equal(
      (await editor('PATCH', `${pods}/waits-0`, label, mergePatch)).status,
      200,
      'can label a gated pod',
    );
    const own = singlePod(namespace, 'own-gate', {}, { schedulingGates: [{ name: 'example.com/own' }] });
    t.equal((await editor('POST', pods, own)).status, 201, 'can make pods');
    t.equal(
      (await editor('PATCH', `${pods}/own-gate`, dropGate, jsonPatch)).status,
      200,
      'can remove other gates',
    );
    const claims = singlePod(namespace, 'claims', {}, { schedulerName: 'nobody' });
    const metadata = { name: 'claims', annotations: { [plan]: forged, [other]: 'x' } };
    t.equal(
      (await editor('POST', pods, { ...claims, metadata })).status,
      201,
      'can make a single with anything on it',
    );
    t.equal((await editor('DELETE', `${pods}/claims`)).status, 200, 'and can delete');
  });

  await t.test('a controller that may write status and bindings has no way around it', async t => {
    const status = await operator('PATCH', `${pods}/runs-0/status`, annotate(plan, forged), mergePatch);
    t.equal(status.status, 403, 'not through pods/status');
    const noted = await operator('PATCH', `${pods}/runs-0/status`, annotate(other, 'status'), mergePatch);
    t.equal(noted.status, 200, 'control: other annotations go through there');
    t.equal((await get(cluster, pods, 'runs-0')).metadata.annotations?.[other], 'status', 'and arrive');

    for (const name of ['one', 'two', 'three']) {
      await cluster.request('POST', pods, singlePod(namespace, name, {}, { schedulerName: 'nobody' }));
    }
    const bound = await operator('POST', `${pods}/one/binding`, binding('one', { [plan]: forged }));
    t.equal(bound.status, 403, 'not through pods/binding');
    const path = `/api/v1/namespaces/${namespace}/bindings`;
    t.equal(
      (await operator('POST', path, binding('two', { [plan]: forged }))).status,
      403,
      'not through bindings',
    );
    const plain = await operator('POST', `${pods}/three/binding`, binding('three', { [other]: 'bound' }));
    t.equal(plain.status, 201, 'control: other annotations go through there');
    const three = await get(cluster, pods, 'three');
    t.strictSame(
      [three.spec.nodeName, three.metadata.annotations?.[other]],
      ['r00-h03', 'bound'],
      'and arrive',
    );
    t.equal((await get(cluster, pods, 'one')).spec.nodeName, undefined, 'the refused one is not bound');

    const before = (await get(cluster, pods, 'runs-0')).metadata.annotations?.[plan];
    await operator('PATCH', `${pods}/runs-0/resize`, annotate(plan, forged), mergePatch);
    await operator('PATCH', `${pods}/runs-0/ephemeralcontainers`, annotate(plan, forged), mergePatch);
    t.equal(
      (await get(cluster, pods, 'runs-0')).metadata.annotations?.[plan],
      before,
      'nor through the others',
    );
  });

  await t.test('Berth itself may', async t => {
    const set = await berth('PATCH', `${pods}/runs-0?dryRun=All`, annotate(plan, forged), mergePatch);
    t.equal(set.status, 200, 'write a plan');
    const gated = (await listPods(cluster, namespace)).filter(isGatedByBerth);
    t.equal(gated.length, 4, 'the waiting group is gated still');
    const ungated = await berth('PATCH', `${pods}/waits-0?dryRun=All`, dropGate, jsonPatch);
    t.equal(ungated.status, 200, 'take its gate away');
    t.equal((await berth('POST', pods, singlePod(namespace, 'extra', {}))).status, 403, 'but not make pods');
  });
});

function annotate(key: string, value: string | null) {
  return { metadata: { annotations: { [key]: value } } };
}

function binding(name: string, annotations: Readonly<Record<string, string>>) {
  const target = { apiVersion: 'v1', kind: 'Node', name: 'r00-h03' };
  return { apiVersion: 'v1', kind: 'Binding', metadata: { name, annotations }, target };
}

function get(cluster: Cluster, pods: string, name: string): Promise<Pod> {
  return cluster.request<Pod>('GET', `${pods}/${name}`);
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

type Caller = (method: string, path: string, body?: unknown, contentType?: string) => Promise<Answer>;

/** A service account with a stock ClusterRole in the namespace and all rights on further resources. */
async function callerOf(
  cluster: Cluster,
  namespace: string,
  name: string,
  clusterRole: string,
  resources: readonly string[] = [],
): Promise<Caller> {
  const subjects = [{ kind: 'ServiceAccount', name, namespace }];
  const bind = (role: string, kind: string) => ({
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'RoleBinding',
    metadata: { name: `${name}-${role}`, namespace },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind, name: role },
    subjects,
  });
  const documents: object[] = [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace } },
    bind(clusterRole, 'ClusterRole'),
  ];
  if (resources.length > 0) {
    const rules = [{ apiGroups: [''], resources, verbs: ['*'] }];
    const role = {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'Role',
      metadata: { name, namespace },
      rules,
    };
    documents.push(role, bind(name, 'Role'));
  }
  for (const document of documents) await cluster.applyYaml(JSON.stringify(document));
  return tokenCaller(cluster, namespace, name);
}

async function tokenCaller(cluster: Cluster, namespace: string, name: string): Promise<Caller> {
  const kubeconfig = parse(await readFile(await cluster.serviceAccountKubeconfig(namespace, name), 'utf8'));
  const token: string = kubeconfig.users[0].user.token;
  const agent = new Agent({ ca: cluster.caPem });
  const { hostname, port } = new URL(cluster.server);
  return (method, path, body, contentType = 'application/json') =>
    new Promise((resolve, reject) => {
      const headers = { authorization: `Bearer ${token}`, 'content-type': contentType };
      const request = httpsRequest({ method, path, hostname, port, agent, headers }, async response => {
        let text = '';
        for await (const chunk of response.setEncoding('utf8')) text += chunk;
        resolve({ status: response.statusCode ?? 0, text });
      });
      request.on('error', reject);
      request.end(body === undefined ? undefined : JSON.stringify(body));
    });
}
