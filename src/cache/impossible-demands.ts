import type { WantedClaim } from '../cluster/devices/claims.ts';
import { ShapeMemory } from '../cluster/devices/hardware-shapes.ts';
import type { NeverFits } from '../cluster/devices/never-fits.ts';
import type { DeviceCatalog } from '../cluster/devices/node-device-info.ts';
import type { NodeInfo } from '../cluster/node-info.ts';
import type { MemberDemand } from '../group/demand.ts';
import { whyDemandNeverFits } from '../planner/impossible-demand.ts';
import type { ClusterCache } from './cluster-cache.ts';

/** Why a group can have its devices nowhere. */
export interface ImpossibleGroup {
  readonly never: NeverFits;
  /** One sentence without a full stop, the same for the same group on the same fleet. */
  readonly message: string;
}

const rememberedDemands = 1_000;
const rememberedShapes = 100;
const shapesOfOne = 1_000;

/**
 * Knows for which demands no node of the cluster has the devices, whatever is taken. What was found is remembered until a
 * node, a class or what is published of devices changes, so that all groups of one template cost one look at the fleet; after a change only the nodes that
 * changed are looked at again.
 */
export class ImpossibleDemands {
  readonly #cache: ClusterCache;
  readonly #known = new Map<string, NeverFits | undefined>();
  #version = -1;
  /** By claims and rung. */
  readonly #memories = new Map<string, ShapeMemory>();
  #catalog: DeviceCatalog | undefined;

  constructor(cache: ClusterCache) {
    this.#cache = cache;
  }

  /** Undefined for a group that some day may have all its devices, as far as can be told. Demands are by rank. */
  why(demands: readonly MemberDemand[]): ImpossibleGroup | undefined {
    const [ofLeader, ...ofWorkers] = demands.map(demand => this.#whyOne(demand));
    const never = ofLeader ?? ofWorkers.find(each => each !== undefined);
    if (never === undefined) return undefined;
    const asking = whoAsks(ofLeader, ofWorkers);
    return {
      never,
      message: `no node could give what ${asking} for, even if it were empty: ${never.message}`,
    };
  }

  #whyOne(demand: MemberDemand): NeverFits | undefined {
    const { hardwareVersion, deviceCatalog } = this.#cache;
    if (hardwareVersion !== this.#version || this.#known.size >= rememberedDemands) this.#known.clear();
    this.#version = hardwareVersion;
    const { key } = demand;
    if (this.#known.has(key)) return this.#known.get(key);
    const memoryOf = (claims: readonly WantedClaim[]) => this.#memoryOf(claims, demand);
    const never = whyDemandNeverFits(demand, this.#nodes(), deviceCatalog, memoryOf);
    this.#known.set(key, never);
    return never;
  }

  #memoryOf(claims: readonly WantedClaim[], { devices }: MemberDemand): ShapeMemory {
    const { deviceCatalog } = this.#cache;
    if (deviceCatalog !== this.#catalog || this.#memories.size >= rememberedShapes) this.#memories.clear();
    this.#catalog = deviceCatalog;
    const key = JSON.stringify([claims, devices?.minRung ?? null]);
    const known = this.#memories.get(key);
    // Machines that have gone leave their shapes behind.
    if (known !== undefined && known.byKey.size < shapesOfOne) return known;
    const made = new ShapeMemory();
    this.#memories.set(key, made);
    return made;
  }

  *#nodes(): Iterable<NodeInfo> {
    for (const { name } of this.#cache.allNodes()) {
      const info = this.#cache.nodeInfo(name);
      if (info !== undefined) yield info;
    }
  }
}

function whoAsks(ofLeader: NeverFits | undefined, ofWorkers: readonly (NeverFits | undefined)[]): string {
  if (ofWorkers.length === 0) return 'the pod asks';
  if (ofLeader === undefined) return 'its workers ask';
  return ofWorkers.every(each => each?.message === ofLeader.message) ? 'its members ask' : 'its leader asks';
}
