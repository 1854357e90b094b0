import type { DeviceTaint, DeviceToleration } from '../api/dra.ts';
import { berthDomain } from '../api/names.ts';
import { type AppliedTaint, type DeviceId, deviceKey } from '../cluster/devices/device.ts';
import { tolerates } from '../cluster/taints.ts';
import type { AllocatedDevice, DeviceFacts, FaultOrigin, Finding, Signal, SignalClass } from './signal.ts';
import {
  classOfTaint,
  isOfNvlink,
  readDownReports,
  secondsOf,
  verdictOnClaimCondition,
} from './signal-tables.ts';

/**
 * Signals of devices in ResourceSlices. None of them blames the node: a taint or its absence keeps a device off new
 * claims, and its neighbours are well.
 */
export const deviceSignals: readonly Signal[] = [
  {
    // kube-controller-manager ends the pods by itself, one by one; the group is to be finished whole.
    name: 'DeviceNoExecute',
    class: 'certain',
    scope: 'device',
    of: 'staying',
    see: (device, settings, holder) =>
      taintsOf(device, 'NoExecute').flatMap(taint => {
        const waitSeconds = secondsTolerated(taint, holder?.tolerations ?? []);
        if (waitSeconds === undefined) return [];
        const signalClass = isWide(taint) ? 'suspect' : 'certain';
        const seconds = Math.max(secondsOf(signalClass, settings), waitSeconds);
        return [finding(device, taint, signalClass, seconds)];
      }),
  },
  {
    name: 'DeviceNoSchedule',
    class: 'suspect',
    scope: 'device',
    of: 'staying',
    see: (device, settings, holder) =>
      taintsOf(device, 'NoSchedule').flatMap(taint => {
        if (secondsTolerated(taint, holder?.tolerations ?? []) === undefined) return [];
        const known = classOfTaint(taint, settings);
        const signalClass = known === 'certain' && isWide(taint) ? 'suspect' : known;
        return [finding(device, taint, signalClass, secondsOf(signalClass, settings))];
      }),
  },
  {
    // `None`, and effects that are not known yet.
    name: 'DeviceNoted',
    class: 'info',
    scope: 'device',
    of: 'staying',
    see: device =>
      device.taints
        .filter(({ effect }) => effect !== 'NoExecute' && effect !== 'NoSchedule')
        .filter(isForeign)
        .map(taint => finding(device, taint, 'info', 0)),
  },
  {
    // Drivers that know no taints take a bad device out; but so does one that is being set up anew.
    name: 'DeviceMissing',
    class: 'suspect',
    scope: 'device',
    of: 'staying',
    see: (device, settings, holder) => {
      if (device.state !== 'missing') return [];
      return [
        {
          ...about(device),
          class: holder?.ready ? 'info' : 'suspect',
          cause: `${nameOf(device.id)} is not published any more`,
          debounceMs: settings.deviceMissingAfterSeconds * 1000,
        },
      ];
    },
  },
  {
    // Links flap: one that goes down again within minutes is suspect, for as long as it is down.
    name: 'DeviceDown',
    class: 'suspect',
    scope: 'device',
    of: 'staying',
    see: (device, settings) => {
      const { id, attributes } = device;
      if (attributes === undefined) return [];
      return readDownReports({ id, attributes }, settings).reports.map(({ row, class: of }) => {
        const signalClass = of === 'suspect' && device.wentDownOften !== true ? 'info' : of;
        return {
          ...about(device),
          class: signalClass,
          cause: `${nameOf(id)} is down (${row})`,
          debounceMs: secondsOf(signalClass, settings) * 1000,
        };
      });
    },
  },
  {
    // What a driver notes in the claim. It is gone with the claim, so an exclusion outlives it, see DeviceExclusions.
    name: 'DeviceCondition',
    class: 'suspect',
    scope: 'device',
    of: 'staying',
    see: (device, settings) =>
      (device.conditions ?? []).flatMap(({ type, status }) => {
        const verdict = verdictOnClaimCondition(device.id.driver, { type, status }, settings);
        if (verdict === undefined) return [];
        return [
          {
            ...about(device),
            class: verdict.class,
            cause: `${nameOf(device.id)} has the condition ${type}=${status} in its claim`,
            debounceMs: verdict.afterSeconds * 1000,
          },
        ];
      }),
  },
  {
    name: 'DevicePoolIncomplete',
    class: 'info',
    scope: 'device',
    of: 'staying',
    see: ({ id: { driver, pool }, state }) => {
      if (state !== 'incomplete' && state !== 'withdrawn') return [];
      const how = state === 'withdrawn' ? 'has no slices now' : 'is not published completely';
      return [
        {
          entity: `${driver}/${pool}`,
          blamesNode: false,
          cause: `pool ${pool} of ${driver} ${how}`,
          debounceMs: 0,
        },
      ];
    },
  },
];

