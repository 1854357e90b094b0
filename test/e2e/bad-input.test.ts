import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { request as httpsRequest } from 'node:https';
import { join } from 'node:path';
import t from 'tap';
import { awaitAdmission, type BerthProcess, startBerthOn } from '../../hack/bed/berth.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { racks } from '../../hack/bed/fleet-presets.ts';
import { mutatePodsPath } from '../../webhooks/plugin.ts';
import { bodyLimitBytes } from '../../webhooks/review-route.ts';
import {
  createLws,
  domainsOf,
  genericTopology,
  gpuResources,
  isGatedByBerth,
  isReady,
  listEvents,
  listNodes,
  listPods,
  lwsPath,
  makeNamespace,
  openBed,
  runBerth,
  sentenceOn,
  singlePod,
  until,
  waitForReady,
  withFleet,
} from './bed.ts';

t.setTimeout(400_000);

const requiredTopology = 'berth.dev/required-topology';
const inOneRack = { [requiredTopology]: 'rack' };
/** Kubernetes takes it and caps it at 2^63-1, which no JavaScript number can tell from its neighbours. */
const immense = '9Ei';

t.test('what users get wrong is named to them, and never placed without its constraint', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, { name: 'two-racks', nodes: racks({ racks: 2, hostsPerRack: 4, gpus: 8 }) });
  const nodes = await listNodes(cluster);
  const berth = await runBerth(t, cluster);

  await t.test(
    'an unknown level: gated, the annotation and the known levels are named; mended, it is placed',
    async t => {
      const namespace = await makeNamespace(t, cluster);
      await createLws(cluster, namespace, {
        name: 'typo',
        size: 4,
        annotations: { [requiredTopology]: 'rak' },
      });
      const sentence = await sentenceOn(cluster, namespace, 'typo-0');
      t.equal(
        sentence,
        `metadata.annotations[${requiredTopology}] names the unknown topology level "rak"; known levels are block, rack, host`,
        'the condition names annotation and levels',
      );
      await untilEvent(cluster, namespace, 'GroupWaiting', 'LeaderWorkerSet', sentence);
      await untilEvent(cluster, namespace, 'GroupWaiting', 'Pod', sentence);
      t.match(
        await berth.metrics(),
        /^berth_invalid_requests_total\{field="InvalidTopology"\} [1-9]/m,
        'it is counted',
      );
      await until('all four to be there, gated', 20_000, async () => {
        const waiting = await listPods(cluster, namespace);
        return waiting.length === 4 && waiting.every(isGatedByBerth);
      });

      const metadata = { annotations: inOneRack };
      await cluster.request('PATCH', lwsPath(namespace, 'typo'), { metadata });
      const pods = await waitForReady(cluster, namespace, 4, 20_000);
      t.equal(domainsOf(pods, nodes).size, 1, 'with the annotation mended the group is placed, whole');
    },
  );

  await t.test('a group size of 0, and a rank beyond the size: refused with the label', async t => {
    const namespace = await makeNamespace(t, cluster);
    await t.rejects(
      createLws(cluster, namespace, { name: 'none', size: 0 }),
      /size/,
      'LWS itself refuses size 0',
    );
    const cases = [
      ['0', '0', 'berth.dev/group-size'],
      ['-1', '0', 'berth.dev/group-size'],
      ['four', '0', 'berth.dev/group-size'],
      ['4', '4', 'berth.dev/group-rank'],
    ] as const;
    for (const [size, rank, label] of cases) {
      const answer = await refusalOf(cluster, namespace, memberPod(`m-${rank}`, size, rank));
      t.match(
        answer,
        new RegExp(`answered 422: .*metadata.labels\\[${label}\\] must be`),
        `size ${size} rank ${rank}`,
      );
    }
    t.strictSame(await listPods(cluster, namespace), [], 'no pod was made');
    t.match(
      await berth.metrics(),
      /^berth_admission_duration_seconds_count\{.*outcome="denied"\} [1-9]/m,
      'denials are counted',
    );
    const invalid =
      /^berth_invalid_requests_total\{field="metadata\.labels\[berth\.dev\/group-size\]"\} [1-9]/m;
    t.match(await berth.metrics(), invalid, 'the metric names the label');
  });

  await t.test(
    'a quantity out of range: refused with its field, or left out and counted elsewhere',
    async t => {
      const namespace = await makeNamespace(t, cluster);
      const immenseMemory = {
        containers: [
          {
            name: 'main',
            image: 'server',
            resources: { limits: { memory: immense, 'nvidia.com/gpu': '8' } },
          },
        ],
      };
      await createLws(cluster, namespace, { name: 'immense', size: 2, worker: immenseMemory });
      const field = 'spec.containers[0].resources.requests[memory]';
      await untilEvent(cluster, namespace, 'FailedCreate', 'StatefulSet', field);
      t.strictSame(await listPods(cluster, namespace), [], 'the event names the field, and no pod was made');

      const spec = { startupPolicy: 'LeaderReady' };
      const leader = { containers: [{ name: 'main', image: 'server', resources: gpuResources(8) }] };
      await createLws(cluster, namespace, { name: 'late', size: 2, leader, worker: immenseMemory, spec });
      t.match(
        await sentenceOn(cluster, namespace, 'late-0'),
        /LeaderWorkerSet late: .*\[memory\].* is beyond/,
      );
      const immenseGpus = { containers: [{ name: 'main', image: 'server', resources: gpuResources(1e30) }] };
      await createLws(cluster, namespace, { name: 'greedy', size: 2, leader, worker: immenseGpus, spec });
      t.match(
        await sentenceOn(cluster, namespace, 'greedy-0'),
        /LeaderWorkerSet greedy: .*\[nvidia.com\/gpu\].* is beyond/,
      );
      t.match(
        await berth.metrics(),
        /^berth_invalid_requests_total\{field="InvalidQuantity"\} [1-9]/m,
        'it is counted',
      );

      const elsewhere = await makeNamespace(t, cluster, {});
      const stranger = singlePod(elsewhere, 'immense', { requests: { memory: immense } });
      await cluster.request('POST', `/api/v1/namespaces/${elsewhere}/pods`, stranger);
      const node = { apiVersion: 'v1', kind: 'Node', metadata: { name: 'immense' } };
      await cluster.request('POST', '/api/v1/nodes', { ...node, status: { allocatable: { cpu: '1e40' } } });
      t.teardown(() => cluster.request('DELETE', '/api/v1/nodes/immense').then(() => {}));
      await until('both to be counted', 10_000, async () => {
        const metrics = await berth.metrics();
        return ['pods', 'nodes'].every(resource =>
          new RegExp(`^berth_decode_errors_total\\{resource="${resource}"\\} [1-9]`, 'm').test(metrics),
        );
      });
    },
  );

  await t.test(
    'required node affinity of empty terms alone, which match nothing: refused with the field',
    async t => {
      const namespace = await makeNamespace(t, cluster);
      const affinity = requiredTerms([{}]);
      const field =
        'spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms';
      await createLws(cluster, namespace, { name: 'nowhere', size: 2, worker: { affinity } });
      await untilEvent(
        cluster,
        namespace,
        'FailedCreate',
        'StatefulSet',
        `${field} must have a term that is not empty`,
      );
      t.strictSame(await listPods(cluster, namespace), [], 'the event names the terms, and no pod was made');
      t.match(
        await berth.metrics(),
        new RegExp(`^berth_invalid_requests_total\\{field="${field}"\\} [1-9]`, 'm'),
        'the metric names them, too',
      );
      await cluster.request('DELETE', lwsPath(namespace, 'nowhere'));

      const spec = { startupPolicy: 'LeaderReady' };
      const leader = { containers: [{ name: 'main', image: 'server', resources: gpuResources(8) }] };
      await createLws(cluster, namespace, { name: 'later', size: 2, leader, worker: { affinity }, spec });
      t.match(
        await sentenceOn(cluster, namespace, 'later-0'),
        /affinity/,
        'a template that has them keeps its leader',
      );
      await cluster.request('DELETE', lwsPath(namespace, 'later'));
      await until('both to be gone', 60_000, async () => (await listPods(cluster, namespace)).length === 0);

      const some = requiredTerms([
        {},
        { matchExpressions: [{ key: 'example.com/rack', operator: 'In', values: ['r01'] }] },
      ]);
      await createLws(cluster, namespace, {
        name: 'partly',
        size: 2,
        leader: { affinity: some },
        worker: { affinity: some },
      });
      const placed = await waitForReady(cluster, namespace, 2, 20_000);
      t.strictSame(
        [...domainsOf(placed, nodes)],
        ['r01'],
        'beside a term that matches it is left alone, and no more',
      );
    },
  );

  await t.test(
    'a plan that is malformed: dropped at CREATE; on a leader it is told, and made anew',
    async t => {
      const namespace = await makeNamespace(t, cluster);
      const forged = memberPod('forged-0', '2', '0', { 'berth.dev/plan': '{"version":1,' });
      const admitted = await cluster.request<{ metadata: { annotations?: Record<string, string> } }>(
        'POST',
        `/api/v1/namespaces/${namespace}/pods?dryRun=All`,
        forged,
      );
      t.equal(admitted.metadata.annotations?.['berth.dev/plan'], undefined, 'what a user writes is dropped');

      await createLws(cluster, namespace, { name: 'running', size: 2, annotations: inOneRack });
      const before = await waitForReady(cluster, namespace, 2);
      const annotations = { 'berth.dev/plan': '{"version":1,"leaderUID":' };
      await cluster.request('PATCH', `/api/v1/namespaces/${namespace}/pods/running-0`, {
        metadata: { annotations },
      });
      await untilEvent(cluster, namespace, 'PlanUnreadable', 'Pod', 'berth.dev/plan');
      t.match(
        await berth.metrics(),
        /^berth_invalid_requests_total\{field="InvalidPlan"\} [1-9]/m,
        'it is counted',
      );
      await until('the plan to be written anew', 20_000, async () => {
        const leader = (await listPods(cluster, namespace)).find(pod => pod.metadata.name === 'running-0');
        return leader?.metadata.annotations?.['berth.dev/plan']?.includes(leader.metadata.uid ?? '') ?? false;
      });
      const after = await listPods(cluster, namespace);
      const uidsOf = (pods: typeof after) => pods.map(pod => pod.metadata.uid).sort();
      t.strictSame(uidsOf(after), uidsOf(before), 'the group runs on');
      t.ok(after.every(isReady), 'all of it');
    },
  );
  t.ok(await isAlive(berth), 'after all that the process lives');
});

