import type { DeviceTaint } from '../api/dra.ts';
import type { DeviceConditionRecord } from '../cluster/devices/claims.ts';
import type { Device } from '../cluster/devices/device.ts';
import type { NodeConditionRecord } from '../cluster/node-conditions.ts';
import type { FailureSettings } from './settings.ts';
import type { SignalClass } from './signal.ts';

/** What a taint of effect NoSchedule on a device says of it. */
export interface DeviceTaintRow {
  readonly key: string;
  /** Any value where it is undefined. */
  readonly value?: string | undefined;
  readonly class: SignalClass;
  /** It is about NVLink, whatever the class. */
  readonly ofNvlink?: true;
}

/** What a condition says of its node. */
export interface NodeConditionRow {
  /** `*` stands for any text. */
  readonly type: string;
  readonly status: string;
  readonly class: SignalClass;
  /** It is about NICs: whoever uses none there is not hurt. */
  readonly network?: boolean | undefined;
  /** Its class's own time where it is undefined. */
  readonly afterSeconds?: number | undefined;
}

/** An attribute of a device that says that it is down. */
export interface DeviceAttributeRow {
  /** Any driver where it is undefined. */
  readonly driver?: string | undefined;
  /** Without a domain it is in that of the driver. */
  readonly attribute: string;
  readonly value: string;
  /** `suspect` is believed when it has come often enough, see DownAlerts. */
  readonly class: SignalClass;
}

/** One row that a device fulfils. */
export interface DownReport {
  /** `attribute=value` */
  readonly row: string;
  readonly class: SignalClass;
}

/** What a driver's condition of an allocated device says, in `status.devices` of its claim. */
export interface ClaimConditionRow {
  /** Any driver where it is undefined. */
  readonly driver?: string | undefined;
  readonly type: string;
  readonly status: string;
  readonly class: SignalClass;
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
  // NVLink: an error of a link, and those of the fifth generation by part. The GPU, its neighbour or the switch.
  ...['74', '144', '145', '146', '147', '148', '149', '150'].map(value => ({
    key: 'gpu.nvidia.com/xid',
    value,
    class: 'suspect' as const,
    ofNvlink: true as const,
  })),
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
  ...['GpuXid', 'GpuEcc', 'GpuBus', 'GpuCount', 'GpuImex', 'KernelDeadlock', 'ReadonlyFilesystem'].map(
    type => ({ type, status: 'True', class: 'suspect' as const }),
  ),
  // OCI, and the NIC monitor of NVSentinel, whose degradations are no failures.
  ...[
    'RdmaLink',
    'RdmaLinkFlapping',
    'InfiniBandStateCheck',
    'EthernetStateCheck',
    'InfiniBandCharDeviceCheck',
    'SysLogsNICDriverError',
  ].map(type => ({ type, status: 'True', class: 'suspect' as const, network: true })),
  ...['InfiniBandDegradationCheck', 'EthernetDegradationCheck'].map(type => ({
    type,
    status: 'True',
    class: 'info' as const,
    network: true,
  })),
  // Planned (KEP-5683): no failure.
  ...['MaintenancePlanned', 'MaintenanceInProgress', 'DrainInProgress', 'Drained'].map(type => ({
    type,
    status: 'True',
    class: 'info' as const,
  })),
];

const knownClaimConditions: readonly ClaimConditionRow[] = [
  { type: 'Ready', status: 'False', class: 'info' },
];

/**
 * The operational state of an interface as dranet publishes it, in the words of the kernel. While a pod has the interface
 * dranet does not see it and says nothing.
 */
const knownAttributes: readonly DeviceAttributeRow[] = ['down', 'lower-layer-down', 'not-present'].map(
  value => ({ attribute: 'dra.net/state', value, class: 'suspect' }),
);

/** Whether a taint tells of a link between GPUs. */
export function isOfNvlink({ key, value }: DeviceTaint): boolean {
  return knownTaints.some(known => known.ofNvlink === true && known.key === key && known.value === value);
}

/** What the state of a TPU partition says of it; undefined where all is well, or nothing is told. */
export function classOfPartition(state: string | undefined): SignalClass | undefined {
  switch (state) {
    case undefined:
    case 'HEALTHY':
      return undefined;
    case 'DEGRADED':
      return 'info';
    case 'UNHEALTHY':
    case 'INCOMPLETE':
      return 'certain';
    default:
      return 'suspect';
  }
}

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

/** What the attributes of a device say of it: the rows by which it is down, and whether any says that it is up. */
export function readDownReports(
  { id, attributes }: Pick<Device, 'id' | 'attributes'>,
  { deviceAttributes }: Pick<FailureSettings, 'deviceAttributes'>,
): { readonly reports: readonly DownReport[]; readonly up: boolean } {
  const reports = new Map<string, DownReport>();
  let isKnown = false;
  for (const { driver = id.driver, attribute, value, class: of } of [
    ...deviceAttributes,
    ...knownAttributes,
  ]) {
    if (driver !== id.driver) continue;
    const name = attribute.includes('/') ? attribute : `${driver}/${attribute}`;
    const found = attributes.get(name);
    if (found === undefined) continue;
    isKnown = true;
    const row = `${name}=${value}`;
    if (String(found.value) === value && !reports.has(row)) reports.set(row, { row, class: of });
  }
  return { reports: [...reports.values()], up: isKnown && reports.size === 0 };
}

/** What a condition says of its node, and after how many seconds; undefined for one that says nothing. */
export function verdictOnCondition(
  { type, status, gpus, asksForNothing }: NodeConditionRecord,
  settings: FailureSettings,
): { readonly class: SignalClass; readonly afterSeconds: number; readonly network: boolean } | undefined {
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
  const afterSeconds = row.afterSeconds ?? secondsOf(signalClass, settings);
  return { class: signalClass, afterSeconds, network: row.network === true };
}

/**
 * What a condition of an allocated device says, and after how many seconds. The types are the drivers' own. One is
 * known by convention: `Ready` is False while a device is being set up as well, so nothing is done about that unasked.
 */
export function verdictOnClaimCondition(
  driver: string,
  { type, status }: Pick<DeviceConditionRecord, 'type' | 'status'>,
  settings: FailureSettings,
): { readonly class: SignalClass; readonly afterSeconds: number } | undefined {
  const row = [...settings.claimConditions, ...knownClaimConditions].find(
    known => known.type === type && known.status === status && (known.driver ?? driver) === driver,
  );
  if (row === undefined) return undefined;
  return { class: row.class, afterSeconds: row.afterSeconds ?? secondsOf(row.class, settings) };
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
