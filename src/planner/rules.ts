import type { NodeInfo } from '../cluster/node-info.ts';
import type { MemberDemand } from '../group/demand.ts';
import { mixesTpu, takesTpu } from '../group/tpu-slices.ts';
import { offerUnderRules, type PodRules, type Shape } from './host-offer.ts';
import { admitterFor, isUnruled, keepsApart } from './inter-pod.ts';
import type { PlanInput } from './plan-input.ts';
import { SlotIndex } from './slot-index.ts';
import { barredTpuNodes } from './tpu-constraints.ts';

/**
 * The slots of a shape: those that are kept from plan to plan, or counted for this one plan where rules are about that
 * look further than at node and demand.
 */
export function slotsOf(
  input: PlanInput,
  shape: Shape,
): { readonly index: SlotIndex; readonly hasRules: boolean } {
  const { snapshot, memo } = input;
  const tpuBars = mixesTpu(input.demands) ? barredTpuNodes(input) : noBars;
  if (tpuBars.size === 0 && isUnruled(input))
    return { index: memo.indexes.of(shape, snapshot), hasRules: false };
  const rules = podRules(input, shape, tpuBars);
  const index = new SlotIndex(node => offerUnderRules(node, shape, rules));
  index.follow(snapshot);
  return { index, hasRules: true };
}

const noBars: ReadonlyMap<number, string> = new Map();

function podRules(
  input: PlanInput,
  { leader, worker }: Shape,
  tpuBars: ReadonlyMap<number, string>,
): PodRules {
  const { snapshot } = input;
  const { indexByNodeName } = snapshot.tree;
  const apart = (a: MemberDemand | undefined, b: MemberDemand | undefined) => keepsApart(snapshot, a, b);
  const admits = (demand: MemberDemand | undefined) => {
    const admitter = admitterFor(input, demand);
    const barred = demand !== undefined && tpuBars.size > 0 && takesTpu(demand);
    return ({ record }: NodeInfo) => {
      const bar = barred ? tpuBars.get(indexByNodeName.get(record.name) ?? -1) : undefined;
      return bar ?? admitter(record.labels);
    };
  };
  return {
    admitsLeader: admits(leader),
    admitsWorker: admits(worker),
    workersApart: apart(worker, worker),
    leaderApart: apart(leader, worker),
  };
}
