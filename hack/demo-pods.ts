import { setTimeout as delay } from 'node:timers/promises';
import type { KubernetesObject, Pod } from '../src/api/kubernetes.ts';
import type { World } from './demo-world.ts';

/** What the story was waiting for did not happen. */
export class StoryStuck extends Error {
  readonly code = 'StoryStuck';

  constructor(what: string, seconds: number, pods: string) {
    super(`waited ${seconds} s in vain for ${what}. Pods:\n${pods}`);
    this.name = 'StoryStuck';
  }
}

const patienceMs = 60_000;
const pollMs = 20;

/** All pods of a world as its watch tells them, and when each was first seen bound. */
export class PodBoard {
  readonly #pods = new Map<string, Pod>();
  readonly #boundAtMs = new Map<string, number>();
  readonly #stop: () => void;

  constructor(world: World) {
    this.#stop = world.watchPods((type, object) => this.#apply(type, object));
  }

  /** By name. */
  pods(namespace: string): readonly Pod[] {
    return [...this.#pods.values()]
      .filter(({ metadata }) => metadata.namespace === namespace)
      .sort((a, b) => ((a.metadata.name ?? '') < (b.metadata.name ?? '') ? -1 : 1));
  }

  all(): readonly Pod[] {
    return [...this.#pods.values()];
  }

  find(namespace: string, name: string): Pod | undefined {
    return this.pods(namespace).find(pod => pod.metadata.name === name);
  }

  /** When the last of the pods was bound, on the clock of `performance.now()`. */
  lastBoundAtMs(pods: readonly Pod[]): number {
    return Math.max(...pods.map(({ metadata }) => this.#boundAtMs.get(metadata.uid ?? '') ?? 0));
  }

  /** @throws StoryStuck */
  async until(what: string, isTrue: () => boolean | Promise<boolean>): Promise<void> {
    const deadlineMs = Date.now() + patienceMs;
    while (!(await isTrue())) {
      if (Date.now() > deadlineMs) throw new StoryStuck(what, patienceMs / 1000, this.#listing());
      await delay(pollMs);
    }
  }

  close(): void {
    this.#stop();
  }

  #apply(type: string, object: KubernetesObject): void {
    const uid = object.metadata.uid ?? '';
    if (type === 'DELETED' || !isPod(object)) {
      this.#pods.delete(uid);
      return;
    }
    this.#pods.set(uid, object);
    if (isBound(object) && !this.#boundAtMs.has(uid)) this.#boundAtMs.set(uid, performance.now());
  }

  #listing(): string {
    const lines = this.all().map(({ metadata, spec, status }) => {
      const gates = spec.schedulingGates?.map(({ name }) => name).join(',') ?? '';
      return `  ${metadata.namespace}/${metadata.name} ${spec.nodeName ?? 'unbound'} ${status?.phase} ${gates}`;
    });
    return lines.sort().join('\n');
  }
}

export function isBound({ spec }: Pod): boolean {
  return spec.nodeName !== undefined;
}

/** The scheduler has looked at it and found no node. */
export function isUnschedulable({ status }: Pod): boolean {
  return status?.conditions?.some(({ reason }) => reason === 'Unschedulable') ?? false;
}

export function isReady({ status }: Pod): boolean {
  return status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;
}

export function isGoing({ metadata }: Pod): boolean {
  return metadata.deletionTimestamp !== undefined;
}

/** What a collection of pods holds. */
function isPod(object: KubernetesObject): object is Pod {
  return 'spec' in object;
}
