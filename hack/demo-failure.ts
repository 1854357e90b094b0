import type { ConfigMap, KubernetesObject, Pod } from '../src/api/kubernetes.ts';
import { berth } from '../src/api/names.ts';
import { type Intent, isIntentError, parseIntent } from '../src/failure/intent.ts';
import { membersOf } from './demo-actions.ts';
import { type Picture, takePicture } from './demo-picture.ts';
import { isBound, isReady, type PodBoard } from './demo-pods.ts';
import { gpu, namespaces, singleNamespaces, small } from './demo-scenario.ts';
import { collectionPath, rounded, type World } from './demo-world.ts';

/** A device of one member is reported Unhealthy. */
export interface Hurt {
  readonly kind: 'hurt';
  readonly picture: Picture;
  readonly pod: string;
  readonly node: string;
}

/** What is known of the group, and of all others, when it is whole again. */
export interface Recovered {
  readonly kind: 'recovered';
  readonly picture: Picture;
  readonly group: string;
  /** The host that the group must not be on. */
  readonly badNode: string;
  /** From the report until every new member was ready. */
  readonly durationMs: number;
  readonly intents: readonly Intent[];
  /** Of the group's leader, in the order of the story. */
  readonly events: readonly { readonly reason: string; readonly message: string }[];
  /** Members of the group, and how many of them are the same pods as before. */
  readonly members: { readonly now: number; readonly same: number };
  /** Pods of others before, and how many of them are the same now. */
  readonly others: { readonly before: number; readonly same: number };
}

export type FailureStep = Hurt | Recovered;

interface EventObject extends KubernetesObject {
  readonly involvedObject: { readonly kind?: string; readonly name?: string };
  readonly reason?: string;
  readonly message?: string;
}

/** What Berth says of a recovery, in this order. */
export const recoveryReasons: readonly string[] = ['FailureDetected', 'GroupEvicted', 'GroupRecovered'];

const device = 'gpu-3';

/** A GPU under one member breaks, and Berth gives the whole group another place. */
export async function playFailure(
  world: World,
  board: PodBoard,
  tell: (step: FailureStep) => void,
): Promise<void> {
  const namespace = namespaces.berth;
  const group = `${small.name}-0`;
  const victimName = `${group}-${small.size - 1}`;
  const isWhole = () => {
    const members = membersOf(board, small);
    return members.length === small.size && members.every(isBound) && members.every(isReady);
  };
  await board.until(`all of ${group} to be ready`, isWhole);
  const old = uidsOf(membersOf(board, small));
  const othersBefore = uidsOf(othersOn(board));
  const victim = board.find(namespace, victimName);
  const badNode = victim?.spec.nodeName ?? '';
  await reportUnhealthy(world, `${collectionPath(namespace, 'pods')}/${victimName}`);
  const reportedAtMs = performance.now();
  tell({ kind: 'hurt', picture: pictureOf(board, badNode), pod: victimName, node: badNode });

  await board.until(`${group} to be new and whole`, () => {
    return isWhole() && [...uidsOf(membersOf(board, small))].every(uid => !old.has(uid));
  });
  const durationMs = rounded(performance.now() - reportedAtMs);
  let intents: readonly Intent[] = [];
  await board.until('the intent to be closed', async () => {
    intents = await readIntents(world);
    return intents.length > 0 && intents.every(({ phase }) => phase === 'closed');
  });
  let events: Recovered['events'] = [];
  await board.until('the events of the recovery', async () => {
    events = await readEvents(world, group);
    return events.length >= recoveryReasons.length;
  });
  const now = uidsOf(membersOf(board, small));
  const othersNow = uidsOf(othersOn(board));
  tell({
    kind: 'recovered',
    picture: pictureOf(board, badNode),
    group,
    badNode,
    durationMs,
    intents,
    events,
    members: { now: now.size, same: [...now].filter(uid => old.has(uid)).length },
    others: {
      before: othersBefore.size,
      same: [...othersBefore].filter(uid => othersNow.has(uid)).length,
    },
  });
}

/** What the kubelet writes into a pod's status (allocatedResourcesStatus) when a device plugin calls a device unhealthy. */
async function reportUnhealthy(world: World, path: string): Promise<void> {
  const { status } = await world.request<Pod>('GET', path);
  const health = [{ name: gpu, resources: [{ resourceID: device, health: 'Unhealthy' }] }];
  const containerStatuses = (status?.containerStatuses ?? []).map(container => {
    return { ...container, allocatedResourcesStatus: health };
  });
  await world.request('PATCH', `${path}/status`, { status: { containerStatuses } });
}

function pictureOf(board: PodBoard, badNode: string): Picture {
  return takePicture(board.all(), namespaces.berth, [badNode]);
}

/** All pods of the story but those of the group that is hurt. */
function othersOn(board: PodBoard): readonly Pod[] {
  const members = uidsOf(membersOf(board, small));
  const shown = [...singleNamespaces, namespaces.berth].flatMap(namespace => board.pods(namespace));
  return shown.filter(({ metadata }) => !members.has(metadata.uid ?? ''));
}

function uidsOf(pods: readonly Pod[]): ReadonlySet<string> {
  return new Set(pods.map(({ metadata }) => metadata.uid ?? ''));
}

async function readIntents(world: World): Promise<readonly Intent[]> {
  const path = `${collectionPath('berth-system', 'configmaps')}?labelSelector=${berth.intent}`;
  const { items } = await world.request<{ items: readonly ConfigMap[] }>('GET', path);
  return items.map(({ metadata, data }) => {
    const intent = parseIntent(data?.['intent.json'] ?? '');
    if (isIntentError(intent)) throw new Error(`ConfigMap ${metadata.name}: ${intent.message}`);
    return intent;
  });
}

async function readEvents(world: World, leaderName: string): Promise<Recovered['events']> {
  const path = collectionPath(namespaces.berth, 'events');
  const { items } = await world.request<{ items: readonly EventObject[] }>('GET', path);
  return recoveryReasons.flatMap(wanted =>
    items
      .filter(({ involvedObject: { kind, name } }) => kind === 'Pod' && name === leaderName)
      .filter(({ reason }) => reason === wanted)
      .map(({ reason = '', message = '' }) => ({ reason, message })),
  );
}
