import { z } from 'zod';
import { type PreemptionSettings, preemptionDefaults } from './controller/preemption.ts';
import { preemptionModes } from './failure/claim.ts';

type NumberKey = Exclude<keyof PreemptionSettings, 'enabled' | 'dryRun'>;

const dayInSeconds = 86_400;

function seconds(key: NumberKey, about: string) {
  return z.number().min(0).max(dayInSeconds).default(preemptionDefaults[key]).describe(about);
}

function count(key: NumberKey, about: string) {
  return z.int().min(1).max(100_000).default(preemptionDefaults[key]).describe(about);
}

/** Configuration of preemption; keys and defaults are those of PreemptionSettings. */
export const preemptionSchema = z
  .strictObject({
    mode: z
      .enum(preemptionModes)
      .default('off')
      .describe('groups that find no room: off, observe (say whom they would evict) or evict'),
    afterSeconds: seconds('afterSeconds', 'a group waits for room that comes by itself for so long'),
    maxVictims: count('maxVictims', 'groups and single pods that one group may cost'),
    maxVictimPods: count('maxVictimPods', 'and pods in all'),
    maxAtOnce: count('maxAtOnce', 'preemptions under way in the whole cluster'),
    maxVictimsPerHour: count('maxVictimsPerHour', 'groups and single pods preempted within an hour'),
    backOffSeconds: seconds(
      'backOffSeconds',
      'wait after a preemption whose group did not get its place, which doubles',
    ),
    maxBackOffSeconds: seconds('maxBackOffSeconds', 'longest such wait'),
    keepPlaceSeconds: z
      .number()
      .min(1)
      .max(dayInSeconds)
      .default(900)
      .describe('the place is kept for so long, which must be enough for victims to end'),
  })
  .prefault({});
