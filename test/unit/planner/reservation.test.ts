import t from 'tap';
import { nearestDomain, reservedNodes } from '../../../src/planner/reservation.ts';
import { drawFleet, labelOf } from '../../builders/fleet.ts';
import { LwsGroup } from '../../builders/lws-group.ts';
import { labelledQuestion, outcomeOf, type PlanQuestion, questionOf } from '../../builders/planning.ts';
import type { Ask } from '../../builders/pods.ts';

const gpu8: Ask = { gpu: 8, cpu: 8 };

const fleet = drawFleet(`
  block b0
    rack r0
      - n00 gpu=8 used=8
      - n01 gpu=8 used=8
      - n02 gpu=8
    rack r1
      - n10 gpu=8
      - n11 gpu=8
  block b1
    rack r2
      - n20 gpu=8 used=1
      - n21 gpu=8
      - n22 gpu=8
    rack r3
      - n30 gpu=8
      - n31 gpu=8
      - n32 gpu=8 used=3
`);

function nearest(question: PlanQuestion): string | undefined {
  return nearestDomain(questionOf(fleet, question))?.id;
}

t.test('the domain nearest to fitting', async t => {
  t.equal(nearest({ size: 3, worker: gpu8, required: 'rack' }), 'b1/r2', 'most room now, ties by name');
  t.equal(
    nearest({ size: 2, worker: gpu8, required: 'rack' }),
    'b0/r1',
    'of the finest level that can ever do',
  );
  t.equal(nearest({ size: 5, worker: gpu8 }), 'b1', 'a level up where no rack is large enough');
  t.equal(nearest({ size: 9, worker: gpu8 }), '', 'the whole cluster');
  t.equal(nearest({ size: 4, worker: gpu8, required: 'rack' }), undefined, 'none that could never hold it');
  t.equal(nearest({ size: 2, worker: { gpu: 9 } }), undefined);
  t.equal(
    nearest({ size: 3, worker: gpu8, required: 'rack', excluded: { n21: 'failed' } }),
    'b1/r3',
    'what may not be used does not count',
  );
});

t.test('a rack taken by an exclusive group can be waited for', async t => {
  const exclusive = labelOf('rack');
  const other = (name: string, node: string) =>
    new LwsGroup({ name, size: 1, worker: { gpu: 1 }, exclusive }).leader({ node, gated: false });
  const pods = [other('o0', 'n02'), other('o1', 'n10'), other('o2', 'n21'), other('o3', 'n31')];
  const question = { size: 2, worker: gpu8, exclusive, pods };
  t.match(outcomeOf(questionOf(fleet, question)), /do not fit in one rack/);
  t.equal(nearest(question), 'b0/r0', 'all are alike, for no member may enter any of them now');
});

t.test('members that differ get no reservation', async t => {
  const members = [{ gpu: 7 }, { gpu: 8 }, { gpu: 9 }];
  t.equal(nearestDomain(labelledQuestion(fleet, members)), undefined);
});

t.test('with labels to agree on, each value is looked at by itself', async t => {
  const pools = drawFleet(`
    rack r0
      - n00 gpu=8 label=pool=p
      - n01 gpu=8 label=pool=q
    rack r1
      - n10 gpu=8 label=pool=p used=8
      - n11 gpu=8 label=pool=p
  `);
  const question = { size: 2, worker: gpu8, exclusive: 'pool', required: 'rack' };
  t.equal(nearestDomain(questionOf(pools, question))?.id, 'r1');
});

t.test('reserved nodes are kept from others with a reason', async t => {
  const input = questionOf(fleet, { size: 3, worker: gpu8, required: 'rack' });
  const domain = nearestDomain(input);
  if (domain === undefined) throw new Error('no domain');
  const reservation = { groupKey: 'serving/llm-0', level: domain.level, domain };
  const excluded = reservedNodes(input.snapshot, reservation);
  t.same(
    [...excluded],
    ['n20', 'n21', 'n22'].map(node => [node, 'reserved for serving/llm-0']),
  );
  const refused = outcomeOf({ ...questionOf(fleet, { size: 9, worker: gpu8 }), excludedNodes: excluded });
  t.match(refused, /: 3 insufficient nvidia.com\/gpu, 3 reserved for serving\/llm-0/);
});
