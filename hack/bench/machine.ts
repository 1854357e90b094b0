import { availableParallelism, cpus, release, totalmem, type } from 'node:os';

/** Where figures were measured. */
export interface Machine {
  readonly cpuModel: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly node: string;
  readonly system: string;
}

export function thisMachine(): Machine {
  return {
    cpuModel: cpus()[0]?.model.trim() ?? 'an unknown CPU',
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 1024 ** 3),
    node: process.versions.node,
    system: `${type()} ${release()}`,
  };
}
