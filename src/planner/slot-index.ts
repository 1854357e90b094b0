import type { NodeInfo } from '../cluster/node-info.ts';
import type { NodeList } from '../cluster/node-list.ts';
import type { ClusterSnapshot } from '../cluster/snapshot.ts';
import type { HostOffer } from './host-offer.ts';
import { type TreeArrays, treeArrays } from './tree-arrays.ts';

/**
 * Free slots of one shape, rolled up the tree.
 *
 * Hosts fall into few classes: those with the same offer. Every inner domain counts its hosts of each class, and from
 * these counts everything is told that a planner asks of a domain:
 *
 *     class   workers  beside leader  whole      rack r0   rack r1   block b0
 *       0        1           0         yes          14         3        17
 *       1        0           0         no            2        13        15
 *
 * A changed host moves from one class to another, which touches its ancestors and nothing else: O(levels). An index
 * follows from snapshot to snapshot by what differs between their node lists; it holds nothing that could not be counted
 * anew from the snapshot that it is asked about. Memory: 2 bytes for each host and 4 for each inner domain and class.
 */
export class SlotIndex {
  readonly #offerOf: (node: NodeInfo) => HostOffer;
  #arrays: TreeArrays | undefined;
  #nodes: NodeList | undefined;
  #classOf = new Uint16Array(0);
  #counts = new Int32Array(0);
  #workers = new Float64Array(0);
  #touched = new Int32Array(0);
  #stride = firstStride;
  readonly #offers: HostOffer[] = [];
  readonly #classByKey = new Map<string, number>();
  #byRoom: readonly number[] = [];

  constructor(offerOf: (node: NodeInfo) => HostOffer) {
    this.#offerOf = offerOf;
  }

  /**
   * Brings the index to a snapshot. O(changed hosts x levels); O(hosts) when the tree is another one, where hosts that
   * are the same are not asked again.
   */
  follow(snapshot: ClusterSnapshot): void {
    const arrays = treeArrays(snapshot.tree);
    const { nodes } = snapshot;
    if (this.#nodes === nodes && this.#arrays === arrays) return;
    if (this.#arrays !== arrays || this.#nodes === undefined) this.#countAnew(arrays, nodes);
    else for (const index of nodes.differences(this.#nodes)) this.#change(index, nodes.at(index));
    this.#nodes = nodes;
  }

  get arrays(): TreeArrays {
    if (this.#arrays === undefined) throw new Error('a slot index is asked before it follows a snapshot');
    return this.#arrays;
  }

  /** Offers by class. */
  get offers(): readonly HostOffer[] {
    return this.#offers;
  }

  /** Classes that take workers, the roomiest first. */
  get byRoom(): readonly number[] {
    return this.#byRoom;
  }

  /** Class by node index. */
  get classOf(): Uint16Array {
    return this.#classOf;
  }

  /** Hosts by inner domain and class: `counts[domain * stride + class]`. */
  get counts(): Int32Array {
    return this.#counts;
  }

  get stride(): number {
    return this.#stride;
  }

  /** Worker slots by inner domain. */
  get workers(): Float64Array {
    return this.#workers;
  }

  /** Hosts with an accelerator in use or held, by inner domain. */
  get touched(): Int32Array {
    return this.#touched;
  }

  /** Bytes held by the arrays. */
  get bytes(): number {
    return (
      this.#classOf.byteLength + this.#counts.byteLength + this.#workers.byteLength + this.#touched.byteLength
    );
  }

  #countAnew(arrays: TreeArrays, nodes: NodeList): void {
    const knownClass = this.#knownClasses();
    const inner = arrays.domains.length;
    this.#arrays = arrays;
    this.#classOf = new Uint16Array(nodes.length);
    this.#counts = new Int32Array(inner * this.#stride);
    this.#workers = new Float64Array(inner);
    this.#touched = new Int32Array(inner);
    let index = 0;
    for (const node of nodes) {
      const hostClass = knownClass(node) ?? this.#classOfOffer(this.#offerOf(node));
      this.#classOf[index] = hostClass;
      this.#add(index, hostClass, 1);
      index++;
    }
  }

  /** Classes by the nodes of the tree before: a node that came or went changes the place of others, not what they offer. */
  #knownClasses(): (node: NodeInfo) => number | undefined {
    const [arrays, nodes, classOf] = [this.#arrays, this.#nodes, this.#classOf];
    if (arrays === undefined || nodes === undefined) return () => undefined;
    if (this.#offers.length > mostClasses) {
      this.#forgetClasses();
      return () => undefined;
    }
    const { indexByNodeName } = arrays.tree;
    return node => {
      const index = indexByNodeName.get(node.record.name);
      return index !== undefined && nodes.at(index) === node ? classOf[index] : undefined;
    };
  }

  #forgetClasses(): void {
    this.#offers.length = 0;
    this.#classByKey.clear();
    this.#byRoom = [];
    this.#stride = firstStride;
  }

  #change(index: number, node: NodeInfo | undefined): void {
    if (node === undefined) return;
    const before = this.#classOf[index] ?? 0;
    const after = this.#classOfOffer(this.#offerOf(node));
    if (before === after) return;
    this.#add(index, before, -1);
    this.#add(index, after, 1);
    this.#classOf[index] = after;
  }

  #add(index: number, hostClass: number, sign: 1 | -1): void {
    const { parent, above } = this.arrays;
    const offer = this.#offers[hostClass];
    if (offer === undefined) return;
    const { workers, whole } = offer;
    for (let at = above[index] ?? -1; at >= 0; at = parent[at] ?? -1) {
      const cell = at * this.#stride + hostClass;
      this.#counts[cell] = (this.#counts[cell] ?? 0) + sign;
      this.#workers[at] = (this.#workers[at] ?? 0) + sign * workers;
      if (!whole) this.#touched[at] = (this.#touched[at] ?? 0) + sign;
    }
  }

  #classOfOffer(offer: HostOffer): number {
    const { workers, beside, whole, workerCause, leaderCause } = offer;
    const key = `${workers}/${beside}/${whole ? 1 : 0}/${workerCause}/${leaderCause}`;
    const known = this.#classByKey.get(key);
    if (known !== undefined) return known;
    const hostClass = this.#offers.length;
    if (hostClass === this.#stride) this.#widen();
    this.#offers.push(offer);
    this.#classByKey.set(key, hostClass);
    this.#byRoom = [...this.#offers.keys()]
      .filter(at => (this.#offers[at]?.workers ?? 0) > 0)
      .sort((a, b) => (this.#offers[b]?.workers ?? 0) - (this.#offers[a]?.workers ?? 0) || a - b);
    return hostClass;
  }

  #widen(): void {
    const [before, stride] = [this.#counts, this.#stride];
    this.#stride *= 2;
    this.#counts = new Int32Array((before.length / stride) * this.#stride);
    for (let at = 0; at * stride < before.length; at++)
      this.#counts.set(before.subarray(at * stride, (at + 1) * stride), at * this.#stride);
  }
}

const firstStride = 8;
/** Classes that once were and are no more are dropped when there are so many, with the next change of the tree. */
const mostClasses = 512;
