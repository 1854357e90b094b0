import t, { type Test } from 'tap';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { createFleet, deleteFleet } from '../../hack/bed/fleets.ts';
import type { ResourceClaim } from '../../src/api/dra.ts';
import type { Pod } from '../../src/api/kubernetes.ts';
import { conditionOf, domainsOf, isGatedByBerth, makeNamespace, openBed, runBerth, until } from './bed.ts';
import {
  createGroup,
  fleetOf,
  followPods,
  inLanes,
  letStrangersIn,
  memberName,
  placeByStock,
  type Trial,
  trialOf,
} from './device-trials.ts';
import { doublyHeld, emptyNamespace, listClaims } from './devices.ts';
import { seedOf } from './seeded-random.ts';

t.setTimeout(600_000);

const seed = seedOf(20_260);
const trials = Number(process.env['BERTH_TRIALS'] ?? 200);
/** On nodes of their own, at the same time. */
const atOnce = 50;
/** Long enough that a pin which kube-scheduler refuses is seen before Berth makes it good. */
const placement = { strandedAfterSeconds: 120 };

type Verdict = 'placed' | 'split' | 'refused' | 'undecided' | 'stranded';

interface Judged {
  readonly trial: Trial;
  readonly verdict: Verdict;
  readonly text: string;
}

t.test('Berth and kube-scheduler agree on which groups fit, on random fleets of devices', async t => {
  const cluster = await openBed(t);
  await runBerth(t, cluster, { placement });
  const namespaces = {
    groups: await makeNamespace(t, cluster),
    strangers: await makeNamespace(t, cluster, {}),
    stock: await makeNamespace(t, cluster, {}),
  };
  const counts = { placed: 0, split: 0, refused: 0, undecided: 0, stranded: 0 };
  const falseNo: string[] = [];
  const falseYes: string[] = [];
  for (let first = 0; first < trials; first += atOnce) {
    const indices = Array.from({ length: Math.min(atOnce, trials - first) }, (_, at) => first + at);
    const batch = indices.map(index => trialOf(seed, index));
    const startedMs = Date.now();
    const fleet = fleetOf(`trials-${first}`, batch);
    await createFleet(cluster, fleet);
    try {
      await letStrangersIn(cluster, namespaces.strangers, batch);
      const strangersMs = Date.now();
      const judged = await judge(t, cluster, namespaces.groups, batch);
      const judgedMs = Date.now();
      for (const { trial, verdict, text } of judged) {
        counts[verdict]++;
        if (verdict === 'stranded' || verdict === 'split') falseYes.push(`${titleOf(trial)}: ${text}`);
        if (verdict === 'undecided') t.comment(`undecided: ${titleOf(trial)}: ${text}`);
      }
      await Promise.all(
        judged.map(async ({ trial, verdict, text }) => {
          if (verdict !== 'refused' && verdict !== 'undecided') return;
          const place = await placeByStock(cluster, namespaces.stock, trial);
          if (place !== undefined) falseNo.push(`${titleOf(trial)} (${verdict}): "${text}", stock: ${place}`);
        }),
      );
      t.comment(
        `${batch.length} trials: fleet and strangers ${strangersMs - startedMs} ms, verdicts ${judgedMs - strangersMs} ms, ` +
          `stock ${Date.now() - judgedMs} ms`,
      );
    } finally {
      const endedMs = Date.now();
      await Promise.all(Object.values(namespaces).map(namespace => emptyNamespace(cluster, namespace)));
      await deleteFleet(cluster, fleet);
      t.comment(`all of it gone after ${Date.now() - endedMs} ms`);
    }
  }
  t.comment(`seed ${seed}: ${JSON.stringify(counts)}`);
  t.strictSame(falseYes, [], 'what Berth pins, kube-scheduler binds, whole in one rack');
  t.strictSame(falseNo, [], 'what Berth refuses, kube-scheduler cannot place');
  t.ok(counts.placed > trials / 4 && counts.refused > trials / 10, 'both verdicts are there to be judged');
  t.ok(counts.undecided <= trials / 20, 'few are left undecided');
});

async function judge(
  t: Test,
  cluster: Cluster,
  namespace: string,
  batch: readonly Trial[],
): Promise<readonly Judged[]> {
  const { pods, stranded, end } = followPods(cluster, namespace);
  try {
    await inLanes(batch, trial => createGroup(cluster, namespace, trial));
    const verdictOf = (trial: Trial) => verdictNow(trial, pods, stranded);
    await until(
      () =>
        `a verdict on every group (not on ${batch.filter(trial => verdictOf(trial) === undefined).map(titleOf)})`,
      60_000,
      () => batch.every(trial => verdictOf(trial) !== undefined),
    );
    const judged = batch.flatMap(trial => verdictOf(trial) ?? []);
    t.strictSame(
      doublyHeld((await listClaims(cluster, namespace)).map(withoutShares)),
      [],
      'no device twice',
    );
    return judged;
  } finally {
    end();
  }
}

function verdictNow(
  trial: Trial,
  pods: ReadonlyMap<string, Pod>,
  stranded: ReadonlyMap<string, string>,
): Judged | undefined {
  const names = trial.devices.members.map((_, rank) => memberName(trial.name, rank));
  const members = names.flatMap(name => pods.get(name) ?? []);
  if (members.length < names.length) return undefined;
  const left = names.find(name => stranded.has(name));
  if (left !== undefined)
    return { trial, verdict: 'stranded', text: `${left}: ${stranded.get(left)}; ${seatsOf(members)}` };
  if (members.every(({ spec }) => spec.nodeName !== undefined))
    return { trial, verdict: isInOneRack(trial, members) ? 'placed' : 'split', text: seatsOf(members) };
  const [leader] = members;
  const placed = leader && conditionOf(leader, 'berth.dev/Placed');
  if (placed?.status !== 'False' || !members.every(isGatedByBerth)) return undefined;
  const verdict = placed.reason === 'Undecided' ? 'undecided' : 'refused';
  return { trial, verdict, text: `${placed.reason}: ${placed.message}` };
}

function isInOneRack({ fleet }: Trial, members: readonly Pod[]): boolean {
  const nodes = new Map(fleet.nodes.map(node => [node.metadata.name ?? '', node]));
  return domainsOf(members, nodes).size === 1;
}

function seatsOf(members: readonly Pod[]): string {
  return members.map(({ spec }) => spec.nodeName ?? 'unbound').join();
}

/** The claim with those of its devices that are its alone. */
function withoutShares(claim: ResourceClaim): ResourceClaim {
  const { status } = claim;
  const { allocation } = status ?? {};
  const results = allocation?.devices?.results?.filter(({ shareID }) => shareID === undefined) ?? [];
  return { ...claim, status: { ...status, allocation: { ...allocation, devices: { results } } } };
}

function titleOf({ name, devices }: Trial): string {
  return `${name} (${devices.kind}, ${devices.members.length} members)`;
}
