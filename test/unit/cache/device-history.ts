import type {
  DeviceClass,
  DeviceRequestAllocationResult,
  DeviceTaintRule,
  ResourceClaim,
  ResourceClaimTemplate,
  ResourceSlice,
} from '../../../src/api/dra.ts';
import { k8s } from '../../../src/api/names.ts';
import type { ClusterCache } from '../../../src/cache/cluster-cache.ts';
import type { PlannedClaim } from '../../../src/cluster/devices/claims.ts';
import {
  decodeDeviceClass,
  decodeResourceClaim,
  decodeResourceClaimTemplate,
} from '../../../src/cluster/devices/decode-claim.ts';
import { decodeResourceSlice } from '../../../src/cluster/devices/decode-slice.ts';
import { deviceKey } from '../../../src/cluster/devices/device.ts';
import { decodeTaintRule } from '../../../src/cluster/devices/taint-rules.ts';
import type { SeatDevices } from '../../../src/group/planned-devices.ts';
import { device, deviceClass, driver, request, slice } from '../../builders/devices.ts';

/** What pods of the history call their claims: the first is made from a template, the second one object for all. */
export const ownClaim = 'own';
export const commonClaim = 'common';
export const claimsOfPods = [
  { name: ownClaim, resourceClaimTemplateName: 'gpus' },
  { name: commonClaim, resourceClaimName: 'shared' },
];

const namespace = 'serving';
const pools = ['a', 'b', 'c', 'gone', 'fabric'] as const;
const deviceNames = ['d0', 'd1', 'd2'] as const;

/** The objects about devices of a random history, and what has to be done to a cache to show them. */
export class DeviceHistory {
  readonly slices = new Map<string, ResourceSlice>();
  readonly classes = new Map<string, DeviceClass>();
  readonly rules = new Map<string, DeviceTaintRule>();
  readonly templates = new Map<string, ResourceClaimTemplate>();
  /** By UID. */
  readonly claims = new Map<string, ResourceClaim>();
  readonly #cache: ClusterCache;
  readonly #random: () => number;
  #serial = 0;

  constructor(cache: ClusterCache, random: () => number) {
    this.#cache = cache;
    this.#random = random;
  }