t.test('what reaches the webhook port without being a review', async t => {
  const cluster = await openBed(t);
  const berth = await runBerth(t, cluster);
  const ca = await authorityOf(cluster);
  const json = { 'content-type': 'application/json' };
  const tooLong = String(bodyLimitBytes + 1);
  const review = { apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview' };
  const noPod = { uid: 'u', operation: 'CREATE', resource: { group: '', version: 'v1', resource: 'pods' } };
  const cases: readonly (Call & { readonly what: string; readonly status: number })[] = [
    { what: 'text that is not JSON', status: 400, headers: json, body: 'not json' },
    { what: 'JSON that is cut off', status: 400, headers: json, body: '{"kind":"AdmissionReview"' },
    { what: 'an empty body', status: 400, headers: json, body: '' },
    { what: 'JSON that is no review', status: 400, headers: json, body: '{"__proto__":{"a":1}}' },
    { what: 'a list', status: 400, headers: json, body: '[]' },
    { what: 'a review without request', status: 400, headers: json, body: JSON.stringify(review) },
    {
      what: 'a review of something that is no pod',
      status: 400,
      headers: json,
      body: JSON.stringify({
        ...review,
        request: { ...noPod, object: { metadata: {}, spec: { containers: 7 } } },
      }),
    },
    {
      what: 'a body that is too big',
      status: 413,
      headers: { ...json, 'content-length': tooLong },
      body: '{',
    },
    { what: 'plain text', status: 415, headers: { 'content-type': 'text/plain' }, body: '{}' },
    { what: 'no content type', status: 415, headers: {}, body: '{}' },
    { what: 'another method', status: 405, method: 'GET', headers: {}, body: '' },
    { what: 'another path', status: 404, path: '/metrics', method: 'GET', headers: {}, body: '' },
  ];
  for (const { what, status, ...call } of cases) {
    const answer = await callWebhook(berth, ca, call);
    t.equal(answer.status, status, `${what}: ${status} ${answer.text}`);
    t.notMatch(answer.text, /\.ts|\.js|node_modules|\bat \w+|stack|FST_|[Ff]astify/, 'nothing inner is told');
    t.strictSame(
      ['server', 'x-powered-by'].filter(name => name in answer.headers),
      [],
      'not even in the headers',
    );
  }
  const good = await callWebhook(berth, ca, {
    headers: json,
    body: JSON.stringify({ ...review, request: { ...noPod, operation: 'DELETE', object: null } }),
  });
  t.equal(good.status, 200, 'a review is answered as ever');
  t.ok(await isAlive(berth), 'and the process lives');
  t.match(
    await berth.metrics(),
    /^berth_admission_duration_seconds_count\{.*outcome="invalid"\} [1-9]/m,
    'and has counted',
  );
});

t.test('SIGTERM drains: not ready at once, reviews answered until the end, the Lease given up', async t => {
  const cluster = await openBed(t);
  const berth = await startBerthOn(cluster, {
    config: { topology: genericTopology, shutdownDelaySeconds: 3 },
  });
  t.teardown(() => berth.stop());
  const namespace = await makeNamespace(t, cluster);
  await awaitAdmission(cluster, namespace);
  const lease = () =>
    cluster.request<{ spec: { holderIdentity?: string } }>(
      'GET',
      '/apis/coordination.k8s.io/v1/namespaces/berth-system/leases/berth',
    );
  await until('the Lease to be held', 20_000, async () => ((await lease()).spec.holderIdentity ?? '') !== '');
  let ended = false;
  void berth.ended.then(() => {
    ended = true;
  });
  const startedMs = performance.now();
  berth.kill('SIGTERM');
  // Long before its delay is over.
  await until('Berth to say that it is not ready', 2_000, async () => {
    const answer = await fetch(`${berth.adminUrl}/readyz`);
    return answer.status === 503 && (await answer.text()).includes('shutting down');
  });
  let answered = 0;
  const refused: string[] = [];
  while (performance.now() - startedMs < 2_500) {
    const answer = await refusalOf(cluster, namespace, memberPod('m-0', '2', '0'));
    if (answer === '') answered++;
    else refused.push(answer);
  }
  t.strictSame(refused, [], `all of ${answered} pods were reviewed while it drained`);
  await until('Berth to end', 10_000, () => ended);
  const tookMs = performance.now() - startedMs;
  t.ok(tookMs >= 3_000, `it ended after its delay (${Math.round(tookMs)} ms)`);
  const log = (await readFile(berth.logPath, 'utf8')).trimEnd().split('\n');
  t.equal(JSON.parse(log.at(-1) ?? '{}').msg, 'stopped', 'in order');
  t.equal(
    (await lease()).spec.holderIdentity ?? '',
    '',
    'nobody holds the Lease, so the next one need not wait',
  );
});

t.test('a configuration with mistakes: exit code 2, and each is named with its place', async t => {
  const file = join(t.testdir(), 'bad.yaml');
  const text = [
    'topology:',
    '  levels:',
    '    - name: Rack',
    '      nodeLabel: x',
    'placement:',
    '  agedAfterSecond: 5',
    '',
  ];
  await writeFile(file, text.join('\n'));
  const { code, output } = await runBerthCommand(['serve', '--config', file]);
  t.equal(code, 2, 'the exit code of misuse');
  t.match(
    output,
    `${file}:6:3: unknown key placement.agedAfterSecond; did you mean placement.agedAfterSeconds?`,
  );
  t.match(output, `${file}:3:`, 'the other mistake has its place, too');
  t.match(output, 'topology.levels[0].name');
  t.notMatch(output, /\bat .*\.ts:/, 'without a stack');
  const missing = await runBerthCommand(['serve', '--config', `${file}.not-there`]);
  t.equal(missing.code, 2, 'a file that is not there is misuse as well');
  const unknown = await runBerthCommand(['serve', '--confg', file]);
  t.equal(unknown.code, 2, 'so is an unknown option');
});

function memberPod(
  name: string,
  size: string,
  rank: string,
  annotations: Readonly<Record<string, string>> = {},
) {
  const labels = { 'berth.dev/group': 'g', 'berth.dev/group-size': size, 'berth.dev/group-rank': rank };
  const containers = [{ name: 'main', image: 'model-server', resources: gpuResources(1) }];
  return { apiVersion: 'v1', kind: 'Pod', metadata: { name, labels, annotations }, spec: { containers } };
}

function requiredTerms(nodeSelectorTerms: readonly unknown[]) {
  return { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms } } };
}

