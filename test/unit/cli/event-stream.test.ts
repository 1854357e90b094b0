import t from 'tap';
import {
  type FleetEvent,
  fillingEvents,
  fleetEvents,
  type StreamOptions,
} from '../../../src/cli/event-stream.ts';
import { formatTrace, parseTrace } from '../../../src/cli/trace.ts';

const nodeNames = Array.from({ length: 100 }, (_, i) => `n${i}`);
const options: StreamOptions = {
  seed: 1,
  events: 3000,
  load: 0.8,
  deck: [
    { size: 2, devices: 8 },
    { size: 4, devices: 8 },
    { size: 16, devices: 8 },
  ],
  mix: [
    { weight: 3, kind: 'group', topology: { wish: 'required', level: 1 } },
    { weight: 1, kind: 'group' },
    { weight: 1, kind: 'single' },
  ],
  cpuLeaders: 0.25,
  scaleRate: 0.2,
  lossRate: 0.05,
  levelNames: ['block', 'rack'],
  facts: {
    resource: 'nvidia.com/gpu',
    perHost: 8,
    capacity: 800,
    nodeNames,
    largestDomains: [50, 10],
    tolerations: [],
  },
};

t.test('a seed makes the same stream again, another seed another one', async t => {
  const text = (seed: number) => formatTrace(fleetEvents({ ...options, seed }));
  const [first, again, other] = [text(1), text(1), text(2)];
  // Compared as texts: the difference of two such arrays takes minutes to print.
  t.ok(again === first);
  t.ok(other !== first);
});

t.test(
  'a stream tells a story that can be: in order, of owners that are there and nodes that are up',
  async t => {
    const events = fleetEvents(options);
    t.equal(events.length - fillingEvents(events), options.events);
    const owners = new Set<string>();
    const lost = new Set<string>();
    const faults: string[] = [];
    let previous = 0;
    for (const event of events) {
      if (event.atSeconds < previous) faults.push(`${event.kind} at ${event.atSeconds} comes late`);
      previous = event.atSeconds;
      faults.push(...faultsOf(event, owners, lost));
    }
    t.strictSame(faults, []);
    for (const kind of ['arrive', 'scale', 'depart', 'node-lost', 'node-back'])
      t.ok(
        events.some(event => event.kind === kind),
        kind,
      );
  },
);

function faultsOf(event: FleetEvent, owners: Set<string>, lost: Set<string>): readonly string[] {
  const fault = `${event.kind} at ${event.atSeconds}`;
  switch (event.kind) {
    case 'arrive': {
      const known = owners.has(event.owner);
      owners.add(event.owner);
      return known ? [fault] : [];
    }
    case 'scale':
      return owners.has(event.owner) ? [] : [fault];
    case 'depart':
      return owners.delete(event.owner) ? [] : [fault];
    case 'node-lost': {
      const known = lost.has(event.node);
      lost.add(event.node);
      return known ? [fault] : [];
    }
    case 'node-back':
      return lost.delete(event.node) ? [] : [fault];
  }
}

t.test('what is asked for is the load on average', async t => {
  const events = fleetEvents({ ...options, events: 20_000 });
  const asked = new Map<string, { perReplica: number; replicas: number }>();
  let now = 0;
  let sum = 0;
  let previous = 0;
  for (const event of events) {
    sum += now * (event.atSeconds - previous);
    previous = event.atSeconds;
    if (event.kind === 'arrive') {
      const { size, devices, leaderDevices } = event.ask;
      asked.set(event.owner, { perReplica: leaderDevices + (size - 1) * devices, replicas: 0 });
    }
    if (!('owner' in event)) continue;
    const owner = asked.get(event.owner);
    const replicas = event.kind === 'depart' ? 0 : event.replicas;
    now += (replicas - (owner?.replicas ?? 0)) * (owner?.perReplica ?? 0);
    if (owner !== undefined) owner.replicas = replicas;
  }
  t.ok(Math.abs(sum / previous / 800 - options.load) < 0.06, `${sum / previous / 800}`);
});

t.test('nobody requires a level whose largest domain could never hold the group', async t => {
  const wishes = fleetEvents(options).flatMap(event =>
    event.kind === 'arrive' && event.ask.topology ? [`${event.ask.size} ${event.ask.topology.level}`] : [],
  );
  t.strictSame([...new Set(wishes)].sort(), ['16 block', '2 rack', '4 rack']);
});

t.test('a trace holds the whole stream', async t => {
  const events = fleetEvents(options);
  const text = formatTrace(events);
  const fleet = { nodeNames, levelNames: ['block', 'rack'] };
  t.ok(formatTrace(parseTrace(text, 'f', fleet)) === text);
});
