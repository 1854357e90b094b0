import fc from 'fast-check';
import t from 'tap';
import type { LabelSelector, PodAffinityTerm, PodSpec } from '../../../src/api/kubernetes.ts';
import { matchesLabelSelector } from '../../../src/cluster/labels.ts';
import {
  type AffinityPod,
  type AffinityQuestion,
  type AffinityTerm,
  affinityAdmits,
  compileAffinity,
  compileTemplateAffinity,
  type ExistingPod,
  type PodAffinity,
} from '../../../src/cluster/pod-affinity.ts';

const required = 'requiredDuringSchedulingIgnoredDuringExecution';
type Terms = { readonly affinity?: readonly PodAffinityTerm[]; readonly anti?: readonly PodAffinityTerm[] };

const specOf = ({ affinity, anti }: Terms): PodSpec => ({
  containers: [],
  affinity: {
    ...(affinity && { podAffinity: { [required]: affinity } }),
    ...(anti && { podAntiAffinity: { [required]: anti } }),
  },
});
const term = (
  topologyKey: string,
  app: string | LabelSelector,
  more: Partial<PodAffinityTerm> = {},
): PodAffinityTerm => ({
  topologyKey,
  labelSelector: typeof app === 'string' ? { matchLabels: { app } } : app,
  ...more,
});
const pod = (app: string, terms: Terms = {}, namespace = 'ns') => {
  const labels = { app };
  return { namespace, labels, terms: compileAffinity({ namespace, labels, spec: specOf(terms) }) };
};
const on = (
  nodeLabels: Record<string, string>,
  { namespace, labels, terms }: ReturnType<typeof pod>,
): ExistingPod => ({
  namespace,
  labels,
  nodeLabels,
  antiAffinity: terms,
});
const node = (zone: string, host = `${zone}-host`) => ({ zone, host });
const namespaceLabels = (namespace: string) => ({
  name: namespace,
  team: namespace.startsWith('a') ? 'a' : 'b',
});
const check = ({ terms, ...rest }: ReturnType<typeof pod>, existing: Iterable<ExistingPod>) =>
  affinityAdmits({ terms, pod: rest, existing, namespaceLabels });

t.test('terms are compiled only where there are required ones', async t => {
  t.equal(compileAffinity({ namespace: 'ns', labels: {}, spec: {} }), undefined);
  t.equal(
    compileAffinity({ namespace: 'ns', labels: {}, spec: specOf({ affinity: [], anti: [] }) }),
    undefined,
  );
  const preferred = { podAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [{}] } };
  t.equal(compileAffinity({ namespace: 'ns', labels: {}, spec: { affinity: preferred } }), undefined);
});

t.test('affinity wants a domain where a matching pod stands', async t => {
  const follower = check(pod('web', { affinity: [term('zone', 'db')] }), [
    on(node('a'), pod('db')),
    on(node('b'), pod('x')),
  ]);
  t.equal(follower.admits(node('a', 'another')), true, 'anywhere in the domain');
  t.strictSame(follower.admits(node('b')), { code: 'PodAffinity', topologyKey: 'zone' });
  t.strictSame(
    follower.admits({ host: 'h' }),
    { code: 'PodAffinity', topologyKey: 'zone' },
    'a node outside of any domain',
  );
  const alone = check(pod('web', { affinity: [term('zone', 'db')] }), []);
  t.strictSame(alone.admits(node('a')), { code: 'PodAffinity', topologyKey: 'zone' }, 'nobody to be near');
});

