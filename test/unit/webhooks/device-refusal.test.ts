import Fastify from 'fastify';
import t from 'tap';
import { presetFleet } from '../../../hack/bed/fleet-presets.ts';
import type { LeaderWorkerSet, Pod } from '../../../src/api/kubernetes.ts';
import { berth, lws } from '../../../src/api/names.ts';
import { ImpossibleDemands } from '../../../src/cache/impossible-demands.ts';
import { isMembershipError, membershipOf } from '../../../src/group/membership.ts';
import type { PlacementMode } from '../../../src/group/owner.ts';
import { decodeLeaderWorkerSet } from '../../../src/group/owner.ts';
import { reviewOwner } from '../../../webhooks/owner.ts';
import { ownerWebhook, reviewOwnersPath } from '../../../webhooks/owner-plugin.ts';
import { placementFrom } from '../../../webhooks/placement.ts';
import { cacheWithDevices, claimingDevices } from '../../builders/device-cache.ts';
import { request } from '../../builders/devices.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { labelledPod } from '../../builders/planning.ts';
import { review } from './pod-builders.ts';

type Policy = 'warn' | 'refuse';
const gpu = request('gpu', { deviceClassName: 'gpu.nvidia.com' });
const nic = request('nic', { deviceClassName: 'dranet-rdma' });
const root = 'resource.kubernetes.io/pcieRoot';
const noRoot = `no node could give what its members ask for, even if it were empty: request nic: 64 devices of class dranet-rdma on 16 nodes, none has attribute ${root}`;
const alignmentField = `metadata.annotations[${berth.minAlignment}]`;

/** A fleet whose NICs tell no PCIe root, and an LWS group that claims a GPU and a NIC, on one root by constraint or not. */
function world(options: {
  readonly policy?: Policy;
  readonly constrained?: boolean;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly withTemplate?: boolean;
  readonly synced?: boolean;
}) {
  const { policy = 'warn', constrained = true, annotations, withTemplate = true, synced = true } = options;
  const constraints = constrained ? [{ matchAttribute: root }] : [];
  const cache = cacheWithDevices(presetFleet('gb300'), withTemplate ? [gpu, nic] : [], constraints);
  const demands = new ImpossibleDemands(cache);
  const impossible = { policy, why: demands.why.bind(demands) };
  const group = new LwsGroup({ size: 2, worker: {}, ...(annotations && { annotations }) });
  const claiming = <T extends { readonly spec: object }>(object: T): T => ({
    ...object,
    spec: { ...object.spec, ...claimingDevices },
  });
  const plain = group.owner();
  const owner: LeaderWorkerSet = {
    ...plain,
    spec: {
      leaderWorkerTemplate: {
        size: 2,
        workerTemplate: claiming(plain.spec.leaderWorkerTemplate.workerTemplate),
      },
    },
  };
  cache.leaderWorkerSets.upsert(decodeLeaderWorkerSet(owner));
  const place = placementFrom(cache, () => synced, impossible);
  const verdict = (pod: Pod) => {
    const membership = membershipOf(pod.metadata, group.namespace);
    if (isMembershipError(membership)) throw new Error(membership.message);
    return place(pod, membership);
  };
  const leader = claiming(group.leader({ gated: false }));
  const worker = claiming(group.worker(1, { gated: false }));
  const deps = (mode: PlacementMode | undefined = 'pin') => ({
    namespaceMode: () => mode,
    synced: () => synced,
    claims: cache.claims,
    impossible,
  });
  const ownerVerdict = (mode?: PlacementMode | undefined) => reviewOwner(owner, group.namespace, deps(mode));
  return { cache, verdict, leader, worker, owner, ownerVerdict, deps, claiming };
}

t.test(
  'a leader whose group asks for the impossible is gated with a warning, or refused where that is the policy',
  async t => {
    const warned = world({});
    t.same(warned.verdict(warned.leader), { kind: 'gate', warnings: [noRoot] });
    const answer = review(warned.leader, { placement: pod => warned.verdict(pod) });
    t.match(
      answer,
      { kind: 'admitted', placement: 'gated', warnings: [noRoot] },
      'whoever creates it reads the warning',
    );
    const refused = world({ policy: 'refuse' });
    t.same(refused.verdict(refused.leader), {
      kind: 'refuse',
      field: 'spec.resourceClaims',
      message: noRoot,
    });
    t.same(refused.verdict(refused.worker), { kind: 'gate' }, 'only leaders are asked');
  },
);

