import type { NodeInfo, NodeRecord } from '../cluster/node-info.ts';
import { NodeList } from '../cluster/node-list.ts';
import type { ExistingPod } from '../cluster/pod-affinity.ts';
import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import { buildTopologyTree, type TopologyLevel, type TopologyTree } from '../cluster/topology.ts';
import type { PodInfo } from '../group/pod-info.ts';

/** What snapshots are made from. */
export interface SnapshotSource {
  readonly levels: readonly TopologyLevel[];
  readonly nodes: ReadonlyMap<string, NodeRecord>;
  nodeInfo(name: string): NodeInfo | undefined;
  /** Names of nodes of which `nodeInfo` may differ since the last question. */
  takeStale(): 'all' | ReadonlySet<string>;
  pods(): Iterable<PodInfo>;
  /** Those with required anti-affinity. */
  repelling(): Iterable<PodInfo>;
  namespaceLabels(name: string): Readonly<Record<string, string>>;
  /** Where a pod that is not bound is to go. */
  plannedNode(pod: PodInfo): string | undefined;
}

/** The cluster as planning sees it: made when somebody asks, and shared as long as nothing has changed. */
export class Snapshots {
  readonly #source: SnapshotSource;
  #tree: TopologyTree | undefined;
  #lists: { readonly tree: TopologyTree; readonly nodes: NodeList } | undefined;
  #current: ClusterSnapshot | undefined;

  constructor(source: SnapshotSource) {
    this.#source = source;
  }

  /** @param what `tree`: nodes came, went or stand in other domains; `use`: anything else */
  invalidate(what: 'tree' | 'use'): void {
    this.#current = undefined;
    if (what === 'tree') this.#tree = undefined;
  }

  current(): ClusterSnapshot {
    this.#current ??= this.#build();
    return this.#current;
  }

  /**
   * The cluster without some pods.
   * @param infos nodes that look otherwise then, by name
   */
  without(pods: ReadonlySet<PodInfo>, infos: Iterable<readonly [string, NodeInfo]>): ClusterSnapshot {
    const whole = this.current();
    const changes = new Map<number, NodeInfo>();
    for (const [name, info] of infos) {
      const index = whole.tree.indexByNodeName.get(name);
      if (index !== undefined) changes.set(index, info);
    }
    const rest = (all: Iterable<PodInfo>) => [...all].filter(pod => !pods.has(pod));
    return {
      ...whole,
      nodes: whole.nodes.with(changes),
      existingPods: () => this.#existing(rest(this.#source.pods())),
      repellingPods: () => this.#existing(rest(this.#source.repelling())),
    };
  }

  #build(): ClusterSnapshot {
    const source = this.#source;
    this.#tree ??= buildTopologyTree(source.levels, source.nodes.values());
    const tree = this.#tree;
    return {
      tree,
      nodes: this.#nodeList(tree),
      existingPods: () => this.#existing(source.pods()),
      repellingPods: () => this.#existing(source.repelling()),
      namespaceLabels: name => source.namespaceLabels(name),
    };
  }

  /** The last list with what has changed since, so that what did not change is the same in both. */
  #nodeList(tree: TopologyTree): NodeList {
    const source = this.#source;
    const stale = source.takeStale();
    const known = this.#lists;
    if (known?.tree !== tree) {
      const nodes = NodeList.of(tree.nodeNames.flatMap(name => source.nodeInfo(name) ?? []));
      this.#lists = { tree, nodes };
      return nodes;
    }
    const changes = new Map<number, NodeInfo>();
    for (const name of stale === 'all' ? tree.nodeNames : stale) {
      const index = tree.indexByNodeName.get(name);
      const info = index === undefined ? undefined : source.nodeInfo(name);
      if (index !== undefined && info !== undefined) changes.set(index, info);
    }
    if (changes.size === 0) return known.nodes;
    const nodes = known.nodes.with(changes);
    this.#lists = { tree, nodes };
    return nodes;
  }

  *#existing(pods: Iterable<PodInfo>): Iterable<ExistingPod> {
    for (const pod of pods) {
      if (pod.terminal) continue;
      const name = pod.nodeName ?? this.#source.plannedNode(pod);
      const node = name === undefined ? undefined : this.#source.nodes.get(name);
      if (node === undefined) continue;
      yield {
        namespace: pod.namespace,
        labels: pod.labels,
        nodeName: node.name,
        nodeLabels: node.labels,
        terminating: pod.terminating,
        antiAffinity: pod.affinity,
      };
    }
  }
}
