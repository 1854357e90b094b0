import type { ObjectMeta, OwnerReference } from '../api/kubernetes.ts';
import { berth, k8s, lws } from '../api/names.ts';

/** Which group a pod says it belongs to, and as which rank. */
export interface Membership {
  /** `single`: no pod says so itself; a pod outside groups is looked at as a group of one. */
  readonly kind: 'lws' | 'labelled' | 'single';
  readonly namespace: string;
  /**
   * Name of the group inside its namespace, the same for every incarnation: the leader pod's name for LWS, the
   * `berth.dev/group` label otherwise.
   */
  readonly name: string;
  /** The object that owns the group: the LeaderWorkerSet's name, or the group's own name. */
  readonly owner: string;
  /** Number of members, leader included, at least 1. */
  readonly size: number;
  /** 0 leads. */
  readonly rank: number;
  /** Hash of the LWS template the pod was made from; empty for labelled groups. */
  readonly revision: string;
}

/** A pod that claims to be in a group but says it in a way that cannot be read. */
export interface MembershipError {
  readonly code: 'InvalidMembership';
  /** Path of the label or annotation at fault. */
  readonly field: string;
  readonly message: string;
}

export function isMembershipError(value: object | undefined): value is MembershipError {
  return value !== undefined && 'code' in value && value.code === 'InvalidMembership';
}

/**
 * Reads a pod's membership from its metadata alone, so that it works at CREATE admission (no UID yet) and from a
 * trimmed cache record alike. Undefined when the pod belongs to no group.
 *
 * LWS sets the worker index in its own webhook; a pod that reaches Berth without it is read from the pod index that
 * the StatefulSet controller has set before any admission.
 */
export function membershipOf(
  metadata: ObjectMeta,
  namespace: string,
): Membership | MembershipError | undefined {
  const labels = metadata.labels ?? {};
  if (labels[lws.name] !== undefined) return lwsMembership(metadata, namespace, labels[lws.name] ?? '');
  if (labels[berth.group] !== undefined)
    return labelledMembership(metadata, namespace, labels[berth.group] ?? '');
  return undefined;
}

/** `namespace/name`, the key of a group over all its incarnations. */
export function groupKeyOf(membership: { readonly namespace: string; readonly name: string }): string {
  return `${membership.namespace}/${membership.name}`;
}

/** The owner reference with `controller: true`, or undefined. */
export function controllerOf(metadata: ObjectMeta): OwnerReference | undefined {
  return metadata.ownerReferences?.find(owner => owner.controller === true);
}

function lwsMembership(metadata: ObjectMeta, namespace: string, owner: string): Membership | MembershipError {
  const labels = metadata.labels ?? {};
  const annotations = metadata.annotations ?? {};
  const size = wholeNumber(annotations[lws.size]);
  if (size === undefined || size < 1) {
    return invalid(
      `metadata.annotations[${lws.size}]`,
      'must be a whole number of at least 1',
      annotations[lws.size],
    );
  }
  const indexText = labels[lws.workerIndex] ?? labels[k8s.podIndex];
  const rank = wholeNumber(indexText);
  if (rank === undefined || rank >= size) {
    return invalid(
      `metadata.labels[${lws.workerIndex}]`,
      `must be a whole number below the group size ${size}`,
      indexText,
    );
  }
  // With hashed group identity (LWS KEP-898) a leader has only a generateName at CREATE: its own name is not needed there.
  const leaderName = rank === 0 ? (metadata.name ?? '') : annotations[lws.leaderName];
  if (leaderName === undefined || (rank > 0 && leaderName === '')) {
    return invalid(`metadata.annotations[${lws.leaderName}]`, 'must name the leader pod', leaderName);
  }
  const revision = labels[lws.templateRevisionHash] ?? '';
  return { kind: 'lws', namespace, name: leaderName, owner, size, rank, revision };
}

function labelledMembership(
  metadata: ObjectMeta,
  namespace: string,
  name: string,
): Membership | MembershipError {
  const labels = metadata.labels ?? {};
  if (name === '') return invalid(`metadata.labels[${berth.group}]`, 'must not be empty', name);
  const size = wholeNumber(labels[berth.groupSize]);
  if (size === undefined || size < 1) {
    return invalid(
      `metadata.labels[${berth.groupSize}]`,
      'must be a whole number of at least 1',
      labels[berth.groupSize],
    );
  }
  const rankText = labels[berth.groupRank] ?? labels[k8s.podIndex] ?? labels[k8s.jobCompletionIndex];
  const rank = wholeNumber(rankText);
  if (rank === undefined || rank >= size) {
    return invalid(
      `metadata.labels[${berth.groupRank}]`,
      `must be a whole number below the group size ${size}`,
      rankText,
    );
  }
  return { kind: 'labelled', namespace, name, owner: name, size, rank, revision: '' };
}

/** Parses 0, 1, 2 ... without sign, space or leading zero, up to 1,000,000 (the largest LWS). */
function wholeNumber(text: string | undefined): number | undefined {
  if (text === undefined || !/^(0|[1-9][0-9]{0,6})$/.test(text)) return undefined;
  const value = Number(text);
  return value <= 1_000_000 ? value : undefined;
}

function invalid(field: string, rule: string, value: string | undefined): MembershipError {
  const got = value === undefined ? 'it is missing' : `got ${JSON.stringify(value)}`;
  return { code: 'InvalidMembership', field, message: `${field} ${rule}; ${got}` };
}
