import Fastify from 'fastify';
import t from 'tap';
import type { ResourceClaim } from '../../../src/api/dra.ts';
import { type ClaimReviewDeps, waitingMessage } from '../../../webhooks/claim.ts';
import { claimWebhook, mutateClaimsPath } from '../../../webhooks/claim-plugin.ts';
import { podWebhook } from '../../../webhooks/plugin.ts';
import type { AdmissionOutcome } from '../../../webhooks/review-route.ts';
import { exactly, nvidia } from '../cluster/steering/steering-builders.ts';
import { claimDeps, templateClaim } from './claim-builders.ts';
import { memberPod, reviewDeps } from './pod-builders.ts';

const uid = '705ab4f5-6393-11e8-b7cc-42010a800002';
const claims = { group: 'resource.k8s.io', version: 'v1', resource: 'resourceclaims' };

/** A review as kube-apiserver sends it for what kube-controller-manager creates. */
function buildReview(object: unknown, request: Readonly<Record<string, unknown>> = {}): object {
  return {
    kind: 'AdmissionReview',
    apiVersion: 'admission.k8s.io/v1',
    request: {
      uid,
      kind: { group: 'resource.k8s.io', version: 'v1', kind: 'ResourceClaim' },
      resource: claims,
      requestKind: { group: 'resource.k8s.io', version: 'v1', kind: 'ResourceClaim' },
      requestResource: claims,
      name: '',
      namespace: 'serving',
      operation: 'CREATE',
      userInfo: { username: 'system:serviceaccount:kube-system:resource-claim-controller' },
      object,
      oldObject: null,
      dryRun: false,
      options: { kind: 'CreateOptions', apiVersion: 'meta.k8s.io/v1' },
      ...request,
    },
  };
}

async function serve(deps: Partial<ClaimReviewDeps> = {}) {
  const outcomes: AdmissionOutcome[] = [];
  const counts = { steered: 0, unsteered: [] as string[] };
  const logged: string[] = [];
  const server = Fastify({ logger: { level: 'info', stream: { write: line => void logged.push(line) } } });
  await server.register(podWebhook, { deps: reviewDeps(), observe: () => undefined });
  await server.register(claimWebhook, {
    deps: claimDeps(deps),
    observe: outcome => void outcomes.push(outcome),
    onSteered: requests => {
      counts.steered += requests;
    },
    onUnsteered: reason => void counts.unsteered.push(reason),
  });
  const post = (payload: string | object, url = mutateClaimsPath) =>
    server.inject({ method: 'POST', url, headers: { 'content-type': 'application/json' }, payload });
  return { server, post, outcomes, counts, logged };
}

const opaque = {
  driver: nvidia,
  parameters: { apiVersion: 'resource.nvidia.com/v1beta1', kind: 'GpuConfig' },
};
const claim: ResourceClaim = templateClaim({
  devices: {
    requests: [exactly('gpu', nvidia), exactly('all', nvidia, { allocationMode: 'All' })],
    config: [{ requests: ['gpu'], opaque }],
  },
});

t.test('answers with a patch of the requests, and counts each', async t => {
  const { post, outcomes, counts, logged } = await serve();
  const response = await post(buildReview(claim));
  t.equal(response.statusCode, 200);
  const answer = response.json();
  t.match(answer, {
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    response: { uid, allowed: true, patchType: 'JSONPatch' },
  });
  const patch = JSON.parse(Buffer.from(answer.response.patch, 'base64').toString());
  t.match(patch, [
    {
      op: 'replace',
      path: '/spec/devices',
      value: {
        requests: [{ name: 'gpu', firstAvailable: [{ name: 'berth' }, { name: 'asked' }] }, { name: 'all' }],
        config: [{ requests: ['gpu/berth', 'gpu/asked'], opaque }],
      },
    },
  ]);
  t.same(outcomes, ['patched']);
  t.same(counts, { steered: 1, unsteered: ['all-devices'] });
  const decisions = logged.map(line => JSON.parse(line)).filter(({ msg }) => msg === 'claim admitted');
  t.match(decisions, [{ claim: 'serving/g-0-devices-', steered: ['gpu'], uid }]);
  t.equal(decisions.length, 1);
});

t.test('refuses the claim of a waiting pod as what may be tried again', async t => {
  const { post, outcomes, counts } = await serve({ seatOf: async () => ({ kind: 'waiting' }) });
  const response = await post(buildReview(claim));
  t.equal(response.statusCode, 200);
  t.same(response.json().response, {
    uid,
    allowed: false,
    status: { status: 'Failure', code: 409, reason: 'Conflict', message: waitingMessage },
  });
  t.same(outcomes, ['denied']);
  t.same(counts, { steered: 0, unsteered: [] });
});

