import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { highestScore } from '../../src/extender/prioritize.ts';
import { startBerthOn } from '../bed/berth.ts';
import type { Cluster } from '../bed/cluster.ts';
import type { Fleet } from '../bed/fleet-presets.ts';
import { awaitLease, withEnvironment } from './berth-arm.ts';
import { type BenchContext, scaled } from './context.ts';
import { ExtenderClient, readExtenderCertificates } from './extender-client.ts';
import {
  agree,
  askAfterChanges,
  askByTurns,
  type ByParty,
  type Cost,
  type Party,
  parsed,
} from './extender-duel.ts';
import { bodyOf, type Kind, kindsOf } from './extender-kinds.ts';
import type { Aim, Figure } from './figures.ts';
import { type FilterWorld, makeFilterWorld } from './filter-world.ts';
import { clearNamespace } from './namespaces.ts';
import { startPlainExtender } from './parse-all-process.ts';
import { percentile, summarize } from './statistics.ts';
import { until } from './waiting.ts';
import { singleGpuPod } from './workloads.ts';

const rounds = 6;
const fullCallsPerRound = 400;
const fullWarmUp = 500;
const fullChanges = 300;
/** By then Berth has seen a change. */
const noticedMs = 20;
const scoresTimeoutMs = 30_000;
const filterAim: Aim = { of: 'value', atMost: 1 };

/**
 * How long kube-scheduler waits for Berth's filter and prioritize with the names of all nodes, and what that costs Berth;
 * beside a plain extender that parses all of the same requests and gives the same answers.
 */
export async function measureFilter(
  cluster: Cluster,
  fleet: Fleet,
  context: BenchContext,
): Promise<readonly Figure[]> {
  // What Berth plans must stay unbound, or nothing would be held.
  await cluster.stopComponent('kube-scheduler');
  const running = await withEnvironment(context.environment, () => startBerthOn(cluster));
  await awaitLease(running);
  const names = fleet.nodes.map(({ metadata }) => metadata.name ?? '');
  const world = await makeFilterWorld(cluster, context);
  const certificates = await readExtenderCertificates(cluster);
  const berth = { client: new ExtenderClient(running, certificates), pid: running.pid };
  const knowledge = {
    places: Object.fromEntries([
      ...world.places,
      ...world.waiting.map(({ metadata }) => [metadata.uid ?? '', ''] as const),
    ]),
    held: [...new Set(world.places.values())],
    scores: await scoresOf(berth, world, names),
  };
  const plainServer = await startPlainExtender({ certificates, knowledge }, context.environment);
  const plain = { client: new ExtenderClient(plainServer, certificates), pid: plainServer.pid };

  const figures = await ask(cluster, world, { both: { berth, plain }, names, context });

  for (const { client } of [berth, plain]) client.close();
  await plainServer.stop();
  for (const namespace of world.namespaces) await clearNamespace(cluster, namespace);
  await running.stop();
  await cluster.startComponent('kube-scheduler');
  return figures;
}

async function ask(
  cluster: Cluster,
  world: FilterWorld,
  asked: {
    readonly both: ByParty<Party>;
    readonly names: readonly string[];
    readonly context: BenchContext;
  },
): Promise<readonly Figure[]> {
  const { both, names, context } = asked;
  const kinds = kindsOf(world, names);
  for (const kind of kinds) await agree(kind, both);
  const floor: Kind = { name: 'nothing', verb: 'discard', bodies: [bodyOf(world.single, names)] };
  await askByTurns(kinds, both, { rounds: 1, calls: scaled(context, fullWarmUp), floor });
  const calls = scaled(context, fullCallsPerRound);
  context.say(`asking ${rounds} x ${calls} times for each of ${kinds.length} kinds of pods`);
  const duel = await askByTurns(kinds, both, { rounds, calls, floor });
  tellConditions(floor, duel.floor, names, context);

  const changes = scaled(context, fullChanges);
  context.say(`asking ${changes} times after a change`);
  const scored: Kind = {
    name: 'single with a GPU, just after another came or went',
    verb: 'prioritize',
    bodies: [bodyOf(world.single, names)],
  };
  const change = (index: number) => toggleResident(cluster, world, names.at(-1) ?? '', index % 2 === 0);
  const changed = await askAfterChanges(scored, both, changes, change);
  return [
    ...[...duel.costs].flatMap(([kind, cost]) => [
      ...timesOf(kind, names, cost),
      figureOf(kind, names, "server's processor time", { berth: cost.berth.cpuMs, plain: cost.plain.cpuMs }),
    ]),
    ...timesOf(scored, names, changed),
  ];
}

