import type { KubernetesObject, Pod } from '../src/api/kubernetes.ts';
import { berth } from '../src/api/names.ts';
import type { BerthProcess } from './bed/berth-process.ts';
import { create, deleteIfThere, membersOf, podsOf, scale, submit } from './demo-actions.ts';
import { type CallTimes, callTimes, type ExtenderStep, playExtender } from './demo-extender.ts';
import { type FailureStep, playFailure } from './demo-failure.ts';
import { type Picture, takePicture } from './demo-picture.ts';
import { isBound, isUnschedulable, PodBoard } from './demo-pods.ts';
import { fleet, large, late, namespaces, newcomers, residents, small } from './demo-scenario.ts';
import { type AdmissionTimes, collectionPath, rounded, type World } from './demo-world.ts';

/** From the creation of a LeaderWorkerSet until its last pod was bound. */
export interface Placement {
  readonly workload: string;
  readonly pods: number;
  readonly durationMs: number;
}

/** What Berth's webhook has put into one pod. */
export interface Injected {
  readonly pod: string;
  readonly env: readonly { readonly name: string; readonly value?: string }[];
  readonly volume:
    | { readonly name: string; readonly reference: string; readonly mountPath: string }
    | undefined;
}

/** What happened, in the order in which it is told. */
export type Step =
  | { readonly kind: 'fleet'; readonly picture: Picture }
  | { readonly kind: 'stock'; readonly picture: Picture }
  | { readonly kind: 'started'; readonly durationMs: number; readonly berth: BerthProcess }
  | { readonly kind: 'placed'; readonly picture: Picture; readonly placements: readonly Placement[] }
  | { readonly kind: 'waits'; readonly picture: Picture; readonly pod: string; readonly sentence: string }
  | {
      readonly kind: 'freed';
      readonly picture: Picture;
      readonly deleted: string;
      /** From the deletion of the other group on. */
      readonly durationMs: number;
    }
  | { readonly kind: 'injected'; readonly injected: Injected }
  | ExtenderStep
  | FailureStep
  | { readonly kind: 'times'; readonly admission: AdmissionTimes; readonly calls: readonly CallTimes[] };

const conditionReasonOf = (pod: Pod | undefined) =>
  pod?.status?.conditions?.find(({ type }) => type === berth.placedCondition);

/**
 * The same workloads twice on one cluster: left to the scheduler, then with Berth.
 *
 * @throws StoryStuck when something never comes
 */
export async function tellStory(world: World, tell: (step: Step) => void): Promise<void> {
  const board = new PodBoard(world);
  try {
    await prepare(world, board);
    tell({ kind: 'fleet', picture: takePicture(board.all(), namespaces.residents) });
    tell({ kind: 'stock', picture: await playStock(world, board) });
    await clear(world, board, namespaces.stock);
    await playBerth(world, board, tell);
  } finally {
    board.close();
  }
}

async function prepare(world: World, board: PodBoard): Promise<void> {
  await world.createFleet(fleet.nodes);
  await world.createNamespace(namespaces.residents, {});
  await create(world, namespaces.residents, residents());
  await board.until('the first pods', () => board.pods(namespaces.residents).length === residents().length);
}

/** All workloads in a namespace that has not opted in, until nothing moves any more. */
async function playStock(world: World, board: PodBoard): Promise<Picture> {
  const { stock } = namespaces;
  await world.createNamespace(stock, {});
  await create(world, stock, newcomers());
  for (const workload of [small, large, late]) await submit(world, stock, workload);
  const expected = newcomers().length + [small, large, late].reduce((sum, next) => sum + podsOf(next), 0);
  await board.until('kube-scheduler to have looked at all pods', () => {
    const pods = board.pods(stock);
    return pods.length === expected && pods.every(pod => isBound(pod) || isUnschedulable(pod));
  });
  return takePicture(board.all(), stock);
}

