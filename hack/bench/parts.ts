import { type Cluster, type ClusterOptions, startCluster } from '../bed/cluster.ts';
import { type Fleet, p4dRacks, racks } from '../bed/fleet-presets.ts';
import { createFleet } from '../bed/fleets.ts';
import { measureAdmission } from './admission.ts';
import { measureAlignment } from './alignment.ts';
import { BerthArm } from './berth-arm.ts';
import { measureChoice } from './choice.ts';
import { measureClaims } from './claims.ts';
import { type BenchContext, scaled } from './context.ts';
import { measureDevicePlans } from './device-plans.ts';
import { measureDra } from './dra.ts';
import { measureFailure } from './failure.ts';
import { measureFailureLatency } from './failure-latency.ts';
import { measureFailureMass } from './failure-mass.ts';
import { measureFailureRecovery } from './failure-recovery.ts';
import { measureFailureStorm } from './failure-storm.ts';
import { type Figure, type PartName, partNames } from './figures.ts';
import { measureFilter } from './filter.ts';
import { measureGroups } from './groups.ts';
import { largeFleet } from './large-fleet.ts';
import { measureMemory } from './memory.ts';
import { measureModes } from './modes.ts';
import { measurePlanner } from './planner.ts';
import { measureSingles } from './singles.ts';

const fullRacks = 56;

/**
 * Runs parts of the benchmarks, one after the other, those of one size on one control plane: to make 5,000 nodes takes
 * longer than to measure on them.
 */
export async function runParts(
  wanted: readonly PartName[],
  context: BenchContext,
): Promise<readonly Figure[]> {
  // These need no control plane; while none runs, nothing else takes the cores from them.
  const planner = wanted.includes('planner') ? await measurePlanner(context) : [];
  const claims = wanted.includes('claims') ? await measureClaims(context) : [];
  const choice = wanted.includes('choice') ? measureChoice(context) : [];
  const alignment = wanted.includes('alignment') ? measureAlignment(context) : [];
  const plans = wanted.includes('device-plans') ? measureDevicePlans(context) : [];
  const storm = wanted.includes('failure-storm') ? await measureFailureStorm(context) : [];
  const large = await withLargeCluster(wanted, context);
  const playing = await withPlayingCluster(wanted, context);
  const claiming = await withClaimingCluster(wanted, context);
  const failing = await withFailingCluster(wanted, context);
  const dying = await withDyingCluster(wanted, context);
  const figures = [
    ...planner,
    ...claims,
    ...choice,
    ...alignment,
    ...plans,
    ...storm,
    ...large,
    ...playing,
    ...claiming,
    ...failing,
    ...dying,
  ];
  return partNames.flatMap(name => figures.filter(({ part }) => part === name));
}

/** 5,000 nodes that are only objects: what is measured there runs no pod. */
async function withLargeCluster(wanted: readonly PartName[], context: BenchContext): Promise<Figure[]> {
  if (!wantsAny(wanted, ['admission', 'filter', 'memory'])) return [];
  const fleet = largeFleet(scaled(context, 5_000));
  const options: ClusterOptions = {
    kwok: false,
    extraArgs: {
      // Nobody sends heartbeats for these nodes.
      'kube-controller-manager': ['--node-monitor-grace-period=24h'],
      // Nobody reads the audit log, and it costs the API server time.
      'kube-apiserver': ['--audit-log-path='],
    },
  };
  return withCluster(fleet, options, context, async cluster => [
    ...(wanted.includes('filter') ? await measureFilter(cluster, fleet, context) : []),
    ...(wanted.includes('admission') ? await measureAdmission(cluster, context) : []),
    // Last, for it stops the controllers.
    ...(wanted.includes('memory') ? await measureMemory(cluster, fleet, context) : []),
  ]);
}

/** 1,000 nodes of which KWOK plays the kubelets. */
async function withPlayingCluster(wanted: readonly PartName[], context: BenchContext): Promise<Figure[]> {
  if (!wantsAny(wanted, ['groups', 'modes', 'singles'])) return [];
  const fleet = playingFleet(context);
  const options: ClusterOptions = { extraArgs: { 'kube-apiserver': ['--audit-log-path='] } };
  return withCluster(fleet, options, context, async cluster => {
    const berth = new BerthArm(cluster, context);
    return [
      ...(wanted.includes('groups') ? await measureGroups(cluster, fleet, berth, context) : []),
      ...(wanted.includes('modes') ? await measureModes(cluster, fleet, berth, context) : []),
      ...(wanted.includes('singles') ? await measureSingles(cluster, berth, context) : []),
    ];
  });
}

/** 500 machines whose GPUs and NICs come by DRA. */
async function withClaimingCluster(wanted: readonly PartName[], context: BenchContext): Promise<Figure[]> {
  if (!wanted.includes('dra')) return [];
  const options: ClusterOptions = { extraArgs: { 'kube-apiserver': ['--audit-log-path='] } };
  return withCluster(claimingFleet(scaled(context, 500)), options, context, async cluster => [
    ...(await measureDra(cluster, new BerthArm(cluster, context), context)),
  ]);
}

/** As the playing and the claiming cluster, with an audit log, from which the times of evictions are read. */
async function withFailingCluster(wanted: readonly PartName[], context: BenchContext): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const name of ['failure', 'failure-mass'] as const) {
    if (!wanted.includes(name)) continue;
    const fleet = playingFleet(context);
    const measure = name === 'failure' ? measureFailure : measureFailureMass;
    const run = (cluster: Cluster) => measure(cluster, fleet.nodes.length, context);
    figures.push(...(await withCluster(fleet, {}, context, run)));
  }
  if (wanted.includes('failure-latency')) {
    const fleet = claimingFleet(scaled(context, 1_000));
    const run = (cluster: Cluster) => measureFailureLatency(cluster, fleet.nodes.length, context);
    figures.push(...(await withCluster(fleet, {}, context, run)));
  }
  return figures;
}

/** A few racks, so that nodes can be waited for as long as kube-controller-manager does by itself. */
async function withDyingCluster(wanted: readonly PartName[], context: BenchContext): Promise<Figure[]> {
  if (!wanted.includes('failure-recovery')) return [];
  const fleet = claimingFleet(126);
  const run = (cluster: Cluster) => measureFailureRecovery(cluster, fleet.nodes.length, context);
  return withCluster(fleet, { nodes: 'few' }, context, async cluster => [...(await run(cluster))]);
}

function claimingFleet(hosts: number): Fleet {
  return { name: 'claiming', ...p4dRacks({ racks: Math.ceil(hosts / 18), hostsPerRack: 18 }) };
}

function playingFleet(context: BenchContext): Fleet {
  const totalHosts = scaled(context, 1_000);
  const nodes = racks({ racks: fullRacks, hostsPerRack: 18, gpus: 8, racksPerBlock: 8, totalHosts });
  return { name: 'thousand', nodes };
}

function wantsAny(wanted: readonly PartName[], parts: readonly PartName[]): boolean {
  return parts.some(part => wanted.includes(part));
}

async function withCluster<T>(
  fleet: Fleet,
  options: ClusterOptions,
  { say }: BenchContext,
  measure: (cluster: Cluster) => Promise<T>,
): Promise<T> {
  say('starting a control plane');
  const cluster = await startCluster({ nodes: 'many', ...options });
  try {
    say(`creating ${fleet.nodes.length} nodes`);
    await createFleet(cluster, fleet);
    const result = await measure(cluster);
    await cluster.stop();
    return result;
  } catch (error) {
    await cluster.stop({ keepLogs: true });
    throw error;
  }
}
