import t from 'tap';
import type { ResourceClaim } from '../../../src/api/dra.ts';
import type { OwnerReference } from '../../../src/api/kubernetes.ts';
import { berth, k8s } from '../../../src/api/names.ts';
import { type ClaimReviewDeps, reviewClaim, type Seat, waitingMessage } from '../../../webhooks/claim.ts';
import { claimMatchConditions } from '../../../webhooks/claim-scope.ts';
import { exactly, gpus, nvidia, plan } from '../cluster/steering/steering-builders.ts';
import { claimDeps, podUid, templateClaim } from './claim-builders.ts';

const namespace = 'serving';

function review(claim: ResourceClaim, deps: Partial<ClaimReviewDeps> = {}) {
  return reviewClaim({ claim, namespace, operation: 'CREATE' }, claimDeps(deps));
}

/** A dep that must not be asked. */
function unasked(): never {
  throw new Error('this is asked in vain');
}

function withAnnotations(annotations: Record<string, string>): ResourceClaim {
  return templateClaim(undefined, { annotations: { [k8s.podClaimName]: 'devices', ...annotations } });
}

function ownedBy(owner: Partial<OwnerReference>): ResourceClaim {
  const pod = { apiVersion: 'v1', kind: 'Pod', name: 'g-0', uid: podUid, controller: true };
  return templateClaim(undefined, { ownerReferences: [{ ...pod, ...owner }] });
}

t.test('a claim of a planned pod is steered to its devices', async t => {
  const asked: string[][] = [];
  const verdict = await review(templateClaim(), {
    seatOf: async (...pod) => {
      asked.push(pod);
      return { kind: 'planned', node: 'n1', claims: [plan({ gpu: gpus.slice(3, 4) })] };
    },
  });
  t.same(asked, [[namespace, 'g-0', podUid]]);
  t.match(verdict, {
    kind: 'admitted',
    steered: ['gpu'],
    unsteered: [],
    ops: [
      {
        op: 'replace',
        path: '/spec/devices',
        value: {
          requests: [
            {
              name: 'gpu',
              firstAvailable: [
                { name: 'berth', selectors: [{ cel: { expression: /in \["0000:30:1c.0"\]$/ } }] },
                { name: 'asked', deviceClassName: nvidia },
              ],
            },
          ],
        },
      },
    ],
  });
});

t.test('the plan is found by what the pod calls the claim', async t => {
  const claims = [{ ...plan({ gpu: gpus.slice(0, 1) }), claim: 'other' }];
  t.same(await review(templateClaim(), { seatOf: async () => ({ kind: 'planned', node: 'n1', claims }) }), {
    kind: 'admitted',
    ops: [],
    steered: [],
    unsteered: [{ request: 'gpu', reason: 'not-planned' }],
  });
});

t.test('reviewing the result again changes nothing and counts nothing', async t => {
  const first = await review(templateClaim());
  if (first.kind !== 'admitted' || first.ops[0]?.op !== 'replace') throw new Error('not steered');
  const claim = { ...templateClaim(), spec: { devices: Object(first.ops[0].value) } };
  const nothing = { kind: 'admitted', ops: [], steered: [], unsteered: [] };
  t.same(await review(claim), nothing);
  t.same(await review(claim, { seatOf: async () => ({ kind: 'unknown' }) }), nothing);
});

t.test('a claim of a pod that waits for its plan is refused, always with the same sentence', async t => {
  const waiting: Partial<ClaimReviewDeps> = { seatOf: async () => ({ kind: 'waiting' }) };
  t.same(await review(templateClaim(), waiting), { kind: 'denied', message: waitingMessage });
  t.notMatch(waitingMessage, /g-0|devices-/, 'no names: events are counted together by their text');
  const mixed = [exactly('gpu', nvidia), exactly('all', nvidia, { allocationMode: 'All' })];
  t.same(await review(templateClaim({ devices: { requests: mixed } }), waiting), {
    kind: 'denied',
    message: waitingMessage,
  });
});

t.test('a claim that no plan could steer does not wait for one', async t => {
  const requests = [
    exactly('all', nvidia, { allocationMode: 'All' }),
    exactly('admin', nvidia, { adminAccess: true }),
    { name: 'any', firstAvailable: [{ name: 'x', deviceClassName: nvidia, allocationMode: 'All' }] },
  ];
  const waiting: Partial<ClaimReviewDeps> = { seatOf: async () => ({ kind: 'waiting' }) };
  t.same(await review(templateClaim({ devices: { requests } }), waiting), {
    kind: 'admitted',
    ops: [],
    steered: [],
    unsteered: [
      { request: 'all', reason: 'all-devices' },
      { request: 'admin', reason: 'admin-access' },
      { request: 'any', reason: 'all-devices' },
    ],
  });
});

