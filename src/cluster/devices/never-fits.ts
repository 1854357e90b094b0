import type { DeviceRequest } from '../../api/dra.ts';
import type { Rung } from './alignment.ts';
import type { NodeDevices } from './choice-input.ts';
import { chooseDevices } from './choose-devices.ts';
import type { WantedClaim } from './claims.ts';
import { noDeviceUse } from './device.ts';
import { explainClaims } from './explain-claims.ts';
import { HardwareShapes, ShapeMemory } from './hardware-shapes.ts';
import { bodiesOf } from './request-selection.ts';

/** One node of a fleet, for claims that are asked of it while it is empty. */
export type FleetNode = Pick<NodeDevices, 'node' | 'pools' | 'numaOf'>;

export interface NeverFitsQuestion extends Pick<NodeDevices, 'classes' | 'selectors'> {
  /** The claims of one member's own. */
  readonly demand: readonly WantedClaim[];
  readonly minRung: Rung | undefined;
  readonly fleet: Iterable<FleetNode>;
}

/** Why claims can have devices on no node of a fleet, even if all were empty. */
export interface NeverFits {
  /** What asks too much. */
  readonly constraint:
    | 'class'
    | 'selectors'
    | 'count'
    | 'matchAttribute'
    | 'distinctAttribute'
    | 'alignment'
    | 'claims';
  /** The attribute of a constraint or rung. */
  readonly attribute: string | undefined;
  /** One sentence without a full stop that names all that and what is there; the same for the same fleet. */
  readonly message: string;
}

/** Beyond so many different machines nothing is told: each is tried, while somebody waits for the answer. */
const mostShapes = 256;

/**
 * Whether claims ask for what no node of the fleet can ever give. Undefined when one can, when that cannot be told for
 * any, and for an empty fleet, of which nothing is known. Each shape of hardware is tried once, and the first that will do
 * ends it, so only the impossible costs a look at every node.
 * @param memory of earlier questions with the same demand, rung, classes and selectors; it only saves time
 */
export function whyNeverFits(
  question: NeverFitsQuestion,
  memory: ShapeMemory = new ShapeMemory(),
): NeverFits | undefined {
  if (devicesWanted(question.demand) === 0) return undefined;
  const missing = missingClass(question);
  const shapes = new HardwareShapes(question, memory);
  for (const node of question.fleet) {
    const shape = shapes.add(node);
    if (shape === undefined) continue;
    if (missing !== undefined) return missing;
    if (shapes.size > mostShapes) return undefined;
    shape.mayFit ??= mayFit(question, node);
    if (shape.mayFit) return undefined;
  }
  const all = shapes.all();
  return all.length === 0 ? undefined : explainClaims(question, all);
}

function mayFit({ demand, minRung, classes, selectors }: NeverFitsQuestion, node: FleetNode): boolean {
  // A pool that is being written may hold what is missed.
  if (node.pools.problem !== undefined || node.pools.pools.some(({ usable }) => !usable)) return true;
  const nodeDevices = { ...node, used: noDeviceUse, classes, selectors };
  const choice = chooseDevices({ ...nodeDevices, members: [demand], minRung, steerable: true });
  return choice.kind !== 'none' || !choice.isCertain;
}

function devicesWanted(demand: readonly WantedClaim[]): number {
  return demand.reduce((sum, { spec }) => sum + (spec.devices?.requests?.length ?? 0), 0);
}

function missingClass({ demand, classes }: NeverFitsQuestion): NeverFits | undefined {
  for (const { spec } of demand) {
    for (const request of spec.devices?.requests ?? []) {
      const named = classNames(request);
      const missing = named.find(name => classes(name) === undefined);
      // kube-scheduler refuses a request for one bad alternative, too.
      if (missing === undefined) continue;
      const message = `request ${request.name}: device class ${missing} does not exist`;
      return { constraint: 'class', attribute: undefined, message };
    }
  }
  return undefined;
}

function classNames(request: DeviceRequest): readonly string[] {
  return bodiesOf(request).map(body => body.deviceClassName);
}
