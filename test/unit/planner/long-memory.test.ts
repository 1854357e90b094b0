import fc from 'fast-check';
import t from 'tap';
import type { Node, Pod } from '../../../src/api/kubernetes.ts';
import { berth, k8s } from '../../../src/api/names.ts';
import { ClusterCache } from '../../../src/cache/cluster-cache.ts';
import { decodeNode } from '../../../src/cluster/node-info.ts';
import type { ClusterSnapshot } from '../../../src/cluster/snapshot.ts';
import { formatPlanAnnotation, type PlanAnnotation } from '../../../src/group/plan-annotation.ts';
import { FitMemo } from '../../../src/planner/fit.ts';
import type { Shape } from '../../../src/planner/host-offer.ts';
import { type PlanInput, planGroup } from '../../../src/planner/plan.ts';
import { openRanks } from '../../../src/planner/plan-input.ts';
import type { SlotIndex } from '../../../src/planner/slot-index.ts';
import { labelOf, nodeOf } from '../../builders/fleet.ts';
import { decode, labelledPod } from '../../builders/planning.ts';
import { gpuName, podOf, requiredDuringScheduling } from '../../builders/pods.ts';
import { demandsOf, requestOf, slicesOf } from './plain-questions.ts';

const seed = Number(process.env['BERTH_SEED'] ?? 20260101);

t.setTimeout(180_000);

const levels = ['block', 'rack'].map(name => ({ name, nodeLabel: labelOf(name) }));
const hostNames = Array.from({ length: 70 }, (_, at) => `n${String(at).padStart(2, '0')}`);
const gpu = { gpu: 2, cpu: 1 };

type Question = Pick<PlanInput, 'demands' | 'topology' | 'excludedNodes' | 'warmNodes'>;

const apart = {
  podAntiAffinity: {
    [requiredDuringScheduling]: [
      { topologyKey: labelOf('rack'), labelSelector: { matchLabels: { app: 'lone' } } },
    ],
  },
};

/** Of every sort that the kernel treats in its own way. */
const questions: readonly Question[] = [
  { demands: demandsOf(Array(6).fill(gpu)), topology: requestOf() },
  {
    demands: demandsOf(Array(4).fill(gpu)),
    topology: requestOf({ requiredLevel: 1 }),
    warmNodes: ['n40', 'n03'],
  },
  {
    demands: demandsOf([{ cpu: 2 }, ...Array(5).fill({ gpu: 8 })]),
    topology: requestOf({ requiredLevel: 1 }),
  },
  { demands: demandsOf([gpu]), topology: requestOf({ requiredLevel: 2 }) },
  {
    demands: demandsOf(Array(8).fill(gpu)),
    topology: requestOf({ requiredLevel: 0, ...slicesOf(1, [4, 4]) }),
  },
  { demands: demandsOf([{ cpu: 1 }, ...Array(4).fill(gpu)]), topology: requestOf(slicesOf(2, [3, 2])) },
  { demands: demandsOf([gpu, { gpu: 4 }, { gpu: 8, hostPort: 80 }]), topology: requestOf() },
  {
    demands: demandsOf(Array(3).fill({ gpu: 8, tolerations: [{ key: 'odd', operator: 'Exists' }] })),
    topology: requestOf({ requiredLevel: 1 }),
  },
  { demands: demandsOf(Array(3).fill({ ...gpu, affinity: apart })), topology: requestOf() },
  { demands: demandsOf(Array(5).fill(gpu)), topology: requestOf({ sameLabels: ['pool'] }) },
  {
    demands: demandsOf(Array(40).fill({ gpu: 8 })),
    topology: requestOf(),
    excludedNodes: new Map([['n05', 'failed']]),
  },
];

/** One event: what happens, to which object, how. */
type Event = readonly [kind: number, which: number, how: number];

const events = fc.array(fc.tuple(fc.nat({ max: 99 }), fc.nat({ max: 999 }), fc.nat({ max: 999 })), {
  minLength: 100,
  maxLength: 300,
  size: 'max',
});

/** The API server's side of a history, and the cache that follows it. */
class History {
  readonly cache = new ClusterCache({ levels });
  readonly #nodes = new Map<string, Node>();
  readonly #pods = new Map<string, Pod>();
  readonly #assumed = new Map<string, Pod>();
  #serial = 0;

  constructor() {
    for (const [at, name] of hostNames.entries()) this.#putNode(nodeAt(name, at));
  }

