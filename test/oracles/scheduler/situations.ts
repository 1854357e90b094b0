import type { AllocationCase } from './allocations.ts';
import { alternatives } from './situations/alternatives.ts';
import { capacity } from './situations/capacity.ts';
import { constraints } from './situations/constraints.ts';
import { counters } from './situations/counters.ts';
import { pools } from './situations/pools.ts';
import { requests } from './situations/requests.ts';
import { caseOf } from './situations/sketch.ts';
import { taints } from './situations/taints.ts';

export interface Situation {
  readonly name: string;
  readonly question: AllocationCase;
}

const chapters = { constraints, requests, alternatives, pools, taints, counters, capacity };

/**
 * What Kubernetes' own table of tests looks into (k8s.io/dynamic-resource-allocation structured/internal/allocatortesting,
 * v0.37.2), as far as the default gates of 1.37 let it come up, and more of what is easily got wrong.
 */
export const situations: readonly Situation[] = Object.entries(chapters).flatMap(([chapter, sketches]) =>
  Object.entries(sketches).map(([name, sketch]) => ({
    name: `${chapter}: ${name}`,
    question: caseOf(sketch),
  })),
);
