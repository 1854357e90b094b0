import t from 'tap';
import type { Pod } from '../../../src/api/kubernetes.ts';
import { berth } from '../../../src/api/names.ts';
import type { ClusterCache } from '../../../src/cache/cluster-cache.ts';
import { decodeDeviceClass } from '../../../src/cluster/devices/decode-claim.ts';
import { isInvalidRequest } from '../../../src/extender/invalid-request.ts';
import { readPod } from '../../../src/extender/request-pod.ts';
import { verdictFor } from '../../../src/extender/verdict.ts';
import { formatPlanAnnotation } from '../../../src/group/plan-annotation.ts';
import { p4dLike, wants } from '../../builders/device-nodes.ts';
import { addClaim, addTemplate, publish } from '../../builders/dra.ts';
import { cacheOf, drawFleet } from '../../builders/fleet.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { podOf } from '../../builders/pods.ts';
import { addOwner, setMode } from './world.ts';

const group = new LwsGroup({ size: 1, worker: { cpu: 1, claims: { devices: 'gpu' } } });

/** A member that is planned on a with one of its GPUs, and not bound yet; b is like a, and free. */
function worldOf(): ClusterCache {
  const leader = group.leader({
    gated: false,
    pinnedTo: 'a',
    annotations: {
      [berth.plan]: formatPlanAnnotation({
        leaderUid: group.leaderUid(),
        generation: 1,
        nodes: ['a'],
        requests: [new Map([['pods', 1]])],
        devices: [
          {
            claims: [
              {
                claim: 'devices',
                requests: [
                  { request: 'gpu', devices: [{ driver: 'gpu.nvidia.com', pool: 'a', device: 'gpu-0' }] },
                ],
              },
            ],
            rung: 'pcie',
          },
        ],
      }),
    },
  });
  const cache = cacheOf(drawFleet('rack r0\n  - a\n  - b'), [leader]);
  setMode(cache, 'serving', 'pin');
  addOwner(cache, group);
  publish(cache, { a: p4dLike(), b: p4dLike() });
  for (const namespace of ['serving', 'others']) {
    addTemplate(cache, wants('gpu', { gpu: ['gpu', 1] }), { namespace });
    addTemplate(cache, wants('nic', { nic: ['nic', 1] }), { namespace });
  }
  return cache;
}

function verdictOf(cache: ClusterCache, pod: Pod): string {
  const info = readPod(JSON.parse(JSON.stringify(pod)), 'Pod');
  if (isInvalidRequest(info)) throw new Error(info.message);
  const verdict = verdictFor(cache, info);
  if (verdict.kind === 'except') return `except ${[...verdict.nodes].join(' ')}`;
  return verdict.kind === 'only' ? `only ${verdict.node}` : verdict.kind;
}

const stranger = (parts: Partial<Parameters<typeof podOf>[0]>) =>
  podOf({ name: 's', namespace: 'others', cpu: 1, ...parts });

t.test('a stranger whose claim could get a held device is kept off its node', async t => {
  const cache = worldOf();
  t.equal(verdictOf(cache, stranger({ claims: { mine: 'gpu' } })), 'except a');
  t.equal(verdictOf(cache, stranger({ claims: { mine: 'nic' } })), 'anywhere', 'nothing of its kind is held');
  t.equal(verdictOf(cache, stranger({})), 'anywhere');
  t.equal(verdictOf(cache, group.leader({ gated: false, pinnedTo: 'a' })), 'only a', 'who holds it');
});

t.test('a claim that has its devices takes no others; one by itself is read like a template', async t => {
  const cache = worldOf();
  const spec = wants('gpu', { gpu: ['gpu', 1] }).spec;
  addClaim(cache, { name: 'free', namespace: 'others', spec });
  addClaim(cache, { name: 'done', namespace: 'others', spec, allocated: ['gpu.nvidia.com/b/gpu-3'] });
  t.equal(verdictOf(cache, stranger({ claims: { mine: 'claim:free' } })), 'except a');
  t.equal(verdictOf(cache, stranger({ claims: { mine: 'claim:done' } })), 'anywhere');
  const looking = {
    devices: { requests: [{ name: 'g', exactly: { deviceClassName: 'gpu', adminAccess: true } }] },
  };
  addClaim(cache, { name: 'looking', namespace: 'others', spec: looking });
  t.equal(verdictOf(cache, stranger({ claims: { mine: 'claim:looking' } })), 'anywhere', 'admin access');
});

t.test('extended resources that a node has by DRA are held as devices are', async t => {
  const cache = worldOf();
  cache.deviceClasses.upsert(
    decodeDeviceClass({
      metadata: { name: 'nvidia' },
      spec: {
        extendedResourceName: 'nvidia.com/gpu',
        selectors: [{ cel: { expression: 'device.driver == "gpu.nvidia.com"' } }],
      },
    }),
  );
  t.equal(verdictOf(cache, stranger({ gpu: 1 })), 'except a');
});

t.test('once the allocation is seen nothing is held any more', async t => {
  const cache = worldOf();
  const pod = { name: group.leaderName, uid: group.leaderUid(), calls: 'devices' };
  addClaim(cache, { name: 'own', pod, allocated: ['gpu.nvidia.com/a/gpu-0'] });
  t.equal(verdictOf(cache, stranger({ claims: { mine: 'gpu' } })), 'anywhere');
});
