import { NodeNames } from './node-names.ts';
import type { Verdict } from './verdict.ts';
import type { FilterResult } from './wire.ts';

/** Names that are refused by name; the rest is just not kept, which means the same to kube-scheduler. */
export const refusedNamesLimit = 200;

/** Applies a verdict to the names of a request. Nothing is said about a name that is not in it. */
export function filterNames(verdict: Verdict, names: NodeNames): FilterResult {
  switch (verdict.kind) {
    case 'anywhere':
      return { kept: names, refused: [], sentence: '' };
    case 'none':
      return { kept: nobody, refused: names.first(refusedNamesLimit), sentence: verdict.sentence };
    case 'only': {
      const { node, sentence } = verdict;
      const kept = names.has(node) ? NodeNames.fromList([node]) : nobody;
      const others = names.first(refusedNamesLimit + 1).filter(name => name !== node);
      return { kept, refused: others.slice(0, refusedNamesLimit), sentence };
    }
    case 'except': {
      const { kept, removed } = names.without(verdict.nodes, refusedNamesLimit);
      return { kept, refused: removed, sentence: verdict.sentence };
    }
  }
}

const nobody = NodeNames.fromList([]);
