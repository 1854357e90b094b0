import type { Test } from 'tap';
import type { Cluster } from '../../hack/bed/cluster.ts';
import type { KubernetesObject, Node, Pod } from '../../src/api/kubernetes.ts';
import { until } from './bed.ts';
import type { HistoryFindings, WatchedChange } from './invariants.ts';

/** All that happens to nodes, pods and StatefulSets from now on. */
export interface History {
  readonly changes: readonly WatchedChange[];
  /** Pods as last told, by UID. */
  readonly pods: ReadonlyMap<string, Pod>;
  /** Waits until the watches have told all that has happened so far. */
  catchUp(): Promise<void>;
}

/** Watches with clients of its own; ends with the test. `onPod` hears of pods right away. */
export function recordHistory(
  t: Test,
  cluster: Cluster,
  onPod: (type: string, pod: Pod) => void = () => {},
): History {
  const changes: WatchedChange[] = [];
  const pods = new Map<string, Pod>();
  const watch = (path: string, note: (type: string, object: unknown) => void) =>
    t.teardown(cluster.watch(path, note));
  watch('/api/v1/nodes', (type, object) => {
    changes.push({ resource: 'nodes', type, object: object as Node });
  });
  watch('/apis/apps/v1/statefulsets', (type, object) => {
    changes.push({ resource: 'statefulsets', type, object: object as KubernetesObject });
  });
  watch('/api/v1/pods', (type, object) => {
    const pod = object as Pod;
    changes.push({ resource: 'pods', type, object: pod });
    if (type === 'DELETED') pods.delete(pod.metadata.uid ?? '');
    else pods.set(pod.metadata.uid ?? '', pod);
    onPod(type, pod);
  });
  const isTold = (resource: WatchedChange['resource'], object: KubernetesObject) =>
    changes.some(
      change =>
        change.resource === resource &&
        change.object.metadata.uid === object.metadata.uid &&
        Number(change.object.metadata.resourceVersion) >= Number(object.metadata.resourceVersion),
    );
  return {
    changes,
    pods,
    async catchUp() {
      for (const [resource, path] of [
        ['pods', '/api/v1/pods'],
        ['statefulsets', '/apis/apps/v1/statefulsets'],
      ] as const) {
        const { items } = await cluster.request<{ items: KubernetesObject[] }>('GET', path);
        await until(`the watch of ${resource} to catch up`, 20_000, () =>
          items.every(item => isTold(resource, item)),
        );
      }
    },
  };
}

/** One assertion for each promise, and the figures as a comment. */
export function assertKept(t: Test, findings: HistoryFindings): void {
  t.comment(`${findings.changes} changes replayed, up to ${findings.mostSeatsKept} seats kept at once`);
  t.ok(findings.mostSeatsKept > 0, 'plans kept seats for members that were not bound');
  t.strictSame(findings.overcommitted, [], 'at no moment did bound pods and live plans exceed a node');
  t.strictSame(findings.unschedulable, [], 'no pinned pod was ever Unschedulable');
  t.strictSame(findings.misplaced, [], 'every member was bound where its plan says');
  t.strictSame(findings.split, [], 'no group was ever split');
}
