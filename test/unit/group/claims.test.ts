import t from 'tap';
import type { ResourceClaimSpec } from '../../../src/api/dra.ts';
import { berth, nvidia } from '../../../src/api/names.ts';
import { decodeResourceClaim } from '../../../src/cluster/devices/decode-claim.ts';
import { type ClaimSource, type ClaimTrouble, resolveClaims } from '../../../src/group/claims.ts';
import { demandOfPod, type MemberDemand } from '../../../src/group/demand.ts';
import { wants } from '../../builders/device-nodes.ts';
import { claimObject } from '../../builders/dra.ts';
import { decode } from '../../builders/planning.ts';
import { type Ask, podOf } from '../../builders/pods.ts';

const pair = wants('pair', { gpu: ['gpu', 1], nic: ['nic', 1] });
const onNodeA = {
  nodeSelectorTerms: [{ matchFields: [{ key: 'metadata.name', operator: 'In', values: ['a'] }] }],
};

interface World {
  readonly templates?: Readonly<Record<string, ResourceClaimSpec>>;
  readonly templateAnnotations?: Readonly<Record<string, string>>;
  /** Claims by name; allocated to node a where it says so. */
  readonly claims?: Readonly<Record<string, 'free' | 'allocated'>>;
  readonly steers?: boolean;
  readonly trouble?: ClaimTrouble;
}

function sourceOf({
  templates = { pair: pair.spec },
  templateAnnotations = {},
  claims = {},
  steers = true,
  trouble,
}: World): ClaimSource {
  return {
    template: (namespace, name) => {
      const spec = templates[name];
      return spec && { namespace, name, annotations: templateAnnotations, spec };
    },
    claim: (namespace, name) => {
      const state = claims[name];
      if (state === undefined) return undefined;
      const record = decodeResourceClaim(claimObject({ name, namespace, spec: pair.spec }));
      if (state === 'free') return record;
      return { ...record, allocation: { results: [], nodeSelector: onNodeA } };
    },
    steers: () => steers,
    trouble: () => trouble,
  };
}

function members(...asks: readonly Ask[]): readonly MemberDemand[] {
  return asks.map((ask, rank) =>
    demandOfPod(decode(podOf({ name: `m-${rank}`, gated: true, cpu: 1, ...ask }))),
  );
}

function resolve(
  demands: readonly MemberDemand[],
  world: World = {},
  annotations: Record<string, string> = {},
) {
  return resolveClaims({ demands, source: sourceOf(world), sources: [annotations] });
}

function devicesOf(...args: Parameters<typeof resolve>) {
  const resolved = resolve(...args);
  if ('code' in resolved) throw new Error(resolved.message);
  return resolved.byRank.map(({ devices }) => devices);
}

t.test('a member without claims is left as it is', async t => {
  const demands = members({ gpu: 1 });
  const resolved = resolve(demands);
  t.equal('byRank' in resolved && resolved.byRank, demands);
});

t.test('a template says what its claim will ask for; equal members stay equal', async t => {
  const [first, second] = devicesOf(members({ claims: { d: 'pair' } }, { claims: { d: 'pair' } }));
  t.same(first?.own, [{ name: 'd', spec: pair.spec }]);
  t.same(first, second);
  t.match(first, { steerable: true, minRung: undefined, reach: [], computeDomain: undefined });
});

t.test('members whose claims ask for something else are told apart', async t => {
  const big = wants('big', { gpu: ['gpu', 4] }).spec;
  const demands = members({ claims: { d: 'pair' } }, { claims: { d: 'big' } });
  const resolved = resolve(demands, { templates: { pair: pair.spec, big } });
  t.equal('byRank' in resolved && new Set(resolved.byRank.map(({ key }) => key)).size, 2);
  const changed = resolve(members({ claims: { d: 'pair' } }), { templates: { pair: big } });
  const before = resolve(members({ claims: { d: 'pair' } }));
  t.not(
    'byRank' in changed && changed.byRank[0]?.key,
    'byRank' in before && before.byRank[0]?.key,
    'a template that was made anew is another demand',
  );
});

t.test('what is missing is named', async t => {
  t.match(resolve(members({ claims: { d: 'nope' } })), {
    code: 'ClaimMissing',
    message: 'the ResourceClaimTemplate serving/nope is not there',
  });
  t.match(resolve(members({ claims: { d: 'claim:nope' } })), {
    code: 'ClaimMissing',
    message: 'the ResourceClaim serving/nope is not there',
  });
});

