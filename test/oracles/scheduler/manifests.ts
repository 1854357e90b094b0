import type {
  Container,
  LabelSelector,
  LabelSelectorRequirement,
  Namespace,
  Node,
  NodeSelectorTerm,
  Pod,
  PodAffinityTerm,
  PodSpec,
  ResourceList,
  Taint,
  Toleration,
  TopologySpreadConstraint,
} from '../../../src/api/kubernetes.ts';
import { k8s } from '../../../src/api/names.ts';
import { requiredDuringScheduling } from '../../builders/pods.ts';
import type { Dice } from './dice.ts';

/** Labels, and how the generated fleets use them: zones hold racks, pools lie across both. */
export const zoneLabel = 'example.com/zone';
export const rackLabel = 'example.com/rack';
export const poolLabel = 'pool';
export const topologyKeys = [k8s.hostname, rackLabel, zoneLabel, poolLabel] as const;

export const namespaceNames = ['serving', 'other', 'bare'] as const;

export const namespaces: readonly Namespace[] = namespaceNames.map(name => ({
  metadata: {
    name,
    labels: {
      [k8s.namespaceName]: name,
      ...(name === 'serving' && { team: 'a' }),
      ...(name === 'other' && { team: 'b' }),
    },
  },
}));

const gpu = 'nvidia.com/gpu';
/** The node controller adds it to cordoned nodes, some time after the cordon. */
const unschedulableTaint = 'node.kubernetes.io/unschedulable';
const appNames = ['a', 'a', 'b', 'c'] as const;
const revisions = ['1', '2'] as const;
const nodeNames = ['n0', 'n1', 'n2', 'n3', 'n4', 'n5'] as const;

/** The fleet: up to six nodes, most of them plain. */
export function someNodes(dice: Dice): readonly Node[] {
  const roomy = dice.percent(75);
  return nodeNames.slice(0, 2 + dice.below(5)).map(name => someNode(dice, name, roomy));
}

function someNode(dice: Dice, name: string, roomy: boolean): Node {
  const zone = dice.pick(['a', 'a', 'b']);
  const slots = dice.pick(['2', '4', '8', 'many']);
  const labels: Record<string, string> = {
    ...(dice.percent(96) && { [k8s.hostname]: dice.percent(97) ? name : 'n0' }),
    ...(dice.percent(95) && { [zoneLabel]: zone }),
    // Racks of one name stand in several zones: they are different domains to Berth, one domain to pod affinity.
    ...(dice.percent(90) && { [rackLabel]: dice.pick(['r0', 'r0', 'r1', `r-${zone}`]) }),
    ...(dice.percent(80) && { [poolLabel]: dice.pick(['p', 'p', 'q']) }),
    ...(dice.percent(60) && { slots }),
  };
  const cordoned = dice.percent(6);
  const ready = !dice.percent(4);
  const taints = [
    ...(dice.percent(18) ? [someTaint(dice)] : []),
    ...(dice.percent(5) ? [someTaint(dice)] : []),
    ...(cordoned && dice.percent(60) ? [{ key: unschedulableTaint, effect: 'NoSchedule' }] : []),
    ...(ready
      ? []
      : ['NoSchedule', 'NoExecute'].map(effect => ({ key: 'node.kubernetes.io/not-ready', effect }))),
  ];
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, uid: `uid-${name}`, labels },
    spec: { ...(cordoned && { unschedulable: true }), ...(taints.length > 0 && { taints }) },
    status: {
      allocatable: {
        cpu: dice.pick([String(2 + dice.below(5) + (roomy ? 4 : 0)), '3500m', '7910m']),
        memory: dice.pick([`${4 + dice.below(8) + (roomy ? 8 : 0)}Gi`, '7600Mi']),
        pods: String(roomy ? 5 + dice.below(6) : 2 + dice.below(6)),
        ...(dice.percent(70) && { 'ephemeral-storage': '20Gi' }),
        ...(dice.percent(75) && { [gpu]: String(dice.below(5) + (roomy ? 4 : 0)) }),
        ...(dice.percent(30) && { 'rdma/hca': String(dice.below(5)) }),
        ...(dice.percent(30) && { 'hugepages-2Mi': '512Mi' }),
      },
      conditions: [{ type: 'Ready', status: ready ? 'True' : 'Unknown' }],
    },
  };
}

const taintKeys = ['dedicated', 'gpu', 'slots'] as const;

function someTaint(dice: Dice): Taint {
  return {
    key: dice.pick(taintKeys),
    ...(dice.percent(70) && { value: dice.pick(['a', 'b']) }),
    effect: dice.pick(['NoSchedule', 'NoSchedule', 'NoExecute', 'PreferNoSchedule']),
  };
}

function someToleration(dice: Dice): Toleration {
  if (dice.percent(8)) return { operator: 'Exists' };
  const operator = dice.pick(['', 'Equal', 'Exists']);
  return {
    key: dice.pick([...taintKeys, unschedulableTaint] as const),
    ...(operator !== '' && { operator }),
    ...(operator !== 'Exists' && dice.percent(80) && { value: dice.pick(['a', 'b']) }),
    ...(dice.percent(50) && { effect: dice.pick(['NoSchedule', 'NoExecute', 'PreferNoSchedule']) }),
  };
}

