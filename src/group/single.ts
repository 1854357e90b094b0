import type { Membership } from './membership.ts';
import type { PodInfo } from './pod-info.ts';

/**
 * Pods outside groups that have devices and go where kube-scheduler or Berth sends them, under one key for all that one
 * controller makes: which of them follows which nobody tells. `namespace/kind/name`, of the controller or of a bare pod;
 * keys of groups have two parts. Undefined for all other pods.
 */
export function singleKeyOf({
  membership,
  takesAccelerator,
  foreignOwner,
  namespace,
  controller,
  name,
}: PodInfo): string | undefined {
  if (membership !== undefined || !takesAccelerator || foreignOwner !== undefined) return undefined;
  return controller === undefined
    ? `${namespace}/Pod/${name}`
    : `${namespace}/${controller.kind}/${controller.name}`;
}

export function isSingleKey(key: string): boolean {
  return key.split('/').length === 3;
}

/** A pod outside groups as a group of one. */
export function singleMembership({ namespace, name, controller }: PodInfo): Membership {
  const owner = controller?.name ?? name;
  return { kind: 'single', namespace, name, owner, size: 1, rank: 0, revision: '' };
}
