import type { Candidate } from '../pools.ts';
import type { SelectorEngine, SelectorVerdict } from '../selectors.ts';

const selected: SelectorVerdict = { kind: 'true' };
const notSelected: SelectorVerdict = { kind: 'false' };

/** Which candidates one request may get, were they free: selectors of class and request, then reach. Remembered. */
export class Selection {
  readonly #where: string;
  readonly #engine: SelectorEngine;
  readonly #expressions: readonly string[];
  readonly #verdicts: (SelectorVerdict | undefined)[] = [];

  /** @param where the request, for messages */
  constructor(where: string, engine: SelectorEngine, expressions: readonly string[]) {
    this.#where = where;
    this.#engine = engine;
    this.#expressions = expressions;
  }

  of(candidate: Candidate): SelectorVerdict {
    const known = this.#verdicts[candidate.index];
    if (known !== undefined) return known;
    const verdict = this.#decide(candidate);
    this.#verdicts[candidate.index] = verdict;
    return verdict;
  }

  /** Selectors come before reach: one that fails on a device of another node fails the pod here all the same. */
  #decide({ device, reached }: Candidate): SelectorVerdict {
    for (const expression of this.#expressions) {
      const verdict = this.#engine.matches(expression, device);
      if (verdict.kind === 'true') continue;
      if (verdict.kind === 'false') return notSelected;
      const { driver, pool, device: name } = device.id;
      return {
        kind: verdict.kind,
        message: `${this.#where}: selector on device ${driver}/${pool}/${name}: ${verdict.message}`,
      };
    }
    return reached ? selected : notSelected;
  }
}
