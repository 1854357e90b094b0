import type { DeviceRequestAllocationResult } from '../../../api/dra.ts';
import type { WantedClaim } from '../claims.ts';
import type { DeviceUse } from '../device.ts';
import {
  type AllocationErrorCode,
  AllocationFailure,
  prepareClaim,
  type RequestContext,
} from './requests.ts';
import { AllocationSearch } from './search.ts';

export interface AllocationQuestion extends RequestContext {
  /** In the order in which kube-scheduler takes them: that of the pod's spec. */
  readonly claims: readonly WantedClaim[];
  /** What is taken already. */
  readonly used: DeviceUse;
  /** Steps of the search after which it gives up. Default 100,000. */
  readonly mostSteps?: number;
}

/** What one claim would get. */
export interface AllocatedClaim {
  readonly claim: string;
  readonly results: readonly DeviceRequestAllocationResult[];
}

export type AllocationAnswer =
  | { readonly kind: 'allocated'; readonly claims: readonly AllocatedClaim[] }
  /** The node has no devices for the claims now. */
  | { readonly kind: 'none'; readonly cause: string }
  /** kube-scheduler fails the pod's attempt as a whole. */
  | { readonly kind: 'error'; readonly code: AllocationErrorCode; readonly message: string }
  /** Berth cannot tell. */
  | { readonly kind: 'unknown'; readonly message: string };

const defaultMostSteps = 100_000;

/**
 * The devices that kube-scheduler would give to a pod's claims on a node: the first that fit, by exhaustive search in its
 * order (k8s.io/dynamic-resource-allocation/structured/internal/incubating, v0.37.2, which is what the default feature gates
 * of Kubernetes 1.37 choose). A port of what it decides, not of how; test/oracles/scheduler holds both against each other.
 *
 * Pure and deterministic. A selector that cannot be evaluated, and a search that takes too long, make the answer unknown.
 */
export function allocate(question: AllocationQuestion): AllocationAnswer {
  try {
    const prepared = question.claims.map(claim => prepareClaim(claim, question));
    const search = new AllocationSearch({
      pools: question.pools,
      used: question.used,
      claims: prepared,
      constraints: question.claims.map(({ spec }) => spec.devices?.constraints ?? []),
      mostSteps: question.mostSteps ?? defaultMostSteps,
    });
    const results = search.run();
    if (results !== undefined) {
      const claims = prepared.map(({ name }, at) => ({ claim: name, results: results[at] ?? [] }));
      return { kind: 'allocated', claims };
    }
    const invalid = question.pools.find(({ state }) => state === 'invalid');
    return {
      kind: 'none',
      cause: invalid === undefined ? 'no free devices for its claims' : 'contradicting ResourceSlices',
    };
  } catch (error) {
    if (!(error instanceof AllocationFailure)) throw error;
    const { code, message } = error;
    return code === 'Unknown' ? { kind: 'unknown', message } : { kind: 'error', code, message };
  }
}
