import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { type BenchContext, scaled } from './context.ts';
import type { Figure } from './figures.ts';
import { PlannerArm } from './planner-berth.ts';
import { summarize } from './statistics.ts';
import { hostName, rackLevel, streamFleet } from './stream-fleet.ts';
import type { StreamGroup, StreamResident } from './stream-groups.ts';

const fullHosts = 5_000;
const podsPerHost = 10;
const shapes = 8;
const megabyte = 1_000_000;

/**
 * What the planner remembers for each kind of group beside the cluster itself. What the whole process takes is measured
 * by the part `memory`.
 */
export async function measurePlannerMemory(
  _oracle: string,
  context: BenchContext,
): Promise<readonly Figure[]> {
  const hosts = scaled(context, fullHosts);
  const pods = hosts * podsPerHost;
  context.say(`planner: memory on ${hosts} nodes with ${pods} pods`);
  const collect = garbageCollector();
  const arm = new PlannerArm(streamFleet(hosts), residentsOn(hosts));
  planAndLeave(arm, groupOf(0));
  const before = usedBytes(collect);
  for (let shape = 1; shape <= shapes; shape++) planAndLeave(arm, groupOf(shape));
  const perShape = (usedBytes(collect) - before) / shapes;
  // Whatever is collected before this is not what the planner remembers.
  planAndLeave(arm, groupOf(1));
  const of = `${hosts.toLocaleString('en')} nodes and ${pods.toLocaleString('en')} pods`;
  return [
    {
      part: 'planner',
      what: `${of}: memory for one more kind of group`,
      unit: 'MB',
      berth: summarize([perShape / megabyte]),
    },
  ];
}

function planAndLeave(arm: PlannerArm, group: StreamGroup): void {
  const { nodes, reason } = arm.place(group);
  if (nodes === undefined) throw new Error(`a group that fits was refused: ${reason}`);
  arm.free(group.name);
}

function groupOf(shape: number): StreamGroup {
  const worker = { cpus: 4 + shape, memoryGi: 16, gpus: 1 };
  const leader = { cpus: 8 + shape, memoryGi: 16, gpus: 0 };
  return { name: `kind-${shape}`, size: 4, worker, leader, requiredLevel: rackLevel };
}

function residentsOn(hosts: number): readonly StreamResident[] {
  const demand = { cpus: 2, memoryGi: 8, gpus: 0 };
  return Array.from({ length: hosts * podsPerHost }, (_, index) => ({
    name: `resident-${index}`,
    demand,
    node: hostName(Math.floor(index / podsPerHost)),
  }));
}

function usedBytes(collect: () => void): number {
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

function garbageCollector(): () => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc');
}
