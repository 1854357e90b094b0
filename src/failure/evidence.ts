import { deviceKey } from '../cluster/devices/device.ts';
import { compareText } from '../cluster/topology.ts';
import { BadThings } from './bad-things.ts';
import type { Intent } from './intent.ts';
import { isPreemption, type Sighting, type SignalClass } from './signal.ts';

/** A sighting and since when it stands. */
export interface Evidence {
  readonly sighting: Sighting;
  /** Monotonic milliseconds of Berth's own first sight: API timestamps come from other clocks and are reset at will. */
  readonly firstSeenMs: number;
}

/**
 * All that is seen of one fault. Several reports of it are one: it stands at each class since it was first seen to be so
 * bad or worse, however the reports take turns.
 */
interface Fault {
  readonly since: Readonly<Partial<Record<SignalClass, number>>>;
  /** One of each class that is told now, the worst first. */
  readonly evidence: readonly Evidence[];
}

/** From worst to least. */
const classes: readonly SignalClass[] = ['certain', 'suspect', 'info'];

/**
 * What is wrong and since when. A subject (a group's incarnation, a node or a pool of devices) tells all that is wrong
 * with it each time it is looked at; what it does not tell any more is forgotten, and begins anew when it comes back.
 * Nodes and devices are remembered for a window beyond that, for the breakers, also when they do not exist any more.
 */
export class EvidenceLedger {
  readonly #bySubject = new Map<string, ReadonlyMap<string, Fault>>();
  /** Of those that tell against a node, what does: few, even where thousands of devices are bad. */
  readonly #blaming = new Map<string, readonly Evidence[]>();
  /** The same of NVLink cliques. */
  readonly #ofCliques = new Map<string, readonly Evidence[]>();
  #toldOfNodes = 0;
  readonly nodes: BadThings;
  /** By device key. */
  readonly devices: BadThings;

  constructor(windowMs: number) {
    this.nodes = new BadThings(windowMs);
    this.devices = new BadThings(windowMs);
  }

  /** Another number whenever something that tells against nodes or cliques has come or gone. */
  get toldOfNodes(): number {
    return this.#toldOfNodes;
  }