t.test('a demanded alignment that no machine has names the annotation', async t => {
  const annotations = { [berth.minAlignment]: 'pcie' };
  const refused = world({ policy: 'refuse', constrained: false, annotations });
  t.same(refused.verdict(refused.leader), { kind: 'refuse', field: alignmentField, message: noRoot });
  const near = world({ policy: 'refuse', constrained: false, annotations: { [berth.minAlignment]: 'numa' } });
  t.same(near.verdict(near.leader), { kind: 'gate' });
});

t.test('an alignment that cannot be read is refused whatever the policy', async t => {
  const { verdict, leader, worker, ownerVerdict } = world({
    annotations: { [berth.minAlignment]: 'socket' },
  });
  const message = `${alignmentField} must be pcie, numa or host; got "socket"`;
  t.same(verdict(leader), { kind: 'refuse', field: alignmentField, message });
  t.same(verdict(worker), { kind: 'gate' });
  t.same(ownerVerdict(), { kind: 'denied', field: alignmentField, message });
});

t.test('a group without LWS is asked for what its leader is seen to claim', async t => {
  const { verdict, claiming } = world({ policy: 'refuse' });
  const pod = (rank: number) => claiming(labelledPod(2, rank, {}));
  t.match(verdict(pod(0)), { kind: 'refuse', message: /what the pod asks for, .*none has attribute/ });
  t.same(verdict(pod(1)), { kind: 'gate' });
});

t.test(
  'nothing is said of a claim whose template is still to come, nor from caches that are not filled',
  async t => {
    for (const parts of [{ withTemplate: false }, { synced: false }]) {
      const { verdict, leader, ownerVerdict } = world({ policy: 'refuse', ...parts });
      t.same(verdict(leader), { kind: 'gate' });
      t.notMatch(ownerVerdict(), { kind: 'denied' });
    }
  },
);

t.test('whoever creates a LeaderWorkerSet is answered at once', async t => {
  t.same(world({}).ownerVerdict(), { kind: 'admitted', warnings: [noRoot] });
  t.same(world({ policy: 'refuse' }).ownerVerdict(), {
    kind: 'denied',
    field: 'spec.leaderWorkerTemplate',
    message: noRoot,
  });
  t.same(world({ constrained: false }).ownerVerdict(), { kind: 'admitted', warnings: [] });
  t.same(world({ policy: 'refuse' }).ownerVerdict('observe'), {
    kind: 'untouched',
    reason: 'namespace-observed',
  });
});

t.test('the review of a LeaderWorkerSet is an AdmissionReview without a patch', async t => {
  const outcomes: string[] = [];
  const fields: string[] = [];
  const serve = async (policy: Policy) => {
    const { deps, owner } = world({ policy });
    const server = Fastify();
    t.teardown(() => server.close());
    await server.register(ownerWebhook, {
      deps: deps(),
      observe: outcome => void outcomes.push(outcome),
      onDenied: field => void fields.push(field),
    });
    const post = (object: unknown, operation = 'CREATE') => {
      const [group = '', version = ''] = lws.apiVersion.split('/');
      const resource = { group, version, resource: 'leaderworkersets' };
      const request = { uid: 'u', operation, resource, namespace: 'serving', object };
      const payload = { apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview', request };
      return server.inject({ method: 'POST', url: reviewOwnersPath, payload });
    };
    return { owner, post };
  };
  const warn = await serve('warn');
  const warned = (await warn.post(warn.owner)).json().response;
  t.same(warned, { uid: 'u', allowed: true, warnings: [noRoot] });
  t.same(
    (await warn.post(warn.owner, 'UPDATE')).json().response,
    { uid: 'u', allowed: true },
    'only creation is asked about',
  );
  const bad = await warn.post({
    metadata: {},
    spec: { leaderWorkerTemplate: { workerTemplate: { spec: {} } } },
  });
  t.equal(bad.statusCode, 400);
  t.same(bad.json(), {
    error: 'request.object.spec.leaderWorkerTemplate.workerTemplate.spec.containers must be a list',
  });
  const refuse = await serve('refuse');
  t.match((await refuse.post(refuse.owner)).json().response, {
    allowed: false,
    status: { code: 422, reason: 'Invalid', message: noRoot },
  });
  t.same(outcomes, ['unchanged', 'untouched', 'invalid', 'denied']);
  t.same(fields, ['spec.leaderWorkerTemplate']);
});
