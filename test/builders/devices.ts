import type {
  DeviceClass,
  DeviceConstraint,
  DeviceRequest,
  ExactDeviceRequest,
  ResourceSlice,
  SliceDevice,
} from '../../src/api/dra.ts';
import { allocate } from '../../src/cluster/devices/allocator/allocate.ts';
import type { AllocationAnswer, AllocationQuestion } from '../../src/cluster/devices/allocator/question.ts';
import type { WantedClaim } from '../../src/cluster/devices/claims.ts';
import { decodeDeviceClass } from '../../src/cluster/devices/decode-claim.ts';
import { decodeResourceSlice } from '../../src/cluster/devices/decode-slice.ts';
import { type Device, noDeviceUse } from '../../src/cluster/devices/device.ts';
import { poolsFor } from '../../src/cluster/devices/pools.ts';
import type { SelectorEngine, SelectorVerdict } from '../../src/cluster/devices/selectors.ts';
import { SliceIndex } from '../../src/cluster/devices/slice-index.ts';
import { parseQuantity } from '../../src/cluster/quantity.ts';

export const driver = 'gpu.example.com';

type SliceSpec = ResourceSlice['spec'];

/** A slice of pool `n1` on node `n1`, the only one of its pool, unless said otherwise. */
export function slice(
  name: string,
  devices: readonly (string | SliceDevice)[],
  spec: Partial<Omit<SliceSpec, 'pool'>> & { readonly pool?: Partial<SliceSpec['pool']> } = {},
): ResourceSlice {
  const { pool, ...rest } = spec;
  const saysWhere = ['nodeName', 'nodeSelector', 'allNodes', 'perDeviceNodeSelection'].some(
    key => key in rest,
  );
  return {
    metadata: { name },
    spec: {
      driver,
      pool: { name: 'n1', generation: 1, resourceSliceCount: 1, ...pool },
      ...(!saysWhere && { nodeName: 'n1' }),
      ...(devices.length > 0 && {
        devices: devices.map(device => (typeof device === 'string' ? { name: device } : device)),
      }),
      ...rest,
    },
  };
}

/** A device whose attributes are given as plain values. */
export function device(
  name: string,
  attributes: Readonly<Record<string, string | number | boolean>> = {},
  rest: Partial<SliceDevice> = {},
): SliceDevice {
  return {
    name,
    ...(Object.keys(attributes).length > 0 && {
      attributes: Object.fromEntries(
        Object.entries(attributes).map(([key, value]) => [
          key,
          typeof value === 'string'
            ? { string: value }
            : typeof value === 'number'
              ? { int: value }
              : { bool: value },
        ]),
      ),
    }),
    ...rest,
  };
}

export function deviceClass(name = 'gpu', ...expressions: readonly string[]): DeviceClass {
  return {
    metadata: { name },
    spec: { selectors: expressions.map(expression => ({ cel: { expression } })) },
  };
}

export function request(name: string, exactly: Partial<ExactDeviceRequest> = {}): DeviceRequest {
  return { name, exactly: { deviceClassName: 'gpu', allocationMode: 'ExactCount', count: 1, ...exactly } };
}

export function claim(
  name: string,
  requests: readonly DeviceRequest[],
  constraints: readonly DeviceConstraint[] = [],
): WantedClaim {
  return { name, spec: { devices: { requests, ...(constraints.length > 0 && { constraints }) } } };
}

export interface Situation
  extends Partial<Omit<AllocationQuestion, 'pools' | 'claims' | 'classes' | 'node'>> {
  readonly slices: readonly ResourceSlice[];
  readonly claims: readonly WantedClaim[];
  readonly classes?: readonly DeviceClass[];
  readonly node?: AllocationQuestion['node'];
}

export function answerTo(situation: Situation): AllocationAnswer {
  const { slices, classes = [deviceClass()], node = { name: 'n1', labels: {} }, ...rest } = situation;
  const records = new Map(classes.map(each => [each.metadata.name ?? '', decodeDeviceClass(each)]));
  return allocate({
    used: noDeviceUse,
    selectors: simpleSelectors,
    ...rest,
    node,
    pools: poolsFor(node, new SliceIndex(slices.map(decodeResourceSlice))),
    classes: name => records.get(name),
  });
}

/** What each claim got, as `request=device`; or why it got nothing. */
export function told(answer: AllocationAnswer): string {
  if (answer.kind === 'none') return `none: ${answer.cause} ${answer.claim} ${answer.request}`;
  if (answer.kind === 'error') return `error: ${answer.code}`;
  if (answer.kind === 'unknown') return `unknown: ${answer.message}`;
  const doubt = answer.doubt === undefined ? '' : ' in doubt';
  return (
    answer.claims
      .map(({ claim: name, results }) =>
        [`${name}:`, ...results.map(({ request: of, device: got }) => `${of}=${got}`)].join(' '),
      )
      .join('; ') + doubt
  );
}

/**
 * Selectors as far as tests of the allocator need them: terms joined by `&&`, each `true`, `false`,
 * `device.driver == "x"`, `device.attributes["domain"].id == value`,
 * `device.capacity["domain"].id.compareTo(quantity("1Gi")) >= 0`. As in CEL, a key that is not there is an error, which a
 * term that is false outweighs. `beyond()` stands for what cannot be evaluated here.
 */
export const simpleSelectors: SelectorEngine = {
  matches(expression: string, of: Device): SelectorVerdict {
    let verdict: SelectorVerdict = { kind: 'true' };
    for (const term of expression.split(' && ')) {
      const next = termVerdict(term, of);
      if (next.kind === 'false') return next;
      if (verdict.kind === 'true') verdict = next;
    }
    return verdict;
  },
};

function termVerdict(term: string, { id, attributes, capacity }: Device): SelectorVerdict {
  if (term === 'true' || term === 'false') return { kind: term };
  if (term === 'beyond()') return { kind: 'unknown', message: 'beyond this engine' };
  const byDriver = /^device\.driver == "([^"]*)"$/.exec(term);
  if (byDriver !== null) return { kind: id.driver === byDriver[1] ? 'true' : 'false' };
  const byAttribute = /^device\.attributes\["([^"]*)"\]\.(\w+) == (.+)$/.exec(term);
  if (byAttribute !== null) {
    const value = attributes.get(`${byAttribute[1]}/${byAttribute[2]}`);
    if (value === undefined) return { kind: 'error', message: `no such key: ${byAttribute[2]}` };
    const wanted: unknown = JSON.parse(byAttribute[3] ?? '');
    return { kind: (value.kind === 'int' ? Number(value.value) : value.value) === wanted ? 'true' : 'false' };
  }
  const byCapacity = /^device\.capacity\["([^"]*)"\]\.(\w+)\.compareTo\(quantity\("([^"]*)"\)\) >= 0$/.exec(
    term,
  );
  if (byCapacity !== null) {
    const entry = capacity.get(`${byCapacity[1]}/${byCapacity[2]}`);
    if (entry === undefined) return { kind: 'error', message: `no such key: ${byCapacity[2]}` };
    return { kind: entry.value >= parseQuantity(byCapacity[3] ?? '') ? 'true' : 'false' };
  }
  return { kind: 'error', message: `cannot compile ${term}` };
}