t.test('lets a claim pass that cannot be steered, says so, and counts it', async t => {
  const { post, outcomes, counts } = await serve({ seatOf: async () => ({ kind: 'unknown' }) });
  t.same((await post(buildReview(claim))).json().response, { uid, allowed: true });
  t.same(outcomes, ['unchanged']);
  t.same(counts, { steered: 0, unsteered: ['pod-unknown', 'pod-unknown'] });
});

t.test('lets a claim pass when the review fails, logs the cause and tells nothing of it', async t => {
  const { post, outcomes, counts, logged } = await serve({
    seatOf: async () => {
      throw new Error('secret cause');
    },
  });
  const response = await post(buildReview(claim));
  t.equal(response.statusCode, 200);
  t.same(response.json().response, { uid, allowed: true });
  t.same(outcomes, ['failed']);
  t.same(counts.unsteered, ['failed', 'failed']);
  t.match(logged.join(''), /secret cause/);
});

t.test('lets everything but the creation of claims pass, uncounted', async t => {
  const { post, outcomes, counts } = await serve();
  const requests = [
    { operation: 'UPDATE' },
    { operation: 'DELETE', object: null },
    { subResource: 'status' },
    { resource: { group: '', version: 'v1', resource: 'pods' }, object: memberPod(0) },
    { resource: { ...claims, resource: 'resourceclaimtemplates' } },
    { object: { ...claim, metadata: {} } },
  ];
  for (const request of requests)
    t.same((await post(buildReview(claim, request))).json().response, { uid, allowed: true });
  t.same(new Set(outcomes), new Set(['untouched']));
  t.same(counts, { steered: 0, unsteered: [] });
});

t.test('refuses what is no claim', async t => {
  const { post, outcomes } = await serve();
  const withRequest = (request: object) => ({ metadata: {}, spec: { devices: { requests: [request] } } });
  const body = { deviceClassName: 'c' };
  const cases: [unknown, string][] = [
    [null, 'request.object must be an object'],
    [{ spec: {} }, 'request.object.metadata must be an object'],
    [{ metadata: {} }, 'request.object.spec must be an object'],
    [
      { metadata: { annotations: { a: 1 } }, spec: {} },
      'request.object.metadata.annotations[a] must be a string',
    ],
    [
      { metadata: { ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: 'p', uid: 1 }] }, spec: {} },
      'request.object.metadata.ownerReferences[0].uid must be a string',
    ],
    [
      {
        metadata: {
          ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: 'p', uid: 'u', controller: 'yes' }],
        },
        spec: {},
      },
      'request.object.metadata.ownerReferences[0].controller must be true or false',
    ],
    [withRequest({}), 'request.object.spec.devices.requests[0].name must be a string'],
    [
      withRequest({ name: 'r', exactly: {} }),
      'request.object.spec.devices.requests[0].exactly.deviceClassName must be a string',
    ],
    [
      withRequest({ name: 'r', exactly: { ...body, count: '1' } }),
      'request.object.spec.devices.requests[0].exactly.count must be a number',
    ],
    [
      withRequest({ name: 'r', firstAvailable: [body] }),
      'request.object.spec.devices.requests[0].firstAvailable[0].name must be a string',
    ],
    [
      { metadata: {}, spec: { devices: { config: [{ requests: [1] }] } } },
      'request.object.spec.devices.config[0].requests[0] must be a string',
    ],
  ];
  for (const [object, error] of cases) {
    const response = await post(buildReview(object));
    t.equal(response.statusCode, 400, error);
    t.same(response.json(), { error });
  }
  const noReview = await post('{');
  t.equal(noReview.statusCode, 400);
  t.same(noReview.json(), { error: 'the body is not JSON' });
  t.same(new Set(outcomes), new Set(['invalid']));
});

t.test('knows no other method, and serves beside pods', async t => {
  const { server, post } = await serve();
  const response = await server.inject({ method: 'GET', url: mutateClaimsPath });
  t.equal(response.statusCode, 405);
  t.equal(response.headers.allow, 'POST');
  const pods = { resource: { group: '', version: 'v1', resource: 'pods' }, object: memberPod(0) };
  t.match((await post(buildReview(undefined, pods), '/mutate-pods')).json().response, {
    patchType: 'JSONPatch',
  });
});

t.test('reviews a claim within a few milliseconds', async t => {
  const { post } = await serve();
  await post(buildReview(claim));
  const times: number[] = [];
  for (let round = 0; round < 100; round += 1) {
    const started = performance.now();
    await post(buildReview(claim));
    times.push(performance.now() - started);
  }
  const medianMs = times.sort((a, b) => a - b)[50] ?? Number.POSITIVE_INFINITY;
  t.comment(`median ${medianMs.toFixed(3)} ms, the HTTP layer included`);
  t.ok(medianMs < 20, 'the HTTP layer included');
});
