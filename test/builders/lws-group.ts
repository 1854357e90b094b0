import { createHash } from 'node:crypto';
import type {
  Affinity,
  LeaderWorkerSet,
  Pod,
  PodAffinityTerm,
  StatefulSet,
} from '../../src/api/kubernetes.ts';
import { k8s, lws } from '../../src/api/names.ts';
import {
  type Ask,
  controlledBy,
  type PodParts,
  podOf,
  requiredDuringScheduling,
  templateOf,
} from './pods.ts';

export interface LwsParts {
  readonly name?: string;
  readonly namespace?: string;
  readonly size: number;
  /** The worker template, which makes the leader too where `leader` is absent. */
  readonly worker: Ask;
  readonly leader?: Ask;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly restartPolicy?: string;
  /** Node label for LWS's exclusive placement. */
  readonly exclusive?: string;
}

/** A LeaderWorkerSet and the objects that its controllers make of one of its groups (LWS v0.9). */
export class LwsGroup {
  readonly parts: LwsParts;
  readonly index: number;

  constructor(parts: LwsParts, index = 0) {
    this.parts = parts;
    this.index = index;
  }

  get namespace(): string {
    return this.parts.namespace ?? 'serving';
  }

  get setName(): string {
    return this.parts.name ?? 'llm';
  }

  get leaderName(): string {
    return `${this.setName}-${this.index}`;
  }

  get key(): string {
    return `${this.namespace}/${this.leaderName}`;
  }

  get groupKey(): string {
    return createHash('sha1').update(this.key).digest('hex');
  }

  owner(): LeaderWorkerSet {
    const { size, worker, leader, annotations, restartPolicy, exclusive } = this.parts;
    return {
      apiVersion: lws.apiVersion,
      kind: lws.kind,
      metadata: {
        name: this.setName,
        namespace: this.namespace,
        uid: `uid-set-${this.setName}`,
        annotations: { ...annotations, ...(exclusive && { [lws.exclusiveTopology]: exclusive }) },
      },
      spec: {
        replicas: 1,
        leaderWorkerTemplate: {
          size,
          ...(leader && { leaderTemplate: templateOf(leader) }),
          workerTemplate: templateOf(worker),
          ...(restartPolicy && { restartPolicy }),
        },
      },
    };
  }

  leaderUid(incarnation = 1): string {
    return `uid-${this.leaderName}-${incarnation}`;
  }

  leader(more: Partial<PodParts> = {}, incarnation = 1): Pod {
    const { parts } = this;
    const ask = parts.leader ?? parts.worker;
    const affinity = more.affinity ?? parts.leader?.affinity ?? parts.worker.affinity;
    return podOf({
      ...ask,
      name: this.leaderName,
      namespace: this.namespace,
      uid: this.leaderUid(incarnation),
      owner: controlledBy('StatefulSet', this.setName, `uid-leaders-${this.setName}`),
      gated: true,
      ...more,
      ...this.#metadata(0, ask, more),
      ...(parts.exclusive
        ? { affinity: this.#exclusiveAffinity(parts.exclusive, affinity) }
        : affinity && { affinity }),
    });
  }

  /** The StatefulSet of the workers, which belongs to one incarnation of the leader. */
  workerSet(incarnation = 1): StatefulSet {
    return {
      metadata: {
        name: this.leaderName,
        namespace: this.namespace,
        uid: this.#workerSetUid(incarnation),
        ownerReferences: [controlledBy('Pod', this.leaderName, this.leaderUid(incarnation))],
      },
    };
  }

  worker(rank: number, more: Partial<PodParts> = {}, incarnation = 1): Pod {
    const name = `${this.leaderName}-${rank}`;
    return podOf({
      ...this.parts.worker,
      name,
      namespace: this.namespace,
      uid: `uid-${name}-${incarnation}`,
      owner: controlledBy('StatefulSet', this.leaderName, this.#workerSetUid(incarnation)),
      gated: true,
      ...more,
      ...this.#metadata(rank, this.parts.worker, more),
    });
  }

  #workerSetUid(incarnation: number): string {
    return `uid-workers-${this.leaderName}-${incarnation}`;
  }

  #metadata(rank: number, ask: Ask, more: Partial<PodParts>): Pick<PodParts, 'labels' | 'annotations'> {
    const { size, exclusive } = this.parts;
    return {
      labels: {
        ...ask.labels,
        [lws.name]: this.setName,
        [lws.groupIndex]: String(this.index),
        [lws.groupKey]: this.groupKey,
        [lws.workerIndex]: String(rank),
        [lws.templateRevisionHash]: 'r1',
        [k8s.podIndex]: String(rank === 0 ? this.index : rank),
        ...more.labels,
      },
      annotations: {
        ...ask.annotations,
        [lws.size]: String(size),
        ...(rank > 0 && { [lws.leaderName]: this.leaderName }),
        ...(exclusive && { [lws.exclusiveTopology]: exclusive }),
        ...more.annotations,
      },
    };
  }

  /** What LWS's pod webhook adds to leaders: near its own group, away from every other. */
  #exclusiveAffinity(topologyKey: string, affinity: Affinity | undefined): Affinity {
    const own = { key: lws.groupKey, operator: 'In', values: [this.groupKey] };
    const any = { key: lws.groupKey, operator: 'Exists' };
    const foreign = { key: lws.groupKey, operator: 'NotIn', values: [this.groupKey] };
    const near: PodAffinityTerm = { topologyKey, labelSelector: { matchExpressions: [own] } };
    const away: PodAffinityTerm = { topologyKey, labelSelector: { matchExpressions: [any, foreign] } };
    return {
      ...affinity,
      podAffinity: { [requiredDuringScheduling]: [near] },
      podAntiAffinity: { [requiredDuringScheduling]: [away] },
    };
  }
}
