import type { DeviceConstraint, DeviceRequest, DeviceRequestBody } from '../../api/dra.ts';
import { isAlignable } from './alignment.ts';
import { devicesOn } from './choice-input.ts';
import { chooseDevices } from './choose-devices.ts';
import { type Device, noDeviceUse } from './device.ts';
import { isTainted } from './device-taints.ts';
import type { HardwareShape } from './hardware-shapes.ts';
import { localitiesOf, localityOf, numaNodeAttribute, pcieRootAttribute, valuesOf } from './locality.ts';
import type { NeverFits, NeverFitsQuestion } from './never-fits.ts';
import { bodiesOf, selectionOf } from './request-selection.ts';

/** What a request may get over all nodes of a fleet. */
interface Supply {
  readonly request: DeviceRequest;
  readonly name: string;
  readonly classNames: string;
  /** How many devices it asks for at least. */
  readonly least: number;
  /** By shape of hardware: its devices of the class, and those that the request's selectors leave. */
  readonly ofClass: readonly (readonly Device[])[];
  readonly matching: readonly (readonly Device[])[];
}

/**
 * Says what no shape of hardware can give, for claims that none can serve: the first request that has too few devices,
 * else the first constraint whose attribute is missing or never shared, else the rung, else all of it together.
 */
export function explainClaims(question: NeverFitsQuestion, shapes: readonly HardwareShape[]): NeverFits {
  const count = shapes.reduce((sum, shape) => sum + shape.nodes, 0);
  const nodes = `${count} ${count === 1 ? 'node' : 'nodes'}`;
  const suppliesByClaim = question.demand.map(({ spec }) =>
    (spec.devices?.requests ?? []).map(request => supplyOf(request, question, shapes)),
  );
  for (const supply of suppliesByClaim.flat()) {
    const fault = tooFew(supply, shapes, nodes);
    if (fault !== undefined) return fault;
  }
  for (const [index, { spec }] of question.demand.entries()) {
    for (const constraint of spec.devices?.constraints ?? []) {
      const supplies = (suppliesByClaim[index] ?? []).filter(supply => concerns(constraint, supply));
      const fault = neverShared(constraint, supplies, shapes, nodes);
      if (fault !== undefined) return fault;
    }
  }
  return (
    notAligned(question, suppliesByClaim.flat(), shapes, nodes) ?? together(suppliesByClaim.flat(), nodes)
  );
}

function supplyOf(
  request: DeviceRequest,
  { classes, selectors }: NeverFitsQuestion,
  shapes: readonly HardwareShape[],
): Supply {
  const bodies = bodiesOf(request);
  const among = (select: (body: DeviceRequestBody) => DeviceRequestBody, byTaint: boolean) =>
    shapes.map(({ example }) => {
      const selections = bodies.map(body => ({
        body,
        selection: selectionOf(select(body), classes, selectors),
      }));
      return example.pools.candidates.flatMap(candidate =>
        selections.some(
          ({ body, selection }) =>
            selection?.of(candidate).kind === 'true' && !(byTaint && isTainted(candidate.device, body)),
        )
          ? [candidate.device]
          : [],
      );
    });
  const { name } = request;
  return {
    request,
    name,
    classNames: [...new Set(bodies.map(body => body.deviceClassName))].join(' or '),
    least: Math.min(...bodies.map(body => (body.allocationMode === 'All' ? 1 : (body.count ?? 1)))),
    ofClass: among(({ deviceClassName }) => ({ deviceClassName }), false),
    matching: among(body => body, true),
  };
}

function tooFew(supply: Supply, shapes: readonly HardwareShape[], nodes: string): NeverFits | undefined {
  const { name, classNames, least, ofClass, matching } = supply;
  const most = Math.max(...matching.map(devices => devices.length));
  if (most >= least) return undefined;
  const there = countOver(ofClass, shapes);
  if (there === 0) {
    const message = `request ${name}: no device of class ${classNames} on ${nodes}`;
    return { constraint: 'class', attribute: undefined, message };
  }
  if (most === 0) {
    const message = `request ${name}: ${devicesOf(there, classNames)} on ${nodes}, none that its selectors and tolerations allow`;
    return { constraint: 'selectors', attribute: undefined, message };
  }
  const message = `request ${name}: asks for ${devicesOf(least, classNames)}, but none of ${nodes} has more than ${most} that it allows`;
  return { constraint: 'count', attribute: undefined, message };
}