/** What the API server says to a dry run; empty when it admits the pod. */
async function refusalOf(cluster: Cluster, namespace: string, pod: object): Promise<string> {
  return cluster.request('POST', `/api/v1/namespaces/${namespace}/pods?dryRun=All`, pod).then(
    () => '',
    (error: Error) => error.message,
  );
}

async function untilEvent(
  cluster: Cluster,
  namespace: string,
  reason: string,
  kind: string,
  part: string,
  name = '',
): Promise<void> {
  await until(`event ${reason} on a ${kind} that says ${part}`, 20_000, async () =>
    (await listEvents(cluster, namespace)).some(
      event =>
        event.reason === reason &&
        event.involvedObject.kind === kind &&
        event.involvedObject.name.includes(name) &&
        event.message.includes(part),
    ),
  );
}

async function isAlive(berth: BerthProcess): Promise<boolean> {
  return (await fetch(`${berth.adminUrl}/healthz`)).ok;
}

/** What Berth has put into its webhook configuration, so that its certificate is checked as the API server does. */
async function authorityOf(cluster: Cluster): Promise<string> {
  const configuration = await cluster.request<{ webhooks: { clientConfig: { caBundle: string } }[] }>(
    'GET',
    '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/zz-berth-mutating-webhook-configuration',
  );
  return Buffer.from(configuration.webhooks[0]?.clientConfig.caBundle ?? '', 'base64').toString();
}

