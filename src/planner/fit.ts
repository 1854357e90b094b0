import type { NodeInfo } from '../cluster/node-info.ts';
import type { MemberDemand } from '../group/demand.ts';
import { fitBeside, fitOn, type NodeFit } from './node-fit.ts';
import { SlotIndexes } from './slot-indexes.ts';

/**
 * Remembers fits by node record and demand. Both are immutable, so an entry is right for as long as it exists, and it
 * goes away with the node record. Rules as in kube-scheduler's NodeUnschedulable, TaintToleration, NodeAffinity,
 * NodePorts and NodeResourcesFit plugins; inter-pod terms are not node-local and are looked at elsewhere.
 */
export class FitMemo {
  /** Free slots by what groups ask for; see slot-index.ts. */
  readonly indexes = new SlotIndexes();
  readonly #byNode = new WeakMap<NodeInfo, Map<string, NodeFit>>();

  fit(node: NodeInfo, demand: MemberDemand): NodeFit {
    return this.#remember(node, demand.key, () => fitOn(node, demand));
  }

  /** Slots for `worker` once `leader` has its place on the node; -1 when the leader itself does not fit. */
  slotsBeside(node: NodeInfo, leader: MemberDemand, worker: MemberDemand): number {
    if (this.fit(node, leader).slots === 0) return -1;
    return this.#remember(node, `${leader.key}\n${worker.key}`, () => ({
      slots: fitBeside(node, leader, worker),
      cause: '',
    })).slots;
  }

  #remember(node: NodeInfo, key: string, compute: () => NodeFit): NodeFit {
    let fits = this.#byNode.get(node);
    if (fits === undefined) {
      fits = new Map();
      this.#byNode.set(node, fits);
    }
    let fit = fits.get(key);
    if (fit === undefined) {
      fit = compute();
      fits.set(key, fit);
    }
    return fit;
  }
}
