import type { Container, Pod, Volume } from '../src/api/kubernetes.ts';
import { berth } from '../src/api/names.ts';
import type { JsonPatchOperation } from '../src/cluster/node-affinity.ts';
import { isAcceleratorResource } from '../src/cluster/resources.ts';
import { whyNotReference } from './oci-reference.ts';
import {
  annotationField,
  type Injection,
  isRefusal,
  nothingToInject,
  type Refusal,
  refuse,
} from './review.ts';

/** What the annotations ask for. */
interface ModelRequest {
  readonly reference: string;
  /** Without a slash at the end. */
  readonly mountPath: string;
  readonly pullPolicy: string;
  /** Undefined: the containers that compute. */
  readonly containers: readonly string[] | undefined;
}

interface Target {
  readonly container: Container;
  /** JSON pointer of the container. */
  readonly path: string;
}

const volumeName = 'berth-model';
const pullPolicies: readonly string[] = ['Always', 'IfNotPresent', 'Never'];

/**
 * Mounts the model weights that annotation `berth.dev/model` names as an image volume (KEP-4639), read-only, into the
 * containers that compute or those that are named. One volume for the pod; a container that has something mounted at
 * the path, or below it, keeps what it has.
 */
export function modelOps(pod: Pod): Injection | Refusal {
  const request = readRequest(pod.metadata.annotations ?? {});
  if (request === undefined) return nothingToInject;
  if (isRefusal(request)) return request;
  const targets = targetsOf(pod, request);
  if (isRefusal(targets)) return targets;
  const volume = volumeFor(pod, request);
  if (isRefusal(volume)) return volume;

  const own = new Set([volume.name, ...imageVolumes(pod, request).map(({ name }) => name)]);
  const mounts: JsonPatchOperation[] = [];
  const warnings: string[] = [];
  for (const target of targets) {
    const obstacle = mountAt(target.container, request.mountPath);
    if (obstacle === undefined) mounts.push(addMount(target, volume.name, request.mountPath));
    else if (!obstacle.isThere || !own.has(obstacle.volume))
      warnings.push(leftAlone(target.container, obstacle));
  }
  return { ops: mounts.length === 0 ? [] : [...volume.ops, ...mounts], warnings };
}

function readRequest(annotations: Readonly<Record<string, string>>): ModelRequest | Refusal | undefined {
  const reference = annotations[berth.model];
  if (reference === undefined) return undefined;
  const fault = whyNotReference(reference);
  if (fault !== undefined) return refuse(annotationField(berth.model), fault, reference);
  const path = annotations[berth.modelMountPath] ?? '/models';
  const mountPath = normalPath(path);
  if (mountPath === undefined) {
    const rule = 'must be an absolute path below / without empty, "." or ".." parts and without colons';
    return refuse(annotationField(berth.modelMountPath), rule, path);
  }
  const pullPolicy = annotations[berth.modelPullPolicy] ?? 'IfNotPresent';
  if (!pullPolicies.includes(pullPolicy)) {
    return refuse(
      annotationField(berth.modelPullPolicy),
      `must be one of ${pullPolicies.join(', ')}`,
      pullPolicy,
    );
  }
  return { reference, mountPath, pullPolicy, containers: readNames(annotations[berth.modelContainers]) };
}

/** Undefined when the path cannot be a mount point (Kubernetes refuses colons in mountPath). */
function normalPath(path: string): string | undefined {
  const trimmed = path.endsWith('/') ? path.slice(0, -1) : path;
  const [root, ...parts] = trimmed.split('/');
  if (root !== '' || parts.length === 0 || path.includes(':')) return undefined;
  return parts.some(part => part === '' || part === '.' || part === '..') ? undefined : trimmed;
}

function readNames(text: string | undefined): readonly string[] | undefined {
  if (text === undefined) return undefined;
  const names = text.split(',').map(name => name.trim());
  return [...new Set(names.filter(name => name !== ''))];
}

/**
 * Containers named by the user, init containers and sidecars included. By default those that ask for devices, or all
 * ordinary ones if none does.
 */