/**
 * Berth's scores, by which the plain extender goes, too: it has no topology. Checked is what is known beforehand, which
 * nodes have the highest.
 */
async function scoresOf(
  { client }: Party,
  world: FilterWorld,
  names: readonly string[],
): Promise<Readonly<Record<string, number>>> {
  const body = bodyOf(world.single, names);
  const held = [...new Set(world.places.values())].sort();
  let scores: Readonly<Record<string, number>> = {};
  await until('Berth to give the highest score where devices are held', scoresTimeoutMs, async () => {
    const list: readonly { Host: string; Score: number }[] = parsed(await client.call('prioritize', body));
    scores = Object.fromEntries(list.map(({ Host: host, Score: score }) => [host, score]));
    const highest = Object.keys(scores).filter(name => scores[name] === highestScore);
    return isDeepStrictEqual(highest.sort(), held);
  });
  return scores;
}

/** Scores hang on what is free everywhere: with every pod with GPUs that is bound or goes, they are made anew. */
async function toggleResident(
  cluster: Cluster,
  { foreignNamespace }: FilterWorld,
  node: string,
  on: boolean,
): Promise<void> {
  const pods = `/api/v1/namespaces/${foreignNamespace}/pods`;
  const { spec, ...pod } = singleGpuPod('resident');
  if (on) await cluster.request('POST', pods, { ...pod, spec: { ...spec, nodeName: node } });
  else await cluster.request('DELETE', `${pods}/${pod.metadata.name}?gracePeriodSeconds=0`);
  await delay(noticedMs);
}

function timesOf(kind: Kind, names: readonly string[], { berth, plain }: ByParty<Cost>): readonly Figure[] {
  return [50, 99].map(percent => ({
    ...figureOf(kind, names, percent === 50 ? 'median' : '99 %', {
      berth: [percentile(berth.ms, percent)],
      plain: [percentile(plain.ms, percent)],
    }),
    ...(kind.verb === 'filter' && percent === 50 && { aim: filterAim }),
  }));
}

function figureOf(
  { verb, name }: Kind,
  names: readonly string[],
  text: string,
  { berth, plain }: ByParty<readonly number[]>,
): Figure {
  return {
    part: 'filter',
    what: `${verb} at ${names.length.toLocaleString('en')} nodes, ${text}: ${name}`,
    unit: 'ms',
    berth: summarize(berth),
    beside: { name: 'parse-all', value: summarize(plain) },
  };
}

/** What a reader must know to judge the times: how much is sent, and what the way there and back takes by itself. */
function tellConditions(
  { bodies: [body = Buffer.alloc(0)] }: Kind,
  floor: Cost,
  names: readonly string[],
  { note }: BenchContext,
): void {
  const kilobytes = (bytes: number) => (bytes / 1000).toFixed(bytes < 10_000 ? 1 : 0);
  const podBytes = body.length - JSON.stringify(names).length;
  note(
    `A filter request of ${names.length.toLocaleString('en')} names has ${kilobytes(body.length)} KB, ` +
      `${kilobytes(podBytes)} KB of it the pod; to send it, over TLS on one kept connection, to a server ` +
      `that throws it away takes ${percentile(floor.ms, 50).toFixed(2)} ms (median), and ` +
      `${summarize(floor.cpuMs).median.toFixed(2)} ms of that server's processor time.`,
  );
}
