import { allocate } from '../../../src/cluster/devices/allocator/allocate.ts';
import type { AllocationErrorCode } from '../../../src/cluster/devices/allocator/question.ts';
import { CelSelectors } from '../../../src/cluster/devices/cel/engine.ts';
import { decodeDeviceClass } from '../../../src/cluster/devices/decode-claim.ts';
import { decodeResourceSlice } from '../../../src/cluster/devices/decode-slice.ts';
import { deviceKey } from '../../../src/cluster/devices/device.ts';
import { DeviceLedger } from '../../../src/cluster/devices/device-ledger.ts';
import { poolsFor } from '../../../src/cluster/devices/pools.ts';
import { SliceIndex } from '../../../src/cluster/devices/slice-index.ts';
import { parseQuantity } from '../../../src/cluster/quantity.ts';
import type { AllocationCase } from './allocations.ts';
import type { Answer } from './oracle.ts';

/** An answer in words that both sides have: why there is nothing, or per claim what it got and where that binds it. */
export type Verdict = string | readonly unknown[];

const selectors = new CelSelectors();

/** What Berth says. */
export function ourVerdict({ node, slices, classes, claims, taken }: AllocationCase): Verdict {
  const pools = poolsFor(node.metadata, new SliceIndex(slices.map(decodeResourceSlice)));
  const records = new Map(classes.map(raw => [raw.metadata.name ?? '', decodeDeviceClass(raw)]));
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
  switch (answer.kind) {
    case 'allocated':
      return answer.claims.map(({ results, nodeSelector }) => ({
        devices: results.map(result =>
          verdictOn({
            ...result,
            device: deviceKey(result),
            admin: result.adminAccess === true,
            consumed: result.consumedCapacity ?? {},
          }),
        ),
        nodeSelector: nodeSelector ?? null,
      }));
    case 'none':
      return answer.cause === 'invalid-pools' ? 'none: invalid pools' : 'none';
    case 'error':
      return `error: ${answer.code}`;
    case 'unknown':
      return `unknown: ${answer.message}`;
  }
}

/** What the structured allocator of Kubernetes says. */
export function theirVerdict({ error, fails, onNodeOnly, results }: Answer): Verdict {
  if (error !== undefined) return `the oracle failed: ${error}`;
  if (typeof fails === 'string') {
    const kind = errorClasses.find(([sentence]) => sentence.test(fails))?.[1] ?? fails;
    return onNodeOnly === true ? `none: ${kind}` : `error: ${kind}`;
  }
  if (!Array.isArray(results)) return 'none';
  return results.map(({ devices, nodeSelector }) => ({ devices: devices.map(verdictOn), nodeSelector }));
}

/** `allocated`, or what the verdict itself says. */
export function kindOf(verdict: Verdict): string {
  return typeof verdict === 'string' ? verdict : 'allocated';
}

/** How the sentences of kube-scheduler go, by our codes. The first that fits counts. */
const errorClasses: readonly (readonly [RegExp, AllocationErrorCode | 'invalid pools'])[] = [
  [/invalid resource pools were encountered/, 'invalid pools'],
  [/could not retrieve device class/, 'missing-class'],
  [/CEL (compile|runtime) error/, 'selector-error'],
  [/asks for all devices, but resource pool .* is currently/, 'pool-not-usable'],
  [/exceeds the claim limit|allocation max size exceeded/, 'too-many-devices'],
  [/a claim constraint would not be satisfied/, 'constraint-on-all'],
  [/capacity for device/, 'capacity'],
  [/node selection|node selector/, 'node-selector'],
  [/unsupported|empty constraint|CEL expression empty|derived attributes/, 'unsupported'],
];

interface Result {
  readonly request: string;
  readonly device: string;
  readonly admin: boolean;
  readonly consumed: Readonly<Record<string, string>>;
  readonly tolerations?: unknown;
}

function verdictOn({ request, device, admin, consumed, tolerations }: Result): unknown {
  const amounts = Object.entries(consumed)
    .map(([name, amount]) => `${name} ${parseQuantity(amount)}`)
    .sort();
  return { request, device, admin, consumed: amounts, tolerations: tolerations ?? [] };
}
