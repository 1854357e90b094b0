import { berth } from '../api/names.ts';
import type { ClusterCache } from '../cache/cluster-cache.ts';
import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import type { TopologyTree } from '../cluster/topology.ts';
import type { PlacementMode } from '../group/owner.ts';
import type { PodInfo } from '../group/pod-info.ts';
import { NameTable } from './name-table.ts';
import type { NodeNames } from './node-names.ts';

/** The scale of extenders (k8s.io/kube-scheduler extender/v1 MaxExtenderPriority). */
export const highestScore = 10;

/** An answer that leaves the choice to kube-scheduler's own scores. */
export const noScores = Buffer.from('[]');

const scoringModes: readonly PlacementMode[] = ['pin-extender', 'extender'];

/**
 * Whether Berth has a wish where the pod goes: pods with accelerators that are in no group, in namespaces that have
 * opted into the extender. All others are placed by plans, or by others.
 */
export function isScored(cache: ClusterCache, pod: PodInfo): boolean {
  if (pod.membership !== undefined || !pod.takesAccelerator || pod.foreignOwner !== undefined) return false;
  if (pod.annotations[berth.mode] === 'observe') return false;
  const namespace = cache.namespace(pod.namespace);
  return namespace !== undefined && scoringModes.includes(namespace.mode);
}

/**
 * A HostPriorityList that leads singles to where they break nothing whole: the fewer levels of the topology are still
 * whole around a node, the higher its score. Names that are left out have score 0, and so are not worth their bytes:
 * nodes around which everything is whole, and nodes that the cache does not know.
 */
export function prioritizeAnswer(snapshot: ClusterSnapshot, names: NodeNames): Buffer {
  const scores = scoresOf(snapshot);
  const { table, entries, longestEntry } = entriesOf(snapshot.tree);
  const indices = names.indicesIn(table);
  const json = Buffer.allocUnsafe(2 + indices.length * (longestEntry + longestScore));
  json[0] = open;
  let length = 1;
  for (const index of indices) {
    const score = scores[index] ?? 0;
    const entry = entries[index];
    if (entry === undefined || score === 0) continue;
    if (length > 1) json[length++] = comma;
    json.set(entry, length);
    length += entry.length;
    if (score === highestScore) json[length++] = one;
    json[length++] = zero + (score % highestScore);
    json[length++] = closeBrace;
  }
  json[length++] = close;
  return json.subarray(0, length);
}

const comma = 0x2c;
const zero = 0x30;
const one = 0x31;
const open = 0x5b;
const close = 0x5d;
const closeBrace = 0x7d;

/** The last score with its brace, and a comma. */
const longestScore = 4;

const scoresBySnapshot = new WeakMap<ClusterSnapshot, Uint8Array>();

/**
 * By node index: 10 where the host itself is broken, less for each level that is whole around it, 0 where all of them
 * are. A domain is whole when none of its nodes has a pod or a hold with accelerators.
 */
export function scoresOf(snapshot: ClusterSnapshot): Uint8Array {
  const known = scoresBySnapshot.get(snapshot);
  if (known !== undefined) return known;
  const { tree, nodes } = snapshot;
  const broken = new Uint8Array(tree.domains.length);
  const whole = new Uint8Array(nodes.length);
  const steps = tree.levels.length + 1;
  // Backwards children come before their parents, so a domain has heard of all its hosts when it is reached.
  for (let index = tree.domains.length - 1; index > 0; index--) {
    const domain = tree.domains[index];
    if (domain === undefined) continue;
    if (domain.level === tree.levels.length) {
      const node = domain.nodes[0];
      if (node !== undefined && nodes.at(node)?.untouched === false) broken[index] = 1;
    }
    if (broken[index] === 1) {
      if (domain.parent !== undefined) broken[domain.parent.index] = 1;
    } else if (domain.path.at(-1) !== '') {
      // Nodes without the level's label are in no domain that could be broken.
      for (const node of domain.nodes) whole[node] = (whole[node] ?? 0) + 1;
    }
  }
  const scores = whole.map(levels => Math.round((highestScore * (steps - levels)) / steps));
  scoresBySnapshot.set(snapshot, scores);
  return scores;
}

/** The nodes of a tree by the bytes of their names, and the beginning of each one's entry: all but the score. */
interface Entries {
  readonly table: NameTable;
  readonly entries: readonly Buffer[];
  /** In bytes. */
  readonly longestEntry: number;
}

const entriesByTree = new WeakMap<TopologyTree, Entries>();

function entriesOf(tree: TopologyTree): Entries {
  const known = entriesByTree.get(tree);
  if (known !== undefined) return known;
  const entries = tree.nodeNames.map(name => Buffer.from(`{"Host":${JSON.stringify(name)},"Score":`));
  const longestEntry = entries.reduce((longest, { length }) => Math.max(longest, length), 0);
  const made = { table: new NameTable(tree.nodeNames), entries, longestEntry };
  entriesByTree.set(tree, made);
  return made;
}
