import type { Test } from 'tap';
import { readAudit, type WriteEvent } from '../../hack/bed/audit.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import type { ResourceClaim } from '../../src/api/dra.ts';
import type { KubernetesObject, Pod } from '../../src/api/kubernetes.ts';
import { until } from './bed.ts';
import type { StormCall, StormChange } from './storm-story.ts';

/** All that a storm is judged by, from now on, and what is there now. */
export interface StormHistory {
  readonly changes: readonly StormChange[];
  /** By UID. */
  readonly pods: ReadonlyMap<string, Pod>;
  readonly claims: ReadonlyMap<string, ResourceClaim>;
  /** Destructive calls of Berth so far. */
  calls(): Promise<readonly StormCall[]>;
  /** Waits until the watches have told all that has happened so far. */
  catchUp(): Promise<void>;
}

const dra = '/apis/resource.k8s.io/v1';
const paths = {
  nodes: '/api/v1/nodes',
  pods: '/api/v1/pods',
  statefulsets: '/apis/apps/v1/statefulsets',
  resourceslices: `${dra}/resourceslices`,
  devicetaintrules: `${dra}/devicetaintrules`,
  resourceclaims: `${dra}/resourceclaims`,
  configmaps: '/api/v1/namespaces/berth-system/configmaps?labelSelector=berth.dev/intent',
} as const;
const berthUser = 'system:serviceaccount:berth-system:berth';

/** Watches with clients of its own; ends with the test. */
export async function recordStorm(t: Test, cluster: Cluster): Promise<StormHistory> {
  const changes: StormChange[] = [];
  const pods = new Map<string, Pod>();
  const claims = new Map<string, ResourceClaim>();
  const told = new Map<string, number>();
  const keep = <T extends KubernetesObject>(map: Map<string, T>, type: string, object: T) => {
    if (type === 'DELETED') map.delete(object.metadata.uid ?? '');
    else map.set(object.metadata.uid ?? '', object);
  };
  for (const [resource, path] of Object.entries(paths))
    t.teardown(
      cluster.watch(path, (type, object) => {
        changes.push({ atMs: Date.now(), type, resource, object } as unknown as StormChange);
        told.set(object.metadata.uid ?? '', Number(object.metadata.resourceVersion));
        if (resource === 'pods') keep(pods, type, object as unknown as Pod);
        if (resource === 'resourceclaims') keep(claims, type, object as unknown as ResourceClaim);
      }),
    );
  const { nextOffset } = await readAudit(cluster.auditLogPath);
  const history: StormHistory = {
    changes,
    pods,
    claims,
    async calls() {
      const { events } = await readAudit(cluster.auditLogPath, nextOffset);
      return events.filter(({ user }) => user === berthUser).flatMap(callOf);
    },
    async catchUp() {
      for (const path of Object.values(paths)) {
        const { items } = await cluster.request<{ items: KubernetesObject[] }>('GET', path);
        await until(`the watch of ${path} to catch up`, 30_000, () =>
          items.every(
            ({ metadata }) => (told.get(metadata.uid ?? '') ?? 0) >= Number(metadata.resourceVersion),
          ),
        );
      }
    },
  };
  await history.catchUp();
  return history;
}

function callOf(event: WriteEvent): readonly StormCall[] {
  const what = actOf(event);
  if (what === undefined || event.dryRun) return [];
  const { namespace, name, uid, code, at } = event;
  return [{ atMs: at.getTime(), what, namespace, name, uid, done: code < 300 }];
}

function actOf({ verb, resource, subresource }: WriteEvent): StormCall['what'] | undefined {
  if (resource === 'pods' && subresource === 'eviction') return 'evict';
  if (subresource !== '' || !(verb === 'delete' || verb === 'deletecollection')) return undefined;
  if (resource === 'pods') return 'delete-pod';
  return resource === 'statefulsets' ? 'delete-set' : undefined;
}
