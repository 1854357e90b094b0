import { k8s } from '../api/names.ts';
import { labelValue } from '../cluster/labels.ts';
import type { NodeInfo } from '../cluster/node-info.ts';
import type { MemberDemand } from '../group/demand.ts';
import { fitBeside, fitOn } from './node-fit.ts';

/**
 * What a group asks of each host: room for equal workers and, beside them, for one leader that differs. Two groups with
 * the same shape see the same hosts, so what is counted for one serves the other.
 */
export interface Shape {
  /** Undefined where no leader is to be placed, or where it asks for what the workers ask for. */
  readonly leader: MemberDemand | undefined;
  readonly worker: MemberDemand | undefined;
}

/** What one host has for a shape. Hosts with the same offer are interchangeable but for where they stand. */
export interface HostOffer {
  /** Workers that fit without the leader. */
  readonly workers: number;
  /** Workers that fit beside the leader; -1 where the leader may not go. */
  readonly beside: number;
  /** No pod and no hold takes an accelerator there. */
  readonly whole: boolean;
  /** Why no worker fits; empty where one does. */
  readonly workerCause: string;
  /** Why the leader does not; empty where it does. */
  readonly leaderCause: string;
}

/** Rules that hang on more than the node and the demand: on other pods, and on the other hosts of a TPU slice. */
export interface PodRules {
  /** Why the leader may not go to the node; empty where it may. */
  readonly admitsLeader: (node: NodeInfo) => string;
  readonly admitsWorker: (node: NodeInfo) => string;
  /** No two workers, or no worker beside the leader, on one node that carries its host name. */
  readonly workersApart: boolean;
  readonly leaderApart: boolean;
}

/** What a host offers where no rules between pods are about: a function of immutable values, so it can be kept. */
export function offerOf(node: NodeInfo, { leader, worker }: Shape): HostOffer {
  const alone = worker === undefined ? nothing : fitOn(node, worker);
  if (leader === undefined)
    return {
      workers: alone.slots,
      beside: -1,
      whole: node.untouched,
      workerCause: alone.cause,
      leaderCause: '',
    };
  const first = fitOn(node, leader);
  const beside = first.slots === 0 ? -1 : worker === undefined ? 0 : fitBeside(node, leader, worker);
  return {
    workers: alone.slots,
    beside,
    whole: node.untouched,
    workerCause: alone.cause,
    leaderCause: first.cause,
  };
}

/** The same with such rules. */
export function offerUnderRules(node: NodeInfo, shape: Shape, rules: PodRules): HostOffer {
  const { labels } = node.record;
  const plain = offerOf(node, shape);
  const keepsApart = labelValue(labels, k8s.hostname) !== undefined;
  const limit = rules.workersApart && keepsApart ? 1 : Number.POSITIVE_INFINITY;
  const workerCause = plain.workerCause === '' ? rules.admitsWorker(node) : plain.workerCause;
  const workers = workerCause === '' ? Math.min(plain.workers, limit) : 0;
  const leaderCause =
    shape.leader === undefined || plain.leaderCause !== '' ? plain.leaderCause : rules.admitsLeader(node);
  let beside = leaderCause === '' ? plain.beside : -1;
  if (beside > 0) beside = rules.leaderApart && keepsApart ? 0 : Math.min(beside, limit, workers);
  return { workers, beside, whole: plain.whole, workerCause, leaderCause };
}

const nothing = { slots: 0, cause: '' };
