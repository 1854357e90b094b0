import type { DeviceTaint } from '../api/dra.ts';
import type { NodeConditionRecord } from '../cluster/node-conditions.ts';
import type { FailureSettings } from './settings.ts';
import type { SignalClass } from './signal.ts';

/** What a taint of effect NoSchedule on a device says of it. */
export interface DeviceTaintRow {
  readonly key: string;
  /** Any value where it is undefined. */
  readonly value?: string | undefined;
  readonly class: SignalClass;
}

/** What a condition says of its node. */
export interface NodeConditionRow {
  /** `*` stands for any text. */
  readonly type: string;
  readonly status: string;
  readonly class: SignalClass;
  /** Its class's own time where it is undefined. */
  readonly afterSeconds?: number | undefined;
}

interface KnownCondition extends NodeConditionRow {
  /** As NVSentinel writes it: `certain` only where the message names a GPU, and nothing where it asks for no action. */
  readonly namesGpus?: true;
}

/**
 * Taints of the NVIDIA driver (NVMLDeviceHealthCheck). XIDs 79 (fallen off the bus), 48, 94 and 95 (uncorrectable
 * memory) are hardware; 13 and 31 are what an application does to any GPU.
 */
const knownTaints: readonly DeviceTaintRow[] = [
  { key: 'gpu.nvidia.com/gpu-lost', class: 'certain' },
  ...['48', '79', '94', '95'].map(value => ({ key: 'gpu.nvidia.com/xid', value, class: 'certain' as const })),
  ...['13', '31'].map(value => ({ key: 'gpu.nvidia.com/xid', value, class: 'info' as const })),
];

const knownConditions: readonly KnownCondition[] = [
  // NVSentinel. Connectivity of DCGM is missing at every boot.
  ...['GpuDcgm*', 'CSPMaintenance'].map(type => ({ type, status: 'True', class: 'info' as const })),
  ...[
    'Gpu*Watch',
    'GpuXidError',
    'SysLogsXIDError',
    'SysLogsGPUFallenOff',
    'NVSwitchFatalError',
    'NVSwitchDown',
  ].map(type => ({ type, status: 'True', class: 'certain' as const, namesGpus: true as const })),
  // The node monitoring agent of EKS, the node problem detectors of OCI and of Kubernetes.
  { type: 'AcceleratedHardwareReady', status: 'False', class: 'suspect' },
  ...[
    'GpuXid',
    'GpuEcc',
    'GpuBus',
    'GpuCount',
    'GpuImex',
    'RdmaLink',
    'KernelDeadlock',
    'ReadonlyFilesystem',
  ].map(type => ({ type, status: 'True', class: 'suspect' as const })),
  // Planned (KEP-5683): no failure.
  ...['MaintenancePlanned', 'MaintenanceInProgress', 'DrainInProgress', 'Drained'].map(type => ({
    type,
    status: 'True',
    class: 'info' as const,
  })),
];

/** The class of a taint that keeps new claims off a device; `suspect` for one that nobody knows. */
export function classOfTaint(
  { key, value = '' }: DeviceTaint,
  { deviceTaints }: FailureSettings,
): SignalClass {
  const row = [...deviceTaints, ...knownTaints].find(
    known => known.key === key && (known.value ?? value) === value,
  );
  return row?.class ?? 'suspect';
}

/** What a condition says of its node, and after how many seconds; undefined for one that says nothing. */
export function verdictOnCondition(
  { type, status, gpus, asksForNothing }: NodeConditionRecord,
  settings: FailureSettings,
): { readonly class: SignalClass; readonly afterSeconds: number } | undefined {
  const rows: readonly KnownCondition[] = [...settings.nodeConditions, ...knownConditions];
  const row = rows.find(known => known.status === status && matches(known.type, type));
  if (row === undefined) return undefined;
  const signalClass = !row.namesGpus
    ? row.class
    : asksForNothing
      ? 'info'
      : gpus.length === 0
        ? 'suspect'
        : row.class;
  return { class: signalClass, afterSeconds: row.afterSeconds ?? secondsOf(signalClass, settings) };
}

/** For so long a fault of that class must stand, where its signal does not say otherwise. */
export function secondsOf(signalClass: SignalClass, settings: FailureSettings): number {
  return signalClass === 'certain' ? settings.certainAfterSeconds : settings.suspectAfterSeconds;
}

function matches(pattern: string, type: string): boolean {
  const [head = '', ...rest] = pattern.split('*');
  const tail = rest.at(-1);
  if (tail === undefined) return pattern === type;
  return type.length >= head.length + tail.length && type.startsWith(head) && type.endsWith(tail);
}
