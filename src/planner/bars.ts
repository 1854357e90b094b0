import { labelValue } from '../cluster/labels.ts';
import { compareText } from '../cluster/topology.ts';
import { barredNodes } from './constraints.ts';
import { keptNodes, type PlanInput } from './plan-input.ts';

/** Node indices that may be used together; undefined stands for all of them. */
export type Part = ReadonlySet<number> | undefined;

/** By node index why this group may not use the node, whatever room there is. */
export function barsOf(input: PlanInput): ReadonlyMap<number, string> {
  const { excludedNodes, snapshot, topology } = input;
  const bars = new Map(barredNodes(input));
  for (const [name, cause] of excludedNodes ?? []) {
    const node = snapshot.tree.indexByNodeName.get(name);
    if (node !== undefined) bars.set(node, cause);
  }
  if (topology.sameLabels.length === 0) return bars;
  let index = 0;
  for (const { record } of snapshot.nodes) {
    const missing = topology.sameLabels.find(label => labelValue(record.labels, label) === undefined);
    if (missing !== undefined && !bars.has(index)) bars.set(index, `without node label ${missing}`);
    index++;
  }
  return bars;
}

/**
 * Splits the nodes by the labels on which all members must agree. Nodes without such a label are in no part, and with
 * members that stay only their part counts.
 */
export function partsOf(input: PlanInput): readonly Part[] {
  const { topology, snapshot } = input;
  if (topology.sameLabels.length === 0) return [undefined];
  const parts = new Map<string, Set<number>>();
  let index = 0;
  for (const { record } of snapshot.nodes) {
    const values = topology.sameLabels.map(label => labelValue(record.labels, label));
    if (!values.includes(undefined)) {
      const key = JSON.stringify(values);
      const part = parts.get(key) ?? new Set();
      parts.set(key, part.add(index));
    }
    index++;
  }
  const kept = [...keptNodes(input)];
  return [...parts]
    .sort(([a], [b]) => compareText(a, b))
    .map(([, part]) => part)
    .filter(part => kept.every(node => part.has(node)));
}

/** Bars with all nodes outside of a part besides. */
export function barsWithin(
  bars: ReadonlyMap<number, string>,
  part: Part,
  nodes: number,
): ReadonlyMap<number, string> {
  if (part === undefined) return bars;
  const all = new Map(bars);
  for (let node = 0; node < nodes; node++) if (!part.has(node)) all.set(node, 'not in this part');
  return all;
}
