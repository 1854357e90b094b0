import { berth } from '../api/names.ts';
import type { Rung } from '../cluster/devices/alignment.ts';
import { type JsonPatchOperation, pinOps } from '../cluster/node-affinity.ts';
import type { PodInfo } from '../group/pod-info.ts';

/*
 * JSON Patches for gated pods. Each tests what it builds on, so that a pod changed meanwhile answers 422; the UID is
 * tested by whoever sends them.
 */

/** Writes the plan (leaders only), the alignment, pins to the node and takes Berth's gate away, all in one. */
export function placeOps(
  pod: PodInfo,
  node: string,
  { planText, alignment }: { readonly planText?: string; readonly alignment?: Rung | undefined } = {},
): readonly JsonPatchOperation[] {
  return [
    ...annotationOps(pod, {
      ...(planText !== undefined && { [berth.plan]: planText }),
      ...(alignment !== undefined && { [berth.alignment]: alignment }),
    }),
    ...pinOps(pod.scheduling ?? {}, node),
    ...releaseOps(pod),
  ];
}

/** Writes the plan onto a leader, past its gate or not. */
export function planOps(pod: PodInfo, planText: string): readonly JsonPatchOperation[] {
  return annotationOps(pod, { [berth.plan]: planText });
}

function annotationOps(
  { hasAnnotations }: PodInfo,
  annotations: Readonly<Record<string, string>>,
): readonly JsonPatchOperation[] {
  const writes = Object.entries(annotations).map(
    ([key, value]): JsonPatchOperation => ({
      op: 'add',
      path: `/metadata/annotations/${key.replaceAll('/', '~1')}`,
      value,
    }),
  );
  return hasAnnotations || writes.length === 0
    ? writes
    : [{ op: 'add', path: '/metadata/annotations', value: {} }, ...writes];
}

/** Takes the gate away; alone, it leaves the node to kube-scheduler. */
export function releaseOps(pod: PodInfo): readonly JsonPatchOperation[] {
  const index = pod.gates.indexOf(berth.placementGate);
  if (index === -1) return [];
  const path = `/spec/schedulingGates/${index}`;
  return [
    { op: 'test', path: `${path}/name`, value: berth.placementGate },
    { op: 'remove', path },
  ];
}