  putSlice(): void {
    const index = this.#below(2);
    const pool = this.#pick(pools);
    // Seldom an object comes to be of another pool, or a pool to be for other nodes.
    const name = `${this.#chance(0.95) ? pool : this.#pick(pools)}-${index}`;
    const devices = deviceNames.flatMap(own =>
      this.#chance(0.6)
        ? [device(own, {}, this.#chance(0.2) ? { taints: [{ key: 'worn', effect: 'NoSchedule' }] } : {})]
        : [],
    );
    const raw = slice(name, devices, {
      ...this.#reachOf(pool),
      pool: {
        name: pool,
        generation: this.#chance(0.8) ? 1 : 2,
        resourceSliceCount: this.#chance(0.7) ? 1 : 2,
      },
    });
    this.slices.set(name, raw);
    this.#cache.resourceSlices.upsert(decodeResourceSlice(raw));
  }

  removeSlice(): void {
    const raw = this.#any(this.slices);
    if (raw === undefined) return;
    this.slices.delete(raw.metadata.name ?? '');
    this.#cache.resourceSlices.remove(decodeResourceSlice(raw));
  }

  toggleClass(): void {
    const name = this.#pick(['gpu', 'nic']);
    const before = this.classes.get(name);
    if (before !== undefined) {
      this.classes.delete(name);
      this.#cache.deviceClasses.remove(decodeDeviceClass(before));
      return;
    }
    const plain = deviceClass(name);
    const raw = this.#chance(0.5)
      ? { ...plain, spec: { ...plain.spec, extendedResourceName: 'example.com/gpu' } }
      : plain;
    this.classes.set(name, raw);
    this.#cache.deviceClasses.upsert(decodeDeviceClass(raw));
  }

  toggleRule(): void {
    const name = this.#pick(['r0', 'r1']);
    const before = this.rules.get(name);
    if (before !== undefined && this.#chance(0.6)) {
      this.rules.delete(name);
      this.#cache.deviceTaintRules.remove(decodeTaintRule(before));
      return;
    }
    const raw: DeviceTaintRule = {
      metadata: { name },
      spec: {
        deviceSelector: {
          ...(this.#chance(0.5) && { driver }),
          ...(this.#chance(0.5) && { pool: this.#pick(pools) }),
          ...(this.#chance(0.5) && { device: this.#pick(deviceNames) }),
        },
        taint: { key: name, effect: this.#pick(['NoSchedule', 'NoExecute'] as const) },
      },
    };
    this.rules.set(name, raw);
    this.#cache.deviceTaintRules.upsert(decodeTaintRule(raw));
  }

  toggleTemplate(): void {
    const raw: ResourceClaimTemplate = {
      metadata: { name: 'gpus', namespace },
      spec: { spec: { devices: { requests: [request('gpu', { count: 1 + this.#below(2) })] } } },
    };
    if (this.templates.delete('gpus'))
      this.#cache.resourceClaimTemplates.remove(decodeResourceClaimTemplate(raw));
    else {
      this.templates.set('gpus', raw);
      this.#cache.resourceClaimTemplates.upsert(decodeResourceClaimTemplate(raw));
    }
  }

  /** A claim made for a pod. It may be seen before its pod is, and stay when that is gone. */
  makeClaim(podUid: string | undefined): void {
    if (podUid === undefined) return;
    this.#put({
      metadata: {
        name: `own-${podUid}`,
        namespace,
        uid: `claim-${podUid}`,
        annotations: { [k8s.podClaimName]: ownClaim },
        ownerReferences: [
          { apiVersion: 'v1', kind: 'Pod', name: podUid, uid: podUid, controller: true as const },
        ],
      },
      spec: { devices: { requests: [request('gpu')] } },
    });
  }

  /** The claim that pods name; one of another UID may come in the place of the last. */
  makeShared(): void {
    if ([...this.claims.values()].some(({ metadata }) => metadata.name === 'shared')) return;
    this.#put({
      metadata: { name: 'shared', namespace, uid: `shared-${this.#serial++}` },
      spec: { devices: { requests: [request('gpu')] } },
    });
  }

  /** kube-scheduler gives a claim its devices for a pod, or kube-controller-manager takes them back. */
  changeClaim(podUid: string | undefined): void {
    const claim = this.#any(this.claims);
    if (claim === undefined) return;
    const { status: _, ...bare } = claim;
    const owner = claim.metadata.ownerReferences?.[0]?.uid;
    const uid = owner ?? podUid;
    const consumers =
      uid === undefined ? [] : [{ resource: 'pods', name: uid, uid, ...(owner === undefined && {}) }];
    const kind = this.#pick(['allocate', 'allocate', 'reserve', 'release', 'take back'] as const);
    if (kind === 'take back') this.#put(bare);
    else if (kind === 'allocate')
      this.#put({
        ...bare,
        status: { allocation: { devices: { results: this.#results() } }, reservedFor: consumers },
      });
    else if (claim.status?.allocation !== undefined)
      this.#put({ ...bare, status: { ...claim.status, reservedFor: kind === 'reserve' ? consumers : [] } });
  }

  deleteClaim(): void {
    const claim = this.#any(this.claims);
    if (claim === undefined) return;
    this.claims.delete(claim.metadata.uid ?? '');
    this.#cache.resourceClaims.remove(decodeResourceClaim(claim));
  }

  /** What a plan says of the devices of each rank. */
  planned(ranks: number): readonly SeatDevices[] {
    return Array.from({ length: ranks }, () => ({
      claims: [
        ...(this.#chance(0.7) ? [this.#plannedClaim(ownClaim)] : []),
        ...(this.#chance(0.3) ? [this.#plannedClaim(commonClaim)] : []),
      ],
      rung: undefined,
    }));
  }

  /** The watches were lost; some objects have gone meanwhile without anybody seeing it. */
  relist(): void {
    const { slices, classes, rules, templates, claims } = this;
    for (const objects of [slices, classes, rules, templates, claims])
      for (const key of [...objects.keys()]) if (this.#chance(0.1)) objects.delete(key);
    this.showTo(this.#cache);
  }

  /** All objects, as lists that are complete. */
  showTo(cache: ClusterCache): void {
    cache.resourceClaims.replace([...this.claims.values()].map(decodeResourceClaim));
    cache.deviceTaintRules.replace([...this.rules.values()].map(decodeTaintRule));
    cache.resourceSlices.replace([...this.slices.values()].map(decodeResourceSlice));
    cache.deviceClasses.replace([...this.classes.values()].map(decodeDeviceClass));
    cache.resourceClaimTemplates.replace([...this.templates.values()].map(decodeResourceClaimTemplate));
  }

  #put(claim: ResourceClaim): void {
    this.claims.set(claim.metadata.uid ?? '', claim);
    this.#cache.resourceClaims.upsert(decodeResourceClaim(claim));
  }

  #plannedClaim(claim: string): PlannedClaim {
    const devices = [{ driver, pool: this.#pick(pools), device: this.#pick(deviceNames) }];
    return { claim, requests: [{ request: 'gpu', devices }] };
  }

  #results(): readonly DeviceRequestAllocationResult[] {
    return Array.from({ length: 1 + this.#below(2) }, () => ({
      request: 'gpu',
      driver,
      pool: this.#pick(pools),
      device: this.#pick(deviceNames),
      ...(this.#chance(0.2) && { shareID: 'some', consumedCapacity: { memory: '1Gi' } }),
    }));
  }

  #reachOf(pool: string): Partial<ResourceSlice['spec']> {
    if (pool !== 'fabric') return { nodeName: pool };
    if (this.#chance(0.5)) return { allNodes: true };
    const values = [this.#pick(['r0', 'r1'])];
    const expression = { key: 'example.com/rack', operator: 'In', values };
    return { nodeSelector: { nodeSelectorTerms: [{ matchExpressions: [expression] }] } };
  }

  #any<T>(objects: ReadonlyMap<string, T>): T | undefined {
    return [...objects.values()][this.#below(objects.size)];
  }

  #pick<T>(values: readonly [T, ...T[]]): T {
    return values[this.#below(values.length)] ?? values[0];
  }

  #chance(p: number): boolean {
    return this.#random() < p;
  }

  #below(most: number): number {
    return Math.floor(this.#random() * most);
  }
}

/** Everything that can be asked of a cache about devices, in an order of its own. */
export function devicePortrait(cache: ClusterCache): object {
  const { classes, extended } = cache.deviceCatalog;
  return {
    nodes: [...cache.snapshot().nodes].map(({ record, devices }) => ({
      name: record.name,
      catalog: devices === undefined || devices.catalog === cache.deviceCatalog,
      pools: devices?.pools.pools.map(({ pool, state, slices }) => ({
        pool,
        state,
        slices: slices.map(({ name, generation }) => `${name} ${generation}`),
      })),
      candidates: devices?.pools.candidates.map(
        ({ device: { key, taints } }) => `${key} ${taints.map(taint => taint.key)}`,
      ),
      taken: devices?.taken.map(taken => JSON.stringify(taken)).sort(),
      used: [...(devices?.used.devices ?? [])].sort(),
      capacity: [...(devices?.used.capacity ?? [])]
        .map(([key, amounts]) => `${key} ${[...amounts].map(([name, amount]) => `${name} ${amount}`)}`)
        .sort(),
      published: cache.devicesOn(record.name).map(({ key }) => key),
    })),
    classes: ['gpu', 'nic'].map(name => classes(name)?.name),
    extended: [...extended].map(([name, behind]) => `${name} ${behind.name}`).sort(),
    template: cache.claims.template(namespace, 'gpus')?.spec,
    shared: cache.claims.claim(namespace, 'shared')?.uid,
    claims: [...cache.allPods()]
      .map(({ uid }) => `${uid} ${[...cache.claimsOf(uid)].map(claim => claim.uid).sort()}`)
      .sort(),
    held: [...cache.groupKeys()].sort().map(key => heldBy(cache, key)),
    heldNodes: [...cache.heldNodes()].sort(),
  };
}

/** By node, what is held for a group. */
export function heldBy(cache: ClusterCache, group: string): readonly string[] {
  return [...cache.heldDevices(group)].map(([node, keys]) => `${node}: ${[...keys].sort()}`).sort();
}

/** What is to be held for a group by its plan and the claims that there are, worked out from these alone. */
export function expectedHolds(
  { claims }: DeviceHistory,
  cache: ClusterCache,
  group: string,
): readonly string[] {
  const view = cache.group(group);
  const keysByNode = new Map<string, string[]>();
  const isAllocated = (name: string) =>
    [...claims.values()].some(({ metadata, status }) => metadata.name === name && status?.allocation);
  view?.plan?.devices?.forEach((seat, rank) => {
    const node = view.plan?.nodes[rank] ?? '';
    const member = view.members.get(rank);
    for (const { claim } of seat.claims) {
      const done =
        claim === ownClaim
          ? member !== undefined && isAllocated(`own-${member.uid}`)
          : isAllocated('shared') &&
            [...view.members.values()].some(pod => pod.claims.some(({ name }) => name === commonClaim));
      if (node !== '' && !done)
        keysByNode.set(node, [...(keysByNode.get(node) ?? []), `${group}#${rank}/${claim}`]);
    }
  });
  return [...keysByNode].map(([node, keys]) => `${node}: ${keys.sort()}`).sort();
}

/** By node, the devices that are published there, not tainted and nobody's. */
export function freeDevices(cache: ClusterCache): ReadonlyMap<string, ReadonlySet<string>> {
  return new Map(
    [...cache.snapshot().nodes].map(({ record, devices }) => [
      record.name,
      new Set(
        (devices?.pools.candidates ?? []).flatMap(({ device: { id, key, taints } }) =>
          taints.length > 0 || devices?.used.devices.has(deviceKey(id)) ? [] : [key],
        ),
      ),
    ]),
  );
}
