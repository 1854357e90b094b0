import Fastify from 'fastify';
import t from 'tap';
import type { Pod } from '../../../src/api/kubernetes.ts';
import { berth } from '../../../src/api/names.ts';
import { mutatePodsPath, podWebhook } from '../../../webhooks/plugin.ts';
import type { PodReviewDeps } from '../../../webhooks/pod.ts';
import { parseAdmissionReview } from '../../../webhooks/review.ts';
import { type AdmissionOutcome, bodyLimitBytes } from '../../../webhooks/review-route.ts';
import { admitted, memberPod, namespace, patched, reviewDeps } from './pod-builders.ts';

const uid = '705ab4f5-6393-11e8-b7cc-42010a800002';

/** A review as kube-apiserver sends it. */
function buildReview(object: unknown, request: Readonly<Record<string, unknown>> = {}): object {
  return {
    kind: 'AdmissionReview',
    apiVersion: 'admission.k8s.io/v1',
    request: {
      uid,
      kind: { group: '', version: 'v1', kind: 'Pod' },
      resource: { group: '', version: 'v1', resource: 'pods' },
      requestKind: { group: '', version: 'v1', kind: 'Pod' },
      requestResource: { group: '', version: 'v1', resource: 'pods' },
      name: 'g-0',
      namespace,
      operation: 'CREATE',
      userInfo: { username: 'system:serviceaccount:kube-system:statefulset-controller' },
      object,
      oldObject: null,
      dryRun: false,
      options: { kind: 'CreateOptions', apiVersion: 'meta.k8s.io/v1' },
      ...request,
    },
  };
}

async function serve(deps: Partial<PodReviewDeps> = {}) {
  const outcomes: AdmissionOutcome[] = [];
  const seconds: number[] = [];
  const logged: string[] = [];
  const server = Fastify({ logger: { level: 'info', stream: { write: line => void logged.push(line) } } });
  await server.register(podWebhook, {
    deps: reviewDeps(deps),
    observe: (outcome, duration) => {
      outcomes.push(outcome);
      seconds.push(duration);
    },
  });
  const post = (payload: string | object) =>
    server.inject({
      method: 'POST',
      url: mutatePodsPath,
      headers: { 'content-type': 'application/json' },
      payload,
    });
  return { server, post, outcomes, seconds, logged };
}

function decodedPatch(answer: { readonly response: { readonly patch: string } }) {
  return JSON.parse(Buffer.from(answer.response.patch, 'base64').toString());
}

const member = memberPod(0, { spec: { subdomain: 's' } });

t.test('answers with a JSON patch in base64', async t => {
  const { post, outcomes, seconds } = await serve();
  const response = await post(buildReview(member));
  t.equal(response.statusCode, 200);
  const answer = response.json();
  t.match(answer, {
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    response: { uid, allowed: true, patchType: 'JSONPatch' },
  });
  t.notOk('warnings' in answer.response || 'status' in answer.response);
  t.same(patched(member, decodedPatch(answer)), admitted(member));
  t.same(outcomes, ['patched']);
  t.ok((seconds[0] ?? -1) >= 0 && (seconds[0] ?? 60) < 60);
});

t.test('sends warnings along, with and without a patch', async t => {
  const { post } = await serve();
  const homeless = memberPod(0);
  const first = (await post(buildReview(homeless))).json();
  t.match(first.response, { allowed: true, patchType: 'JSONPatch', warnings: [/no leader address/] });
  const second = (await post(buildReview(admitted(homeless)))).json();
  t.match(second.response, { allowed: true, warnings: [/no leader address/] });
  t.notOk('patch' in second.response || 'patchType' in second.response);
});

