import type {
  Container,
  ContainerStatus,
  LabelSelector,
  LabelSelectorRequirement,
  Node,
  NodeSelectorTerm,
  Pod,
  PodSpec,
  ResourceList,
  Taint,
  Toleration,
} from '../../../src/api/kubernetes.ts';
import { Dice } from './dice.ts';

type PodStatus = NonNullable<Pod['status']>;
type PodSubject = Pick<Pod, 'spec' | 'status'>;

/** A question for the oracle; what main.go reads from one line. */
export type Case =
  | { readonly kind: 'quantity'; readonly text: string }
  | { readonly kind: 'requests'; readonly pod: PodSubject }
  | { readonly kind: 'nodeAffinity' | 'taints'; readonly pod: PodSubject; readonly node: Node }
  | {
      readonly kind: 'labelSelector';
      readonly selector?: LabelSelector;
      readonly labels: Record<string, string>;
    };

/** The same cases for the same seed, on every machine. */
export function generateCases(seed: number, count: number): readonly Case[] {
  const dice = new Dice(seed);
  return Array.from({ length: count }, () => generateCase(dice));
}

function generateCase(dice: Dice): Case {
  const roll = dice.below(100);
  if (roll < 30) return { kind: 'quantity', text: quantityText(dice) };
  if (roll < 55) return { kind: 'requests', pod: resourcePod(dice) };
  if (roll < 75) return { kind: 'nodeAffinity', pod: selectivePod(dice), node: labelledNode(dice) };
  if (roll < 85) return taintCase(dice);
  const selector = dice.percent(95) ? { selector: labelSelector(dice) } : {};
  return { kind: 'labelSelector', ...selector, labels: labelSet(dice) };
}

const suffixes = [
  '',
  'n',
  'u',
  'm',
  'k',
  'M',
  'G',
  'T',
  'P',
  'E',
  'Ki',
  'Mi',
  'Gi',
  'Ti',
  'Pi',
  'Ei',
] as const;

/** Mostly well-formed quantities, some of them extreme, and some that only look like one. */
function quantityText(dice: Dice): string {
  if (dice.percent(15)) {
    return Array.from({ length: 1 + dice.below(6) }, () =>
      dice.pick([...'0123456789.+-eEinumkKMGTPx ,_'] as never),
    ).join('');
  }
  const sign = dice.pick(['', '', '', '', '', '+', '-']);
  const whole = digits(dice, dice.percent(10) ? 22 : 6);
  const fraction = dice.percent(35) ? `.${digits(dice, dice.percent(10) ? 24 : 5)}` : '';
  const exponent = `${dice.pick(['e', 'E'])}${dice.pick(['', '+', '-'])}${dice.below(dice.percent(10) ? 28 : 12)}`;
  return `${sign}${whole}${fraction}${dice.percent(15) ? exponent : dice.pick(suffixes)}`;
}

function digits(dice: Dice, longest: number): string {
  return dice.list(longest, () => String(dice.percent(30) ? 0 : dice.below(10))).join('');
}

/** What the API server would store for a resource: never negative, sometimes fractional where that is allowed. */
function amount(dice: Dice, name: string): string | number {
  if (name === 'cpu')
    return dice.pick([`${dice.below(5000)}m`, String(dice.below(64)), '0.5', '1.25', '100u', '1500001n', 4]);
  if (name.includes('/')) return dice.pick([String(dice.below(9)), dice.below(9), '1k']);
  return dice.pick([
    `${dice.below(4096)}Mi`,
    `${dice.below(9)}Gi`,
    `${dice.below(900)}M`,
    '1.5Gi',
    '128974848',
    '1e9',
    '1500m',
    0,
  ]);
}

const resourceNames = [
  'cpu',
  'memory',
  'ephemeral-storage',
  'hugepages-2Mi',
  'nvidia.com/gpu',
  'rdma/hca',
  'example.kubernetes.io/widget',
  'attachable-volumes-csi-disk',
] as const;

function resourceList(dice: Dice): ResourceList {
  return Object.fromEntries(
    dice.list(4, () => {
      const name = dice.percent(60)
        ? dice.pick(['cpu', 'memory', 'nvidia.com/gpu'])
        : dice.pick(resourceNames);
      return [name, amount(dice, name)];
    }),
  );
}

function resourcePod(dice: Dice): PodSubject {
  const names = Array.from({ length: 1 + dice.below(3) }, (_, index) => `main-${index}`);
  const initNames = dice.percent(40)
    ? Array.from({ length: 1 + dice.below(4) }, (_, index) => `init-${index}`)
    : [];
  const spec: PodSpec = {
    containers: names.map(name => container(dice, name)),
    ...(initNames.length > 0 && {
      initContainers: initNames.map(name => ({
        ...container(dice, name),
        ...(dice.percent(50) && { restartPolicy: 'Always' }),
      })),
    }),
    ...(dice.percent(25) && { overhead: resourceList(dice) }),
    ...(dice.percent(30) && { resources: { requests: resourceList(dice), limits: resourceList(dice) } }),
  };
  return dice.percent(55) ? { spec, status: resizeStatus(dice, names, initNames) } : { spec };
}

function container(dice: Dice, name: string): Container {
  if (dice.percent(10)) return { name };
  return {
    name,
    resources: { requests: resourceList(dice), ...(dice.percent(30) && { limits: resourceList(dice) }) },
  };
}