  /** Takes what is wrong with a subject now. True when something has come or gone. */
  update(subject: string, sightings: readonly Sighting[], nowMs: number): boolean {
    const before = this.#bySubject.get(subject);
    if (before === undefined && sightings.length === 0) return false;
    const after = new Map<string, Fault>();
    for (const [key, told] of Map.groupBy(sightings, keyOf))
      after.set(key, faultOf(told, before?.get(key), nowMs));
    const changed =
      after.size !== (before?.size ?? 0) ||
      [...after].some(([key, fault]) => classesOf(fault) !== classesOf(before?.get(key)));
    for (const fault of after.values()) this.#count(fault, 1, nowMs);
    for (const fault of before?.values() ?? []) this.#count(fault, -1, nowMs);
    if (after.size === 0) this.#bySubject.delete(subject);
    else this.#bySubject.set(subject, after);
    const evidence = [...after.values()].flatMap(fault => fault.evidence);
    const isOfNodes = () => this.#blaming.has(subject) || this.#ofCliques.has(subject);
    const wasOfNodes = isOfNodes();
    keep(this.#blaming, subject, evidence.filter(blamesNode));
    keep(this.#ofCliques, subject, evidence.filter(isOfClique));
    if (changed && (wasOfNodes || isOfNodes())) this.#toldOfNodes += 1;
    return changed;
  }

  of(subject: string): readonly Evidence[] {
    return [...(this.#bySubject.get(subject)?.values() ?? [])].flatMap(({ evidence }) => evidence);
  }

  *all(): Iterable<Evidence> {
    for (const faults of this.#bySubject.values())
      for (const { evidence } of faults.values()) yield* evidence;
  }

  /** All that tells against nodes, informational signals excepted. */
  *againstNodes(): Iterable<Evidence> {
    for (const evidence of this.#blaming.values()) yield* evidence;
  }

  /** All that tells of NVLink and the cliques around it. */
  *againstCliques(): Iterable<Evidence> {
    for (const evidence of this.#ofCliques.values()) yield* evidence;
  }

  #count({ evidence }: Fault, by: 1 | -1, nowMs: number): void {
    for (const { sighting } of evidence) {
      if (sighting.class === 'info') continue;
      if (sighting.blamesNode) this.nodes.count(sighting.nodeName, sighting.nodeUid, by, nowMs);
      // Of a rule that means many devices the devices are not to blame: a brake of its own is for that.
      if (sighting.device !== undefined && !isOfWideRule(sighting))
        this.devices.count(deviceKey(sighting.device), undefined, by, nowMs);
    }
  }
}

function blamesNode({ sighting }: Evidence): boolean {
  return sighting.blamesNode && sighting.class !== 'info';
}

function isOfClique({ sighting }: Evidence): boolean {
  return sighting.clique !== undefined || sighting.ofNvlink === true;
}

function keep(
  bySubject: Map<string, readonly Evidence[]>,
  subject: string,
  evidence: readonly Evidence[],
): void {
  if (evidence.length === 0) bySubject.delete(subject);
  else bySubject.set(subject, evidence);
}

/** @param told not empty, all of one fault */
function faultOf(told: readonly Sighting[], before: Fault | undefined, nowMs: number): Fault {
  const since: Partial<Record<SignalClass, number>> = {};
  const evidence: Evidence[] = [];
  let isSoBad = false;
  for (const signalClass of classes) {
    const [first, ...others] = told.filter(sighting => sighting.class === signalClass);
    isSoBad ||= first !== undefined;
    if (!isSoBad) continue;
    const firstSeenMs = before?.since[signalClass] ?? nowMs;
    since[signalClass] = firstSeenMs;
    if (first === undefined) continue;
    evidence.push({ sighting: others.reduce(plainer, first), firstSeenMs });
  }
  return { since, evidence };
}

/** Which of two reports of one fault, both of one class, is told: not what an administrator's rule adds, then the sooner. */
function plainer(a: Sighting, b: Sighting): Sighting {
  if (isOfWideRule(a) !== isOfWideRule(b)) return isOfWideRule(a) ? b : a;
  return b.debounceMs < a.debounceMs ? b : a;
}

/** It is told by a rule that can mean many devices. */
export function isOfWideRule({ origin }: Sighting): boolean {
  return origin?.kind === 'rule' && !origin.isNarrow;
}

function classesOf(fault: Fault | undefined): string {
  return fault?.evidence.map(({ sighting }) => sighting.class).join() ?? '';
}

/** Milliseconds until the evidence has stood long enough to act on; 0 when it has. */
export function ripeInMs({ sighting, firstSeenMs }: Evidence, nowMs: number): number {
  return Math.max(0, firstSeenMs + sighting.debounceMs - nowMs);
}

/**
 * The evidence to act on: a claim on the place, which is decided already; then ripe before unripe, certain before
 * suspect, then the oldest. `info` never is. Undefined when there is none.
 */
export function worstOf(evidence: readonly Evidence[], nowMs: number): Evidence | undefined {
  const rankOf = (item: Evidence): readonly number[] => [
    isPreemption(item.sighting.signal) ? 0 : 1,
    ripeInMs(item, nowMs) === 0 ? 0 : 1,
    item.sighting.class === 'certain' ? 0 : 1,
    ripeInMs(item, nowMs),
    item.firstSeenMs,
  ];
  const compare = (a: Evidence, b: Evidence): number => {
    const [left, right] = [rankOf(a), rankOf(b)];
    for (const [at, value] of left.entries()) {
      const order = value - (right[at] ?? 0);
      if (order !== 0) return order;
    }
    return compareText(keyOf(a.sighting), keyOf(b.sighting));
  };
  return evidence.filter(({ sighting }) => sighting.class !== 'info').sort(compare)[0];
}

/** The same for all that is told of one fault: of a device whatever signals tell of it. */
export function keyOf({ signal, entity, device }: Pick<Sighting, 'signal' | 'entity' | 'device'>): string {
  return device === undefined ? `${signal}/${entity}` : `device/${deviceKey(device)}`;
}

/** Whether a sighting is of the same fault, and as bad or worse. */
export function tellsOf(sighting: Sighting, fault: Sighting): boolean {
  return keyOf(sighting) === keyOf(fault) && classes.indexOf(sighting.class) <= classes.indexOf(fault.class);
}

/**
 * Whether a sighting is of the fault that an eviction was decided for. What others have begun is one, whichever member they
 * take away.
 */
export function isFaultOf(
  sighting: Sighting,
  { signal, entity = sighting.entity, device }: Pick<Intent, 'signal' | 'entity' | 'device'>,
): boolean {
  if (sighting.signal === 'Foreign') return signal === 'Foreign';
  return keyOf(sighting) === keyOf({ signal, entity, device });
}
