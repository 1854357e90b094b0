import type { Container, EnvVar, Pod } from '../src/api/kubernetes.ts';
import { berth, k8s, lws } from '../src/api/names.ts';
import type { JsonPatchOperation } from '../src/cluster/node-affinity.ts';
import type { Membership } from '../src/group/membership.ts';
import {
  annotationField,
  type Injection,
  isRecord,
  isRefusal,
  nothingToInject,
  type Refusal,
  refuse,
} from './review.ts';

/** What makes up a pod's DNS name: `<hostname ?? name>.<subdomain>.<namespace>`. */
export interface LeaderIdentity {
  readonly name: string;
  readonly hostname?: string | undefined;
  readonly subdomain?: string | undefined;
}

export interface EnvContext {
  /** The live leader of the pod's group, if it is known. */
  readonly leader: LeaderIdentity | undefined;
}

/** Ends without `svc.<cluster domain>`, as LWS_LEADER_ADDRESS does: the pod's DNS search list completes it. */
type LeaderAddress =
  | { readonly kind: 'known'; readonly address: string; readonly warnings: readonly string[] }
  | { readonly kind: 'unknown'; readonly warnings: readonly string[] };

const defaultMasterPort = '29500';

/** The order in which LWS itself puts them (LWS pkg/utils/pod/pod_utils.go AddLWSVariables). */
const lwsNames: readonly string[] = [lws.envLeaderAddress, lws.envGroupSize, lws.envWorkerIndex];

const lwsPrefix = lws.name.slice(0, lws.name.indexOf('/') + 1);
const subdomainPolicy = `${lwsPrefix}subdomainPolicy`;

/** Keys that some version of LWS sets on pods, or takes over from the user (LWS leaderworkerset_types.go). */
const lwsKeys = {
  annotations: new Set([
    lws.size,
    lws.leaderName,
    lws.exclusiveTopology,
    subdomainPolicy,
    ...[
      'subgroup-exclusive-topology',
      'subgroup-size',
      'subgroup-policy-type',
      'leader-requests-tpus',
      'replicas',
    ].map(name => `${lwsPrefix}${name}`),
  ]),
  labels: new Set([
    lws.name,
    lws.workerIndex,
    lws.groupIndex,
    lws.groupKey,
    lws.templateRevisionHash,
    ...['subgroup-index', 'subgroup-key'].map(name => `${lwsPrefix}${name}`),
  ]),
};

/**
 * Gives every container and init container of a group member the names by which distributed frameworks find each other:
 * MASTER_ADDR, MASTER_PORT, NNODES, NODE_RANK, and for groups without LWS also LWS_LEADER_ADDRESS, LWS_GROUP_SIZE and
 * LWS_WORKER_INDEX. A name that a container sets itself is left to it, whatever it sets it to.
 *
 * New entries go behind the LWS_* entries at the front: there `$(MASTER_ADDR)` can be used by every entry of the user,
 * for Kubernetes expands only names defined further up. LWS puts its own three before everything, whether its webhook
 * runs before this or after.
 */
export function envOps(pod: Pod, membership: Membership, context: EnvContext): Injection | Refusal {
  const annotations = pod.metadata.annotations ?? {};
  const wish = annotations[berth.injectEnv];
  if (wish === 'false') return nothingToInject;
  if (wish !== undefined && wish !== 'true') {
    return refuse(annotationField(berth.injectEnv), 'must be "true" or "false"', wish);
  }
  const port = masterPort(annotations[berth.masterPort]);
  if (typeof port !== 'string') return port;
  const leader =
    membership.kind === 'lws' ? lwsLeader(pod, membership) : labelledLeader(pod, membership, context);
  if (isRefusal(leader)) return leader;

  const sites = containerSites(pod);
  const ops = sites.flatMap(({ container, path }) =>
    insertEnv(path, container.env, wantedEnv(container, { membership, port, leader })),
  );
  const lacksAddress = sites.some(
    ({ container }) =>
      !setsName(container, 'MASTER_ADDR') && publishedAddress(container, membership) === undefined,
  );
  return { ops, warnings: [...(lacksAddress ? leader.warnings : []), ...deadReferences(pod, membership)] };
}

function masterPort(text: string | undefined): string | Refusal {
  if (text === undefined) return defaultMasterPort;
  if (/^[1-9][0-9]{0,4}$/.test(text) && Number(text) <= 65_535) return text;
  return refuse(annotationField(berth.masterPort), 'must be a port between 1 and 65535', text);
}