/** Status as a kubelet reports it around in-place resizes, complete or not. */
function resizeStatus(dice: Dice, names: readonly string[], initNames: readonly string[]): PodStatus {
  const statusOf = (name: string): ContainerStatus => ({
    name,
    ...(dice.percent(60) && { allocatedResources: resourceList(dice) }),
    ...(dice.percent(60) && { resources: dice.percent(80) ? { requests: resourceList(dice) } : {} }),
  });
  return {
    phase: 'Running',
    ...(dice.percent(70) && { containerStatuses: names.filter(() => dice.percent(85)).map(statusOf) }),
    ...(dice.percent(50) && { initContainerStatuses: initNames.map(statusOf) }),
    ...(dice.percent(35) && { allocatedResources: resourceList(dice) }),
    ...(dice.percent(35) && { resources: dice.percent(80) ? { requests: resourceList(dice) } : {} }),
    ...(dice.percent(40) && {
      conditions: [
        { type: 'PodScheduled', status: 'True' },
        { type: 'PodResizePending', status: 'True', reason: dice.pick(['Infeasible', 'Deferred']) },
      ],
    }),
  };
}

const labelKeys = ['zone', 'rack', 'example.com/block', 'slots', 'constructor', 'gpu'] as const;
const labelValues = [
  'a',
  'b',
  'c',
  '',
  '0',
  '4',
  '8',
  '007',
  '9223372036854775807',
  '9223372036854775808',
] as const;
const nodeNames = ['node-1', 'node-2', 'node-3'] as const;

function labelSet(dice: Dice): Record<string, string> {
  return Object.fromEntries(
    dice.list(5, () => [dice.pick(labelKeys), dice.pick([...labelValues, '-3', '4x'])]),
  );
}

function labelledNode(dice: Dice): Node {
  return { metadata: { name: dice.pick(nodeNames), labels: labelSet(dice) } };
}

function requirement(dice: Dice): LabelSelectorRequirement {
  const operator = dice.pick(['In', 'In', 'NotIn', 'NotIn', 'Exists', 'DoesNotExist', 'Gt', 'Lt', 'in', '']);
  const usualCount = { Exists: 0, DoesNotExist: 0, Gt: 1, Lt: 1 }[operator] ?? 1 + dice.below(3);
  const count = dice.percent(90) ? usualCount : dice.below(3);
  return {
    key: dice.pick(labelKeys),
    operator,
    values: Array.from({ length: count }, () => dice.pick(labelValues)),
  };
}

function fieldRequirement(dice: Dice): LabelSelectorRequirement {
  const count = dice.percent(90) ? 1 : dice.below(3);
  return {
    key: dice.percent(95) ? 'metadata.name' : 'metadata.namespace',
    operator: dice.pick(['In', 'In', 'In', 'NotIn', 'Exists']),
    values: Array.from({ length: count }, () => dice.pick(nodeNames)),
  };
}

function selectivePod(dice: Dice): PodSubject {
  const term = (): NodeSelectorTerm => ({
    ...(dice.percent(75) && { matchExpressions: dice.list(2, () => requirement(dice)) }),
    ...(dice.percent(35) && { matchFields: dice.list(2, () => fieldRequirement(dice)) }),
  });
  const required = dice.percent(85)
    ? { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: dice.list(3, term) } }
    : {};
  const nodeSelector = dice.percent(20)
    ? { nodeSelector: { [dice.pick(labelKeys)]: dice.pick(labelValues) } }
    : {};
  return {
    spec: {
      containers: [],
      ...nodeSelector,
      ...(dice.percent(90) && { affinity: { nodeAffinity: required } }),
    },
  };
}

function labelSelector(dice: Dice): LabelSelector {
  return {
    ...(dice.percent(50) && {
      matchLabels: Object.fromEntries(dice.list(2, () => [dice.pick(labelKeys), dice.pick(labelValues)])),
    }),
    ...(dice.percent(70) && { matchExpressions: dice.list(2, () => requirement(dice)) }),
  };
}

const taintKeys = ['gpu', 'dedicated', 'slots'] as const;
const taintValues = [
  '',
  'a',
  'b',
  '0',
  '3',
  '-3',
  '12',
  '007',
  '+5',
  '9223372036854775807',
  '9223372036854775808',
] as const;
const effects = ['NoSchedule', 'NoExecute', 'PreferNoSchedule'] as const;

function taintCase(dice: Dice): Case {
  const taint = (): Taint => ({
    key: dice.pick(taintKeys),
    value: dice.pick(taintValues),
    effect: dice.pick(effects),
  });
  const toleration = (): Toleration => ({
    ...(dice.percent(85) && { key: dice.pick(taintKeys) }),
    operator: dice.pick(['', 'Equal', 'Exists', 'Exists', 'Lt', 'Gt', 'NotEqual']),
    ...(dice.percent(70) && { value: dice.pick(taintValues) }),
    ...(dice.percent(50) && { effect: dice.pick(effects) }),
  });
  return {
    kind: 'taints',
    pod: { spec: { containers: [], tolerations: dice.list(4, toleration) } },
    node: { metadata: { name: 'node-1' }, spec: { taints: dice.list(3, taint) } },
  };
}
