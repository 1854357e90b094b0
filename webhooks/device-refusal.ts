import { berth } from '../src/api/names.ts';
import type { ImpossibleGroup } from '../src/cache/impossible-demands.ts';
import { type ClaimSource, readMinAlignment } from '../src/group/claims.ts';
import type { MemberDemand } from '../src/group/demand.ts';
import type { AnnotationSources } from '../src/group/request-annotations.ts';
import { demandsOfTemplates, type GroupTemplates } from '../src/group/template-demands.ts';
import { annotationField } from './review.ts';

/** What is wrong, and where it stands. */
export interface DeviceRefusal {
  readonly field: string;
  readonly message: string;
}

/** What becomes of groups whose devices no node could ever give. */
export interface ImpossiblePolicy {
  readonly policy: 'warn' | 'refuse';
  readonly why: (demands: readonly MemberDemand[]) => ImpossibleGroup | undefined;
}

/** An alignment that nobody can read will not become readable. */
export function alignmentRefusal(sources: AnnotationSources): DeviceRefusal | undefined {
  const read = readMinAlignment(sources);
  if (typeof read !== 'object') return undefined;
  return { field: read.field ?? annotationField(berth.minAlignment), message: read.message };
}

/**
 * What a group asks of devices that the cluster as it is could never give. Nothing where that cannot be told: a template
 * that is missing may still come.
 */
export function impossibleFinding(
  templates: GroupTemplates,
  claims: ClaimSource,
  { why }: ImpossiblePolicy,
): DeviceRefusal | undefined {
  const demands = demandsOfTemplates(templates, claims);
  const found = demands && why(demands);
  if (demands === undefined || found === undefined) return undefined;
  const byClaims = demands.some(({ devices }) => (devices?.own.length ?? 0) > 0);
  const field =
    found.never.constraint === 'alignment'
      ? annotationField(berth.minAlignment)
      : byClaims
        ? 'spec.resourceClaims'
        : 'spec.containers';
  return { field, message: found.message };
}
