import t from 'tap';
import { drawFleet } from '../../builders/fleet.ts';
import { decode, labelledPod, labelledQuestion, outcomeOf } from '../../builders/planning.ts';
import { podOf, requiredDuringScheduling } from '../../builders/pods.ts';

const onlyN1 = {
  nodeAffinity: {
    [requiredDuringScheduling]: {
      nodeSelectorTerms: [{ matchFields: [{ key: 'metadata.name', operator: 'In', values: ['n1'] }] }],
    },
  },
};

t.test('a node name that the user asks for is no pin of Berth while its gate is there', async t => {
  t.equal(decode(labelledPod(1, 0, { affinity: onlyN1 })).pinnedTo, undefined);
  t.equal(decode(podOf({ name: 'p', affinity: onlyN1 })).pinnedTo, 'n1');
});

t.test('a gated pod does not stand in its own way on the node that it asks for', async t => {
  const fleet = drawFleet('- n0 gpu=8\n- n1 gpu=8');
  t.equal(outcomeOf(labelledQuestion(fleet, [{ gpu: 8, affinity: onlyN1 }])), 'n1');
});