t.test('a pod must match all affinity terms to count for any', async t => {
  const both = [term('zone', 'db'), term('host', { matchLabels: { tier: 'gold' } })];
  const newcomer = pod('web', { affinity: both });
  const half = [on(node('a'), pod('db')), { ...on(node('a'), pod('x')), labels: { tier: 'gold' } }];
  t.strictSame(check(newcomer, half).admits(node('a')), { code: 'PodAffinity', topologyKey: 'zone' });
  const whole = (nodeLabels: Record<string, string>) => ({
    ...on(nodeLabels, pod('x')),
    labels: { app: 'db', tier: 'gold' },
  });
  t.equal(check(newcomer, [whole(node('a'))]).admits(node('a')), true);
  t.strictSame(check(newcomer, [whole(node('a'))]).admits(node('a', 'other')), {
    code: 'PodAffinity',
    topologyKey: 'host',
  });
  const twoPods = [whole({ zone: 'a' }), whole({ zone: 'b', host: 'h' })];
  t.equal(
    check(newcomer, twoPods).admits({ zone: 'a', host: 'h' }),
    true,
    'the domains may come from different pods',
  );
});

t.test('the first of a group that wants to be near itself may go to any domain', async t => {
  const first = pod('llm', { affinity: [term('zone', 'llm')] });
  t.equal(check(first, []).admits(node('a')), true);
  t.equal(check(first, []).admits(node('b')), true);
  t.strictSame(
    check(first, []).admits({ host: 'h' }),
    { code: 'PodAffinity', topologyKey: 'zone' },
    'but to a domain',
  );
  t.notSame(check(first, [on(node('a'), first)]).admits(node('b')), true, 'the second is bound to the first');
  t.equal(
    check(first, [on({ host: 'h' }, first)]).admits(node('b')),
    true,
    'one outside of any domain binds nobody',
  );
  t.equal(
    check(first, [on(node('a'), pod('llm', {}, 'other'))]).admits(node('b')),
    true,
    'nor one in another namespace',
  );
  const both = pod('llm', { affinity: [term('zone', 'llm'), term('zone', 'db')] });
  t.notSame(check(both, []).admits(node('a')), true, 'it must match all of its own terms');
});

t.test('anti-affinity keeps out of the domains where matching pods stand', async t => {
  const shy = check(pod('web', { anti: [term('zone', 'db'), term('host', 'web')] }), [
    on(node('a'), pod('db')),
    on(node('b', 'h1'), pod('web')),
  ]);
  t.strictSame(shy.admits(node('a')), { code: 'PodAntiAffinity', topologyKey: 'zone' });
  t.strictSame(
    shy.admits(node('b', 'h1')),
    { code: 'PodAntiAffinity', topologyKey: 'host' },
    'one term suffices',
  );
  t.equal(shy.admits(node('b', 'h2')), true);
  t.equal(shy.admits({}), true, 'a node outside of any domain conflicts with nobody');
});

t.test('anti-affinity of existing pods binds newcomers that have no terms', async t => {
  const loner = pod('exclusive', {
    anti: [term('zone', { matchExpressions: [{ key: 'app', operator: 'Exists' }] })],
  });
  const newcomer = check(pod('web'), [on(node('a'), loner), on(node('b'), pod('web'))]);
  t.strictSame(newcomer.admits(node('a')), { code: 'ExistingPodAntiAffinity', topologyKey: 'zone' });
  t.equal(newcomer.admits(node('b')), true);
  t.equal(
    check(pod('web', {}, 'other'), [on(node('a'), loner)]).admits(node('a')),
    true,
    'its term means its own namespace',
  );
  const follower = on(node('a'), pod('x', { affinity: [term('zone', 'never')] }));
  t.equal(check(pod('web'), [follower]).admits(node('a')), true, 'affinity of existing pods binds nobody');
});

