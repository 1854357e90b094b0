import type { ResourceClaim, ResourceSlice } from '../../src/api/dra.ts';
import type { KubernetesObject, Node, Pod } from '../../src/api/kubernetes.ts';
import { berth, k8s } from '../../src/api/names.ts';
import { LwsGroup } from '../../test/builders/lws-group.ts';
import { gpuClass } from '../bed/device-classes.ts';
import { h100Machine } from '../bed/device-machines.ts';
import { publishing, racks } from '../bed/fleet-presets.ts';
import type { ObjectStore } from '../simulator/object-store.ts';

/** What signals come from. */
export interface StormWorld {
  readonly nodes: readonly Node[];
  /** One of eight devices for each node. */
  readonly slices: readonly ResourceSlice[];
  /** Members of groups, each with all devices of its node. */
  readonly pods: readonly Pod[];
}

/** One group of the fleet in its place. */
interface Seated {
  readonly group: LwsGroup;
  /** Node by rank. */
  readonly slices: readonly ResourceSlice[];
}

export const stormNamespace = 'serving';
/** What a member calls its claim, and what the claim calls the devices. */
export const claimName = 'devices';
export const requestName = 'gpus';
export const groupSize = 4;
const hostsPerRack = 18;
/** The others are room to evict to. */
const shareInUse = 0.8;

/** Writes a fleet with running groups into an API server that has neither. */
export function writeStormWorld(store: ObjectStore, hosts: number): StormWorld {
  const shape = { racks: Math.ceil(hosts / hostsPerRack), hostsPerRack, gpus: 0, totalHosts: hosts };
  const { nodes, slices = [] } = publishing(h100Machine, racks(shape).map(ready), [gpuClass]);
  const seated = seatGroups(slices);
  const pods = seated.flatMap(membersOf);
  const labels = { [berth.mode]: 'pin' };
  const write = <T extends KubernetesObject>(resource: string, objects: readonly T[]): readonly T[] =>
    objects.map(object => store.write(resource, identified(object)));
  write('namespaces', [namespaceOf('berth-system', {}), namespaceOf(stormNamespace, labels)]);
  write('deviceclasses', [gpuClass]);
  write('resourceclaimtemplates', [template()]);
  write(
    'leaderworkersets',
    seated.map(({ group }) => group.owner()),
  );
  write(
    'statefulsets',
    seated.map(({ group }) => group.workerSet()),
  );
  write('resourceclaims', seated.flatMap(claimsOf));
  return {
    nodes: write('nodes', nodes),
    slices: write('resourceslices', slices),
    pods: write('pods', pods),
  };
}

/** A rack has room for four groups, and two hosts are left over. */
function seatGroups(slices: readonly ResourceSlice[]): readonly Seated[] {
  const count = Math.floor((slices.length * shareInUse) / groupSize);
  const perRack = Math.floor(hostsPerRack / groupSize);
  return Array.from({ length: count }, (_, index) => {
    const first = Math.floor(index / perRack) * hostsPerRack + (index % perRack) * groupSize;
    const group = new LwsGroup({
      name: `llm-${index}`,
      namespace: stormNamespace,
      size: groupSize,
      worker: { cpu: 8, claims: { [claimName]: 'all' } },
      annotations: { [berth.requiredTopology]: 'rack' },
    });
    return { group, slices: slices.slice(first, first + groupSize) };
  }).filter(({ slices: own }) => own.length === groupSize);
}

function membersOf({ group, slices }: Seated): readonly Pod[] {
  return slices.map(({ spec }, rank) => {
    const place = { node: spec.nodeName ?? '', gated: false };
    return running(rank === 0 ? group.leader(place) : group.worker(rank, place));
  });
}

function running(pod: Pod): Pod {
  const status = {
    phase: 'Running',
    conditions: [{ type: 'Ready', status: 'True' }],
    containerStatuses: [{ name: 'main' }],
  };
  return { ...pod, status };
}

function claimsOf(seated: Seated): readonly ResourceClaim[] {
  const members = membersOf(seated);
  return seated.slices.map(({ spec: { driver, pool, devices = [] } }, rank) => {
    const { name = '', uid = '' } = members[rank]?.metadata ?? {};
    const results = devices.map(({ name: device }) => ({
      request: requestName,
      driver,
      pool: pool.name,
      device,
    }));
    return {
      apiVersion: 'resource.k8s.io/v1',
      kind: 'ResourceClaim',
      metadata: {
        name: `${name}-${claimName}`,
        namespace: stormNamespace,
        annotations: { [k8s.podClaimName]: claimName },
        ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name, uid, controller: true }],
      },
      spec: { devices: { requests: [request] } },
      status: { allocation: { devices: { results } }, reservedFor: [{ resource: 'pods', name, uid }] },
    };
  });
}

const request = {
  name: requestName,
  exactly: { deviceClassName: gpuClass.metadata.name ?? '', allocationMode: 'ExactCount', count: 8 },
} as const;

function template(): KubernetesObject & { readonly spec: unknown } {
  return {
    apiVersion: 'resource.k8s.io/v1',
    kind: 'ResourceClaimTemplate',
    metadata: { name: 'all', namespace: stormNamespace },
    spec: { spec: { devices: { requests: [request] } } },
  };
}

function namespaceOf(name: string, labels: Readonly<Record<string, string>>): KubernetesObject {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } };
}

function ready(node: Node): Node {
  const conditions = [{ type: 'Ready', status: 'True' }];
  return { ...node, status: { ...node.status, conditions } };
}

/** What the API server would give to an object. */
function identified<T extends KubernetesObject>(object: T): T {
  const { name = '', namespace = '', uid = `uid-${object.kind}-${namespace}-${name}` } = object.metadata;
  return { ...object, metadata: { ...object.metadata, uid } };
}