/**
 * Deletes everything of a namespace from the top down, and does not wait for the garbage collector: a young one may not
 * know LeaderWorkerSets yet, and learns of new kinds every 30 s only.
 */
async function clear(world: World, board: PodBoard, namespace: string): Promise<void> {
  for (const resource of ['leaderworkersets', 'statefulsets', 'pods'] as const) {
    const path = collectionPath(namespace, resource);
    const { items } = await world.request<{ items: KubernetesObject[] }>('GET', path);
    for (const { metadata } of items) await deleteIfThere(world, `${path}/${metadata.name}`);
  }
  await board.until(`the pods of ${namespace} to be gone`, () => board.pods(namespace).length === 0);
}

async function playBerth(world: World, board: PodBoard, tell: (step: Step) => void): Promise<void> {
  const namespace = namespaces.berth;
  await world.createNamespace(namespace, { [berth.mode]: 'pin', [berth.singles]: 'pin' });
  const startedMs = performance.now();
  const process = await world.startBerth();
  try {
    tell({ kind: 'started', durationMs: performance.now() - startedMs, berth: process });
    const picture = () => takePicture(board.all(), namespace);
    const placements = await placeAll(world, board);
    tell({ kind: 'placed', picture: picture(), placements });

    await submit(world, namespace, late);
    const leader = `${late.name}-0`;
    await board.until(`Berth to say why ${leader} waits`, () => {
      const isWhole = membersOf(board, late).length === late.size;
      return isWhole && conditionReasonOf(board.find(namespace, leader))?.status === 'False';
    });
    const sentence = conditionReasonOf(board.find(namespace, leader))?.message ?? '';
    tell({ kind: 'waits', picture: picture(), pod: leader, sentence });

    const deleted = `${large.name}-${large.replicas - 1}`;
    const deletedAtMs = performance.now();
    await scale(world, large, large.replicas - 1);
    await board.until(`${leader} to be placed`, () => membersOf(board, late).every(isBound));
    const durationMs = rounded(board.lastBoundAtMs(membersOf(board, late)) - deletedAtMs);
    tell({ kind: 'freed', picture: picture(), deleted, durationMs });

    tell({ kind: 'injected', injected: injectedInto(board.find(namespace, `${large.name}-0-1`)) });
    await playExtender(world, board, process, tell);
    await playFailure(world, board, tell);
    tell({ kind: 'times', admission: await world.admissionTimes(), calls: await callTimes(process) });
  } finally {
    await process.stop();
  }
}

async function placeAll(world: World, board: PodBoard): Promise<readonly Placement[]> {
  const namespace = namespaces.berth;
  await create(world, namespace, newcomers());
  await board.until('the single pods to be bound', () => board.pods(namespace).every(isBound));
  const placements: Placement[] = [];
  for (const workload of [small, large]) {
    const startedMs = performance.now();
    await submit(world, namespace, workload);
    await board.until(`all pods of ${workload.name} to be bound`, () => {
      const members = membersOf(board, workload);
      return members.length === podsOf(workload) && members.every(isBound);
    });
    const members = membersOf(board, workload);
    const durationMs = rounded(board.lastBoundAtMs(members) - startedMs);
    placements.push({ workload: workload.name, pods: members.length, durationMs });
  }
  return placements;
}

function injectedInto(pod: Pod | undefined): Injected {
  const container = pod?.spec.containers[0];
  const env = (container?.env ?? []).flatMap(({ name, value }) => [
    value === undefined ? { name } : { name, value },
  ]);
  const volume = pod?.spec.volumes?.find(({ image }) => image !== undefined);
  const mount = container?.volumeMounts?.find(({ name }) => name === volume?.name);
  return {
    pod: pod?.metadata.name ?? '',
    env,
    volume: volume && {
      name: volume.name,
      reference: volume.image?.reference ?? '',
      mountPath: mount?.mountPath ?? '',
    },
  };
}
