import t from 'tap';
import { allDomainsDown, Outage } from '../../../src/failure/outage.ts';

t.test('who is away for long was out, and is back from the first sign of life on', async t => {
  const outage = new Outage(60_000, 1_000);
  t.equal(outage.backForMs(61_000), Number.POSITIVE_INFINITY, 'a minute of silence is none');
  t.equal(outage.backForMs(61_001), 0);
  t.equal(outage.backForMs(500_000), 0, 'as long as it lasts');
  outage.fine(500_000);
  t.equal(outage.backForMs(500_000), 0);
  outage.fine(510_000);
  t.equal(outage.backForMs(530_000), 30_000);
  outage.fine(570_000);
  t.equal(outage.backForMs(570_000), 70_000, 'a short silence afterwards is no other outage');
  outage.fine(700_000);
  t.equal(outage.backForMs(700_000), 0, 'a long one is');
});

const levels = [
  { name: 'zone', nodeLabel: 'zone' },
  { name: 'rack', nodeLabel: 'rack' },
];
/** So many nodes of a zone, the first ones not ready. */
const zone = (name: string | undefined, all: number, down: number) =>
  Array.from({ length: all }, (_, i) => ({
    labels: { rack: `r${i % 3}`, ...(name !== undefined && { zone: name }) },
    ready: i >= down,
  }));

t.test('nodes are out when no domain of the coarsest level has more than a few left', async t => {
  t.equal(allDomainsDown([...zone('a', 10, 10), ...zone('b', 10, 10)], levels, 0.9), true);
  t.equal(
    allDomainsDown([...zone('a', 10, 9), ...zone('b', 10, 9)], levels, 0.9),
    true,
    'nearly all of each',
  );
  t.equal(allDomainsDown([...zone('a', 10, 10), ...zone('b', 10, 8)], levels, 0.9), false);
  t.equal(
    allDomainsDown([...zone('a', 100, 100), ...zone('b', 1, 0)], levels, 0.9),
    false,
    'one zone is well',
  );
  t.equal(
    allDomainsDown([...zone('a', 4, 4), ...zone(undefined, 4, 0)], levels, 0.9),
    false,
    'nodes of no zone',
  );
  t.equal(allDomainsDown(zone('a', 4, 4), [], 0.9), true, 'without levels all are one domain');
  t.equal(allDomainsDown([], levels, 0.9), false, 'no nodes, no outage');
});
