import t from 'tap';
import { allocate } from '../../../src/cluster/devices/allocator/allocate.ts';
import { CelSelectors } from '../../../src/cluster/devices/cel/engine.ts';
import { decodeDeviceClass } from '../../../src/cluster/devices/decode-claim.ts';
import { decodeResourceSlice } from '../../../src/cluster/devices/decode-slice.ts';
import { deviceKey } from '../../../src/cluster/devices/device.ts';
import { DeviceLedger } from '../../../src/cluster/devices/device-ledger.ts';
import { poolsFor } from '../../../src/cluster/devices/pools.ts';
import { SliceIndex } from '../../../src/cluster/devices/slice-index.ts';
import { parseQuantity } from '../../../src/cluster/quantity.ts';
import { type AllocationCase, allocationCase } from './allocations.ts';
import { Dice } from './dice.ts';
import { type Answer, ask } from './oracle.ts';

const cases = 6_000;
/** Machines on which so many combinations are possible that the search gives up: at most one in a thousand. */
const mostUnknown = cases / 1_000;
const selectors = new CelSelectors();

/** In words that both sides can say. */
function ours({ node, slices, classes, claims, taken }: AllocationCase): string {
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
  if (answer.kind !== 'allocated') return answer.kind;
  return answer.claims
    .flatMap(({ claim, results }) =>
      results.map(({ request, consumedCapacity = {}, adminAccess, ...id }) => {
        const consumed = Object.entries(consumedCapacity).map(([name, amount]) => [
          name,
          parseQuantity(amount),
        ]);
        return `${claim} ${request}: ${deviceKey(id)}${adminAccess ? ' admin' : ''} ${consumed}`.trim();
      }),
    )
    .join('\n');
}

function theirs(answer: Answer | undefined, { claims }: AllocationCase): string {
  const { results, fails, onNodeOnly } = answer ?? {};
  if (typeof fails === 'string') return onNodeOnly === true ? 'none' : 'error';
  if (!Array.isArray(results)) return 'none';
  return results
    .flatMap((devices: readonly Result[], at) =>
      devices.map(({ request, device, admin, consumed }) => {
        const amounts = Object.entries(consumed).map(([name, amount]) => [name, parseQuantity(amount)]);
        return `${claims[at]?.metadata.name} ${request}: ${device}${admin ? ' admin' : ''} ${amounts}`.trim();
      }),
    )
    .join('\n');
}

interface Result {
  readonly request: string;
  readonly device: string;
  readonly admin: boolean;
  readonly consumed: Readonly<Record<string, string>>;
}

t.test('claims get the devices that the structured allocator of Kubernetes gives them', async t => {
  const dice = new Dice(20_261_130);
  const asked = Array.from({ length: cases }, () => allocationCase(dice));
  const answers = await ask(asked.map(devices => ({ kind: 'devices', devices })));
  const tally = new Map<string, number>();
  const differing: string[] = [];
  for (const [at, question] of asked.entries()) {
    const [own, other] = [ours(question), theirs(answers[at], question)];
    const kind = ['none', 'error', 'unknown'].includes(own) ? own : 'allocated';
    tally.set(kind, (tally.get(kind) ?? 0) + 1);
    if (own !== other && own !== 'unknown')
      differing.push(
        `case ${at}: ours\n${own}\ntheirs\n${other}\n${answers[at]?.['fails'] ?? ''}\n${JSON.stringify(question)}`,
      );
  }
  t.comment([...tally].map(([kind, count]) => `${kind}: ${count}`).join(', '));
  t.equal(differing.length, 0, differing.slice(0, 2).join('\n\n'));
  t.ok((tally.get('unknown') ?? 0) <= mostUnknown, 'hardly any is left unknown');
  for (const kind of ['allocated', 'none', 'error'])
    t.ok((tally.get(kind) ?? 0) > cases / 20, `there are enough cases that end with ${kind}`);
});
