import t from 'tap';
import { type ClaimCase, claimCases, claimQuestionNames } from '../../../hack/bench/claim-questions.ts';
import { allocate } from '../../../src/cluster/devices/allocator/allocate.ts';
import { CelSelectors } from '../../../src/cluster/devices/cel/engine.ts';
import { decodeDeviceClass } from '../../../src/cluster/devices/decode-claim.ts';
import { decodeResourceSlice } from '../../../src/cluster/devices/decode-slice.ts';
import { DeviceLedger } from '../../../src/cluster/devices/device-ledger.ts';
import { poolsFor } from '../../../src/cluster/devices/pools.ts';
import { SliceIndex } from '../../../src/cluster/devices/slice-index.ts';

const selectors = new CelSelectors();

function answerTo({ node, slices, classes, claims, taken }: ClaimCase): string {
  const records = new Map(classes.map(raw => [raw.metadata.name ?? '', decodeDeviceClass(raw)]));
  const pools = poolsFor(node.metadata, new SliceIndex(slices.map(decodeResourceSlice)));
  const used = new DeviceLedger();
  used.add(taken);
  const answer = allocate({
    node: node.metadata,
    pools,
    classes: name => records.get(name),
    selectors,
    claims: claims.map(({ metadata, spec }) => ({ name: metadata.name ?? '', spec })),
    used,
  });
  if (answer.kind !== 'allocated') return answer.kind;
  return answer.claims.flatMap(({ results }) => results.map(({ request }) => request)).join();
}

t.test('the claims find devices on an empty node of every size, and as a rule on others', async t => {
  const requests = ['gpu', 'gpu,nic', 'gpus,gpus,gpus,gpus', 'gpu/h100,gpu/h100', 'mig,mig,mig'];
  for (const devices of [8, 64, 128]) {
    for (const [index, name] of claimQuestionNames.entries()) {
      const cases = claimCases(name, { devices, cases: 20, seed: 1 });
      const count = cases[0]?.slices.reduce((sum, { spec }) => sum + (spec.devices?.length ?? 0), 0);
      t.equal(count, devices, 'the node has as many devices as it should');
      const answers = cases.map(answerTo);
      t.equal(answers[0], requests[index], `${name}, ${devices} devices`);
      t.notOk(answers.includes('error') || answers.includes('unknown'), answers.join(' '));
      t.ok(answers.filter(answer => answer !== 'none').length >= 8, answers.join(' '));
    }
  }
});

t.test('the same seed makes the same claims', async t => {
  const options = { devices: 64, cases: 10, seed: 3 };
  const text = JSON.stringify(claimCases('three small partitions', options));
  t.equal(JSON.stringify(claimCases('three small partitions', options)), text);
  t.not(JSON.stringify(claimCases('three small partitions', { ...options, seed: 4 })), text);
});
