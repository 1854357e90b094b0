import type { TopologyLevel } from '../cluster/topology.ts';
import { hostLevelName } from '../cluster/topology.ts';
import { topologyPresets } from '../cluster/topology-presets.ts';
import { type Objective, standardObjective } from '../planner/objective.ts';
import { InputError } from './input-error.ts';

/** What plans depend on besides the cluster and the request. */
export interface PlanSettings {
  readonly levels: readonly TopologyLevel[];
  readonly objective: Objective;
}

export interface SettingsOptions {
  /** `name=label,...`, coarse to fine. */
  readonly levels?: string | undefined;
  readonly preset?: string | undefined;
  readonly config?: string | undefined;
}

/**
 * What the options name.
 * @param standardLevels where they name none
 * @param settingsOfConfig reads a configuration file of the running process
 * @throws InputError
 */
export async function settingsFrom(
  { levels, preset, config }: SettingsOptions,
  standardLevels: readonly TopologyLevel[],
  settingsOfConfig: (file: string) => Promise<PlanSettings>,
): Promise<PlanSettings> {
  if ([levels, preset, config].filter(option => option !== undefined).length > 1)
    throw new InputError(['--levels, --preset and --config exclude each other']);
  if (config !== undefined) return settingsOfConfig(config);
  const objective = standardObjective;
  if (levels !== undefined) return { levels: parseLevels(levels), objective };
  return { levels: preset === undefined ? standardLevels : presetLevels(preset), objective };
}

/** What a configuration without levels means. */
export const zoneLevels: readonly TopologyLevel[] = topologyPresets['zone'] ?? [];

function presetLevels(preset: string): readonly TopologyLevel[] {
  const known = Object.hasOwn(topologyPresets, preset) ? topologyPresets[preset] : undefined;
  if (known !== undefined) return known;
  const names = Object.keys(topologyPresets).join(', ');
  throw new InputError([`--preset: ${preset} is none of ${names}`]);
}

function parseLevels(text: string): readonly TopologyLevel[] {
  const levels = text.split(',').map(part => {
    const [name = '', nodeLabel = ''] = part.split('=').map(word => word.trim());
    if (!/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(name) || nodeLabel === '')
      throw new InputError([`--levels: ${JSON.stringify(part)} is not like rack=example.com/rack`]);
    return { name, nodeLabel };
  });
  const names = levels.map(({ name }) => name);
  if (new Set(names).size < names.length) throw new InputError(['--levels: two levels have the same name']);
  if (new Set(levels.map(({ nodeLabel }) => nodeLabel)).size < levels.length)
    throw new InputError(['--levels: two levels have the same node label']);
  if (names.includes(hostLevelName))
    throw new InputError([`--levels: ${hostLevelName} is implied, leave it out`]);
  return levels;
}