function targetsOf({ spec }: Pod, { containers: names }: ModelRequest): readonly Target[] | Refusal {
  const ordinary = spec.containers.map((container, index) => ({
    container,
    path: `/spec/containers/${index}`,
  }));
  if (names === undefined) {
    const computing = ordinary.filter(({ container }) => asksForDevices(container));
    return computing.length > 0 ? computing : ordinary;
  }
  const field = annotationField(berth.modelContainers);
  if (names.length === 0) return refuse(field, 'must name at least one container', '');
  const initial = (spec.initContainers ?? []).map((container, index) => ({
    container,
    path: `/spec/initContainers/${index}`,
  }));
  const all = [...initial, ...ordinary];
  const unknown = names.find(name => !all.some(({ container }) => container.name === name));
  if (unknown !== undefined) return refuse(field, 'must name containers of the pod', unknown);
  return all.filter(({ container }) => names.includes(container.name));
}

function asksForDevices({ resources = {} }: Container): boolean {
  if ((resources.claims?.length ?? 0) > 0) return true;
  const amounts = [...Object.entries(resources.limits ?? {}), ...Object.entries(resources.requests ?? {})];
  return amounts.some(
    ([name, amount]) => isAcceleratorResource(name) && Number.parseFloat(String(amount)) > 0,
  );
}

/** A volume of the same image is used as it is, whoever made it; otherwise one is added under Berth's name. */
function volumeFor(
  pod: Pod,
  request: ModelRequest,
): { readonly name: string; readonly ops: readonly JsonPatchOperation[] } | Refusal {
  const [present] = imageVolumes(pod, request);
  if (present !== undefined) return { name: present.name, ops: [] };
  const volumes = pod.spec.volumes;
  const taken = volumes?.findIndex(volume => volume.name === volumeName) ?? -1;
  if (taken !== -1) {
    return refuse(
      `spec.volumes[${taken}].name`,
      `is kept for the image of annotation ${berth.model}`,
      volumeName,
    );
  }
  const volume: Volume = {
    name: volumeName,
    image: { reference: request.reference, pullPolicy: request.pullPolicy },
  };
  const op: JsonPatchOperation =
    volumes === undefined
      ? { op: 'add', path: '/spec/volumes', value: [volume] }
      : { op: 'add', path: '/spec/volumes/-', value: volume };
  return { name: volumeName, ops: [op] };
}

function imageVolumes(pod: Pod, { reference, pullPolicy }: ModelRequest): readonly Volume[] {
  const same = (pod.spec.volumes ?? []).filter(volume => volume.image?.reference === reference);
  // Berth's own volume with another pull policy is none of ours: the user wrote it, and both cannot hold.
  return same.filter(volume => volume.name !== volumeName || volume.image?.pullPolicy === pullPolicy);
}

interface Obstacle {
  readonly volume: string;
  readonly mountPath: string;
  /** At the very path, not below it. */
  readonly isThere: boolean;
}

/** What a container has mounted at a path, or else below it: there is no mounting below a read-only image. */
function mountAt({ volumeMounts = [] }: Container, wanted: string): Obstacle | undefined {
  const obstacles = volumeMounts.flatMap(({ name, mountPath }) => {
    const path = normalPath(mountPath) ?? mountPath;
    if (path !== wanted && !path.startsWith(`${wanted}/`)) return [];
    return [{ volume: name, mountPath, isThere: path === wanted }];
  });
  return obstacles.find(obstacle => obstacle.isThere) ?? obstacles[0];
}

function leftAlone(container: Container, { volume, mountPath }: Obstacle): string {
  return `container ${container.name} has volume ${volume} at ${mountPath}, so the model is not mounted there`;
}

function addMount({ container, path }: Target, name: string, mountPath: string): JsonPatchOperation {
  const mount = { name, mountPath, readOnly: true };
  return container.volumeMounts === undefined
    ? { op: 'add', path: `${path}/volumeMounts`, value: [mount] }
    : { op: 'add', path: `${path}/volumeMounts/-`, value: mount };
}