t.test('a claim of a pod that Berth does not place is left untouched', async t => {
  const seat: Seat = { kind: 'not-ours', reason: 'released' };
  t.same(await review(templateClaim(), { seatOf: async () => seat }), {
    kind: 'untouched',
    reason: 'not-ours',
    detail: 'released',
  });
});

t.test('a claim whose pod is not known passes as it was asked', async t => {
  t.same(await review(templateClaim(), { seatOf: async () => ({ kind: 'unknown' }) }), {
    kind: 'admitted',
    ops: [],
    steered: [],
    unsteered: [{ request: 'gpu', reason: 'pod-unknown' }],
  });
});

t.test('whatever goes wrong, the claim passes as it was asked', async t => {
  const cause = new Error('broken');
  const fail = () => {
    throw cause;
  };
  const broken: Partial<ClaimReviewDeps>[] = [
    { seatOf: async () => fail() },
    { seatOf: fail },
    { devicesOfNode: fail },
    { driverPolicy: fail },
    { namespaceMode: fail },
    { namespaceSteers: fail },
    { enabled: fail },
    { offers: fail },
  ];
  for (const deps of broken)
    t.strictSame(await review(templateClaim(), deps), {
      kind: 'admitted',
      ops: [],
      steered: [],
      unsteered: [{ request: 'gpu', reason: 'failed' }],
      error: cause,
    });
});

t.test('claims that are not made from a template for a pod are never looked at', async t => {
  const cases: [string, ResourceClaim][] = [
    ['made-by-others', templateClaim(undefined, { ownerReferences: [] })],
    ['made-by-others', templateClaim(undefined, { annotations: {} })],
    ['made-by-others', { metadata: {}, spec: {} }],
    ['made-by-others', ownedBy({ kind: 'PodGroup', apiVersion: 'scheduling.k8s.io/v1alpha2' })],
    ['made-by-others', ownedBy({ apiVersion: 'example.com/v1' })],
    ['made-by-others', ownedBy({ controller: false })],
    ['extended-resource', withAnnotations({ [k8s.extendedResourceClaim]: 'true' })],
  ];
  for (const [reason, claim] of cases)
    t.same(await review(claim, { seatOf: unasked, namespaceMode: unasked }), { kind: 'untouched', reason });
  for (const value of ['true', ''])
    t.match(await review(withAnnotations({ [berth.steerClaims]: value })), { steered: ['gpu'] }, value);
});

t.test('nothing is steered where it is switched off', async t => {
  const off: [string, Partial<ClaimReviewDeps>][] = [
    ['namespace-observed', { namespaceMode: () => undefined }],
    ['namespace-observed', { namespaceMode: () => 'observe' }],
  ];
  for (const [reason, deps] of off)
    t.same(await review(templateClaim(), { ...deps, seatOf: unasked }), { kind: 'untouched', reason });
});

t.test('where steering is switched off each request is counted as not steered', async t => {
  const unsteered = [{ request: 'gpu', reason: 'steering-off' }];
  const off: [ResourceClaim, Partial<ClaimReviewDeps>][] = [
    [templateClaim(), { enabled: () => false }],
    [templateClaim(), { namespaceSteers: name => name !== namespace }],
    [withAnnotations({ [berth.steerClaims]: 'false' }), {}],
  ];
  for (const [claim, deps] of off)
    t.same(await review(claim, { ...deps, seatOf: unasked }), {
      kind: 'admitted',
      ops: [],
      steered: [],
      unsteered,
    });
});

t.test('only the creation of claims is reviewed', async t => {
  t.same(
    await reviewClaim(
      { claim: templateClaim(), namespace, operation: 'UPDATE' },
      claimDeps({ seatOf: unasked }),
    ),
    { kind: 'untouched', reason: 'not-created' },
  );
});

t.test('the conditions of the webhook keep every other claim from being sent', async t => {
  const annotations = 'object.metadata.?annotations.orValue({})';
  t.same(claimMatchConditions, [
    {
      name: 'not-extended-resource',
      expression: `!('resource.kubernetes.io/extended-resource-claim' in ${annotations})`,
    },
    {
      name: 'not-made-by-others',
      expression:
        `'resource.kubernetes.io/pod-claim-name' in ${annotations} && ` +
        'object.metadata.?ownerReferences.orValue([]).exists(owner, owner.?controller.orValue(false) && ' +
        `owner.apiVersion == 'v1' && owner.kind == 'Pod')`,
    },
  ]);
});