t.test('denies with a status that names the field', async t => {
  const { post, outcomes } = await serve();
  const field = `metadata.annotations[${berth.masterPort}]`;
  const pod = memberPod(0, { annotations: { [berth.masterPort]: 'x' } });
  const response = await post(buildReview(pod));
  t.equal(response.statusCode, 200);
  const message = `${field} must be a port between 1 and 65535; got "x"`;
  t.same(response.json().response, {
    uid,
    allowed: false,
    status: {
      status: 'Failure',
      code: 422,
      reason: 'Invalid',
      message,
      details: { causes: [{ field, message }] },
    },
  });
  t.same(outcomes, ['denied']);
});

t.test('lets everything but the creation of pods pass', async t => {
  const { post, outcomes } = await serve();
  const claims = { group: 'resource.k8s.io', version: 'v1', resource: 'resourceclaims' };
  const requests = [
    { operation: 'UPDATE' },
    { operation: 'DELETE', object: null },
    { operation: 'CONNECT', subResource: 'exec', object: {} },
    { subResource: 'binding' },
    { resource: claims, object: { spec: {} } },
  ];
  for (const request of requests) {
    t.same((await post(buildReview(member, request))).json().response, { uid, allowed: true });
  }
  t.same(new Set(outcomes), new Set(['untouched']));
});

t.test('takes the namespace of the request where the object has none', async t => {
  const asked: string[] = [];
  const { post } = await serve({
    namespaceMode: name => {
      asked.push(name);
      return undefined;
    },
  });
  const { namespace: _, ...metadata } = member.metadata;
  t.same((await post(buildReview({ ...member, metadata }))).json().response, { uid, allowed: true });
  t.same(asked, [namespace]);
});

t.test('refuses what is no review, without telling anything of itself', async t => {
  const { server, post, outcomes } = await serve();
  const review = buildReview(member);
  const cases: [string, string | object, number, string][] = [
    ['no JSON', '{"apiVersion"', 400, 'the body is not JSON'],
    ['nothing', '', 400, 'the body is not JSON'],
    ['a polluted prototype', '{"__proto__": {"x": 1}}', 400, 'the body is not JSON'],
    ['a list', '[]', 400, 'the body must be a JSON object'],
    ['null', 'null', 400, 'the body must be a JSON object'],
    [
      'another version',
      { ...review, apiVersion: 'admission.k8s.io/v1beta1' },
      400,
      'apiVersion must be admission.k8s.io/v1',
    ],
    ['another kind', { ...review, kind: 'Pod' }, 400, 'kind must be AdmissionReview'],
    ['no request', { ...review, request: undefined }, 400, 'request must be an object'],
    ['no uid', buildReview(member, { uid: '' }), 400, 'request.uid must be a non-empty string'],
    [
      'no such operation',
      buildReview(member, { operation: 'create' }),
      400,
      'request.operation must be one of CREATE, UPDATE, DELETE, CONNECT',
    ],
    ['no resource', buildReview(member, { resource: 'pods' }), 400, 'request.resource must be an object'],
    [
      'no resource name',
      buildReview(member, { resource: {} }),
      400,
      'request.resource.resource must be a non-empty string',
    ],
    [
      'a strange group',
      buildReview(member, { resource: { group: 1, resource: 'pods' } }),
      400,
      'request.resource.group must be a string',
    ],
    [
      'a strange subresource',
      buildReview(member, { subResource: 1 }),
      400,
      'request.subResource must be a string',
    ],
    [
      'a strange namespace',
      buildReview(member, { namespace: {} }),
      400,
      'request.namespace must be a string',
    ],
    [
      'a strange dry run',
      buildReview(member, { dryRun: 'yes' }),
      400,
      'request.dryRun must be true or false',
    ],
    ['no pod', buildReview(null), 400, 'request.object must be an object'],
    [
      'a pod without metadata',
      buildReview({ spec: member.spec }),
      400,
      'request.object.metadata must be an object',
    ],
    [
      'a pod without containers',
      buildReview({ metadata: {}, spec: {} }),
      400,
      'request.object.spec.containers must be a list',
    ],
    [
      'a container without name',
      buildReview({ metadata: {}, spec: { containers: [{ name: 'a' }, {}] } }),
      400,
      'request.object.spec.containers[1].name must be a string',
    ],
    [
      'a strange label',
      buildReview({ metadata: { labels: { a: 1 } }, spec: { containers: [] } }),
      400,
      'request.object.metadata.labels[a] must be a string',
    ],
    ['too much', `"${'x'.repeat(bodyLimitBytes)}"`, 413, `the body is larger than ${bodyLimitBytes} bytes`],
  ];
  for (const [name, body, wantStatus, wantError] of cases) {
    const response = await post(body);
    t.equal(response.statusCode, wantStatus, name);
    t.same(response.json(), { error: wantError }, name);
  }
  t.same(
    outcomes,
    cases.map(() => 'invalid'),
  );
  const text = await server.inject({
    method: 'POST',
    url: mutatePodsPath,
    headers: { 'content-type': 'text/plain' },
    payload: 'x',
  });
  t.equal(text.statusCode, 415);
  t.same(text.json(), { error: 'the content type must be application/json' });
});

