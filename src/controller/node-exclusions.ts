import { nvidia } from '../api/names.ts';
import type { ClusterCache } from '../cache/cluster-cache.ts';
import { sameEntries } from '../cache/record-equality.ts';
import { labelValue } from '../cluster/labels.ts';
import type { NodeRecord } from '../cluster/node-info.ts';
import { Comebacks } from '../failure/comebacks.ts';
import type { EvidenceLedger } from '../failure/evidence.ts';
import { type Intent, wasTakenBack } from '../failure/intent.ts';
import { type FailureSettings, goesAsFarAs } from '../failure/settings.ts';
import type { Sighting } from '../failure/signal.ts';
import { suspectCliques } from '../failure/suspect-cliques.ts';
import { whoTakes } from '../failure/taken-nodes.ts';

export interface NodeExclusionsOptions {
  readonly cache: ClusterCache;
  readonly settings: FailureSettings;
  readonly ledger: EvidenceLedger;
  readonly nowMs: () => number;
  /** Whether new plans are kept off what such a signal speaks against. */
  readonly keepsOff: (sighting: Sighting) => boolean;
}

const hourMs = 3_600_000;

/** Tells the cache which nodes no plan may use, and which only when it must. */
export class NodeExclusions {
  readonly #options: NodeExclusionsOptions;
  /** Nodes that others take away, and the sentence about it. */
  readonly #taken = new Map<string, string>();
  /** By name and UID of the node. */
  readonly #comebacks: Comebacks;

  constructor(options: NodeExclusionsOptions) {
    this.#options = options;
    this.#comebacks = new Comebacks(options.settings.lastChoiceHours * hourMs);
  }

  /** A node may be one that others take away, or not any more. */
  lookAt(name: string): void {
    const node = this.#options.cache.node(name);
    const taken = node && whoTakes(node);
    if (taken === undefined) this.#taken.delete(name);
    else this.#taken.set(name, taken);
  }

  /** Forgets nodes that are no more. */
  forgetGone(): void {
    for (const name of this.#taken.keys())
      if (this.#options.cache.node(name) === undefined) this.#taken.delete(name);
  }

  /**
   * Nodes that no plan may use: those with a fault now, those that others take away, and for a while those that cost a group
   * its place, unless the group is to blame for them. Milliseconds until time alone adds some.
   */
  update(
    intents: readonly Intent[],
    wallMs: number,
    isPoisoned: (group: string, node: string) => boolean = () => false,
  ): number | undefined {
    const { cache, settings, nowMs, ledger, keepsOff } = this.#options;
    const excluded = new Map<string, string>();
    const failing = new Map<string, number>();
    const before = new Set<string>();
    let dueInMs: number | undefined;
    if (goesAsFarAs(settings.mode, 'cordon')) {
      for (const { sighting, firstSeenMs } of ledger.againstNodes()) {
        // Whoever tolerates such a taint may go there; the planner looks at taints and Ready itself.
        if (!keepsOff(sighting) || sighting.signal === 'NodeNoExecute') continue;
        const { nodeName, cause, debounceMs } = sighting;
        const node = cache.node(nodeName);
        if (node === undefined) continue;
        excluded.set(nodeName, cause);
        const key = machineKey(node);
        failing.set(key, Math.min(failing.get(key) ?? Number.POSITIVE_INFINITY, firstSeenMs + debounceMs));
      }
      for (const [name, taken] of this.#taken) if (!excluded.has(name)) excluded.set(name, taken);
      const cliques = suspectCliques(ledger.againstCliques(), {
        cliqueOfNode: name => labelValue(cache.node(name)?.labels ?? {}, nvidia.clique),
        nowMs: nowMs(),
        afterMs: settings.excludeAfterSeconds * 1000,
      });
      dueInMs = cliques.dueInMs;
      for (const { name, labels } of cliques.causes.size === 0 ? [] : cache.allNodes()) {
        const cause = cliques.causes.get(labelValue(labels, nvidia.clique) ?? '');
        if (cause !== undefined && !excluded.has(name)) excluded.set(name, cause);
      }
      for (const { avoid, times, group } of intents.filter(intent => !wasTakenBack(intent))) {
        const backForMs = wallMs - times.intent - settings.excludeMinutes * 60_000;
        if (backForMs >= settings.lastChoiceHours * hourMs && backForMs >= 0) continue;
        for (const { node, nodeUid, cause } of avoid) {
          if (isPoisoned(group, node) || cache.node(node)?.uid !== nodeUid) continue;
          // The records tell of a comeback also after a restart, but only of what cost a group its place.
          if (backForMs >= 0) before.add(node);
          else if (!excluded.has(node)) excluded.set(node, cause);
        }
      }
    }
    this.#publishLastChoice(failing, before);
    if (!sameEntries(excluded, cache.excludedNodes)) cache.setExcludedNodes(excluded);
    return dueInMs;
  }

  /** @param recorded nodes that have come back by what the records say */
  #publishLastChoice(failing: ReadonlyMap<string, number>, recorded: ReadonlySet<string>): void {
    const { cache, settings, nowMs } = this.#options;
    this.#comebacks.update(failing, nowMs());
    const nodes = new Set(recorded);
    for (const key of this.#comebacks.lately(nowMs())) {
      const node = cache.node(nameOfMachine(key));
      if (node !== undefined && machineKey(node) === key) nodes.add(node.name);
    }
    cache.setLastChoice({ nodes: settings.lastChoiceHours > 0 ? nodes : new Set() });
  }
}

/** One string for a node that is another once its name is given to a new one. Names of nodes hold no `/`. */
function machineKey({ name, uid }: NodeRecord): string {
  return `${name}/${uid}`;
}

function nameOfMachine(key: string): string {
  return key.slice(0, key.indexOf('/'));
}