t.test('namespaces of a term', async t => {
  const cases: readonly [string, Partial<PodAffinityTerm>, readonly string[]][] = [
    ['none named: its own', {}, ['own']],
    ['an empty list: its own', { namespaces: [] }, ['own']],
    ['named ones only', { namespaces: ['b1'] }, ['b1']],
    ['an empty selector: all', { namespaceSelector: {} }, ['own', 'a1', 'a2', 'b1']],
    ['a selector', { namespaceSelector: { matchLabels: { team: 'a' } } }, ['a1', 'a2']],
    [
      'both: either',
      { namespaces: ['own'], namespaceSelector: { matchLabels: { name: 'b1' } } },
      ['own', 'b1'],
    ],
  ];
  for (const [name, more, expected] of cases) {
    const seen = ['own', 'a1', 'a2', 'b1'].filter(namespace => {
      const newcomer = pod('web', { anti: [term('zone', 'db', more)] }, 'own');
      return check(newcomer, [on(node('z'), pod('db', {}, namespace))]).admits(node('z')) !== true;
    });
    t.strictSame(seen, expected, name);
    const repelled = ['own', 'a1', 'a2', 'b1'].filter(namespace => {
      const repelling = pod('db', { anti: [term('zone', 'web', more)] }, 'own');
      return check(pod('web', {}, namespace), [on(node('z'), repelling)]).admits(node('z')) !== true;
    });
    t.strictSame(repelled, expected, `${name}, seen from an existing pod`);
  }
});

t.test('an absent pod selector selects nothing, an empty one every pod', async t => {
  const existing = [on(node('a'), pod('db'))];
  t.equal(check(pod('web', { anti: [{ topologyKey: 'zone' }] }), existing).admits(node('a')), true);
  t.notSame(check(pod('web', { anti: [term('zone', {})] }), existing).admits(node('a')), true);
});

t.test('label keys are merged for templates and left alone for pods', async t => {
  const labels = { app: 'llm', revision: '2' };
  const merging = term('zone', 'llm', { matchLabelKeys: ['revision', 'absent'], mismatchLabelKeys: ['app'] });
  const subject = {
    namespace: 'ns',
    labels,
    spec: specOf({ affinity: [merging], anti: [{ topologyKey: 'zone', matchLabelKeys: ['app'] }] }),
  };
  t.strictSame(compileTemplateAffinity(subject)?.affinity[0]?.selector, {
    matchLabels: { app: 'llm' },
    matchExpressions: [
      { key: 'revision', operator: 'In', values: ['2'] },
      { key: 'app', operator: 'NotIn', values: ['llm'] },
    ],
  });
  t.equal(
    compileTemplateAffinity(subject)?.antiAffinity[0]?.selector,
    undefined,
    'an absent selector stays absent',
  );
  t.strictSame(compileAffinity(subject)?.affinity[0]?.selector, { matchLabels: { app: 'llm' } });
  t.equal(merging.labelSelector?.matchExpressions, undefined, 'the template stays as it was');
});

t.test('members of one group are placed one after another', async t => {
  const member = pod('llm', { affinity: [term('zone', 'llm')], anti: [term('host', 'llm')] });
  const first = check(member, []);
  const second = first.withPlaced([on(node('a', 'h1'), member)]);
  const third = second.withPlaced([on(node('a', 'h2'), member)]);
  t.equal(second.admits(node('a', 'h2')), true);
  t.same(second.admits(node('a', 'h1')), { code: 'PodAntiAffinity', topologyKey: 'host' });
  t.same(second.admits(node('b', 'h9')), { code: 'PodAffinity', topologyKey: 'zone' });
  t.same(third.admits(node('a', 'h2')), { code: 'PodAntiAffinity', topologyKey: 'host' });
  t.equal(first.admits(node('b', 'h9')), true, 'earlier answers stand, so a planner may go back');
});

t.test('LWS exclusive topology: one group per domain, leaders with their own workers', async t => {
  const key = 'leaderworkerset.sigs.k8s.io/group-key';
  const groupPod = (group: string) => {
    const labels = { [key]: group };
    const own = {
      topologyKey: 'zone',
      labelSelector: { matchExpressions: [{ key, operator: 'In', values: [group] }] },
    };
    const others = {
      topologyKey: 'zone',
      labelSelector: {
        matchExpressions: [
          { key, operator: 'Exists' },
          { key, operator: 'NotIn', values: [group] },
        ],
      },
    };
    return {
      namespace: 'ns',
      labels,
      terms: compileAffinity({ namespace: 'ns', labels, spec: specOf({ affinity: [own], anti: [others] }) }),
    };
  };
  const of = (group: string) => ({ ...groupPod(group), labels: { app: '', ...groupPod(group).labels } });
  const leader = check(of('g1'), [on(node('a'), of('g0'))]);
  t.same(leader.admits(node('a')), { code: 'PodAntiAffinity', topologyKey: 'zone' });
  t.equal(leader.admits(node('b')), true);
  t.same(check(pod('web'), [on(node('a'), of('g0'))]).admits(node('a')), true, 'others are not kept out');
});