/**
 * The address that LWS will publish. Its names come from the StatefulSet controller, which sets hostname and subdomain
 * before any admission; only the leader's subdomain under UniquePerReplica is set by LWS's webhook, to the pod's name.
 */
function lwsLeader(pod: Pod, membership: Membership): LeaderAddress {
  const { spec, metadata } = pod;
  const isUnique = metadata.annotations?.[subdomainPolicy] === 'UniquePerReplica';
  if (membership.rank > 0) return addressOf({ name: membership.name, subdomain: spec.subdomain }, membership);
  const name = metadata.name ?? '';
  const subdomain = isUnique && name !== '' ? name : spec.subdomain;
  return addressOf({ name, hostname: spec.hostname, subdomain }, membership);
}

function labelledLeader(pod: Pod, membership: Membership, { leader }: EnvContext): LeaderAddress | Refusal {
  const given = pod.metadata.annotations?.[berth.leaderAddress];
  if (given !== undefined) {
    if (!isHost(given)) {
      return refuse(annotationField(berth.leaderAddress), 'must be a DNS name or an IP address', given);
    }
    return { kind: 'known', address: given, warnings: [] };
  }
  const derived = leaderByIndex(pod, membership);
  if (derived === undefined) return fromLivePod(leader, membership);
  const address = addressOf(derived, membership);
  if (address.kind === 'unknown') return unknownAddress(`spec.subdomain is empty`);
  return { ...address, warnings: contradiction(address.address, leader, membership) };
}

/**
 * Rank 0 by its own pod, and the siblings of a StatefulSet or Indexed Job by theirs: their hostnames differ only in the
 * index at the end. The leader's index is as far below the pod's own as its rank, since `spec.ordinals.start` moves all
 * indices alike. Undefined where the pod alone does not tell.
 */
function leaderByIndex(pod: Pod, membership: Membership): LeaderIdentity | undefined {
  const { spec, metadata } = pod;
  const { hostname = '', subdomain } = spec;
  if (membership.rank === 0) return { name: metadata.name ?? '', hostname, subdomain };
  const index = metadata.labels?.[k8s.podIndex] ?? metadata.labels?.[k8s.jobCompletionIndex];
  if (index === undefined || !hostname.endsWith(`-${index}`)) return undefined;
  const leaderIndex = Number(index) - membership.rank;
  if (!Number.isInteger(leaderIndex) || leaderIndex < 0) return undefined;
  const base = hostname.slice(0, -index.length);
  return { name: `${base}${leaderIndex}`, subdomain };
}

function fromLivePod(leader: LeaderIdentity | undefined, membership: Membership): LeaderAddress {
  if (leader === undefined) return unknownAddress('rank 0 is not known yet');
  const address = addressOf(leader, membership);
  return address.kind === 'known' ? address : unknownAddress(`spec.subdomain of pod ${leader.name} is empty`);
}

/** A group may span several workloads; then the pod's own index says nothing about rank 0. */
function contradiction(
  address: string,
  leader: LeaderIdentity | undefined,
  membership: Membership,
): readonly string[] {
  if (leader === undefined) return [];
  const live = addressOf(leader, membership);
  if (live.kind === 'unknown' || live.address === address) return [];
  return [
    `rank 0 is taken to be ${address}, yet the live leader is ${live.address}: set annotation ${berth.leaderAddress}`,
  ];
}

function addressOf({ name, hostname, subdomain }: LeaderIdentity, { namespace }: Membership): LeaderAddress {
  const host = (hostname ?? '') === '' ? name : hostname;
  if (host === '' || (subdomain ?? '') === '') return { kind: 'unknown', warnings: [] };
  return { kind: 'known', address: `${host}.${subdomain}.${namespace}`, warnings: [] };
}

