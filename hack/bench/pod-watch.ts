import type { Pod } from '../../src/api/kubernetes.ts';
import type { Cluster } from '../bed/cluster.ts';

/** The pods of a namespace as they are now, as a watch shows them. */
export class PodWatch {
  readonly #pods = new Map<string, Pod>();
  readonly #end: () => void;
  readonly #looks = new Set<() => void>();

  constructor(cluster: Cluster, namespace: string) {
    this.#end = cluster.watch(`/api/v1/namespaces/${namespace}/pods`, (type, object) =>
      this.#see(type, object as unknown as Pod),
    );
  }

  get pods(): readonly Pod[] {
    return [...this.#pods.values()];
  }

  /** When the pods were first as wanted, by `performance.now()`; undefined when they were not within the time. */
  async until(
    areAsWanted: (pods: readonly Pod[]) => boolean,
    timeoutMs: number,
  ): Promise<number | undefined> {
    const { promise, resolve } = Promise.withResolvers<number | undefined>();
    const timer = setTimeout(() => resolve(undefined), timeoutMs);
    const look = () => {
      if (areAsWanted(this.pods)) resolve(performance.now());
    };
    this.#looks.add(look);
    look();
    return promise.finally(() => {
      clearTimeout(timer);
      this.#looks.delete(look);
    });
  }

  stop(): void {
    this.#end();
  }

  #see(type: string, pod: Pod): void {
    const { uid = '' } = pod.metadata;
    if (type === 'DELETED') this.#pods.delete(uid);
    else this.#pods.set(uid, pod);
    for (const look of this.#looks) look();
  }
}

/** Runs, answers, and is to stay. */
export function isServing({ metadata, status }: Pod): boolean {
  const isReady = status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True');
  return metadata.deletionTimestamp === undefined && isReady === true;
}
