import { devicesOn } from './choice-input.ts';
import type { AttributeValue, CounterAmounts } from './device.ts';
import { localitiesOf, localityOf } from './locality.ts';
import type { FleetNode, NeverFitsQuestion } from './never-fits.ts';
import type { NodePools } from './pools.ts';
import { bodiesOf, expressionsOf } from './request-selection.ts';

/** Nodes that nothing in a demand can tell apart. */
export interface HardwareShape {
  readonly example: FleetNode;
  readonly nodes: number;
}

/** A shape, and whether a node of it could meet the demand; undefined before it was tried. */
export interface TriedShape {
  mayFit: boolean | undefined;
}

/**
 * What was found out for one demand under one set of classes. Another question about a fleet in which little has changed
 * then looks at the changed nodes only: every node has pools of its own, and other ones when anything about them changes.
 */
export class ShapeMemory {
  readonly byPools = new WeakMap<NodePools, TriedShape>();
  readonly byKey = new Map<string, TriedShape>();
}

/**
 * Sorts nodes by the shape of their hardware as a demand sees it: devices in order, with the attributes that a selector or
 * constraint names, capacities, counters and taints, and where they are if a rung is demanded. What tells every device
 * from every other (a UUID, say) makes no shape unless it is asked for.
 */
export class HardwareShapes {
  readonly #memory: ShapeMemory;
  readonly #isAsked: (name: string) => boolean;
  readonly #needsPlaces: boolean;
  readonly #shapes = new Map<TriedShape, { readonly example: FleetNode; nodes: number }>();

  constructor(question: Omit<NeverFitsQuestion, 'fleet'>, memory: ShapeMemory) {
    this.#memory = memory;
    this.#isAsked = attributesAsked(question);
    this.#needsPlaces = question.minRung !== undefined && question.minRung !== 'host';
  }

  get size(): number {
    return this.#shapes.size;
  }

  /** Counts a node in; its shape when it is the first one of it. */
  add(node: FleetNode): TriedShape | undefined {
    const shape = this.#shapeOf(node);
    const known = this.#shapes.get(shape);
    if (known !== undefined) {
      known.nodes++;
      return undefined;
    }
    this.#shapes.set(shape, { example: node, nodes: 1 });
    return shape;
  }

  all(): readonly HardwareShape[] {
    return [...this.#shapes.values()];
  }

  #shapeOf(node: FleetNode): TriedShape {
    const { byPools, byKey } = this.#memory;
    const before = byPools.get(node.pools);
    if (before !== undefined) return before;
    const key = shapeOf(node, this.#isAsked, this.#needsPlaces);
    const shape = byKey.get(key) ?? { mayFit: undefined };
    byKey.set(key, shape);
    byPools.set(node.pools, shape);
    return shape;
  }
}

/**
 * Whether a demand can depend on an attribute: its name stands in an expression or constraint. An expression that goes
 * through attributes without naming them may depend on any.
 */
export function attributesAsked({
  demand,
  classes,
}: Pick<NeverFitsQuestion, 'demand' | 'classes'>): (name: string) => boolean {
  const texts: string[] = [];
  for (const { spec } of demand) {
    for (const request of spec.devices?.requests ?? []) {
      for (const body of bodiesOf(request))
        texts.push(...expressionsOf(body), ...(classes(body.deviceClassName)?.selectors ?? []));
    }
    for (const { matchAttribute, distinctAttribute } of spec.devices?.constraints ?? [])
      texts.push(matchAttribute ?? distinctAttribute ?? '');
  }
  const text = texts.join('\n');
  if (/\.(all|exists|exists_one|map|filter|transform\w*)\(/.test(text) || /attributes\[[^"'\]]/.test(text))
    return () => true;
  const known = new Map<string, boolean>();
  return name => {
    const before = known.get(name);
    if (before !== undefined) return before;
    const isNamed = text.includes(name.slice(name.indexOf('/') + 1));
    known.set(name, isNamed);
    return isNamed;
  };
}

/** Equal for nodes that nothing can tell apart but attributes that are not asked for. */
export function shapeOf(
  { node, pools, numaOf }: FleetNode,
  isAsked: (name: string, value: AttributeValue) => boolean,
  needsPlaces: boolean,
): string {
  const devices = devicesOn(pools);
  const localities = needsPlaces ? localitiesOf(devices, node, numaOf) : undefined;
  // Plain concatenation: this is done for every device of the fleet.
  let key = pools.problem ?? '';
  for (const pool of pools.pools) key += `${pool.usable} ${amountsText(pool.counters)}\n`;
  for (const device of devices) {
    key += `${device.id.driver}${device.allowMultipleAllocations ? ' shared' : ''}`;
    for (const [name, attribute] of device.attributes)
      if (isAsked(name, attribute)) key += ` ${name}=${attribute.kind}:${attribute.value}`;
    for (const [name, { value, policy }] of device.capacity)
      key += ` ${name}=${value}${policy === undefined ? '' : JSON.stringify(policy)}`;
    if (device.consumesCounters.size > 0) key += amountsText(device.consumesCounters);
    if (device.taints.length > 0) key += JSON.stringify(device.taints);
    if (localities !== undefined) {
      const { pcie, numa } = localityOf(localities, device);
      key += ` at ${pcie} ${numa}`;
    }
    key += '\n';
  }
  return key;
}

function amountsText(counters: CounterAmounts): string {
  let text = '';
  for (const [set, amounts] of counters) {
    text += ` ${set}:`;
    for (const [counter, amount] of amounts) text += ` ${counter}=${amount}`;
  }
  return text;
}
