import t from 'tap';
import type { PodSpec, Taint, TopologySpreadConstraint } from '../../../src/api/kubernetes.ts';
import {
  compileSpread,
  type SpreadCounted,
  type SpreadNode,
  spreadAdmits,
} from '../../../src/cluster/topology-spread.ts';

type Wish = Partial<TopologySpreadConstraint>;

const hard = (wish: Wish = {}): TopologySpreadConstraint => ({
  maxSkew: 1,
  topologyKey: 'zone',
  whenUnsatisfiable: 'DoNotSchedule',
  labelSelector: { matchLabels: { app: 'llm' } },
  ...wish,
});
const node = (name: string, zone: string | undefined, taints: readonly Taint[] = []): SpreadNode => ({
  name,
  labels: { host: name, ...(zone !== undefined && { zone }) },
  taints,
});
const on = (nodeName: string, more: Partial<SpreadCounted> = {}): SpreadCounted => ({
  namespace: 'ns',
  labels: { app: 'llm' },
  nodeName,
  terminating: false,
  ...more,
});
const fleet = [node('a1', 'a'), node('a2', 'a'), node('b1', 'b'), node('n1', undefined)];
const skewed = { code: 'Skew', topologyKey: 'zone' };

interface Ask {
  readonly wishes?: readonly TopologySpreadConstraint[];
  readonly labels?: Record<string, string>;
  readonly spec?: Partial<PodSpec>;
  readonly nodes?: readonly SpreadNode[];
}

function check(existing: readonly SpreadCounted[], ask: Ask = {}) {
  const { wishes = [hard()], labels = { app: 'llm' }, spec = {}, nodes = fleet } = ask;
  const constraints = compileSpread({ labels, spec: { topologySpreadConstraints: wishes } });
  return spreadAdmits({ constraints, pod: { namespace: 'ns', labels, spec }, nodes, existing });
}

t.test('only hard constraints are compiled, with the defaults of the API', async t => {
  const soft = hard({ whenUnsatisfiable: 'ScheduleAnyway' });
  t.strictSame(compileSpread({ labels: {}, spec: {} }), []);
  t.strictSame(compileSpread({ labels: {}, spec: { topologySpreadConstraints: [soft, hard()] } }), [
    {
      topologyKey: 'zone',
      maxSkew: 1,
      minDomains: 1,
      selector: { matchLabels: { app: 'llm' } },
      honorsAffinity: true,
      honorsTaints: false,
    },
  ]);
});

t.test('label keys are merged into the selector where the pod has the label', async t => {
  const compiled = (labels: Record<string, string>, wish: Wish = {}) =>
    compileSpread({
      labels,
      spec: { topologySpreadConstraints: [hard({ matchLabelKeys: ['rev'], ...wish })] },
    })[0]?.selector;
  t.strictSame(compiled({ rev: '2' }), {
    matchLabels: { app: 'llm' },
    matchExpressions: [{ key: 'rev', operator: 'In', values: ['2'] }],
  });
  t.strictSame(compiled({}), { matchLabels: { app: 'llm' } });
  const { labelSelector: _, ...without } = hard({ matchLabelKeys: ['rev'] });
  const spec = { topologySpreadConstraints: [without] };
  t.equal(compileSpread({ labels: { rev: '2' }, spec })[0]?.selector, undefined, 'nothing stays nothing');
});

t.test('a domain takes no more than maxSkew above the fewest', async t => {
  const full = check([on('a1')]);
  t.strictSame(full.admits({ zone: 'a' }), skewed);
  t.equal(full.admits({ zone: 'b' }), true);
  t.equal(check([on('a1')], { wishes: [hard({ maxSkew: 2 })] }).admits({ zone: 'a' }), true);
  t.equal(check([on('a1'), on('b1')]).admits({ zone: 'a' }), true, 'the fewest have risen');
  t.strictSame(full.admits({ host: 'n1' }), { code: 'MissingLabel', topologyKey: 'zone' });
});

t.test('a newcomer that its own constraint does not select adds nothing', async t => {
  const stranger = { labels: { app: 'web' } };
  t.equal(check([on('a1')], stranger).admits({ zone: 'a' }), true);
  t.strictSame(check([on('a1'), on('a2')], stranger).admits({ zone: 'a' }), skewed);
});

t.test('what counts are live pods of the same namespace on nodes with every label', async t => {
  const takes = (pod: SpreadCounted) => check([pod]).admits({ zone: 'a' }) === true;
  t.equal(takes(on('a1')), false);
  t.equal(takes(on('a1', { terminating: true })), true);
  t.equal(takes(on('a1', { namespace: 'other' })), true);
  t.equal(takes(on('a1', { labels: { app: 'web' } })), true);
  t.equal(takes(on('n1')), true, 'its node is in no zone');
  t.equal(takes(on('gone')), true);
  const both = [hard(), hard({ topologyKey: 'rack', maxSkew: 5 })];
  t.equal(
    check([on('a1')], { wishes: both }).admits({ zone: 'a', rack: 'r' }),
    true,
    'a node that lacks the label of another constraint counts for none',
  );
});

