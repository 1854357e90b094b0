import type { Container, PodTemplateSpec } from '../api/kubernetes.ts';
import { QuantityError } from '../cluster/quantity.ts';
import { type ClaimSource, resolveClaims } from './claims.ts';
import { demandOfTemplate, type MemberDemand } from './demand.ts';
import type { AnnotationSources } from './request-annotations.ts';

export interface GroupTemplates {
  readonly namespace: string;
  readonly leader: PodTemplateSpec;
  /** Undefined where nothing tells what the others will be. */
  readonly worker: PodTemplateSpec | undefined;
  readonly size: number;
  /** Where the request of the group stands. */
  readonly sources: AnnotationSources;
}

/**
 * What the members of a group will ask of devices, by rank, before any of them exists. Undefined where that cannot be told
 * yet or at all: claims or templates are missing or shared, or an annotation or quantity cannot be read.
 */
export function demandsOfTemplates(
  { namespace, leader, worker, size, sources }: GroupTemplates,
  claims: ClaimSource,
): readonly MemberDemand[] | undefined {
  const demandOf = (template: PodTemplateSpec) =>
    demandOfTemplate({
      namespace,
      template: deviceParts(template),
      labels: {},
      seen: undefined,
      addedAtAdmission: undefined,
    });
  try {
    const first = demandOf(leader);
    const others = worker === undefined || size === 1 ? [] : Array(size - 1).fill(demandOf(worker));
    const resolved = resolveClaims({ demands: [first, ...others], source: claims, sources });
    return 'code' in resolved ? undefined : resolved.byRank;
  } catch (error) {
    if (!(error instanceof QuantityError)) throw error;
    return undefined;
  }
}

/** What says which devices a pod asks for; templates that differ in other parts are alike. */
function deviceParts({
  spec: { containers, initContainers, resourceClaims },
}: PodTemplateSpec): PodTemplateSpec {
  const parts = (container: Container): Container => {
    const { name, restartPolicy, resources } = container;
    return { name, ...(restartPolicy !== undefined && { restartPolicy }), ...(resources && { resources }) };
  };
  return {
    spec: {
      containers: containers.map(parts),
      ...(initContainers && { initContainers: initContainers.map(parts) }),
      ...(resourceClaims && { resourceClaims }),
    },
  };
}