t.test('takes as much as the API server sends', async t => {
  const { post } = await serve();
  const pod = memberPod(0, { annotations: { big: 'x'.repeat(3 * 1024 * 1024) } });
  t.equal((await post(buildReview(pod))).statusCode, 200);
});

t.test('knows no other method and no other path', async t => {
  const { server } = await serve();
  for (const method of ['GET', 'HEAD', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const) {
    const response = await server.inject({ method, url: mutatePodsPath });
    t.equal(response.statusCode, 405, method);
    t.equal(response.headers.allow, 'POST', method);
  }
  t.equal((await server.inject({ method: 'POST', url: '/mutate' })).statusCode, 404);
});

t.test('answers a failure of its own with a bare 500 and logs the cause', async t => {
  const { post, outcomes, logged } = await serve({
    placement: () => {
      throw new Error('secret cause');
    },
  });
  const response = await post(buildReview(member));
  t.equal(response.statusCode, 500);
  t.same(response.json(), { error: 'internal error' });
  t.same(outcomes, ['failed']);
  t.match(logged.join(''), /secret cause/);
});

t.test('logs one line for each decision', async t => {
  const { post, logged } = await serve();
  await post(buildReview(member));
  const decisions = logged.map(line => JSON.parse(line)).filter(line => line.msg === 'pod admitted');
  t.match(decisions, [{ pod: 'serving/g-0', placement: 'gated', uid, dryRun: false }]);
  t.equal(decisions.length, 1);
});

t.test('reads reviews of every resource', async t => {
  const resource = { group: 'resource.k8s.io', version: 'v1', resource: 'resourceclaims' };
  t.same(
    parseAdmissionReview(
      buildReview(null, { resource, subResource: 'status', namespace: undefined, dryRun: undefined }),
    ),
    {
      uid,
      operation: 'CREATE',
      resource: 'resourceclaims.resource.k8s.io',
      subResource: 'status',
      namespace: '',
      dryRun: false,
      object: null,
    },
  );
});

t.test('reviews a pod in well under a millisecond', async t => {
  const containers = Array.from({ length: 4 }, (_, index) => ({
    name: `c${index}`,
    env: Array.from({ length: 20 }, (_, entry) => ({ name: `E${entry}`, value: 'v' })),
  }));
  const pod: Pod = memberPod(0, { spec: { subdomain: 's', containers } });
  const times = Array.from({ length: 500 }, () => {
    const started = performance.now();
    admitted(pod);
    return performance.now() - started;
  }).sort((a, b) => a - b);
  const medianMs = times[250] ?? Number.POSITIVE_INFINITY;
  t.comment(`median ${medianMs.toFixed(3)} ms, applying the patch included`);
  t.ok(medianMs < 1, 'applying the patch included');
});
