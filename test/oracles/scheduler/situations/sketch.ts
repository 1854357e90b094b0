import type {
  DeviceClass,
  DeviceConstraint,
  DeviceRequest,
  DeviceRequestAllocationResult,
  DeviceRequestBody,
  ResourceSlice,
  SliceDevice,
} from '../../../../src/api/dra.ts';
import type { WantedClaim } from '../../../../src/cluster/devices/claims.ts';
import { device, deviceClass, driver, request, slice } from '../../../builders/devices.ts';
import type { AllocationCase } from '../allocations.ts';

/** What matters of an {@link AllocationCase} on node `n1`. */
export interface Sketch {
  readonly slices?: readonly ResourceSlice[];
  readonly claims?: readonly WantedClaim[];
  /** By default `gpu` and `nic`, which ask for the driver alone. */
  readonly classes?: readonly DeviceClass[];
  readonly allocated?: readonly DeviceRequestAllocationResult[];
  readonly labels?: Readonly<Record<string, string>>;
}

/** By name. */
export type Sketches = Readonly<Record<string, Sketch>>;

export const nicDriver = 'nic.example.com';
const gpus = deviceClass('gpu', `device.driver == "${driver}"`);
const nics = deviceClass('nic', `device.driver == "${nicDriver}"`);

export function caseOf({
  slices = [],
  claims = [],
  classes = [gpus, nics],
  allocated = [],
  labels = {},
}: Sketch): AllocationCase {
  return {
    node: { metadata: { name: 'n1', labels } },
    slices,
    classes,
    claims: claims.map(({ name, spec }) => ({ metadata: { name, namespace: 'default' }, spec })),
    taken: allocated,
  };
}

export const v = (value: string | number | boolean) => ({ v: value });
export const selectedBy = (expression: string) => [{ cel: { expression } }];
export const attributeIs = (value: string | number | boolean) =>
  selectedBy(`device.attributes["${driver}"].v == ${JSON.stringify(value)}`);
export const sameV: DeviceConstraint = { matchAttribute: `${driver}/v` };
export const distinctV: DeviceConstraint = { distinctAttribute: `${driver}/v` };
export const versioned = (name: string, version: string): SliceDevice => ({
  name,
  attributes: { v: { version } },
});
export const listed = (name: string, ...strings: string[]): SliceDevice => ({
  name,
  attributes: { v: { strings } },
});

export function taken(
  name: string,
  more: Partial<DeviceRequestAllocationResult> = {},
): DeviceRequestAllocationResult {
  return { request: 'r', driver, pool: 'n1', device: name, ...more };
}

export const small = device('small', { v: 'small' });
export const large = device('large', { v: 'large' });
export const needsLarge = (name: string) => request(name, { selectors: attributeIs('large') });

/** `count` devices that are named `d0` and so on. */
export const many = (count: number) => Array.from({ length: count }, (_, index) => `d${index}`);

export const all: Partial<DeviceRequestBody> = { allocationMode: 'All' };

export function everything(
  name: string,
  more: Partial<NonNullable<DeviceRequest['exactly']>> = {},
): DeviceRequest {
  return { name, exactly: { deviceClassName: 'gpu', allocationMode: 'All', ...more } };
}

/** Alternatives `s0` and so on, for one GPU each unless said otherwise. */
export function either(name: string, ...bodies: readonly Partial<DeviceRequestBody>[]): DeviceRequest {
  return {
    name,
    firstAvailable: bodies.map((body, index) => ({
      name: `s${index}`,
      deviceClassName: 'gpu',
      allocationMode: 'ExactCount',
      ...(body.allocationMode !== 'All' && { count: 1 }),
      ...body,
    })),
  };
}

/** The device has a taint `t0` and so on for each effect. */
export const sick = (name: string, ...effects: string[]): SliceDevice =>
  device(name, {}, { taints: effects.map((effect, index) => ({ key: `t${index}`, value: 'x', effect })) });

export const bindsLate: Partial<SliceDevice> = {
  bindingConditions: ['x'],
  bindingFailureConditions: ['y'],
};

export const inSet = (
  set: string,
  memory: string,
  more: Readonly<Record<string, { value: string }>> = {},
) => [{ counterSet: set, counters: { memory: { value: memory }, ...more } }];

/** A device that draws on the counter set `c0`. */
export const part = (name: string, memory: string, more: Partial<SliceDevice> = {}): SliceDevice => ({
  name,
  consumesCounters: inSet('c0', memory),
  ...more,
});

/** A pool of two slices: counter sets with this memory each, and devices. */
export function counted(
  memory: string,
  devices: readonly (SliceDevice | string)[],
  names: readonly string[] = ['c0'],
): readonly ResourceSlice[] {
  const pool = { resourceSliceCount: 2 };
  const counters = { memory: { value: memory }, idle: { value: '1' } };
  return [
    slice('k', [], { pool, sharedCounters: names.map(name => ({ name, counters })) }),
    slice('s', devices, { pool }),
  ];
}