/** How likely, in percent, a pod has each kind of wish. One number for all would make every pod unplaceable. */
export interface Wishes {
  readonly odd: number;
  readonly selecting: number;
  readonly tolerating: number;
  readonly ports: number;
  readonly affinity: number;
  readonly antiAffinity: number;
  readonly spread: number;
  /** Asks for little room, so that other rules decide. */
  readonly light: boolean;
}

/** Half of the groups have trouble with room and nodes, the others with other pods. */
export function someWishes(dice: Dice): Wishes {
  const often = (likely: number) => (dice.percent(likely) ? 70 : 0);
  const light = dice.percent(50);
  return {
    odd: often(light ? 8 : 40),
    selecting: often(light ? 12 : 30),
    tolerating: dice.percent(60) ? 60 : 10,
    ports: often(light ? 5 : 25),
    affinity: often(light ? 28 : 5),
    antiAffinity: often(light ? 28 : 5),
    spread: often(light ? 45 : 5),
    light,
  };
}

/** Wishes of pods that stand there already: only what binds others or takes room. */
export const strangersWishes: Wishes = {
  odd: 30,
  selecting: 0,
  tolerating: 0,
  ports: 30,
  affinity: 5,
  antiAffinity: 8,
  spread: 0,
  light: false,
};

export function someLabels(dice: Dice): Record<string, string> {
  return {
    ...(dice.percent(90) && { app: dice.pick(appNames) }),
    ...(dice.percent(75) && { rev: dice.pick(revisions) }),
  };
}

/** What a user writes; the API server adds the rest. Some of it the API server refuses. */
export function someSpec(dice: Dice, wishes: Wishes): PodSpec {
  const has = (likely: number) => dice.percent(likely);
  const containers = [someContainer(dice, 'main', wishes)];
  if (has(wishes.odd / 2)) containers.push(someContainer(dice, 'second', wishes));
  const initContainers = Array.from({ length: has(wishes.odd) ? 1 + dice.below(3) : 0 }, (_, i) => ({
    ...someContainer(dice, `init-${i}`, wishes),
    ...(has(45) && { restartPolicy: 'Always' }),
  }));
  const tolerations = has(wishes.tolerating) ? dice.list(3, () => someToleration(dice)) : [];
  const spread = has(wishes.spread) ? [someSpread(dice), ...(has(20) ? [someSpread(dice)] : [])] : [];
  return {
    containers,
    ...(initContainers.length > 0 && { initContainers }),
    ...(has(wishes.odd / 3) && { overhead: { cpu: '250m', memory: '64Mi' } }),
    ...(has(wishes.odd / 3) && { resources: podLevel(dice) }),
    ...(has(wishes.ports / 5) && { hostNetwork: true }),
    ...(has(wishes.selecting / 3) && { nodeSelector: someNodeSelector(dice) }),
    ...(tolerations.length > 0 && { tolerations }),
    ...(spread.length > 0 && { topologySpreadConstraints: spread }),
    affinity: {
      ...(has(wishes.selecting) && {
        nodeAffinity: {
          [requiredDuringScheduling]: {
            nodeSelectorTerms: [someTerm(dice), ...dice.list(2, () => someTerm(dice))],
          },
        },
      }),
      ...(has(wishes.affinity) && {
        podAffinity: {
          [requiredDuringScheduling]: [someAffinityTerm(dice), ...(has(20) ? [someAffinityTerm(dice)] : [])],
        },
      }),
      ...(has(wishes.antiAffinity) && {
        podAntiAffinity: {
          [requiredDuringScheduling]: [someAffinityTerm(dice), ...(has(20) ? [someAffinityTerm(dice)] : [])],
        },
      }),
    },
  };
}

function someContainer(dice: Dice, name: string, { odd, ports, light }: Wishes): Container {
  const devices = dice.percent(light ? 20 : 50) ? { [gpu]: String(dice.pick([1, 1, 2, 3])) } : {};
  const requests: ResourceList = {
    ...(dice.percent(80) && { cpu: light ? '100m' : dice.pick(['500m', '1', '1500m', '2', '100m']) }),
    ...(dice.percent(60) && { memory: light ? '64Mi' : dice.pick(['512Mi', '1Gi', '2Gi', '3G']) }),
    ...(dice.percent(odd / 4) && { 'ephemeral-storage': dice.pick(['1Gi', '8Gi']) }),
  };
  const huge = dice.percent(odd / 6) ? { 'hugepages-2Mi': '128Mi' } : {};
  const nic = dice.percent(odd / 5) ? { 'rdma/hca': '1' } : {};
  const limits = { ...devices, ...huge, ...nic };
  const onlyLimits = dice.percent(odd / 4);
  return {
    name,
    image: 'registry.example.com/image',
    resources: onlyLimits
      ? { limits: { ...requests, ...limits } }
      : { requests: { ...requests, ...limits }, limits },
    ...(dice.percent(ports) && { ports: [somePort(dice)] }),
  };
}

