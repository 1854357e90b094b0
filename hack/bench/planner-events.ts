import type { Node } from '../../src/api/kubernetes.ts';
import { ClusterCache } from '../../src/cache/cluster-cache.ts';
import { decodeNode } from '../../src/cluster/node-info.ts';
import { decodePod, podShare } from '../../src/group/pod-info.ts';
import { type BenchContext, scaled } from './context.ts';
import type { Figure } from './figures.ts';
import { summarize } from './statistics.ts';
import { streamFleet } from './stream-fleet.ts';
import { boundPod } from './stream-groups.ts';

const fullHosts = 10_000;
const fullEvents = 5_000;
/** The first one warms up. */
const rounds = 6;
/** Coprime to the number of hosts, so that neighbours in time are no neighbours in the tree. */
const stride = 7_919;

/** One after the other each kind of event, so many of it, in each round. */
interface Events {
  readonly kinds: Readonly<Record<string, (index: number, round: number) => void>>;
  readonly count: number;
  /** What planners do before they plan. */
  readonly show: () => void;
}

/** What one change in the cluster costs: reading the object, counting it and showing it to planners. */
export async function measureEvents(_oracle: string, context: BenchContext): Promise<readonly Figure[]> {
  const hosts = scaled(context, fullHosts);
  context.say(`planner: node and pod events on ${hosts} nodes`);
  const times = timesOf(eventsOn(hosts, scaled(context, fullEvents)));
  return [...times].map(([what, samples]) => ({
    part: 'planner',
    what: `${hosts.toLocaleString('en')} nodes: CPU time for ${what}`,
    unit: 'µs',
    berth: summarize(samples),
    aim: { of: 'value', atMost: 50 },
  }));
}

function eventsOn(hosts: number, count: number): Events {
  const fleet = streamFleet(hosts);
  const cache = new ClusterCache({ levels: fleet.levels });
  cache.nodes.replace(fleet.nodes.map(decodeNode));
  const share = podShare();
  const nodeAt = (index: number): Node => fleet.nodes[(index * stride) % hosts] ?? { metadata: {} };
  const podAt = (index: number, label: string) => {
    const node = nodeAt(index).metadata.name ?? '';
    const demand = { cpus: 2, memoryGi: 16, gpus: 1 };
    const pod = boundPod({ name: `pod-${index}`, demand, node });
    return decodePod({ ...pod, metadata: { ...pod.metadata, labels: { label } } }, share);
  };
  return {
    count,
    show: () => cache.snapshot(),
    kinds: {
      'a pod that is bound': index => cache.pods.upsert(podAt(index, 'first')),
      'a pod that changes': index => cache.pods.upsert(podAt(index, 'second')),
      'a pod that is gone': index => cache.pods.remove(podAt(index, 'second')),
      'a heartbeat of a node': index => cache.nodes.upsert(decodeNode(nodeAt(index))),
      'a node that changes': (index, round) => {
        const node = nodeAt(index);
        const labels = { ...node.metadata.labels, round: String(round) };
        cache.nodes.upsert(decodeNode({ ...node, metadata: { ...node.metadata, labels } }));
      },
    },
  };
}

/** Microseconds of CPU time per event, one sample for each round. */
function timesOf({ kinds, count, show }: Events): ReadonlyMap<string, readonly number[]> {
  const samples = new Map<string, number[]>();
  for (let round = 0; round < rounds; round++) {
    for (const [what, act] of Object.entries(kinds)) {
      const before = process.cpuUsage();
      for (let index = 0; index < count; index++) {
        act(index, round);
        show();
      }
      const { user, system } = process.cpuUsage(before);
      const known = samples.get(what) ?? [];
      if (round > 0) known.push((user + system) / count);
      samples.set(what, known);
    }
  }
  return samples;
}