function isHost(text: string): boolean {
  if (text.length > 253) return false;
  const isIpv6 = /^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*$/.test(text);
  return (
    isIpv6 || text.split('.').every(label => /^[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?$/.test(label))
  );
}

function unknownAddress(why: string): LeaderAddress {
  const remedy = `set spec.subdomain to a headless Service, or annotation ${berth.leaderAddress}`;
  return { kind: 'unknown', warnings: [`no leader address is injected, for ${why}: ${remedy}`] };
}

interface EnvFacts {
  readonly membership: Membership;
  readonly port: string;
  readonly leader: LeaderAddress;
}

/** All entries that a container should end up with, in their order. */
function wantedEnv(container: Container, { membership, port, leader }: EnvFacts): readonly EnvVar[] {
  const { kind, size, rank } = membership;
  const derived = leader.kind === 'known' ? leader.address : undefined;
  const master = publishedAddress(container, membership) ?? derived;
  const entries: (EnvVar | undefined)[] = [
    kind === 'labelled' ? variable(lws.envLeaderAddress, derived) : undefined,
    kind === 'labelled' ? variable(lws.envGroupSize, String(size)) : undefined,
    kind === 'labelled' ? variable(lws.envWorkerIndex, String(rank)) : undefined,
    variable('MASTER_ADDR', master),
    variable('MASTER_PORT', port),
    variable('NNODES', String(size)),
    variable('NODE_RANK', String(rank)),
  ];
  return entries.filter(entry => entry !== undefined);
}

function variable(name: string, value: string | undefined): EnvVar | undefined {
  return value === undefined ? undefined : { name, value };
}

/**
 * The container's own leader address, so that both names always say the same. In LWS groups only what LWS has put
 * there counts: it will replace any entry of the user (LWS addEnvVarsIfNotExists).
 */
function publishedAddress({ env = [] }: Container, { kind }: Membership): string | undefined {
  if (kind === 'lws' && leadingLwsEntries(env) < lwsNames.length) return undefined;
  const value = env.findLast(entry => entry.name === lws.envLeaderAddress)?.value;
  return value === undefined || value === '' || value.includes('$(') ? undefined : value;
}

function leadingLwsEntries(env: readonly EnvVar[]): number {
  const end = env.findIndex(entry => !lwsNames.includes(entry.name));
  return end === -1 ? env.length : end;
}

function insertEnv(
  containerPath: string,
  env: readonly EnvVar[] | undefined,
  wanted: readonly EnvVar[],
): readonly JsonPatchOperation[] {
  if (env === undefined) return [{ op: 'add', path: `${containerPath}/env`, value: wanted }];
  const present = new Set(env.map(entry => entry.name));
  const start = leadingLwsEntries(env);
  return wanted
    .filter(entry => !present.has(entry.name))
    .map((value, offset) => ({ op: 'add', path: `${containerPath}/env/${start + offset}`, value }));
}

/** Ephemeral containers are left out: they cannot be there at CREATE. */
function containerSites({ spec }: Pod): readonly { readonly container: Container; readonly path: string }[] {
  const site = (list: string) => (container: Container, index: number) => ({
    container,
    path: `/spec/${list}/${index}`,
  });
  return [
    ...(spec.initContainers ?? []).map(site('initContainers')),
    ...spec.containers.map(site('containers')),
  ];
}

function setsName(container: Container, name: string): boolean {
  return container.env?.some(entry => entry.name === name) ?? false;
}

/**
 * References to LWS keys that the pod does not have and that LWS never sets: such a variable is empty for ever, and
 * manifests in the field rely on it.
 */
function deadReferences(pod: Pod, membership: Membership): readonly string[] {
  const warnings = containerSites(pod).flatMap(({ container }) =>
    (container.env ?? []).flatMap(entry => {
      const reference = metadataReference(entry.valueFrom);
      if (reference === undefined || isSet(pod, membership, reference)) return [];
      const { map, key } = reference;
      return [
        `env ${entry.name} of container ${container.name} reads ${map}['${key}'], which LeaderWorkerSet never sets`,
      ];
    }),
  );
  return [...new Set(warnings)];
}

interface MetadataReference {
  readonly map: 'annotations' | 'labels';
  readonly key: string;
}

function metadataReference(valueFrom: unknown): MetadataReference | undefined {
  const fieldRef = isRecord(valueFrom) ? valueFrom.fieldRef : undefined;
  const fieldPath = isRecord(fieldRef) ? fieldRef.fieldPath : undefined;
  if (typeof fieldPath !== 'string') return undefined;
  const [, map, key] = /^metadata\.(annotations|labels)\['([^']+)'\]$/.exec(fieldPath) ?? [];
  if (key === undefined || !key.startsWith(lwsPrefix)) return undefined;
  return { map: map === 'labels' ? 'labels' : 'annotations', key };
}

function isSet(pod: Pod, { kind }: Membership, { map, key }: MetadataReference): boolean {
  return pod.metadata[map]?.[key] !== undefined || (kind === 'lws' && lwsKeys[map].has(key));
}
