import { isDeepStrictEqual } from 'node:util';
import t from 'tap';
import type { Pod } from '../../../src/api/kubernetes.ts';
import { blindnesses } from './blindness.ts';
import { fleetCase } from './fleets.ts';
import { ask } from './oracle.ts';
import {
  type Blindness,
  createdFleet,
  type Fault,
  type Fleet,
  faultsOf,
  type Opinion,
  opinionOf,
  questionFor,
  type StockOpinion,
} from './parity.ts';

const firstSeed = 20261124;
const caseCount = 6000;
/** Fleets on which one blindness is tried. */
const triesPerBlindness = 500;

interface Comparison {
  readonly fleet: Fleet;
  readonly opinion: Opinion;
  readonly stock: StockOpinion;
  readonly faults: readonly Fault[];
}

// The first run compiles kube-scheduler.
t.setTimeout(1_200_000);

let known: Promise<readonly Fleet[]> | undefined;
/** Made once, for the API server is asked about every pod. */
const fleets = () => (known ??= generatedFleets());

t.test('kube-scheduler takes every plan and every pin, and fits no group that was refused', async t => {
  const compared = await compare(await fleets());
  const wrong = compared.flatMap(({ fleet, faults }) =>
    faults.map(({ about, message }) => `seed ${fleet.case.seed}, ${about}: ${message}`),
  );
  t.strictSame(wrong.slice(0, 5), [], `${wrong.length} disagreements over ${compared.length} fleets`);
  const verdicts = Map.groupBy(compared, verdictOf);
  const share = (verdict: string) => (verdicts.get(verdict)?.length ?? 0) / compared.length;
  t.ok(compared.length >= 5000, 'the API server takes most of the generated pods');
  t.ok(share('plan') > 0.3 && share('refused, does not fit') > 0.3, 'both verdicts are well represented');
  t.ok(share('refused, not known') < 0.01, 'the search for a placement comes to an end');
  t.comment(
    [...verdicts]
      .map(([verdict, { length }]) => `${verdict}: ${length}`)
      .sort()
      .join(', '),
  );
  for (const line of table(compared)) t.comment(line);
});

for (const [what, blindness] of Object.entries(blindnesses)) {
  t.test(`a Berth that does not see ${what} is found out`, async t => {
    const faults = (await compare(changedBy(await fleets(), blindness), blindness)).flatMap(
      one => one.faults,
    );
    const counts = Map.groupBy(faults, ({ about }) => about);
    t.not(faults.length, 0, [...counts].map(([about, { length }]) => `${about}: ${length}`).join(', '));
  });
}

async function generatedFleets(): Promise<readonly Fleet[]> {
  const cases = Array.from({ length: caseCount }, (_, index) => fleetCase(firstSeed + index));
  const manifests = cases.map(({ strangers, members }) => [...strangers.map(s => s.manifest), ...members]);
  const stored = await ask(manifests.flat().map(pod => ({ kind: 'create', pod })));
  let at = 0;
  return cases.flatMap((fleet, index) => {
    const own = stored.slice(at, at + (manifests[index]?.length ?? 0));
    at += own.length;
    return (
      createdFleet(
        fleet,
        own.map(answer => answer['pod'] as Pod | undefined),
      ) ?? []
    );
  });
}

async function compare(fleets: readonly Fleet[], blindness?: Blindness): Promise<readonly Comparison[]> {
  const opinions = fleets.map(fleet => ({ fleet, opinion: opinionOf(fleet, blindness) }));
  const answers = await ask(opinions.map(({ fleet, opinion }) => questionFor(fleet, opinion)));
  return opinions.map(({ fleet, opinion }, index) => {
    const answer = answers[index];
    if (answer === undefined || 'error' in answer) throw new Error(`the oracle failed: ${answer?.['error']}`);
    const stock = answer as unknown as StockOpinion;
    return { fleet, opinion, stock, faults: faultsOf(fleet, opinion, stock) };
  });
}

function changedBy(fleets: readonly Fleet[], blindness: Blindness): readonly Fleet[] {
  const changed = (fleet: Fleet) => !isDeepStrictEqual(blindness(fleet), fleet);
  return fleets.filter(changed).slice(0, triesPerBlindness);
}

function verdictOf({ opinion, stock }: Comparison): string {
  if (opinion.verdict.kind === 'plan') {
    const { forward, backward } = stock.written ?? {};
    return forward && backward ? 'plan' : 'plan, in some order only';
  }
  const found = new Set(stock.domains.map(({ verdict }) => verdict));
  const theirs = found.has('fits') ? 'fits' : found.has('unknown') ? 'not known' : 'does not fit';
  return `${opinion.verdict.kind === 'undecided' ? 'undecided' : 'refused'}, ${theirs}`;
}

/** What pods say, each with the number of groups planned and refused that say it. */
function table(compared: readonly Comparison[]): readonly string[] {
  const features = {
    'init containers': ({ initContainers }) => initContainers !== undefined,
    overhead: ({ overhead }) => overhead !== undefined,
    'pod-level resources': ({ resources }) => resources !== undefined,
    'node selector': ({ nodeSelector }) => nodeSelector !== undefined,
    'node affinity': ({ affinity }) => affinity?.nodeAffinity !== undefined,
    'host ports': ({ containers }) => containers.some(({ ports = [] }) => ports.some(port => port.hostPort)),
    'pod affinity': ({ affinity }) => affinity?.podAffinity !== undefined,
    'pod anti-affinity': ({ affinity }) => affinity?.podAntiAffinity !== undefined,
    'topology spread': ({ topologySpreadConstraints }) => topologySpreadConstraints !== undefined,
  } satisfies Record<string, (spec: Pod['spec']) => boolean>;
  return Object.entries(features).map(([feature, says]) => {
    const saying = compared.filter(({ fleet }) => fleet.members.some(({ spec }) => says(spec)));
    const count = (kind: string) => saying.filter(({ opinion }) => opinion.verdict.kind === kind).length;
    return `${feature}: ${count('plan')} planned, ${count('rejection')} refused, ${count('undecided')} undecided`;
  });
}
