import { demandOfPod } from '../../../src/group/demand.ts';
import { FitMemo } from '../../../src/planner/fit.ts';
import { type GroupPlan, type PlanInput, planGroup } from '../../../src/planner/plan.ts';
import type { Rejection, Undecided } from '../../../src/planner/rejection.ts';
import { labelOf, nodeOf, snapshotOf } from '../../builders/fleet.ts';
import { decode } from '../../builders/planning.ts';
import { gpuName, podOf } from '../../builders/pods.ts';
import type { KueueDemand, KueueEvent, KueueNode } from './kueue-oracle.ts';
import type { Amounts, Question, QuestionDemand, QuestionHost } from './question.ts';

const taintKey = 'dedicated';
const hostnameLabel = 'kubernetes.io/hostname';

/** Berth's verdict, by way of API objects. */
export function askBerth(question: Question): GroupPlan | Rejection | Undecided {
  return planGroup(inputOf(question));
}

/** The fleet and the group for Kueue; the second answer is its verdict. */
export function eventsFor(question: Question): readonly KueueEvent[] {
  const { levels, hosts, size, worker, leader, wish, slice } = question;
  const labels = levelNames(levels).map(labelOf);
  const labelAt = (level: number) => labels[level] ?? hostnameLabel;
  const ask = {
    size,
    worker: kueueDemand(worker),
    ...(leader && { leader: kueueDemand(leader) }),
    ...(wish.kind === 'required' && { required: labelAt(wish.level) }),
    ...(wish.kind === 'preferred' && { preferred: labelAt(wish.level) }),
    ...(slice && { slice: { size: slice.size, level: labelAt(slice.level) } }),
  };
  return [
    { kind: 'fleet', levels: labels, nodes: hosts.map(host => kueueNode(host, labels)) },
    { kind: 'ask', ask },
  ];
}

function inputOf(question: Question): PlanInput {
  const { levels, hosts, size, worker, leader, wish, slice } = question;
  const names = levelNames(levels);
  const strangers = hosts.flatMap(({ name, used }) =>
    used.map((amounts, index) => podOf({ name: `stranger-${name}-${index}`, node: name, ...askOf(amounts) })),
  );
  const workerDemand = berthDemand(worker);
  const leaderDemand = leader === undefined ? workerDemand : berthDemand(leader);
  return {
    demands: Array.from({ length: size }, (_, rank) => (rank === 0 ? leaderDemand : workerDemand)),
    topology: {
      requiredLevel: wish.kind === 'required' ? wish.level : undefined,
      preferredLevel: wish.kind === 'preferred' ? wish.level : undefined,
      sameLabels: [],
      ...(slice && { slices: { level: slice.level, ranks: ranksOf(size, slice.size), apart: false } }),
    },
    snapshot: snapshotOf({
      levels: names.map(name => ({ name, nodeLabel: labelOf(name) })),
      nodes: hosts.map(host => berthNode(host, names)),
      pods: strangers,
    }),
    memo: new FitMemo(),
  };
}

function berthNode(host: QuestionHost, names: readonly string[]) {
  const [cpu, gpu, memoryGi] = host.allocatable;
  return nodeOf({
    name: host.name,
    labels: labelsOf(host, names.map(labelOf)),
    ...{ cpu, gpu, memoryGi, pods: host.podSlots, cordoned: host.cordoned },
    taints: host.tainted ? [`${taintKey}=x:NoSchedule`] : [],
  });
}

function berthDemand({ amounts, pool, tolerates }: QuestionDemand) {
  const pod = podOf({
    name: 'member',
    gated: true,
    ...askOf(amounts),
    ...(pool !== '' && { nodeSelector: { pool } }),
    ...(tolerates && { tolerations: [{ key: taintKey, operator: 'Exists' }] }),
  });
  return demandOfPod(decode(pod));
}

function kueueNode(host: QuestionHost, labels: readonly string[]): KueueNode {
  return {
    name: host.name,
    labels: { ...labelsOf(host, labels), [hostnameLabel]: host.name },
    allocatable: { ...kueueAmounts(host.allocatable), pods: host.podSlots },
    taints: host.tainted ? [{ key: taintKey, value: 'x', effect: 'NoSchedule' }] : [],
    cordoned: host.cordoned,
    used: host.used.map(kueueAmounts),
  };
}

function kueueDemand({ amounts, pool, tolerates }: QuestionDemand): KueueDemand {
  return {
    requests: kueueAmounts(amounts),
    ...(pool !== '' && { nodeSelector: { pool } }),
    ...(tolerates && { tolerations: [{ key: taintKey, operator: 'Exists' }] }),
  };
}

function labelsOf(host: QuestionHost, labels: readonly string[]): Record<string, string> {
  const levels = labels.flatMap((label, level) => (host.path[level] ? [[label, host.path[level]]] : []));
  return { pool: host.pool, ...Object.fromEntries(levels) };
}

function askOf([cpu, gpu, memoryGi]: Amounts): { cpu: number; gpu: number; memoryGi: number } {
  return { cpu, gpu, memoryGi };
}

function kueueAmounts([cpu, gpu, memoryGi]: Amounts): Record<string, number> {
  return { cpu: cpu * 1000, [gpuName]: gpu, memory: memoryGi * 1024 ** 3 };
}

function levelNames(levels: number): readonly string[] {
  return ['zone', 'block', 'rack'].slice(3 - levels);
}

function ranksOf(size: number, sliceSize: number): readonly (readonly number[])[] {
  const ranks = [...Array(size).keys()];
  return Array.from({ length: size / sliceSize }, (_, slice) =>
    ranks.slice(slice * sliceSize, (slice + 1) * sliceSize),
  );
}