interface Call {
  readonly method?: string;
  readonly path?: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

interface CallAnswer {
  readonly status: number;
  readonly text: string;
  readonly headers: object;
}

function callWebhook(berth: BerthProcess, ca: string, call: Call): Promise<CallAnswer> {
  const { method = 'POST', path = mutatePodsPath, headers, body } = call;
  const options = { method, path, ca, host: '127.0.0.1', port: berth.webhookPort, agent: false };
  return new Promise((resolve, reject) => {
    const request = httpsRequest({ ...options, headers }, async response => {
      let text = '';
      for await (const chunk of response.setEncoding('utf8')) text += chunk;
      resolve({ status: response.statusCode ?? 0, text, headers: response.headers });
      request.destroy();
    });
    request.on('error', reject);
    // A body that is announced longer is never sent whole: the answer comes first.
    if ('content-length' in headers) request.write(body);
    else request.end(body);
  });
}

function runBerthCommand(args: readonly string[]): Promise<{ code: unknown; output: string }> {
  const program = join(import.meta.dirname, '../../src/main.ts');
  return new Promise(resolve => {
    execFile(process.execPath, [program, ...args], { timeout: 20_000 }, (error, stdout, stderr) =>
      resolve({ code: error?.code ?? 0, output: `${stdout}${stderr}` }),
    );
  });
}
