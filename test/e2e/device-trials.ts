import { ApiFailure } from '../../hack/bed/api-client.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { type Fleet, racks } from '../../hack/bed/fleet-presets.ts';
import type { Pod } from '../../src/api/kubernetes.ts';
import { conditionOf, singlePod, until } from './bed.ts';
import { claiming } from './devices.ts';
import { classes, type DeviceCase, randomCase, type Wish } from './random-devices.ts';
import { seededRandom } from './seeded-random.ts';

/** A random case with nodes of its own, which nobody else of a run uses. */
export interface Trial {
  readonly name: string;
  readonly racks: readonly string[];
  readonly fleet: Fleet;
  readonly devices: DeviceCase;
}

const rackLabel = 'example.com/rack';
const blockLabel = 'example.com/block';
const resourceApi = '/apis/resource.k8s.io/v1';
/** Hosts of each rack. */
const shapes: readonly (readonly number[])[] = [[1], [2], [1, 1], [2, 1], [3]];
const sharedClaim = 'shared';
const lanes = 8;

export function trialOf(seed: number, index: number): Trial {
  const random = seededRandom(seed + index);
  const name = `c${String(index).padStart(3, '0')}`;
  const hosts = shapes[Math.floor(random() * shapes.length)] ?? [1];
  const nodes = hosts.flatMap((hostsPerRack, rack) =>
    racks({ racks: 1, hostsPerRack, gpus: 0 }).map((node, host) => {
      const own = `${name}-r${rack}-h${host}`;
      const labels = {
        ...node.metadata.labels,
        [blockLabel]: name,
        [rackLabel]: `${name}-r${rack}`,
        'kubernetes.io/hostname': own,
      };
      return { ...node, metadata: { ...node.metadata, name: own, labels } };
    }),
  );
  const devices = randomCase(
    index,
    nodes.map(({ metadata }) => metadata.name ?? ''),
    random,
  );
  return {
    name,
    racks: hosts.map((_, rack) => `${name}-r${rack}`),
    fleet: { name, nodes, slices: devices.slices },
    devices,
  };
}

/** The fleets of some trials as one, with the classes that all of them use. */
export function fleetOf(name: string, trials: readonly Trial[]): Fleet {
  return {
    name,
    nodes: trials.flatMap(({ fleet }) => fleet.nodes),
    slices: trials.flatMap(({ fleet }) => fleet.slices ?? []),
    deviceClasses: classes,
  };
}

/** The pods of a namespace as they are now, kept by a watch; `end` ends it. */
export function followPods(cluster: Cluster, namespace: string) {
  const pods = new Map<string, Pod>();
  const stranded = new Map<string, string>();
  const end = cluster.watch(`/api/v1/namespaces/${namespace}/pods`, (type, object) => {
    const pod = object as unknown as Pod;
    const name = pod.metadata.name ?? '';
    if (type === 'DELETED') pods.delete(name);
    else pods.set(name, pod);
    const message = refusalOf(pod);
    if (message !== undefined && isPinned(pod)) stranded.set(name, message);
  });
  return { pods, stranded, end };
}

/** Why kube-scheduler has refused a pod; not while one that shares its claim is about to have it allocated. */
export function refusalOf(pod: Pod): string | undefined {
  const scheduled = conditionOf(pod, 'PodScheduled');
  if (scheduled?.status !== 'False' || scheduled.reason === 'SchedulingGated') return undefined;
  return scheduled.message?.includes('in the process of being allocated') ? undefined : scheduled.message;
}

/** Takes what strangers want, where it can be had; those that find nothing are gone again. */
export async function letStrangersIn(
  cluster: Cluster,
  namespace: string,
  trials: readonly Trial[],
): Promise<void> {
  const { pods, end } = followPods(cluster, namespace);
  try {
    const strangers = trials.flatMap(({ devices }) => devices.strangers);
    await inLanes(strangers, async ({ node, wish }) => {
      await createClaimOf(cluster, namespace, node, wish);
      const spec = {
        nodeSelector: { 'kubernetes.io/hostname': node },
        ...claiming({ claims: { devices: node } }),
      };
      await createObject(
        cluster,
        `/api/v1/namespaces/${namespace}/pods`,
        singlePod(namespace, node, {}, spec),
      );
    });
    await until('strangers to be bound or refused', 60_000, () =>
      strangers.every(({ node }) => {
        const pod = pods.get(node);
        return pod !== undefined && (pod.spec.nodeName !== undefined || refusalOf(pod) !== undefined);
      }),
    );
    const refused = [...pods.values()].filter(({ spec }) => spec.nodeName === undefined);
    await Promise.all(refused.map(pod => removePod(cluster, namespace, pod.metadata.name ?? '')));
    await Promise.all(refused.map(pod => removeClaim(cluster, namespace, pod.metadata.name ?? '')));
  } finally {
    end();
  }
}

