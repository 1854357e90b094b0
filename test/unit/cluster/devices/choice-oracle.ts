import {
  type GrantedRequest,
  isWithin,
  type Rung,
  rungOf,
} from '../../../../src/cluster/devices/alignment.ts';
import { devicesOn } from '../../../../src/cluster/devices/choice-input.ts';
import type { WantedClaim } from '../../../../src/cluster/devices/claims.ts';
import type { Device, DeviceKey } from '../../../../src/cluster/devices/device.ts';
import type { DeviceQuestion } from '../../../../src/cluster/devices/device-choice.ts';
import { localitiesOf } from '../../../../src/cluster/devices/locality.ts';
import { selectionOf } from '../../../../src/cluster/devices/request-selection.ts';

export interface Optimum {
  readonly pcie: number;
  readonly numa: number;
}

/**
 * Brute force: every assignment of free devices to the requests of all members, device by device, without any notion of
 * sorts, places or symmetry. Undefined when none holds; exact requests with matchAttribute only.
 */
export function bestAssignment(question: DeviceQuestion): Optimum | undefined {
  const devices = devicesOn(question.pools);
  const localities = localitiesOf(devices, question.node);
  const counters = new Map<string, bigint>();
  for (const { counters: sets } of question.pools.pools)
    for (const [set, amounts] of sets)
      for (const [name, total] of amounts) counters.set(`${set}/${name}`, total);
  const taken = new Set<DeviceKey>();
  const take = (device: Device, sign: bigint) => {
    if (sign > 0n) taken.add(device.key);
    else taken.delete(device.key);
    for (const [set, amounts] of device.consumesCounters)
      for (const [name, amount] of amounts)
        counters.set(`${set}/${name}`, (counters.get(`${set}/${name}`) ?? 0n) - sign * amount);
  };
  for (const device of devices) if (question.used.devices.has(device.key)) take(device, 1n);
  const known = new Map<string, Optimum | undefined>();

  const best = (member: number): Optimum | undefined => {
    const claims = question.members[member];
    if (claims === undefined) return { pcie: 0, numa: 0 };
    const key = `${member} ${[...taken].sort().join()}`;
    if (known.has(key)) return known.get(key);
    let optimum: Optimum | undefined;
    eachGrant(claims, granted => {
      const rung = rungOf(granted, localities);
      if (!isWithin(rung, question.minRung)) return;
      const rest = best(member + 1);
      if (rest !== undefined) optimum = better(optimum, plus(rest, rung));
    });
    known.set(key, optimum);
    return optimum;
  };

  const eachGrant = (claims: readonly WantedClaim[], visit: (granted: readonly GrantedRequest[]) => void) => {
    const requests = claims.flatMap(({ name, spec }) =>
      (spec.devices?.requests ?? []).flatMap(({ name: request, exactly }) =>
        exactly === undefined ? [] : [{ claim: name, request, body: exactly, devices: [] as Device[] }],
      ),
    );
    const fill = (index: number, from: number): void => {
      const request = requests[index];
      if (request === undefined) {
        if (!claims.every(claim => holds(claim, requests))) return;
        visit(
          requests.map(({ claim, request, body, devices }) => ({
            claim,
            request,
            className: body.deviceClassName,
            adminAccess: false,
            devices: [...devices],
          })),
        );
        return;
      }
      if (request.devices.length === (request.body.count ?? 1)) {
        fill(index + 1, 0);
        return;
      }
      const selection = selectionOf(request.body, question.classes, question.selectors);
      for (const [position, candidate] of question.pools.candidates.entries()) {
        const { device } = candidate;
        if (position < from || taken.has(device.key)) continue;
        if (selection?.of(candidate).kind !== 'true') continue;
        take(device, 1n);
        if ([...counters.values()].every(left => left >= 0n)) {
          request.devices.push(device);
          fill(index, position + 1);
          request.devices.pop();
        }
        take(device, -1n);
      }
    };
    fill(0, 0);
  };

  return best(0);
}

function holds(
  { name, spec }: WantedClaim,
  requests: readonly {
    readonly claim: string;
    readonly request: string;
    readonly devices: readonly Device[];
  }[],
): boolean {
  return (spec.devices?.constraints ?? []).every(({ requests: named, matchAttribute }) => {
    if (matchAttribute === undefined) return true;
    const values = requests
      .filter(({ claim, request }) => claim === name && (named === undefined || named.includes(request)))
      .flatMap(({ devices }) => devices.map(device => device.attributes.get(matchAttribute)));
    // Lists equal nothing, not even themselves.
    return values.every(
      value =>
        value !== undefined &&
        (values.length === 1 || (!Array.isArray(value.value) && value.value === values[0]?.value)),
    );
  });
}

function plus({ pcie, numa }: Optimum, rung: Rung | undefined): Optimum {
  if (rung === undefined || rung === 'pcie') return { pcie: pcie + 1, numa };
  return { pcie, numa: rung === 'numa' ? numa + 1 : numa };
}

function better(left: Optimum | undefined, right: Optimum): Optimum {
  if (left === undefined) return right;
  return right.pcie > left.pcie || (right.pcie === left.pcie && right.numa > left.numa) ? right : left;
}