/**
 * The device of a member that the kubelet means by a resource `claim:<claim>/<request>`; undefined where that is none
 * of a claim, or several of one request are not told apart. The ID is the first CDI device of it, or else
 * `driver/pool/device` (k8s.io/kubernetes pkg/kubelet/cm/dra, v1.37.2).
 */
export function deviceMeant(
  resource: string,
  resourceId: string,
  devices: readonly AllocatedDevice[],
): AllocatedDevice | undefined {
  const of = /^claim:([^/]+)(?:\/(.+))?$/.exec(resource);
  if (of === null) return undefined;
  const [, claim, request] = of;
  const alike = devices.filter(
    device =>
      device.claim === claim &&
      (request === undefined || device.request === request || device.request.startsWith(`${request}/`)),
  );
  if (alike.length === 1) return alike[0];
  const named = alike.filter(
    ({ id }) =>
      resourceId === `${id.driver}/${id.pool}/${id.device}` || resourceId.split('=').at(-1) === id.device,
  );
  return named.length === 1 ? named[0] : undefined;
}

/** Whether new claims keep off a device without Berth's doing. */
export function isKeptOff(device: DeviceFacts): boolean {
  return (
    !isPublished(device) || ['NoSchedule', 'NoExecute'].some(effect => taintsOf(device, effect).length > 0)
  );
}

/** Whether a device is there to be had at all. */
export function isPublished({ state }: DeviceFacts): boolean {
  return state === 'published';
}

/** `device gpu-3 of pool node-a (gpu.nvidia.com)` */
export function nameOf({ driver, pool, device }: DeviceId): string {
  return `device ${device} of pool ${pool} (${driver})`;
}

function taintsOf({ taints }: DeviceFacts, effect: string): readonly AppliedTaint[] {
  return taints.filter(taint => taint.effect === effect && isForeign(taint));
}

/** Berth's own taints tell nothing new. */
function isForeign({ key }: DeviceTaint): boolean {
  return !key.startsWith(berthDomain);
}

/** A rule that can mean several devices, whatever it means today. */
function isWide({ rule }: AppliedTaint): boolean {
  return rule !== undefined && !rule.isNarrow;
}

/** For how many seconds the allocation puts up with a taint; undefined: for ever. */
function secondsTolerated(taint: DeviceTaint, tolerations: readonly DeviceToleration[]): number | undefined {
  const toleration = tolerations.find(candidate => tolerates(candidate, taint));
  if (toleration === undefined) return 0;
  return toleration.tolerationSeconds === undefined ? undefined : Math.max(0, toleration.tolerationSeconds);
}

function about({ id, key }: DeviceFacts): Pick<Finding, 'entity' | 'blamesNode' | 'device' | 'origin'> {
  const { driver, pool } = id;
  return { entity: key, blamesNode: false, device: id, origin: { kind: 'pool', driver, pool } };
}

function finding(
  device: DeviceFacts,
  applied: AppliedTaint,
  signalClass: SignalClass,
  seconds: number,
): Finding {
  const { key, value = '', effect, rule } = applied;
  const taint = `${key}${value === '' ? '' : `=${value}`}:${effect}`;
  const by = rule === undefined ? '' : ` by DeviceTaintRule ${rule.name}`;
  const origin: FaultOrigin | undefined =
    rule === undefined ? undefined : { kind: 'rule', name: rule.name, isNarrow: rule.isNarrow };
  return {
    ...about(device),
    ...(origin && { origin }),
    ...(isOfNvlink(applied) && { ofNvlink: true }),
    class: signalClass,
    cause: `${nameOf(device.id)} has the taint ${taint}${by}`,
    debounceMs: seconds * 1000,
  };
}

/** A device as it is looked at by itself; who has its key at hand gives it, for thousands are looked at. */
export function deviceFactsOf(
  id: DeviceId,
  state: DeviceFacts['state'],
  device?: Pick<DeviceFacts, 'taints' | 'uuid' | 'attributes'> & Partial<Pick<DeviceFacts, 'key'>>,
): DeviceFacts {
  const key = device?.key ?? deviceKey(id);
  return device === undefined
    ? { id, key, state, taints: [], uuid: undefined }
    : { id, state, ...device, key };
}
