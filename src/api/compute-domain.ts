import type { KubernetesObject } from './kubernetes.ts';

/** ComputeDomain of NVIDIA's DRA driver, resource.nvidia.com/v1beta1, narrowed to the fields that Berth reads. */
export interface ComputeDomain extends KubernetesObject {
  readonly status?: {
    /** `Ready` or `NotReady`: it is not while any node of it is not, and while it has too few. */
    readonly status?: string;
    readonly nodes?: readonly { readonly name?: string; readonly status?: string }[];
  };
}
