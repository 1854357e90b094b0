import t from 'tap';
import { bodyOf } from '../../../hack/bench/extender-kinds.ts';
import { PlainExtender } from '../../../hack/bench/parse-all.ts';
import type { Pod } from '../../../src/api/kubernetes.ts';
import { filterNames, refusedNamesLimit } from '../../../src/extender/filter.ts';
import { NodeNames } from '../../../src/extender/node-names.ts';
import { anywhere, sentences, type Verdict } from '../../../src/extender/verdict.ts';
import { cutNodeArgs, filterAnswer, readNodeArgs } from '../../../src/extender/wire.ts';

const names = Array.from({ length: 3 * refusedNamesLimit }, (_, index) => `node-${index}`);
const held = names.slice(10, 30);
const plain = new PlainExtender({
  places: { planned: 'node-250', elsewhere: 'node-of-another-cluster', waiting: '' },
  held,
  scores: { 'node-3': 10, 'node-1': 3, gone: 7 },
});

t.test('the plain extender gives the answers of Berth, so that only the way to them is compared', async t => {
  const only = (node: string): Verdict => ({ kind: 'only', node, sentence: sentences.only });
  const table: readonly { readonly name: string; readonly pod: Pod; readonly verdict: Verdict }[] = [
    { name: 'planned', pod: podOf('planned', 8), verdict: only('node-250') },
    {
      name: 'planned for a node not asked for',
      pod: podOf('elsewhere', 8),
      verdict: only('node-of-another-cluster'),
    },
    {
      name: 'without a plan',
      pod: podOf('waiting', 8),
      verdict: { kind: 'none', cause: 'unplanned', sentence: sentences.unplanned },
    },
    {
      name: 'stranger with a GPU',
      pod: podOf('stranger', 1),
      verdict: { kind: 'except', nodes: new Set(held), sentence: sentences.except },
    },
    { name: 'stranger without GPUs', pod: podOf('web', 0), verdict: anywhere },
  ];
  for (const { name, pod, verdict } of table) {
    const berth = filterAnswer(filterNames(verdict, NodeNames.fromList(names)));
    const answer = plain.filter(bodyOf(pod, names).toString());
    t.strictSame(JSON.parse(answer), JSON.parse(berth.toString()), name);
  }
});

t.test('it scores the nodes it is asked for, and leaves out zeros as Berth does', async t => {
  t.strictSame(JSON.parse(plain.prioritize(bodyOf(podOf('single', 1), names).toString())), [
    { Host: 'node-1', Score: 3 },
    { Host: 'node-3', Score: 10 },
  ]);
});

t.test("a request has the form of Go's, which Berth takes apart by its bytes", async t => {
  const readBack = { ...podOf('planned', 8), apiVersion: 'v1', kind: 'Pod' };
  const body = bodyOf({ ...readBack, metadata: { ...readBack.metadata, ...{ managedFields: [{}] } } }, names);
  t.ok(cutNodeArgs(body), 'the quick way takes it');
  t.match(readNodeArgs(body), { kind: 'names', pod: { uid: 'planned' } });
  t.notMatch(body.toString(), /managedFields|apiVersion/);
});

function podOf(uid: string, gpus: number): Pod {
  const resources = gpus === 0 ? { requests: { cpu: '1' } } : { limits: { 'nvidia.com/gpu': String(gpus) } };
  return {
    metadata: { uid, name: uid, namespace: 'bench' },
    spec: { containers: [{ name: 'main', image: 'main', resources }] },
  };
}
