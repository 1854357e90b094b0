import { type LiveRemaker, type Remaker, stillRemakes } from '../../failure/remakers.ts';
import type { FailureWrites, LiveController } from '../failure-writes.ts';

/** Whether all these controllers would make their pods anew now. Throws as `ApiClient.request` does. */
export async function allRemake(
  writes: FailureWrites,
  namespace: string,
  remakers: readonly Remaker[],
): Promise<boolean> {
  const answers = await Promise.all(
    remakers.map(async remaker => {
      const live = await writes.liveController({ ...remaker, namespace });
      return stillRemakes(remaker, live && asRemaker(live));
    }),
  );
  return answers.every(answer => answer);
}

const endings: readonly string[] = ['Complete', 'Failed', 'SuccessCriteriaMet', 'FailureTarget'];

function asRemaker({ metadata, spec = {}, status = {} }: LiveController): LiveRemaker {
  const ended = status.conditions?.some(({ type, status: is }) => is === 'True' && endings.includes(type));
  return {
    uid: metadata.uid,
    isGoing: metadata.deletionTimestamp !== undefined,
    replicas: spec.replicas ?? 1,
    firstOrdinal: spec.ordinals?.start ?? 0,
    isOver: ended === true || spec.suspend === true,
  };
}
