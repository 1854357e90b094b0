import t from 'tap';
import type { Node } from '../../../src/api/kubernetes.ts';
import { decodeNode } from '../../../src/cluster/node-info.ts';
import { FailureWatch } from '../../../src/controller/failure-watch.ts';
import { noClaims } from '../../../src/failure/claim.ts';
import { defaultFailureSettings, type FailureMode } from '../../../src/failure/settings.ts';
import { whoTakes } from '../../../src/failure/taken-nodes.ts';
import { nodeOf } from '../../builders/fleet.ts';
import { FakeCluster, groupsOf } from './fake-cluster.ts';

const plain = nodeOf({ name: 'n0', gpu: 8 });
const labelled = (key: string, value: string): Node => ({
  ...plain,
  metadata: { ...plain.metadata, labels: { [key]: value } },
});
const tainted = (key: string, effect = 'NoSchedule'): Node => ({
  ...plain,
  spec: { taints: [{ key, effect }] },
});
const withCondition = (type: string, status: string): Node => ({
  ...plain,
  status: { ...plain.status, conditions: [...(plain.status?.conditions ?? []), { type, status }] },
});

t.test('nodes that others empty or take away, and those that they leave alone', async t => {
  const sentinel = 'dgxc.nvidia.com/nvsentinel-state';
  const cases: readonly (readonly [Node, RegExp | undefined])[] = [
    [plain, undefined],
    [labelled(sentinel, 'quarantined'), /^node n0: NVSentinel takes care of it \(quarantined\)$/],
    [labelled(sentinel, 'remediation-failed'), /NVSentinel/],
    [labelled('dgxc.nvidia.com/other', 'draining'), undefined],
    [tainted('karpenter.sh/disrupted'), /^node n0: Karpenter is about to remove it$/],
    [tainted('karpenter.sh/unregistered'), undefined],
    [tainted('ToBeDeletedByClusterAutoscaler'), /^node n0: the cluster autoscaler is about to remove it$/],
    [tainted('DeletionCandidateOfClusterAutoscaler', 'PreferNoSchedule'), undefined],
    [withCondition('DrainInProgress', 'True'), /^node n0 has the condition DrainInProgress=True$/],
    [withCondition('MaintenancePlanned', 'True'), /MaintenancePlanned/],
    [withCondition('MaintenancePlanned', 'False'), undefined],
    [withCondition('KernelDeadlock', 'True'), undefined],
  ];
  for (const [node, wanted] of cases) {
    const who = whoTakes(decodeNode(node));
    if (wanted === undefined) t.equal(who, undefined);
    else t.match(who, wanted);
  }
});

t.test('no plan uses such a node while it is taken, where the mode goes as far as that', async t => {
  const start = (mode: FailureMode) => {
    const cache = new FakeCluster(groupsOf(1, 2), 4).cache();
    const settings = { ...defaultFailureSettings, mode };
    const watch = new FailureWatch({ cache, settings, claims: noClaims, nowMs: () => 0, intents: () => [] });
    return { cache, watch };
  };
  for (const [mode, excludes] of [
    ['observe', false],
    ['cordon', true],
    ['evict', true],
  ] as const) {
    const { cache, watch } = start(mode);
    const show = (node: Node | undefined) => {
      if (node === undefined) cache.nodes.remove(decodeNode(plain));
      else cache.nodes.upsert(decodeNode(node));
      watch.lookAtNode('n0');
      watch.excludeNodes([], 0);
      return [...cache.excludedNodes.keys()];
    };
    t.same(show(tainted('karpenter.sh/disrupted')), excludes ? ['n0'] : [], mode);
    t.same(show(plain), [], `${mode}: given back`);
    show(tainted('karpenter.sh/disrupted'));
    t.same(show(undefined), [], `${mode}: gone`);
    t.same(show(plain), [], `${mode}: another one of that name`);
  }
});
