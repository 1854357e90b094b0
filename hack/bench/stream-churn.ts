import { mulberry32 } from '../../test/unit/planner/instances.ts';
import { blockLevel, hostName, hostSize, rackLevel } from './stream-fleet.ts';
import { type StreamEvent, type StreamGroup, type StreamResident, wholeHost } from './stream-groups.ts';
import type { Stream } from './stream-outcomes.ts';

const smallGroup = 4;
const largeGroup = 64;
/** Share of the hosts that residents fill, and that the groups of a steady stream take of the rest. */
const residentShare = 0.7;
const streamShare = 0.1;
/** What a group that arrives may be, each as likely as the other. */
type Deck = readonly Omit<StreamGroup, 'name' | 'requiredLevel'>[];

/** Whole hosts for every member; sizes as manifests that people publish have them. */
export const wholeHosts: Deck = [2, 2, 2, 2, 4, 4, 5, 8, 9, 16].map(size => ({ size, worker: wholeHost }));

const frontend = { cpus: 16, memoryGi: 64, gpus: 1 };
const coordinator = { cpus: 60, memoryGi: 64, gpus: 1 };
const partOfHost = { cpus: 16, memoryGi: 64, gpus: 3 };

/** Leaders that ask for less than a host beside workers of whole hosts, and for more CPUs beside workers of parts. */
export const ownLeaders: Deck = [
  ...[2, 2, 4, 4, 5, 8, 9, 16].map(size => ({ size, worker: wholeHost, leader: frontend })),
  ...[3, 5, 9].map(size => ({ size, worker: partOfHost, leader: coordinator })),
];

/**
 * Groups of 4 whole hosts in one rack. Residents fill four neighbouring hosts or none of them, so that no group is ever
 * refused; once there are enough groups, one leaves before each arrival.
 */
export function steadyStream(hosts: number, arrivals: number, seed: number): Stream {
  const random = mulberry32(seed);
  const residents = residentsOn(hosts, random);
  const live: string[] = [];
  const atOnce = Math.max(1, Math.floor((hosts * streamShare) / smallGroup));
  const events: StreamEvent[] = [];
  for (let arrival = 0; arrival < arrivals; arrival++) {
    if (live.length >= atOnce) {
      const [name = ''] = live.splice(Math.floor(random() * live.length), 1);
      events.push({ kind: 'leave', name });
    }
    const name = `group-${arrival}`;
    live.push(name);
    events.push({ kind: 'arrive', group: groupOf(name, smallGroup, rackLevel) });
  }
  return { residents, events };
}

/** Groups of 64 hosts, in one block each, which fit and leave again; before each leaves, one that no rack can hold. */
export function largeStream(hosts: number, arrivals: number, seed: number): Stream {
  const residents = residentsOn(hosts, mulberry32(seed));
  const events = Array.from({ length: arrivals }, (_, arrival): StreamEvent[] => {
    const group = groupOf(`large-${arrival}`, largeGroup, blockLevel);
    const impossible = groupOf(`impossible-${arrival}`, largeGroup, rackLevel);
    return [
      { kind: 'arrive', group },
      { kind: 'arrive', group: impossible },
      { kind: 'leave', name: group.name },
    ];
  });
  return { residents, events: events.flat() };
}

export interface Churn {
  readonly deck: Deck;
  readonly hosts: number;
  /** GPUs that the groups would take on average were none refused, as a share of all. */
  readonly load: number;
  readonly arrivals: number;
  readonly seed: number;
}

/**
 * Groups of many sizes, each in one rack, that come and go at random (Poisson arrivals, exponential lifetimes). A group
 * that is refused does not come again.
 */
export function churnStream({ deck, hosts, load, arrivals, seed }: Churn): Stream {
  const random = mulberry32(seed);
  const after = (mean: number) => -Math.log(1 - random()) * mean;
  const gpus = deck.map(({ size, worker, leader = worker }) => (size - 1) * worker.gpus + leader.gpus);
  const meanGpus = gpus.reduce((sum, each) => sum + each, 0) / deck.length;
  const meanLifetime = (hosts * hostSize.gpus * load) / meanGpus;
  const events: { readonly at: number; readonly event: StreamEvent }[] = [];
  let now = 0;
  for (let arrival = 0; arrival < arrivals; arrival++) {
    now += after(1);
    const card = deck[Math.floor(random() * deck.length)] ?? { size: smallGroup, worker: wholeHost };
    const group = { name: `group-${arrival}`, ...card, requiredLevel: rackLevel };
    events.push({ at: now, event: { kind: 'arrive', group } });
    events.push({ at: now + after(meanLifetime), event: { kind: 'leave', name: group.name } });
  }
  events.sort((a, b) => a.at - b.at);
  return { residents: [], events: events.map(({ event }) => event) };
}

function groupOf(name: string, size: number, requiredLevel: number): StreamGroup {
  return { name, size, worker: wholeHost, requiredLevel };
}

function residentsOn(hosts: number, random: () => number): readonly StreamResident[] {
  const quarters = Array.from({ length: Math.floor(hosts / smallGroup) }, (_, index) => index);
  return quarters
    .filter(() => random() < residentShare)
    .flatMap(quarter =>
      Array.from({ length: smallGroup }, (_, at) => {
        const host = quarter * smallGroup + at;
        return { name: `resident-${host}`, demand: wholeHost, node: hostName(host) };
      }),
    );
}
