import t from 'tap';
import type { Pod, PodSpec } from '../../../src/api/kubernetes.ts';
import {
  berth,
  foreignTopologyAnnotations,
  foreignTopologyGates,
  foreignTopologyLabels,
  k8s,
} from '../../../src/api/names.ts';
import type { PlacementMode } from '../../../src/group/owner.ts';
import { matchConditions, type ScopeReason, whyNotOurs } from '../../../webhooks/scope.ts';
import { buildPod } from './pod-builders.ts';

function nodeAffinity(...nodeSelectorTerms: object[]): Partial<PodSpec> {
  return {
    affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms } } },
  };
}

const byName = { matchFields: [{ key: 'metadata.name', operator: 'In', values: ['n1'] }] };
const notByName = { matchFields: [{ key: 'metadata.name', operator: 'NotIn', values: ['n1'] }] };
const byLabel = { matchExpressions: [{ key: 'zone', operator: 'In', values: ['a'] }] };

function ownedBy(kind: string): Pod {
  const pod = buildPod();
  const owner = { apiVersion: 'apps/v1', kind, name: 'o', uid: 'u', controller: true };
  return { ...pod, metadata: { ...pod.metadata, ownerReferences: [owner] } };
}

t.test('tells which pods are counted but never touched', async t => {
  const cases: [string, Pod, ScopeReason | undefined][] = [
    ['an ordinary pod', buildPod(), undefined],
    ['of the default scheduler', buildPod({ spec: { schedulerName: 'default-scheduler' } }), undefined],
    ['without scheduler', buildPod({ spec: { schedulerName: '' } }), undefined],
    ['of a StatefulSet', ownedBy('StatefulSet'), undefined],
    ['that wants another mode', buildPod({ annotations: { [berth.mode]: 'pin' } }), undefined],
    ['that wants to be observed', buildPod({ annotations: { [berth.mode]: 'observe' } }), 'pod-observed'],
    ['that is bound', buildPod({ spec: { nodeName: 'n1' } }), 'bound'],
    ['of a DaemonSet', ownedBy('DaemonSet'), 'owned-by-node'],
    ['of a Node', ownedBy('Node'), 'owned-by-node'],
    ['that mirrors a static pod', buildPod({ annotations: { [k8s.mirrorPod]: '' } }), 'mirror'],
    ['of another scheduler', buildPod({ spec: { schedulerName: 'volcano' } }), 'foreign-scheduler'],
    ['pinned by name', buildPod({ spec: nodeAffinity(byName) }), 'pinned-by-name'],
    [
      'pinned in every term',
      buildPod({ spec: nodeAffinity(byName, { ...byName, ...byLabel }) }),
      'pinned-by-name',
    ],
    ['pinned in one of two terms', buildPod({ spec: nodeAffinity(byName, byLabel) }), undefined],
    ['kept off a node by name', buildPod({ spec: nodeAffinity(notByName) }), undefined],
    ['whose terms match no node', buildPod({ spec: nodeAffinity({}) }), undefined],
    ['without terms', buildPod({ spec: nodeAffinity() }), undefined],
    ...foreignTopologyGates.map((name): [string, Pod, ScopeReason] => [
      `with gate ${name}`,
      buildPod({ spec: { schedulingGates: [{ name: 'own' }, { name }] } }),
      'foreign-topology',
    ]),
    ...foreignTopologyLabels.map((key): [string, Pod, ScopeReason] => [
      `with label ${key}`,
      buildPod({ labels: { [key]: '' } }),
      'foreign-topology',
    ]),
    ...foreignTopologyAnnotations.map((key): [string, Pod, ScopeReason] => [
      `with annotation ${key}`,
      buildPod({ annotations: { [key]: 'g' } }),
      'foreign-topology',
    ]),
    [
      'with a gate of its own',
      buildPod({ spec: { schedulingGates: [{ name: 'example.com/g' }] } }),
      undefined,
    ],
  ];
  for (const [name, pod, want] of cases) t.equal(whyNotOurs(pod, { namespaceMode: 'pin' }), want, name);
});

t.test('asks the namespace first', async t => {
  const modes: [PlacementMode | undefined, ScopeReason | undefined][] = [
    [undefined, 'namespace-observed'],
    ['observe', 'namespace-observed'],
    ['pin', undefined],
    ['pin-extender', undefined],
    ['extender', undefined],
  ];
  for (const [namespaceMode, want] of modes)
    t.equal(whyNotOurs(buildPod(), { namespaceMode }), want, namespaceMode ?? 'no mode');
});

t.test('says the same in CEL, one condition for each reason of the pod’s own', async t => {
  t.same(
    matchConditions.map(({ name }) => name),
    [
      'pod-observed',
      'bound',
      'owned-by-node',
      'mirror',
      'foreign-scheduler',
      'pinned-by-name',
      'foreign-topology',
    ].map(reason => `not-${reason}`),
  );
  const text = matchConditions.map(({ expression }) => expression).join('\n');
  for (const key of [
    ...foreignTopologyGates,
    ...foreignTopologyLabels,
    ...foreignTopologyAnnotations,
    k8s.mirrorPod,
  ]) {
    t.match(text, `'${key}'`);
  }
  t.ok(matchConditions.length <= 62, 'with room for two more below the limit of 64');
  t.notMatch(
    text,
    /object\.(metadata|spec)\.[a-zA-Z]/,
    'and never reads an optional field as if it were set',
  );
});
