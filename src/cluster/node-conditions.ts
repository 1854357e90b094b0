import type { Node } from '../api/kubernetes.ts';

/** What Berth keeps of a node condition that agents write. */
export interface NodeConditionRecord {
  readonly type: string;
  readonly status: string;
  /** UUIDs of the GPUs that its message names. */
  readonly gpus: readonly string[];
  /** RDMA devices that it names in the words of NVSentinel. */
  readonly nics: readonly string[];
  /** Its message recommends an action in the words of NVSentinel, and the action is none. */
  readonly asksForNothing: boolean;
}

/** Those of the kubelet and of cloud providers, which every node has. Ready is kept by itself. */
const standardTypes: ReadonlySet<string> = new Set([
  'Ready',
  'MemoryPressure',
  'DiskPressure',
  'PIDPressure',
  'NetworkUnavailable',
  'OutOfDisk',
]);
const gpuPattern = /\bGPU-[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b/g;
const nicPattern = /\bNIC:([\w.-]{1,63})/g;
const actionPattern = /Recommended Action=(\w+)/g;
const maxMessageLength = 32_768;
const nothing: readonly NodeConditionRecord[] = [];
const noNames: readonly string[] = [];

/** Conditions of a node that are not the kubelet's own, without their times: those come from other clocks. */
export function nodeConditionsOf({ status }: Node): readonly NodeConditionRecord[] {
  const found = (status?.conditions ?? []).filter(
    ({ type, status: value }) =>
      typeof type === 'string' && typeof value === 'string' && !standardTypes.has(type),
  );
  if (found.length === 0) return nothing;
  return found.map(({ type, status: value, message }) => {
    const text = typeof message === 'string' ? message.slice(0, maxMessageLength) : '';
    const gpus = new Set(text.match(gpuPattern));
    const nics = new Set([...text.matchAll(nicPattern)].map(([, name = '']) => name));
    const actions = [...text.matchAll(actionPattern)].map(([, action]) => action);
    return {
      type,
      status: value,
      gpus: gpus.size === 0 ? noNames : [...gpus].sort(),
      nics: nics.size === 0 ? noNames : [...nics].sort(),
      asksForNothing: actions.length > 0 && actions.every(action => action === 'NONE'),
    };
  });
}
