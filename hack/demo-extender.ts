import type { Pod } from '../src/api/kubernetes.ts';
import { berth } from '../src/api/names.ts';
import { awaitAdmission } from './bed/berth.ts';
import type { BerthProcess } from './bed/berth-process.ts';
import { create, deleteIfThere, membersOf, scale, submit } from './demo-actions.ts';
import { bucketsOf, quantileMs } from './demo-histogram.ts';
import { type Picture, takePicture } from './demo-picture.ts';
import { isBound, isUnschedulable, type PodBoard } from './demo-pods.ts';
import { experiments, large, loading, namespaces, notReadyAnnotation, stranger } from './demo-scenario.ts';
import { collectionPath, rounded, type World } from './demo-world.ts';

/** Single pods came while a rack was empty. */
export interface Scored {
  readonly kind: 'scored';
  /** The group that went before. */
  readonly deleted: string;
  readonly before: Picture;
  readonly singles: readonly { readonly name: string; readonly node: string }[];
}

/** Strangers came while a group had only its leader. */
export interface Held {
  readonly kind: 'held';
  readonly picture: Picture;
  readonly strangers: readonly { readonly name: string; readonly node: string | undefined }[];
  /** What kube-scheduler says of the one that waits. */
  readonly sentence: string;
}

/** The leader was ready, and the group came to be whole. */
export interface Loaded {
  readonly kind: 'loaded';
  readonly picture: Picture;
  /** The worker that came last. */
  readonly worker: string;
  readonly node: string;
  /** From the moment that the leader could start until the worker was bound. */
  readonly durationMs: number;
}

export type ExtenderStep = Scored | Held | Loaded;

/** How kube-scheduler's calls of one verb were answered, as Berth saw it. */
export interface CallTimes {
  readonly verb: 'filter' | 'prioritize';
  readonly calls: number;
  /** Invalid, failed or too early. */
  readonly unanswered: number;
  readonly p50Ms: number;
}

const unansweredOutcomes = ['unsynced', 'invalid', 'failed'];

/** kube-scheduler asks Berth from now on: where singles had best go, and where strangers must not. */
export async function playExtender(
  world: World,
  board: PodBoard,
  process: BerthProcess,
  tell: (step: ExtenderStep) => void,
): Promise<void> {
  const { research, residents, berth: serving } = namespaces;
  await world.request('PATCH', `/api/v1/namespaces/${serving}`, {
    metadata: { labels: { [berth.mode]: 'pin-extender' } },
  });
  await world.createNamespace(research, { [berth.mode]: 'pin-extender' });
  const deleted = `${large.name}-${large.replicas - 2}`;
  await scale(world, large, large.replicas - 2);
  await board.until(`${deleted} to be gone`, () => {
    return !board.pods(serving).some(({ metadata: { name = '' } }) => `${name}-`.startsWith(`${deleted}-`));
  });
  await world.startExtender(process);
  await awaitAdmission(world, research);

  const before = takePicture(board.all(), serving);
  await create(world, research, experiments());
  const singles = () => board.pods(research);
  await board.until('the single pods to be bound', () => {
    return singles().length === experiments().length && singles().every(isBound);
  });
  tell({
    kind: 'scored',
    deleted,
    before,
    singles: singles().map(({ metadata, spec }) => ({
      name: metadata.name ?? '',
      node: spec.nodeName ?? '',
    })),
  });

  await submit(world, serving, loading);
  const leaderName = `${loading.name}-0`;
  await board.until(`${leaderName} to be bound`, () => membersOf(board, loading).some(isBound));
  const { hosts } = takePicture(board.all(), serving);
  const wanted = hosts.filter(({ taken }) => taken === '').map((_, index) => stranger(index));
  await create(world, residents, wanted);
  const strangers = () =>
    board.pods(residents).filter(({ metadata }) => metadata.name?.startsWith('stranger-'));
  await board.until('kube-scheduler to have looked at the strangers', () => {
    return (
      strangers().length === wanted.length && strangers().every(pod => isBound(pod) || isUnschedulable(pod))
    );
  });
  const waiting = strangers().find(pod => !isBound(pod));
  tell({
    kind: 'held',
    picture: takePicture(board.all(), serving),
    strangers: strangers().map(({ metadata, spec }) => ({ name: metadata.name ?? '', node: spec.nodeName })),
    sentence: firstSentence(waiting),
  });

  const releasedAtMs = performance.now();
  await world.request('PATCH', `${collectionPath(serving, 'pods')}/${leaderName}`, {
    metadata: { annotations: { [notReadyAnnotation]: null } },
  });
  const workerName = `${leaderName}-${loading.size - 1}`;
  await board.until(`${loading.name} to be whole`, () => {
    const members = membersOf(board, loading);
    return members.length === loading.size && members.every(isBound);
  });
  const worker = board.find(serving, workerName);
  tell({
    kind: 'loaded',
    picture: takePicture(board.all(), serving),
    worker: workerName,
    node: worker?.spec.nodeName ?? '',
    durationMs: rounded(board.lastBoundAtMs(membersOf(board, loading)) - releasedAtMs),
  });

  for (const { metadata } of wanted) {
    await deleteIfThere(world, `${collectionPath(residents, 'pods')}/${metadata.name}`);
  }
  await board.until('the strangers to be gone', () => strangers().length === 0);
}

/** From the histograms that Berth shows. */
export async function callTimes(process: BerthProcess): Promise<readonly CallTimes[]> {
  const metrics = await process.metrics();
  return (['filter', 'prioritize'] as const).map(verb => {
    const metric = `berth_${verb}_duration_seconds`;
    const all = bucketsOf(metrics, metric, () => true);
    const unanswered = bucketsOf(metrics, metric, labels =>
      unansweredOutcomes.some(outcome => labels.includes(`outcome="${outcome}"`)),
    );
    return {
      verb,
      calls: all.at(-1)?.count ?? 0,
      unanswered: unanswered.at(-1)?.count ?? 0,
      p50Ms: rounded(quantileMs(all, 0.5)),
    };
  });
}

/** kube-scheduler adds what it thinks of preemption. */
function firstSentence(pod: Pod | undefined): string {
  const message = pod?.status?.conditions?.find(({ reason }) => reason === 'Unschedulable')?.message ?? '';
  return message.split('. ')[0]?.replace(/\.$/, '') ?? '';
}
