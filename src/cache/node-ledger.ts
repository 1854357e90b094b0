import type { NodeDeviceInfo } from '../cluster/devices/node-device-info.ts';
import { buildNodeInfo, type NodeInfo, type NodeRecord, type NodeUse } from '../cluster/node-info.ts';
import { keyOf, noResources, type Resources } from '../cluster/resources.ts';

/** A place kept on a node for a pod that is not bound yet. */
export interface Hold {
  /** Unique in the cluster. */
  readonly key: string;
  readonly node: string;
  readonly use: NodeUse;
}

const nothing: ReadonlyMap<string, Hold> = new Map();

/**
 * What bound pods use and what is held on each node, and the NodeInfo that comes of it. Nodes are names here: pods may
 * be seen before their node, and a node may go and come back under its pods.
 */
export class NodeLedger<Pod extends NodeUse> {
  readonly #users = new Map<string, Set<Pod>>();
  readonly #holds = new Map<string, Map<string, Hold>>();
  readonly #holdsByOwner = new Map<string, ReadonlyMap<string, Hold>>();
  readonly #infos = new Map<string, NodeInfo>();
  /** By node what has come free since the last question, less what was taken. */
  readonly #freed = new Map<string, Map<string, number>>();
  /** Names of nodes whose use has changed since the last question. */
  #stale = new Set<string>();

  occupy(node: string, pod: Pod): void {
    const users = this.#users.get(node) ?? new Set();
    this.#users.set(node, users.add(pod));
    this.#changed(node, noResources, pod.requests);
  }

  vacate(node: string, pod: Pod): void {
    const users = this.#users.get(node);
    if (users === undefined || !users.delete(pod)) return;
    if (users.size === 0) this.#users.delete(node);
    this.#changed(node, pod.requests, noResources);
  }

  /** Sets all that is held for an owner. False when that was so already. */
  setHolds(owner: string, holds: readonly Hold[]): boolean {
    const before = this.#holdsByOwner.get(owner) ?? nothing;
    if (sameHolds(before, holds)) return false;
    for (const { key, node, use } of before.values()) {
      const held = this.#holds.get(node);
      held?.delete(key);
      if (held?.size === 0) this.#holds.delete(node);
      this.#changed(node, use.requests, noResources);
    }
    for (const hold of holds) {
      const held = this.#holds.get(hold.node) ?? new Map<string, Hold>();
      this.#holds.set(hold.node, held.set(hold.key, hold));
      this.#changed(hold.node, noResources, hold.use.requests);
    }
    if (holds.length === 0) this.#holdsByOwner.delete(owner);
    else this.#holdsByOwner.set(owner, new Map(holds.map(hold => [hold.key, hold])));
    return true;
  }

  holdKeys(node: string): Iterable<string> {
    return this.#holds.get(node)?.keys() ?? [];
  }

  held(node: string, key: string): Resources {
    return this.#holds.get(node)?.get(key)?.use.requests ?? noResources;
  }

  /** The same object as long as neither the record nor its use has changed. */
  infoOf(record: NodeRecord, devices?: NodeDeviceInfo): NodeInfo {
    const known = this.#infos.get(record.name);
    if (known?.record === record && known.devices === devices) return known;
    const users = this.#users.get(record.name) ?? [];
    const info = buildNodeInfo(record, users, this.#holds.get(record.name)?.values() ?? [], devices);
    this.#infos.set(record.name, info);
    return info;
  }

  /** The node as if some pods, and all that is held for some owners, were not there. */
  infoWithout(
    record: NodeRecord,
    pods: ReadonlySet<Pod>,
    owners: ReadonlySet<string>,
    devices?: NodeDeviceInfo,
  ): NodeInfo {
    const gone = new Set([...owners].flatMap(owner => [...(this.#holdsByOwner.get(owner)?.keys() ?? [])]));
    const users = [...this.users(record.name)].filter(pod => !pods.has(pod));
    const holds = [...(this.#holds.get(record.name)?.values() ?? [])].filter(({ key }) => !gone.has(key));
    return buildNodeInfo(record, users, holds, devices);
  }

  /** Nodes on which something is held for an owner. */
  nodesHeldFor(owner: string): readonly string[] {
    return [...(this.#holdsByOwner.get(owner)?.values() ?? [])].map(({ node }) => node);
  }

  /** Bound pods of a node. */
  users(node: string): Iterable<Pod> {
    return this.#users.get(node) ?? [];
  }

  /** Nodes where at least one hold takes an accelerator. */
  *nodesWithHeldDevices(): Iterable<string> {
    for (const [node, holds] of this.#holds) {
      for (const { use } of holds.values()) {
        if (!use.takesAccelerator) continue;
        yield node;
        break;
      }
    }
  }

  forgetNode(name: string): void {
    this.#infos.delete(name);
  }

  /** Whether any node has more free room of any kind than at the last question. */
  takeGrowth(): boolean {
    const grew = [...this.#freed.values()].some(freed => [...freed.values()].some(amount => amount > 0));
    this.#freed.clear();
    return grew;
  }

  /** Nodes whose use has changed since this was last asked. */
  takeStale(): ReadonlySet<string> {
    const stale = this.#stale;
    this.#stale = new Set();
    return stale;
  }

  #changed(node: string, freed: Resources, taken: Resources): void {
    this.#infos.delete(node);
    this.#stale.add(node);
    const balance = this.#freed.get(node) ?? new Map<string, number>();
    for (const [name, amount] of freed) balance.set(name, (balance.get(name) ?? 0) + amount);
    for (const [name, amount] of taken) balance.set(name, (balance.get(name) ?? 0) - amount);
    this.#freed.set(node, balance);
  }
}

function sameHolds(before: ReadonlyMap<string, Hold>, holds: readonly Hold[]): boolean {
  return before.size === holds.length && holds.every(hold => isSameHold(before.get(hold.key), hold));
}

function isSameHold(before: Hold | undefined, hold: Hold): boolean {
  return (
    before?.node === hold.node &&
    before.use.takesAccelerator === hold.use.takesAccelerator &&
    keyOf(before.use.requests) === keyOf(hold.use.requests) &&
    JSON.stringify(before.use.hostPorts) === JSON.stringify(hold.use.hostPorts)
  );
}
