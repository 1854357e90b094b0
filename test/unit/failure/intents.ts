import type { Intent, IntentTimes } from '../../../src/failure/intent.ts';

/** An open intent that may differ in what the test is about. */
export function intentOf({
  times,
  ...more
}: Partial<Omit<Intent, 'times'>> & { readonly times?: Partial<IntentTimes> } = {}): Intent {
  return {
    shape: 'lws',
    group: 'serving/llm-0',
    owner: { name: 'llm', uid: 'uid-set-llm' },
    remakers: [],
    leaderName: 'llm-0',
    leaderUid: 'uid-llm-0-1',
    workerSetUid: 'uid-workers-llm-0-1',
    members: [
      { rank: 0, name: 'llm-0', uid: 'uid-llm-0-1', node: 'a' },
      { rank: 1, name: 'llm-0-1', uid: 'uid-llm-0-1-1', node: '' },
    ],
    domains: ['rack r0'],
    avoid: [{ node: 'a', nodeUid: 'uid-a', cause: 'device GPU-0 is unhealthy' }],
    plan: ['b', 'c'],
    class: 'certain',
    signal: 'DeviceUnhealthy',
    cause: 'device GPU-0 is unhealthy',
    entity: undefined,
    device: undefined,
    serving: true,
    phase: 'evicting',
    hold: undefined,
    outcome: undefined,
    nextUid: undefined,
    ...more,
    times: {
      signal: 1_000,
      intent: 2_000,
      drain: undefined,
      evicted: undefined,
      gone: undefined,
      bound: undefined,
      ready: undefined,
      ...times,
    },
  };
}