/** A constraint whose attribute one request's devices lack, or that no value on any node is enough for. */
function neverShared(
  { matchAttribute, distinctAttribute }: DeviceConstraint,
  supplies: readonly Supply[],
  shapes: readonly HardwareShape[],
  nodes: string,
): NeverFits | undefined {
  const attribute = matchAttribute ?? distinctAttribute ?? '';
  const constraint = matchAttribute === undefined ? 'distinctAttribute' : 'matchAttribute';
  for (const supply of supplies) {
    const having = supply.matching.map(devices => devices.filter(device => device.attributes.has(attribute)));
    if (countOver(having, shapes) > 0) continue;
    const there = devicesOf(countOver(supply.matching, shapes), supply.classNames);
    return {
      constraint,
      attribute,
      message: `request ${supply.name}: ${there} on ${nodes}, none has attribute ${attribute}`,
    };
  }
  if (matchAttribute === undefined || supplies.length === 0) return undefined;
  const isEnough = shapes.some((_, shape) => {
    const byRequest = supplies.map(({ matching }) => countByValue(matching[shape] ?? [], attribute));
    const values = [...(byRequest[0]?.keys() ?? [])];
    return values.some(value =>
      byRequest.every((counts, index) => (counts.get(value) ?? 0) >= (supplies[index]?.least ?? 1)),
    );
  });
  if (isEnough) return undefined;
  const message = `constraint matchAttribute ${attribute}: none of ${nodes} has ${wantedOf(supplies)} with one value of it`;
  return { constraint, attribute, message };
}

/** Claims that fit as long as no rung is demanded. */
function notAligned(
  { demand, minRung, classes, selectors }: NeverFitsQuestion,
  supplies: readonly Supply[],
  shapes: readonly HardwareShape[],
  nodes: string,
): NeverFits | undefined {
  if (minRung === undefined || minRung === 'host') return undefined;
  const fits = shapes.some(({ example }) => {
    const nodeDevices = { ...example, used: noDeviceUse, classes, selectors };
    const asked = { ...nodeDevices, members: [demand], minRung: undefined, steerable: true };
    return chooseDevices(asked).kind === 'chosen';
  });
  if (!fits) return undefined;
  const attribute = minRung === 'pcie' ? pcieRootAttribute : numaNodeAttribute;
  for (const { name, classNames, matching } of supplies) {
    const known = shapes.some(({ example }, shape) => {
      const localities = localitiesOf(devicesOn(example.pools), example.node, example.numaOf);
      const devices = matching[shape] ?? [];
      return devices.some(
        device => !isAlignable(device) || localityOf(localities, device)[minRung].length > 0,
      );
    });
    if (known) continue;
    const there = devicesOf(countOver(matching, shapes), classNames);
    const lacks =
      minRung === 'pcie'
        ? `none has attribute ${attribute}`
        : `the NUMA node of none is known (attribute ${attribute})`;
    return { constraint: 'alignment', attribute, message: `request ${name}: ${there} on ${nodes}, ${lacks}` };
  }
  const place = minRung === 'pcie' ? 'PCIe root' : 'NUMA node';
  const message = `alignment ${minRung}: none of ${nodes} has ${wantedOf(supplies)} that share a ${place} (attribute ${attribute})`;
  return { constraint: 'alignment', attribute, message };
}

function together(supplies: readonly Supply[], nodes: string): NeverFits {
  const message = `none of ${nodes} has ${wantedOf(supplies)} as the claims ask for them together`;
  return { constraint: 'claims', attribute: undefined, message };
}

function concerns({ requests = [] }: DeviceConstraint, { name }: Supply): boolean {
  return requests.length === 0 || requests.includes(name);
}

function countByValue(devices: readonly Device[], attribute: string): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const device of devices) {
    for (const value of valuesOf(device.attributes.get(attribute)))
      counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  return counts;
}

function countOver(byShape: readonly (readonly Device[])[], shapes: readonly HardwareShape[]): number {
  return byShape.reduce((sum, devices, shape) => sum + devices.length * (shapes[shape]?.nodes ?? 0), 0);
}

function devicesOf(count: number, classNames: string): string {
  return `${count} ${count === 1 ? 'device' : 'devices'} of class ${classNames}`;
}

/** E.g. `1 device of class gpu and 2 devices of class nic`. */
function wantedOf(supplies: readonly Supply[]): string {
  return supplies.map(({ least, classNames }) => devicesOf(least, classNames)).join(' and ');
}