/** Asks for nothing but, at times, a port. */
export function lightContainer(dice: Dice): Container {
  const ports = dice.percent(30) ? { ports: [somePort(dice)] } : {};
  return { name: 'main', image: 'registry.example.com/image', ...ports };
}

function somePort(dice: Dice) {
  const port = dice.pick([29500, 29500, 8080]);
  return {
    containerPort: port,
    ...(dice.percent(80) && { hostPort: port }),
    ...(dice.percent(60) && { hostIP: dice.pick(['10.0.0.1', '10.0.0.2', '0.0.0.0', '127.0.0.1']) }),
    ...(dice.percent(40) && { protocol: dice.pick(['TCP', 'UDP']) }),
  };
}

function podLevel(dice: Dice) {
  const amounts = { cpu: dice.pick(['3', '4']), memory: dice.pick(['4Gi', '6Gi']) };
  if (dice.percent(30)) return { limits: amounts };
  return { requests: amounts, ...(dice.percent(50) && { limits: { cpu: '8', memory: '8Gi' } }) };
}

function someNodeSelector(dice: Dice): Record<string, string> {
  return dice.pick([{ [poolLabel]: 'p' }, { [zoneLabel]: 'a' }, { slots: '4' }, { [poolLabel]: 'q' }]);
}

function someTerm(dice: Dice): NodeSelectorTerm {
  const fields = dice.percent(25) ? [someField(dice)] : [];
  return {
    matchExpressions: Array.from({ length: dice.below(fields.length === 0 ? 3 : 2) }, () =>
      nodeRequirement(dice),
    ),
    ...(fields.length > 0 && { matchFields: fields }),
  };
}

function nodeRequirement(dice: Dice): LabelSelectorRequirement {
  const operator = dice.pick(['In', 'In', 'NotIn', 'NotIn', 'Exists', 'DoesNotExist', 'Gt', 'Lt']);
  if (operator === 'Gt' || operator === 'Lt')
    return { key: 'slots', operator, values: [dice.pick(['1', '3', '4', '6'])] };
  const key = dice.pick([poolLabel, zoneLabel, rackLabel, 'slots']);
  if (operator === 'Exists' || operator === 'DoesNotExist') return { key, operator };
  const values = dice.pick([['p'], ['p', 'a', 'r0', '4'], ['q', 'b', 'r1', '2'], ['a', 'r0', '8']]);
  return { key, operator, values };
}

function someField(dice: Dice): LabelSelectorRequirement {
  return {
    key: 'metadata.name',
    operator: dice.pick(['In', 'NotIn']),
    values: [dice.pick(nodeNames)],
  };
}

function podSelector(dice: Dice): LabelSelector {
  if (dice.percent(8)) return {};
  if (dice.percent(70)) return { matchLabels: { app: dice.pick(appNames) } };
  const operator = dice.pick(['In', 'NotIn', 'Exists', 'DoesNotExist']);
  const values = dice.pick([['a'], ['a', 'b'], ['1'], ['2', 'c']]);
  const needsValues = operator === 'In' || operator === 'NotIn';
  return {
    matchExpressions: [{ key: dice.pick(['app', 'rev']), operator, ...(needsValues && { values }) }],
  };
}

function someAffinityTerm(dice: Dice): PodAffinityTerm {
  const keys = dice.percent(25)
    ? { matchLabelKeys: ['rev'] }
    : dice.percent(15)
      ? { mismatchLabelKeys: ['rev'] }
      : {};
  return {
    topologyKey: dice.pick(topologyKeys),
    ...(dice.percent(95) && { labelSelector: podSelector(dice) }),
    ...(dice.percent(20) && { namespaces: [dice.pick(namespaceNames)] }),
    ...(dice.percent(20) && { namespaceSelector: namespaceSelector(dice) }),
    ...keys,
  };
}

function namespaceSelector(dice: Dice): LabelSelector {
  return dice.percent(35) ? {} : { matchLabels: { team: dice.pick(['a', 'b']) } };
}

function someSpread(dice: Dice): TopologySpreadConstraint {
  return {
    maxSkew: dice.pick([1, 1, 1, 2, 3]),
    topologyKey: dice.pick(topologyKeys),
    whenUnsatisfiable: dice.percent(90) ? 'DoNotSchedule' : 'ScheduleAnyway',
    ...(dice.percent(95) && { labelSelector: podSelector(dice) }),
    ...(dice.percent(30) && { minDomains: 1 + dice.below(3) }),
    ...(dice.percent(30) && { matchLabelKeys: ['rev'] }),
    ...(dice.percent(35) && { nodeAffinityPolicy: dice.pick(['Honor', 'Ignore']) }),
    ...(dice.percent(45) && { nodeTaintsPolicy: dice.pick(['Honor', 'Honor', 'Ignore']) }),
  };
}

/** A manifest as the API server takes it, before it has a node. */
export function manifest(metadata: Pod['metadata'], spec: PodSpec): Pod {
  return { apiVersion: 'v1', kind: 'Pod', metadata, spec };
}