  take([kind, which, how]: Event): void {
    const name = hostNames[which % hostNames.length] ?? '';
    const pod = [...this.#pods.values()][which % Math.max(1, this.#pods.size)];
    if (kind < 30) this.#addPod(name, how);
    else if (kind < 45) this.#bind(pod, name);
    else if (kind < 60) this.#drop(pod);
    else if (kind < 80) this.#changeNode(name, how);
    else if (kind < 88) this.#toggleNode(name, which);
    else if (kind < 96) this.#assume(how);
    else this.#forget(which);
  }

  #addPod(node: string, how: number): void {
    const name = `p${this.#serial++}`;
    const amounts = { gpu: how % 9, cpu: how % 5 };
    const lone = how % 11 === 0 ? { labels: { app: 'lone' }, affinity: apart } : {};
    const port = how % 7 === 0 ? { hostPort: 80 } : {};
    this.#putPod(podOf({ name, ...amounts, ...lone, ...port, ...(how % 3 > 0 ? { node } : {}) }));
  }

  #bind(pod: Pod | undefined, node: string): void {
    if (pod !== undefined && pod.spec.nodeName === undefined)
      this.#putPod({ ...pod, spec: { ...pod.spec, nodeName: node } });
  }

  #drop(pod: Pod | undefined): void {
    if (pod === undefined) return;
    this.#pods.delete(pod.metadata.uid ?? '');
    this.#assumed.delete(pod.metadata.uid ?? '');
    this.cache.pods.remove(decode(pod));
  }

  #changeNode(name: string, how: number): void {
    const node = this.#nodes.get(name);
    if (node !== undefined) this.#putNode(changed(node, how));
  }

  #toggleNode(name: string, at: number): void {
    const node = this.#nodes.get(name);
    if (node === undefined) {
      this.#putNode(nodeAt(name, at));
      return;
    }
    this.#nodes.delete(name);
    this.cache.nodes.remove(decodeNode(node));
  }

  /** A labelled group is given places, by its annotation or before that is seen. */
  #assume(how: number): void {
    const name = `g${this.#serial++}`;
    const members = [0, 1].map(rank => {
      const plain = labelledPod(2, rank, { ...gpu, labels: { [berth.group]: name } });
      return {
        ...plain,
        metadata: { ...plain.metadata, name: `${name}-${rank}`, uid: `uid-${name}-${rank}` },
      };
    });
    for (const member of members) this.#putPod(member);
    const [leader] = members;
    if (leader === undefined) return;
    const info = decode(leader);
    const node = hostNames[how % hostNames.length] ?? '';
    const plan: PlanAnnotation = {
      leaderUid: info.uid,
      generation: 1,
      nodes: [node, node],
      requests: [info.requests, info.requests],
    };
    if (how % 2 === 0) {
      this.cache.assumePlan(info, plan);
      this.#assumed.set(info.uid, leader);
      return;
    }
    const annotations = { ...leader.metadata.annotations, [berth.plan]: formatPlanAnnotation(plan) };
    this.#putPod({ ...leader, metadata: { ...leader.metadata, annotations } });
  }

  #forget(which: number): void {
    const leader = [...this.#assumed.values()][which % Math.max(1, this.#assumed.size)];
    if (leader === undefined) return;
    this.#assumed.delete(leader.metadata.uid ?? '');
    this.cache.forgetPlan(decode(leader));
  }

  #putNode(node: Node): void {
    this.#nodes.set(node.metadata.name ?? '', node);
    this.cache.nodes.upsert(decodeNode(node));
  }

  #putPod(pod: Pod): void {
    this.#pods.set(pod.metadata.uid ?? '', pod);
    this.cache.pods.upsert(decode(pod));
  }
}

function changed(node: Node, how: number): Node {
  const { metadata, spec, status } = node;
  const relabelled = (labels: Readonly<Record<string, string>>): Node => ({
    ...node,
    metadata: { ...metadata, labels: { ...metadata.labels, ...labels } },
  });
  switch (how % 6) {
    case 0:
      return relabelled({ [labelOf('rack')]: `r${how % 4}` });
    case 1:
      return relabelled({ [how % 4 === 1 ? labelOf('rack') : labelOf('block')]: '' });
    case 2:
      return relabelled({ pool: `p${how % 3}` });
    case 3:
      return {
        ...node,
        spec: { ...spec, taints: how % 4 === 1 ? [] : [{ key: 'odd', effect: 'NoSchedule' }] },
      };
    case 4:
      return { ...node, spec: { ...spec, unschedulable: how % 4 === 0 } };
    default: {
      const allocatable = { ...status?.allocatable, [gpuName]: String(how % 9) };
      return { ...node, status: { ...status, allocatable } };
    }
  }
}

