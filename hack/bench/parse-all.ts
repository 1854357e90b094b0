import type { Pod } from '../../src/api/kubernetes.ts';
import { refusedNamesLimit } from '../../src/extender/filter.ts';
import { sentences } from '../../src/extender/verdict.ts';

/** What a plain extender knows. It gives the answers of Berth, only with the means that come first to mind. */
export interface PlainKnowledge {
  /** Node by the UID of a pod; empty for a pod that may go nowhere yet. */
  readonly places: Readonly<Record<string, string>>;
  /** Nodes without a free GPU for any other pod. */
  readonly held: readonly string[];
  /** By node; 0 where it is missing. */
  readonly scores: Readonly<Record<string, number>>;
}

interface ExtenderArgs {
  readonly Pod: Pod;
  readonly NodeNames: readonly string[];
}

/** How a plain extender answers: all of the body is parsed, the list is filtered, all of the answer is made anew. */
export class PlainExtender {
  readonly #places: ReadonlyMap<string, string>;
  readonly #held: ReadonlySet<string>;
  readonly #scores: ReadonlyMap<string, number>;

  constructor({ places, held, scores }: PlainKnowledge) {
    this.#places = new Map(Object.entries(places));
    this.#held = new Set(held);
    this.#scores = new Map(Object.entries(scores));
  }

  filter(body: string): string {
    const { Pod: pod, NodeNames: names }: ExtenderArgs = JSON.parse(body);
    const place = this.#places.get(pod.metadata.uid ?? '');
    const kept: string[] = [];
    const refused: [string, string][] = [];
    for (const name of names) {
      const sentence = this.#whyNot(pod, place, name);
      if (sentence === undefined) kept.push(name);
      else if (refused.length < refusedNamesLimit) refused.push([name, sentence]);
    }
    return JSON.stringify({
      Nodes: null,
      NodeNames: kept,
      FailedNodes: null,
      FailedAndUnresolvableNodes: Object.fromEntries(refused),
      Error: '',
    });
  }

  prioritize(body: string): string {
    const { NodeNames: names }: ExtenderArgs = JSON.parse(body);
    const scored = names.map(name => ({ Host: name, Score: this.#scores.get(name) ?? 0 }));
    return JSON.stringify(scored.filter(({ Score: score }) => score > 0));
  }

  #whyNot(pod: Pod, place: string | undefined, node: string): string | undefined {
    if (place === '') return sentences.unplanned;
    if (place !== undefined) return node === place ? undefined : sentences.only;
    return asksForGpus(pod) && this.#held.has(node) ? sentences.except : undefined;
  }
}

function asksForGpus({ spec }: Pod): boolean {
  return spec.containers.some(({ resources }) => resources?.limits?.['nvidia.com/gpu'] !== undefined);
}
