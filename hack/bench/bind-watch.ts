import type { Pod } from '../../src/api/kubernetes.ts';
import type { Cluster } from '../bed/cluster.ts';

export interface BoundPod {
  readonly pod: Pod;
  readonly node: string;
  /** By `performance.now()`. */
  readonly atMs: number;
}

/** Notes when pods of a namespace are bound, as a watch shows it. */
export class BindWatch {
  readonly #bound = new Map<string, BoundPod>();
  readonly #stop: () => void;
  #awaited: { readonly count: number; readonly done: () => void } | undefined;

  constructor(cluster: Cluster, namespace: string) {
    // Only bound pods match, so that each is sent when it becomes one, and nobody has to read the others.
    const path = `/api/v1/namespaces/${namespace}/pods?fieldSelector=${encodeURIComponent('spec.nodeName!=')}`;
    this.#stop = cluster.watch(path, (_type, object) => this.#see(object as unknown as Pod));
  }

  get count(): number {
    return this.#bound.size;
  }

  /** In the order in which they were bound. Throws after the time, telling how far it came. */
  async all(count: number, timeoutMs: number): Promise<readonly BoundPod[]> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve, reject) => {
      const tooLate = () =>
        reject(new Error(`only ${this.count} of ${count} pods were bound within ${timeoutMs / 1000} s`));
      timer = setTimeout(tooLate, timeoutMs);
      this.#awaited = { count, done: resolve };
      this.#check();
    }).finally(() => {
      clearTimeout(timer);
      this.#stop();
    });
    return [...this.#bound.values()];
  }

  #see(pod: Pod): void {
    const { uid = '' } = pod.metadata;
    const node = pod.spec.nodeName;
    if (node === undefined || this.#bound.has(uid)) return;
    this.#bound.set(uid, { pod, node, atMs: performance.now() });
    this.#check();
  }

  #check(): void {
    if (this.#awaited !== undefined && this.count >= this.#awaited.count) this.#awaited.done();
  }
}