function nodeAt(name: string, at: number): Node {
  const rack = at % 12;
  return nodeOf({
    name,
    gpu: 8,
    cpu: 16,
    labels: {
      [labelOf('block')]: `b${rack % 3}`,
      [labelOf('rack')]: `r${rack}`,
      [k8s.hostname]: name,
      pool: `p${at % 2}`,
    },
  });
}

function answerOf(question: Question, snapshot: ClusterSnapshot, memo: FitMemo): string {
  return JSON.stringify(planGroup({ ...question, snapshot, memo }));
}

const shapes: readonly Shape[] = questions.slice(0, 8).flatMap(({ demands }) => {
  const { leader, worker } = openRanks({ demands });
  return worker === undefined ? [] : [{ leader, worker }];
});

/** All that an index says, in words that do not hang on which class came first. */
function portraitOf(index: SlotIndex): string {
  const { offers, counts, stride, workers, touched, classOf, arrays } = index;
  const domains = arrays.domains.map(({ id }, domain) => {
    const hosts = offers.flatMap((offer, at) => {
      const count = counts[domain * stride + at] ?? 0;
      return count === 0 ? [] : [`${count} x ${JSON.stringify(offer)}`];
    });
    return [id, workers[domain], touched[domain], hosts.sort()];
  });
  const nodes = arrays.tree.nodeNames.map((name, at) => [name, offers[classOf[at] ?? -1]]);
  return JSON.stringify([domains, nodes]);
}

t.test('a memo that has followed the cluster for long answers as a new one does', async t => {
  let steps = 0;
  const verdicts = new Map<string, number>();
  fc.assert(
    fc.property(events, sequence => {
      const history = new History();
      const memo = new FitMemo();
      sequence.forEach((event, step) => {
        history.take(event);
        steps++;
        const snapshot = history.cache.snapshot();
        const question = questions[(step + event[2]) % questions.length];
        if (question === undefined) return;
        const fresh = answerOf(question, snapshot, new FitMemo());
        assertSame(answerOf(question, snapshot, memo), fresh);
        const { kind } = JSON.parse(fresh);
        verdicts.set(kind, (verdicts.get(kind) ?? 0) + 1);
        if (step % 8 > 0) return;
        for (const shape of shapes)
          assertSame(
            portraitOf(memo.indexes.of(shape, snapshot)),
            portraitOf(new FitMemo().indexes.of(shape, snapshot)),
          );
      });
    }),
    { seed, numRuns: 30, endOnFailure: true },
  );
  t.comment(`${steps} events: ${JSON.stringify(Object.fromEntries(verdicts))}`);
  t.ok((verdicts.get('plan') ?? 0) > 500 && (verdicts.get('rejection') ?? 0) > 50);
});

t.test('a snapshot gives its old answers after newer ones were asked', async t => {
  let asked = 0;
  // What other pods say about a pod with terms is looked up when it is asked.
  const local = questions.filter(({ demands }) => demands.every(({ affinity }) => affinity === undefined));
  fc.assert(
    fc.property(events, sequence => {
      const history = new History();
      const memo = new FitMemo();
      const past: {
        readonly snapshot: ClusterSnapshot;
        readonly question: Question;
        readonly answer: string;
      }[] = [];
      sequence.forEach((event, step) => {
        history.take(event);
        if (step % 3 > 0) return;
        const snapshot = history.cache.snapshot();
        const question = local[step % local.length];
        if (question === undefined) return;
        past.push({ snapshot, question, answer: answerOf(question, snapshot, memo) });
        const old = past[event[1] % past.length];
        if (old === undefined) return;
        assertSame(answerOf(old.question, old.snapshot, memo), old.answer);
        asked++;
      });
    }),
    { seed, numRuns: 20, endOnFailure: true },
  );
  t.ok(asked > 500, `asked ${asked} times`);
});

function assertSame(actual: string, expected: string): void {
  if (actual !== expected) throw new Error(`${actual} is not ${expected}`);
}
