import type { Device } from './device.ts';

/** What a CEL selector says of a device. */
export type SelectorVerdict =
  | { readonly kind: 'true' }
  | { readonly kind: 'false' }
  /** kube-scheduler fails the pod's whole attempt for it, on every node (SchedulerError). */
  | { readonly kind: 'error'; readonly message: string }
  /** Berth cannot evaluate the expression as Kubernetes does. Never to be taken for false. */
  | { readonly kind: 'unknown'; readonly message: string };

/** Evaluates selectors; see cel/. Results are remembered by expression and device. */
export interface SelectorEngine {
  matches(expression: string, device: Device): SelectorVerdict;
}

const hopeful = new WeakMap<SelectorEngine, SelectorEngine>();

/** The same engine with `true` for all that it cannot tell: what fits nowhere then fits nowhere at all. */
export function hopefulSelectors(engine: SelectorEngine): SelectorEngine {
  const known = hopeful.get(engine);
  if (known !== undefined) return known;
  const made: SelectorEngine = {
    matches(expression, device) {
      const verdict = engine.matches(expression, device);
      return verdict.kind === 'unknown' ? isTrue : verdict;
    },
  };
  hopeful.set(engine, made);
  return made;
}

const isTrue: SelectorVerdict = { kind: 'true' };