t.test('a claim that all members share keeps them on one host, and is counted once', async t => {
  const demands = members({ claims: { d: 'claim:s' } }, { claims: { d: 'claim:s' } });
  const resolved = resolve(demands, { claims: { s: 'free' } });
  t.match(resolved, { onOneHost: true });
  t.same(
    devicesOf(demands, { claims: { s: 'free' } }).map(devices => devices?.own.length ?? 0),
    [1, 0],
  );
  t.match(devicesOf(demands, { claims: { s: 'free' } })[0], { steerable: false }, 'nobody rewrites it');
});

t.test('once it is allocated it says where they may go', async t => {
  const demands = members({ claims: { d: 'claim:s' } }, { claims: { d: 'claim:s' } });
  t.match(resolve(demands, { claims: { s: 'allocated' } }), { onOneHost: false });
  for (const devices of devicesOf(demands, { claims: { s: 'allocated' } }))
    t.match(devices, { own: [], reach: [onNodeA] });
});

t.test('a claim that only some share waits until it is allocated', async t => {
  const demands = members({ claims: { d: 'claim:s' } }, { claims: { d: 'claim:s' } }, {});
  t.match(resolve(demands, { claims: { s: 'free' } }), {
    code: 'ClaimShared',
    message:
      'ResourceClaim serving/s is shared by 2 of 3 members and not allocated yet; the group is planned once it is',
  });
  t.match(resolve(demands, { claims: { s: 'allocated' } }), { onOneHost: false });
});

t.test('steering is off for a template, and where the namespace says so', async t => {
  const demands = members({ claims: { d: 'pair' } });
  const off = { [berth.steerClaims]: 'false' };
  t.match(devicesOf(demands, { templateAnnotations: off })[0], { steerable: false });
  t.match(devicesOf(demands, { steers: false })[0], { steerable: false });
});

t.test('an alignment is demanded of members with devices; other words are told', async t => {
  const demands = members({ claims: { d: 'pair' } }, { gpu: 1 }, {});
  const rungs = devicesOf(demands, {}, { [berth.minAlignment]: 'numa' }).map(devices => devices?.minRung);
  t.same(rungs, ['numa', 'numa', undefined]);
  t.same(
    devicesOf(demands, {}, { [berth.minAlignment]: 'host' }).map(devices => devices?.minRung),
    [undefined, undefined, undefined],
  );
  t.same(resolve(demands, {}, { [berth.minAlignment]: 'switch' }), {
    code: 'InvalidAlignment',
    field: 'metadata.annotations[berth.dev/min-alignment]',
    message: 'metadata.annotations[berth.dev/min-alignment] must be pcie, numa or host; got "switch"',
  });
});

t.test('channels of a ComputeDomain keep all members in one clique', async t => {
  const config = (kind: string) => [
    { opaque: { driver: nvidia.computeDomainDriver, parameters: { kind, domainID: 'cd-1' } } },
  ];
  const channel = { devices: { ...pair.spec.devices, config: config('ComputeDomainChannelConfig') } };
  const demands = members({}, { claims: { d: 'channel' } });
  const world = { templates: { channel } };
  t.match(resolve(demands, world), { sameLabels: ['nvidia.com/gpu.clique'] });
  t.equal(devicesOf(demands, world)[1]?.computeDomain, 'cd-1');
  const daemon = { devices: { ...pair.spec.devices, config: config('ComputeDomainDaemonConfig') } };
  t.match(resolve(demands, { templates: { channel: daemon } }), { sameLabels: [] });
});

t.test('a claim in trouble is named with what ends it; who asks for no group takes it as it is', async t => {
  const demands = members({ claims: { d: 'claim:s' } }, { claims: { d: 'claim:s' } });
  const device = { driver: 'gpu.nvidia.com', pool: 'a', device: 'gpu-0' };
  const cases: readonly (readonly [ClaimTrouble, object])[] = [
    [
      { kind: 'failed', device, users: ['group serving/h', 'pod serving/notebook'] },
      {
        code: 'ClaimOnFailedDevice',
        message:
          'ResourceClaim serving/s has the failed device gpu-0 of pool a (gpu.nvidia.com), and gets another one once it is released by group serving/h, pod serving/notebook',
      },
    ],
    [{ kind: 'failed', device, users: [] }, { message: /once it is released by the old pods of the group$/ }],
    [
      { kind: 'wanted', group: 'serving/h' },
      {
        code: 'ClaimShared',
        message: /about to be allocated for group serving\/h; this one is planned once it is$/,
      },
    ],
  ];
  for (const [trouble, obstacle] of cases) {
    const source = sourceOf({ claims: { s: 'allocated' }, trouble });
    t.match(resolveClaims({ demands, source, sources: [], group: 'serving/g' }), obstacle);
    t.match(resolveClaims({ demands, source, sources: [] }), { byRank: [{}, {}] });
  }
});
