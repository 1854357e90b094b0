import { decodeNode } from '../../src/cluster/node-info.ts';
import {
  askKueue,
  type KueueAnswer,
  type KueueAsk,
  type KueueDemand,
  type KueueEvent,
} from '../../test/oracles/kueue/kueue-oracle.ts';
import { gpuResource, type StreamFleet } from './stream-fleet.ts';
import type { StreamDemand, StreamGroup, StreamResident } from './stream-groups.ts';
import type { Outcome, Stream } from './stream-outcomes.ts';

export interface KueueArm {
  readonly fleet: StreamFleet;
  readonly stream: Stream;
  /** Lets Kueue remember which nodes match, as it does for one workload within one scheduling cycle. */
  readonly remembers: boolean;
}

/** Runs streams through one process with Kueue's library, one after the other. */
export async function outcomesOfKueueArms(
  oracle: string,
  arms: readonly KueueArm[],
): Promise<readonly (readonly Outcome[])[]> {
  const answers = await askKueue(oracle, eventsOf(arms));
  let at = 0;
  return arms.map(({ stream }) => {
    // Each stream begins with its fleet.
    const from = at + 1;
    at = from + stream.events.length;
    return outcomesOfKueue(answers.slice(from, at), stream);
  });
}

function outcomesOfKueue(answers: readonly KueueAnswer[], { events }: Stream): readonly Outcome[] {
  let freedMs = 0;
  return events.flatMap((event, index) => {
    const { nodes, findNs = 0, applyNs = 0 } = answers[index] ?? {};
    const applyMs = applyNs / 1e6 + freedMs;
    if (event.kind === 'leave') {
      freedMs = applyMs;
      return [];
    }
    freedMs = 0;
    return { group: event.group, nodes, planMs: findNs / 1e6, applyMs };
  });
}

function* eventsOf(arms: readonly KueueArm[]): Iterable<KueueEvent> {
  for (const { fleet, stream, remembers } of arms) {
    yield fleetEvent(fleet, stream.residents);
    for (const event of stream.events) {
      if (event.kind === 'leave') yield { kind: 'free', group: event.name };
      else yield { kind: 'place', group: event.group.name, ask: askOf(event.group, fleet, remembers) };
    }
  }
}

function fleetEvent(fleet: StreamFleet, residents: readonly StreamResident[]): KueueEvent {
  const byNode = Map.groupBy(residents, ({ node }) => node);
  const nodes = fleet.nodes.map(decodeNode).map(({ name, labels, allocatable }) => ({
    name,
    labels,
    allocatable: Object.fromEntries(allocatable),
    used: (byNode.get(name) ?? []).map(({ demand }) => demandOf(demand).requests),
  }));
  return { kind: 'fleet', levels: fleet.levels.map(level => level.nodeLabel), nodes };
}

function askOf(group: StreamGroup, { levels }: StreamFleet, remembers: boolean): KueueAsk {
  const { size, worker, leader, requiredLevel } = group;
  const required = requiredLevel === undefined ? undefined : levels[requiredLevel]?.nodeLabel;
  return {
    size,
    worker: demandOf(worker),
    ...(leader && { leader: demandOf(leader) }),
    // Without a level Berth takes the finest domain that will do, which Kueue calls preferred.
    ...(required === undefined ? { preferred: 'kubernetes.io/hostname' } : { required }),
    ...(remembers && { workload: 'remembered' }),
  };
}

function demandOf({ cpus, memoryGi, gpus }: StreamDemand): KueueDemand {
  const amounts = { cpu: cpus * 1000, memory: memoryGi * 1024 ** 3 };
  return { requests: gpus > 0 ? { ...amounts, [gpuResource]: gpus } : amounts };
}