/** The rules once more, pod by pod and node by node. */
function admitsPlainly(question: AffinityQuestion, nodeLabels: Record<string, string>): boolean {
  const matches = (one: AffinityTerm, other: AffinityPod) =>
    (one.namespaces.includes(other.namespace) ||
      matchesLabelSelector(one.namespaceSelector, question.namespaceLabels(other.namespace))) &&
    matchesLabelSelector(one.selector, other.labels);
  const existing = [...question.existing];
  const shares = (key: string, other: ExistingPod) =>
    nodeLabels[key] !== undefined && other.nodeLabels[key] === nodeLabels[key];
  const { affinity = [], antiAffinity = [] } = question.terms ?? {};
  const wanted = existing.filter(other => affinity.every(one => matches(one, other)));
  const nobody = !wanted.some(other => affinity.some(one => other.nodeLabels[one.topologyKey] !== undefined));
  const isFirst = nobody && affinity.every(one => matches(one, question.pod));
  const near = affinity.every(
    one =>
      nodeLabels[one.topologyKey] !== undefined &&
      (isFirst || wanted.some(other => shares(one.topologyKey, other))),
  );
  const avoids = existing.some(other =>
    antiAffinity.some(one => shares(one.topologyKey, other) && matches(one, other)),
  );
  const avoided = existing.some(other =>
    other.antiAffinity?.antiAffinity.some(
      one => shares(one.topologyKey, other) && matches(one, question.pod),
    ),
  );
  return near && !avoids && !avoided;
}

t.test('one pass and look-ups say the same as the rules taken literally, also pod after pod', async t => {
  const namespace = fc.constantFrom('a1', 'a2', 'b1');
  const labels = fc.record(
    { app: fc.constantFrom('x', 'y'), tier: fc.constantFrom('g', 's') },
    { requiredKeys: [] },
  );
  const place = fc.record(
    { zone: fc.constantFrom('1', '2'), host: fc.constantFrom('p', 'q', 'r') },
    { requiredKeys: [] },
  );
  const selector = fc.constantFrom<LabelSelector | undefined>(
    undefined,
    {},
    { matchLabels: { app: 'x' } },
    { matchExpressions: [{ key: 'tier', operator: 'NotIn', values: ['g'] }] },
  );
  const compiled = fc.record({
    topologyKey: fc.constantFrom('zone', 'host'),
    selector,
    namespaces: fc.subarray(['a1', 'b1']),
    namespaceSelector: fc.constantFrom<LabelSelector | undefined>(
      undefined,
      undefined,
      {},
      { matchLabels: { team: 'a' } },
    ),
  });
  const lists = fc.array(compiled, { maxLength: 2 });
  const terms: fc.Arbitrary<PodAffinity | undefined> = fc.option(
    fc.record({ affinity: lists, antiAffinity: lists }),
    { nil: undefined },
  );
  const existingPods = fc.array(fc.record({ namespace, labels, nodeLabels: place, antiAffinity: terms }), {
    maxLength: 6,
  });
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(
        terms,
        fc.record({ namespace, labels }),
        existingPods,
        fc.nat({ max: 6 }),
        place,
        (terms, pod, existing, cut, at) => {
          const question = { terms, pod, existing, namespaceLabels };
          const expected = admitsPlainly(question, at);
          const atOnce = affinityAdmits(question).admits(at) === true;
          let check = affinityAdmits({ ...question, existing: existing.slice(0, cut) });
          for (const placed of existing.slice(cut)) check = check.withPlaced([placed]);
          return atOnce === expected && (check.admits(at) === true) === expected;
        },
      ),
      { numRuns: 3000 },
    ),
  );
});
