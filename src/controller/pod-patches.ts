import { berth } from '../api/names.ts';
import { type JsonPatchOperation, pinOps } from '../cluster/node-affinity.ts';
import type { PodInfo } from '../group/pod-info.ts';

/*
 * JSON Patches for gated pods. Each tests what it builds on, so that a pod changed meanwhile answers 422; the UID is
 * tested by whoever sends them.
 */

/** Writes the plan (leaders only), pins to the node and takes Berth's gate away, all in one. */
export function placeOps(pod: PodInfo, node: string, planText?: string): readonly JsonPatchOperation[] {
  return [
    ...(planText === undefined ? [] : planOps(pod, planText)),
    ...pinOps(pod.scheduling ?? {}, node),
    ...releaseOps(pod),
  ];
}

/** Writes the plan onto a leader, past its gate or not. */
export function planOps(pod: PodInfo, planText: string): readonly JsonPatchOperation[] {
  const path = `/metadata/annotations/${berth.plan.replaceAll('/', '~1')}`;
  const write: JsonPatchOperation = { op: 'add', path, value: planText };
  return pod.hasAnnotations ? [write] : [{ op: 'add', path: '/metadata/annotations', value: {} }, write];
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