/** The group of a trial, as one that Berth is to place whole in one rack. */
export async function createGroup(
  cluster: Cluster,
  namespace: string,
  { name, devices }: Trial,
): Promise<void> {
  const { templates, members, shared } = devices;
  await Promise.all(
    templates.map(({ requests, constraints }, index) =>
      createObject(cluster, `${resourceApi}/namespaces/${namespace}/resourceclaimtemplates`, {
        apiVersion: 'resource.k8s.io/v1',
        kind: 'ResourceClaimTemplate',
        metadata: { name: `${name}-${index}`, namespace },
        spec: { spec: { devices: { requests, ...(constraints && { constraints }) } } },
      }),
    ),
  );
  if (shared !== undefined) await createClaimOf(cluster, namespace, `${name}-${sharedClaim}`, shared);
  await Promise.all(
    members.map((template, rank) => {
      const labels = {
        'berth.dev/group': name,
        'berth.dev/group-size': String(members.length),
        'berth.dev/group-rank': String(rank),
      };
      const claims = shared && { claims: { [sharedClaim]: `${name}-${sharedClaim}` } };
      const spec = {
        nodeSelector: { [blockLabel]: name },
        ...claiming({ templates: { own: `${name}-${template}` }, ...claims }),
      };
      const pod = singlePod(namespace, memberName(name, rank), {}, spec, labels);
      const metadata = {
        ...(pod['metadata'] as object),
        annotations: { 'berth.dev/required-topology': 'rack' },
      };
      return createMember(cluster, `/api/v1/namespaces/${namespace}/pods`, { ...pod, metadata });
    }),
  );
}

export function memberName(trial: string, rank: number): string {
  return `${trial}-${rank}`;
}

/**
 * Whether kube-scheduler by itself finds places for all members of a trial in one of its racks: racks one after the other,
 * members in every order that makes a difference. Where, in words; undefined when it never does. Leaves nothing behind.
 */
export async function placeByStock(
  cluster: Cluster,
  namespace: string,
  trial: Trial,
): Promise<string | undefined> {
  const { devices } = trial;
  let attempt = 0;
  for (const rack of trial.racks) {
    for (const order of ordersOf(devices.members)) {
      const placed = await tryOrder(cluster, namespace, trial, { rack, order, attempt: attempt++ });
      if (placed) return `rack ${rack}, templates in the order ${order.join()}`;
    }
  }
  return undefined;
}

async function tryOrder(
  cluster: Cluster,
  namespace: string,
  { name, devices }: Trial,
  {
    rack,
    order,
    attempt,
  }: { readonly rack: string; readonly order: readonly number[]; readonly attempt: number },
): Promise<boolean> {
  const base = `${name}-${attempt}`;
  const made = { pods: [] as string[], claims: [] as string[] };
  const claim = async (claimName: string, wish: Wish) => {
    made.claims.push(claimName);
    await createClaimOf(cluster, namespace, claimName, wish);
    return claimName;
  };
  try {
    const shared = devices.shared && { [sharedClaim]: await claim(`${base}-${sharedClaim}`, devices.shared) };
    for (const [at, template] of order.entries()) {
      const podName = `${base}-${at}`;
      const own = await claim(podName, devices.templates[template] ?? { requests: [] });
      const spec = { nodeSelector: { [rackLabel]: rack }, ...claiming({ claims: { own, ...shared } }) };
      made.pods.push(podName);
      const path = `/api/v1/namespaces/${namespace}/pods`;
      await createObject(cluster, path, singlePod(namespace, podName, {}, spec));
      let pod: Pod | undefined;
      await until(`${podName} to be bound or refused`, 30_000, async () => {
        pod = await cluster.request<Pod>('GET', `${path}/${podName}`);
        return pod.spec.nodeName !== undefined || refusalOf(pod) !== undefined;
      });
      if (pod?.spec.nodeName === undefined) return false;
    }
    return true;
  } finally {
    await Promise.all(made.pods.map(pod => removePod(cluster, namespace, pod)));
    await Promise.all(made.claims.map(each => removeClaim(cluster, namespace, each)));
  }
}

/** Distinct orders of members that may be alike. */
export function ordersOf(members: readonly number[]): readonly (readonly number[])[] {
  if (members.length === 0) return [[]];
  return [...new Set(members)].flatMap(first => {
    const rest = members.toSpliced(members.indexOf(first), 1);
    return ordersOf(rest).map(order => [first, ...order]);
  });
}

/** Does something for each of many, a few at a time: a busy machine would not answer all of them in time. */
export async function inLanes<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const queue = items.values();
  const lane = async () => {
    for (const item of queue) await work(item);
  };
  await Promise.all(Array.from({ length: lanes }, lane));
}

async function createClaimOf(
  cluster: Cluster,
  namespace: string,
  name: string,
  { requests, constraints }: Wish,
): Promise<void> {
  await createObject(cluster, `${resourceApi}/namespaces/${namespace}/resourceclaims`, {
    apiVersion: 'resource.k8s.io/v1',
    kind: 'ResourceClaim',
    metadata: { name, namespace },
    spec: { devices: { requests, ...(constraints && { constraints }) } },
  });
}

async function createObject(cluster: Cluster, path: string, object: object): Promise<void> {
  await cluster.request('POST', path, object);
}

/** Controllers try again when a webhook does not answer in time, as happens on a machine with too much to do. */
async function createMember(cluster: Cluster, path: string, pod: object): Promise<void> {
  await until(`a member to be created at ${path}`, 60_000, () =>
    createObject(cluster, path, pod).then(
      () => true,
      error => {
        if (error instanceof ApiFailure && error.status === 500) return false;
        throw error;
      },
    ),
  );
}

async function removePod(cluster: Cluster, namespace: string, name: string): Promise<void> {
  await cluster.request('DELETE', `/api/v1/namespaces/${namespace}/pods/${name}`, { gracePeriodSeconds: 0 });
}

/** Gone with its devices: kube-controller-manager first takes back what it was given. */
async function removeClaim(cluster: Cluster, namespace: string, name: string): Promise<void> {
  const path = `${resourceApi}/namespaces/${namespace}/resourceclaims/${name}`;
  await cluster.request('DELETE', path);
  await until(`claim ${name} to be gone`, 30_000, () =>
    cluster.request('GET', path).then(
      () => false,
      () => true,
    ),
  );
}

function isPinned(pod: Pod): boolean {
  return pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution !== undefined;
}
