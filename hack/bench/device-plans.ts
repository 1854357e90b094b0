import { berth } from '../../src/api/names.ts';
import { ClusterCache } from '../../src/cache/cluster-cache.ts';
import { decodeDeviceClass, decodeResourceClaimTemplate } from '../../src/cluster/devices/decode-claim.ts';
import { decodeResourceSlice } from '../../src/cluster/devices/decode-slice.ts';
import { decodeNode } from '../../src/cluster/node-info.ts';
import { decodeLeaderWorkerSet } from '../../src/group/owner.ts';
import { FitMemo } from '../../src/planner/fit.ts';
import { planGroup } from '../../src/planner/plan.ts';
import { LwsGroup } from '../../test/builders/lws-group.ts';
import { decode, groupInfoOf } from '../../test/builders/planning.ts';
import { mulberry32 } from '../../test/unit/planner/instances.ts';
import { type FleetContent, p4dRacks } from '../bed/fleet-presets.ts';
import { pairTemplate, pairTemplateName } from './claimants.ts';
import { type BenchContext, scaled } from './context.ts';
import type { Figure } from './figures.ts';
import { percentile, summarize } from './statistics.ts';

const part = 'device-plans';
const fullHosts = 1_000;
const hostsPerRack = 18;
const groupSize = 16;
const fullArrivals = 600;
/** Share of the NICs, of which a machine has half as many as GPUs. */
const load = 0.8;

/**
 * How long it takes to plan a group of 16 pods with a GPU and a NIC each in one rack, nodes and devices, on a fleet of p4d
 * machines where groups come and go.
 */
export function measureDevicePlans(context: BenchContext): readonly Figure[] {
  const hosts = scaled(context, fullHosts);
  context.say(`device-plans: groups of ${groupSize} on ${hosts} nodes`);
  const fleet = p4dRacks({ racks: Math.ceil(hosts / hostsPerRack), hostsPerRack });
  // V8 compiles while it runs: the first time counts for nothing.
  playArrivals(fleet, 50);
  const { firstMs, times, aligned, members } = playArrivals(fleet, scaled(context, fullArrivals));
  const what = `${fleet.nodes.length} nodes: plan a group of ${groupSize} pods of GPU and NIC in one rack`;
  return [
    figure(`${what}, the first of its kind`, 'ms', firstMs),
    figure(`${what}, median`, 'ms', percentile(times, 50)),
    { ...figure(`${what}, p99`, 'ms', percentile(times, 99)), aim: { of: 'value', atMost: 5 } },
    figure('members on one PCIe root', '%', (100 * aligned) / members),
  ];
}

function figure(what: string, unit: Figure['unit'], value: number): Figure {
  return { part, what, unit, berth: summarize([value]) };
}

function playArrivals(fleet: FleetContent, arrivals: number) {
  const cache = cacheOf(fleet);
  const memo = new FitMemo();
  const random = mulberry32(7);
  const capacity = Math.floor((fleet.nodes.length * 4 * load) / groupSize);
  const standing: LwsGroup[] = [];
  const times: number[] = [];
  let [firstMs, aligned, members] = [0, 0, 0];
  const leave = () => {
    const [gone] = standing.splice(Math.floor(random() * standing.length), 1);
    if (gone !== undefined) cache.pods.remove(decode(gone.leader()));
  };
  const arrive = (index: number) => {
    const group = new LwsGroup({
      name: `g${index}`,
      size: groupSize,
      worker: { cpu: 1, claims: { devices: pairTemplateName } },
      annotations: { [berth.requiredTopology]: 'rack' },
    });
    const leader = decode(group.leader());
    cache.pods.upsert(leader);
    cache.leaderWorkerSets.upsert(decodeLeaderWorkerSet(group.owner()));
    const info = groupInfoOf(cache, group.key);
    const startedMs = performance.now();
    const result = planGroup({
      demands: info.demands,
      topology: info.topology,
      snapshot: cache.snapshot(),
      memo,
    });
    const ms = performance.now() - startedMs;
    if (index === 0) firstMs = ms;
    cache.leaderWorkerSets.remove(decodeLeaderWorkerSet(group.owner()));
    if (result.kind !== 'plan') throw new Error(`${group.key} has got no place: ${JSON.stringify(result)}`);
    const requests = info.demands.map(demand => demand.requests);
    const plan = { leaderUid: leader.uid, generation: 1, nodes: result.nodes, requests };
    cache.assumePlan(leader, result.devices === undefined ? plan : { ...plan, devices: result.devices });
    standing.push(group);
    if (index < capacity) return;
    times.push(ms);
    members += groupSize;
    aligned += result.devices?.filter(({ rung }) => rung === 'pcie').length ?? 0;
  };
  for (let index = 0; index < capacity + arrivals; index++) {
    if (standing.length >= capacity) leave();
    arrive(index);
  }
  return { firstMs, times, aligned, members };
}

function cacheOf({ nodes, slices = [], deviceClasses = [] }: FleetContent): ClusterCache {
  const levels = [{ name: 'rack', nodeLabel: 'example.com/rack' }];
  const cache = new ClusterCache({ levels, steersClaims: true });
  // As if a kubelet had reported.
  cache.nodes.replace(nodes.map(node => ({ ...decodeNode(node), ready: true, readyStatus: 'True' })));
  cache.resourceSlices.replace(slices.map(decodeResourceSlice));
  cache.deviceClasses.replace(deviceClasses.map(decodeDeviceClass));
  cache.resourceClaimTemplates.upsert(decodeResourceClaimTemplate(pairTemplate('serving')));
  return cache;
}
