import type { Node, Pod } from '../../src/api/kubernetes.ts';
import { k8s } from '../../src/api/names.ts';
import { ClusterCache } from '../../src/cache/cluster-cache.ts';
import { decodeNode } from '../../src/cluster/node-info.ts';
import type { ClusterSnapshot } from '../../src/cluster/snapshot.ts';
import type { TopologyLevel } from '../../src/cluster/topology.ts';
import { decodeNamespace } from '../../src/group/owner.ts';
import { decodePod, podShare } from '../../src/group/pod-info.ts';
import { gpuName, podOf } from './pods.ts';

/** Nodes, the pods on them and the levels that their labels make. */
export interface Fleet {
  readonly levels: readonly TopologyLevel[];
  readonly nodes: readonly Node[];
  readonly pods: readonly Pod[];
}

export interface NodeParts {
  readonly name: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly gpu?: number;
  readonly cpu?: number;
  readonly memoryGi?: number;
  readonly pods?: number;
  /** `key=value:Effect` */
  readonly taints?: readonly string[];
  readonly cordoned?: boolean;
  readonly ready?: boolean;
}

export const labelOf = (level: string): string => `example.com/${level}`;

/** A Node as the API server sends it. */
export function nodeOf(parts: NodeParts): Node {
  const { name, labels, gpu = 0, cpu = 64, memoryGi = 512, pods = 110 } = parts;
  const taints = (parts.taints ?? []).map(text => {
    const [, key = '', value = '', effect = ''] = /^([^=:]+)=?([^:]*):(\w+)$/.exec(text) ?? [];
    return { key, ...(value !== '' && { value }), effect };
  });
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, uid: `uid-${name}`, labels: { [k8s.hostname]: name, ...labels } },
    spec: { ...(parts.cordoned && { unschedulable: true }), ...(taints.length > 0 && { taints }) },
    status: {
      allocatable: {
        cpu: String(cpu),
        memory: `${memoryGi}Gi`,
        pods: String(pods),
        ...(gpu > 0 && { [gpuName]: String(gpu) }),
      },
      conditions: [{ type: 'Ready', status: parts.ready === false ? 'False' : 'True' }],
    },
  };
}

/**
 * Reads a fleet from a drawing: a line `level value` opens a domain, deeper lines belong to it, and a line
 * `- name word...` is a node. Words: `gpu=8 cpu=32 memory=256 pods=10` are allocatable, `used=3` is a pod with 3 GPUs,
 * `usedCpu=4` one with 4 CPUs, `taint=key=value:NoSchedule`, `label=key=value`, `cordoned`, `unready`.
 */
export function drawFleet(drawing: string): Fleet {
  const levels: string[] = [];
  const open: { depth: number; level: string; value: string }[] = [];
  const nodes: Node[] = [];
  const pods: Pod[] = [];
  for (const line of drawing.split('\n')) {
    if (line.trim() === '') continue;
    const depth = line.length - line.trimStart().length;
    const [first = '', second = '', ...words] = line.trim().split(/\s+/);
    while ((open.at(-1)?.depth ?? -1) >= depth) open.pop();
    if (first !== '-') {
      if (!levels.includes(first)) levels.push(first);
      open.push({ depth, level: first, value: second });
      continue;
    }
    const labels = Object.fromEntries(open.map(({ level, value }) => [labelOf(level), value]));
    const { node, used } = readNode(second, labels, words);
    nodes.push(node);
    pods.push(...used);
  }
  return { levels: levels.map(name => ({ name, nodeLabel: labelOf(name) })), nodes, pods };
}

/** A cache that has seen the fleet, through the decoders as in the process. */
export function cacheOf(fleet: Fleet, more: readonly Pod[] = []): ClusterCache {
  const cache = new ClusterCache({ levels: fleet.levels });
  cache.namespaces.replace([
    decodeNamespace({ metadata: { name: 'serving', labels: { [k8s.namespaceName]: 'serving' } } }),
  ]);
  cache.nodes.replace(fleet.nodes.map(decodeNode));
  cache.pods.replace([...fleet.pods, ...more].map(pod => decodePod(pod, podShare())));
  return cache;
}

export function snapshotOf(fleet: Fleet, more: readonly Pod[] = []): ClusterSnapshot {
  return cacheOf(fleet, more).snapshot();
}

function readNode(
  name: string,
  domainLabels: Readonly<Record<string, string>>,
  words: readonly string[],
): { node: Node; used: readonly Pod[] } {
  const labels: Record<string, string> = { ...domainLabels };
  const amounts: Record<string, number> = {};
  const taints: string[] = [];
  const used: Pod[] = [];
  for (const word of words) {
    const [, key = word, value = ''] = /^(\w+)=(.*)$/.exec(word) ?? [];
    if (key === 'label') {
      const [label = '', text = ''] = value.split('=');
      labels[label] = text;
    } else if (key === 'taint') taints.push(value);
    else if (key === 'used' || key === 'usedCpu') {
      const ask = key === 'used' ? { gpu: Number(value) } : { cpu: Number(value) };
      used.push(podOf({ name: `stranger-${name}-${used.length}`, namespace: 'others', node: name, ...ask }));
    } else if (!['cordoned', 'unready'].includes(key)) amounts[key] = Number(value);
  }
  const { gpu, cpu, memory, pods } = amounts;
  const node = nodeOf({
    name,
    labels,
    taints,
    cordoned: words.includes('cordoned'),
    ready: !words.includes('unready'),
    ...(gpu !== undefined && { gpu }),
    ...(cpu !== undefined && { cpu }),
    ...(memory !== undefined && { memoryGi: memory }),
    ...(pods !== undefined && { pods }),
  });
  return { node, used };
}
