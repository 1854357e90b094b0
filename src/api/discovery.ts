import type { KubernetesObject, LabelSelector } from './kubernetes.ts';

/** Wire types of what sends requests to pods, narrowed to the fields that Berth reads. */

/** One pod as an EndpointSlice lists it. An absent condition is unknown, which consumers take for yes but for `terminating`. */
export interface Endpoint {
  readonly addresses?: readonly string[];
  readonly conditions?: {
    /** True without regard to the pod where the Service publishes addresses that are not ready. */
    readonly ready?: boolean;
    /** The pod is Ready, terminating or not. */
    readonly serving?: boolean;
    readonly terminating?: boolean;
  };
  readonly targetRef?: { readonly kind?: string; readonly name?: string; readonly uid?: string };
}

/** discovery.k8s.io/v1 */
export interface EndpointSlice extends KubernetesObject {
  readonly endpoints?: readonly Endpoint[];
}

/** inference.networking.k8s.io/v1: an inference gateway sends requests to the Ready pods that it selects. */
export interface InferencePool extends KubernetesObject {
  readonly spec?: { readonly selector?: Pick<LabelSelector, 'matchLabels'> };
}