t.test('a selector that selects everything counts nobody', async t => {
  const all = check([on('a1'), on('a1')], { wishes: [hard({ labelSelector: {} })] });
  t.equal(all.admits({ zone: 'a' }), true);
});

t.test('with fewer domains than minDomains the fewest are none', async t => {
  const three = check([on('a1'), on('b1')], { wishes: [hard({ minDomains: 3 })] });
  t.strictSame(three.admits({ zone: 'a' }), skewed);
  t.equal(check([on('a1'), on('b1')], { wishes: [hard({ minDomains: 2 })] }).admits({ zone: 'a' }), true);
  t.equal(check([], { nodes: [] }).admits({ zone: 'a' }), true, 'no domain at all');
});

t.test('nodes that the pod cannot select are in no domain, unless that is ignored', async t => {
  const spec = { nodeSelector: { zone: 'a' } };
  t.equal(check([on('a1')], { spec }).admits({ zone: 'a' }), true, 'zone b is not waited for');
  const wishes = [hard({ nodeAffinityPolicy: 'Ignore' })];
  t.strictSame(check([on('a1')], { spec, wishes }).admits({ zone: 'a' }), skewed);
});

t.test('nodes with a taint that is not tolerated count, unless that is honored', async t => {
  const nodes = [node('a1', 'a'), node('b1', 'b', [{ key: 'gpu', effect: 'NoSchedule' }])];
  const wishes = [hard({ nodeTaintsPolicy: 'Honor' })];
  t.strictSame(check([on('a1')], { nodes }).admits({ zone: 'a' }), skewed);
  t.equal(check([on('a1')], { nodes, wishes }).admits({ zone: 'a' }), true);
  const spec = { tolerations: [{ key: 'gpu', operator: 'Exists' }] };
  t.strictSame(check([on('a1')], { nodes, wishes, spec }).admits({ zone: 'a' }), skewed);
});

t.test('pods that get their nodes later count, and do not change the check they are added to', async t => {
  const before = check([]);
  const after = before.withPlaced([on('a1')]);
  t.strictSame(after.admits({ zone: 'a' }), skewed);
  t.equal(after.withPlaced([on('b1')]).admits({ zone: 'a' }), true);
  t.equal(before.admits({ zone: 'a' }), true);
});

t.test('companions raise the fewest as far as they can', async t => {
  const pods = (count: number) =>
    Array.from({ length: count }, () => ({ namespace: 'ns', labels: { app: 'llm' } }));
  const nodes = ['a', 'b', 'c'].map(zone => node(zone, zone));
  const uneven = check([on('a'), on('a'), on('a'), on('b')], { nodes });
  const takes = (count: number) => uneven.withCompanions(pods(count)).admits({ zone: 'a' }) === true;
  t.strictSame([0, 4, 5, 6].map(takes), [false, false, true, true], 'b needs two more, c three');
  const others = [{ namespace: 'other', labels: { app: 'llm' } }];
  t.strictSame(
    check([on('a1')])
      .withCompanions(others)
      .admits({ zone: 'a' }),
    skewed,
  );
  const three = check([on('a1')], { wishes: [hard({ minDomains: 3 })] });
  t.strictSame(three.withCompanions(pods(9)).admits({ zone: 'a' }), skewed, 'not above none');
});

t.test('a pinned pod knows its own node only, where node affinity is honored', async t => {
  const [a1 = node('', ''), a2 = node('', '')] = fleet;
  const usual = check([on('a1')]);
  t.equal(usual.admitsPinned(a1), true, 'one domain is level with itself');
  const two = { wishes: [hard({ minDomains: 2 })] };
  const level = check([on('a1'), on('b1')], two);
  t.equal(level.admits(a1.labels), true);
  t.strictSame(level.admitsPinned(a1), skewed, 'one domain is fewer than two');
  t.equal(level.admitsPinned(a2), true, 'nobody stands on this node of the domain');
  t.strictSame(level.withPlaced([on('a2')]).admitsPinned(a2), skewed);
  const ignoring = check([on('a1')], { wishes: [hard({ nodeAffinityPolicy: 'Ignore' })] });
  t.strictSame(ignoring.admitsPinned(a1), skewed, 'as before the pin');
  t.strictSame(usual.admitsPinned(node('n1', undefined)), { code: 'MissingLabel', topologyKey: 'zone' });
});
