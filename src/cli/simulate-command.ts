import { readFile, writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import type { TopologyLevel } from '../cluster/topology.ts';
import { topologyPresets } from '../cluster/topology-presets.ts';
import type { CliContext } from './cli-context.ts';
import { type ClusterObjects, sortObjects } from './cluster-objects.ts';
import { colours, wantsColour } from './colours.ts';
import { type FleetEvent, fillingEvents, fleetEvents } from './event-stream.ts';
import { exitCodes } from './exit-codes.ts';
import { fleetCache } from './fleet-cache.ts';
import { fleetHelp, fleetNames, presetFleet } from './fleets.ts';
import { firstLineOf, InputError } from './input-error.ts';
import { fleetPicture } from './picture.ts';
import { type PlanSettings, type SettingsOptions, settingsFrom, zoneLevels } from './plan-settings.ts';
import { startProgress } from './progress.ts';
import { readObjects } from './read-objects.ts';
import { type SimulateReport, simulateTable, timingOf } from './simulate-report.ts';
import { type FleetFacts, fleetFacts } from './simulated-ask.ts';
import { simulate } from './simulation.ts';
import { numberOption, parseDeck, parseMix, standardDeck } from './stream-options.ts';
import { type OutputFormat, outputFormat, structured } from './terminal.ts';
import { formatTrace, parseTrace } from './trace.ts';
import { newWhatIf, type WhatIf } from './what-if.ts';

interface SimulateOptions extends SettingsOptions {
  readonly fleet?: readonly string[];
  readonly presetFleet?: string;
  readonly nodes?: string;
  readonly seed: string;
  readonly events: string;
  readonly load: string;
  readonly deck?: string;
  readonly mix?: string;
  readonly cpuLeaders: string;
  readonly scaleRate: string;
  readonly lossRate: string;
  readonly warmUp: string;
  readonly trace?: string;
  readonly replay?: string;
  readonly timing: boolean;
  readonly output: string;
}

const help = `
Preset fleets (tpu-v6e and mixed have a deck and a mix of their own):
${fleetHelp()
  .map(line => `  ${line}`)
  .join('\n')}

The stream fills the fleet to the load at time 0; then owners (LeaderWorkerSets and single pods) arrive at random, stay
an hour on average, are scaled, and nodes fail for half an hour on average. A refused group does not wait: it is gone.
The stream depends on the seed and the fleet alone, never on the plans, so that a trace suits every planner.
A refusal counts as fragmentation when the group would fit if it asked for no topology. Fewest means the exact minimum
at that moment, each level by itself. The same seed gives the same output but for the planning times (--no-timing).

Exit codes: 0 done, 1 failed, 2 the command line or a file is at fault.

Examples:
  berth simulate --preset-fleet nvl72 --nodes 576 --seed 7 --events 5000 --load 0.9
  berth simulate --preset-fleet gke-a3 --deck 2,4x4,8 --mix rack=50,prefer-rack=30,single=20 -o json
  berth simulate --fleet cluster.jsonl --config berth.yaml --trace stream.jsonl
  berth simulate --fleet cluster.jsonl --config berth.yaml --replay stream.jsonl -o picture
`;

export function defineSimulate(command: Command, context: CliContext): void {
  command
    .description(
      'Play a seeded stream of groups, departures and failures on a fleet and measure the placement.',
    )
    .option('--fleet <source...>', 'files or folders with the fleet; - for standard input')
    .option('--preset-fleet <name>', `a generated fleet: ${fleetNames.join(', ')}`)
    .option('--nodes <number>', 'nodes of the generated fleet')
    .option('--seed <number>', 'decides the generated fleet and the stream', '1')
    .option('--events <number>', 'events after the fleet has been filled', '2000')
    .option('--load <share>', 'devices asked for, as a share of all', '0.9')
    .option(
      '--deck <sizes>',
      `sizes of groups, drawn evenly: 4 takes 4 whole hosts, 4x2 has 2 devices each (default: "${standardDeck}")`,
    )
    .option(
      '--mix <shares>',
      'what groups ask for: level, prefer-<level>, any; and single; e.g. rack=60,any=40',
    )
    .option('--cpu-leaders <share>', 'groups whose leader asks for no device', '0')
    .option('--scale-rate <number>', 'changes of replicas for each arrival', '0.2')
    .option('--loss-rate <number>', 'lost nodes for each arrival', '0.02')
    .option('--warm-up <share>', 'share of the events that is played and not counted', '0.2')
    .option('--trace <file>', 'write the stream, one event per line')
    .option('--replay <file>', 'play a trace instead of a stream from the seed')
    .option('--levels <name=label,...>', 'topology levels, coarse to fine; the host is implied')
    .option('--preset <name>', `levels of a platform: ${Object.keys(topologyPresets).join(', ')}`)
    .option('--config <file>', "levels of Berth's own configuration file; a generated fleet has its own")
    .option('--no-timing', 'leave out what the seed does not fix')
    .option('-o, --output <format>', 'table, json, yaml, or picture of the fleet at the end', 'table')
    .addHelpText('after', help)
    .action(async (options: SimulateOptions) => context.setExitCode(await runSimulate(options, context)));
}

async function runSimulate(options: SimulateOptions, context: CliContext): Promise<number> {
  const { terminal } = context;
  const format = outputFormat(options.output);
  const seed = numberOption('seed', options.seed, { least: 0, most: 2 ** 32 - 1, whole: true });
  const fleet = await fleetOf(options, { seed, context });
  const whatIf = newWhatIf(fleetCache(fleet.objects, fleet.levels), fleet.objective);
  const facts = fleetFacts(whatIf.cache.snapshot());
  if (facts.capacity === 0) throw new InputError(['the fleet has neither devices nor CPUs']);
  const share = { least: 0, most: 1, whole: false };
  const load = numberOption('load', options.load, { least: 0.01, most: 2, whole: false });
  const events = await streamOf(options, { seed, load, facts, whatIf, fleet });
  if (options.trace !== undefined) await writeText('--trace', options.trace, formatTrace(events));

  const filling = fillingEvents(events);
  const warmUp = numberOption('warm-up', options.warmUp, share);
  const uncounted = filling + Math.floor((events.length - filling) * warmUp);
  const progress = startProgress(fleet.name, events.length, terminal);
  const { nowMs } = terminal;
  const { tally, planMs } = simulate({ whatIf, facts, events, uncounted, nowMs, onProgress: progress.at });
  progress.end();
  const report: SimulateReport = {
    version: 1,
    fleet: { name: fleet.name, nodes: facts.nodeNames.length, devices: facts.capacity },
    levels: fleet.levels,
    stream: {
      ...(options.replay === undefined && { seed, load }),
      events: events.length,
      uncounted,
      hours: (events.at(-1)?.atSeconds ?? 0) / 3600,
    },
    quality: tally.quality(),
    ...(options.timing && { timing: timingOf(planMs) }),
  };
  terminal.out(rendered(report, { format, whatIf, context }));
  return exitCodes.done;
}

function rendered(
  report: SimulateReport,
  options: { readonly format: OutputFormat; readonly whatIf: WhatIf; readonly context: CliContext },
): string {
  const { format, whatIf, context } = options;
  if (format === 'json' || format === 'yaml') return structured(report, format);
  const table = simulateTable(report);
  return format === 'table' ? table : `${pictureOf(whatIf, context)}\n${table}`;
}

interface SimulatedFleet extends PlanSettings {
  readonly name: string;
  readonly objects: ClusterObjects;
  readonly ownLevels?: readonly TopologyLevel[];
  readonly deck?: string | undefined;
  readonly mix?: string | undefined;
}

async function fleetOf(
  options: SimulateOptions,
  { seed, context }: { readonly seed: number; readonly context: CliContext },
): Promise<SimulatedFleet> {
  const { fleet: sources, presetFleet: name } = options;
  if ((sources === undefined) === (name === undefined))
    throw new InputError(['name the fleet by --fleet or by --preset-fleet, not both']);
  if (sources !== undefined) {
    if (options.nodes !== undefined) throw new InputError(['--nodes goes with --preset-fleet only']);
    const objects = sortObjects(await readObjects(sources, context.terminal.readStdin));
    if (objects.nodes.length === 0)
      throw new InputError([`--fleet: there is no Node in ${sources.join(', ')}`]);
    const settings = await settingsFrom(options, zoneLevels, context.settingsOfConfig);
    return { name: sources.join(', '), objects, ...settings };
  }
  const limits = { least: 1, most: 200_000, whole: true };
  const nodes = options.nodes === undefined ? undefined : numberOption('nodes', options.nodes, limits);
  const generated = presetFleet(name ?? '', { nodes, seed });
  if (generated === undefined)
    throw new InputError([`--preset-fleet: ${name} is none of ${fleetNames.join(', ')}`]);
  const objects = { ...sortObjects([]), nodes: generated.nodes };
  const ownLevels = generated.levels;
  const settings = await settingsFrom(options, ownLevels, context.settingsOfConfig);
  return { ...generated, objects, ownLevels, ...settings };
}

async function streamOf(
  options: SimulateOptions,
  stream: {
    readonly seed: number;
    readonly load: number;
    readonly facts: FleetFacts;
    readonly whatIf: WhatIf;
    readonly fleet: SimulatedFleet;
  },
): Promise<readonly FleetEvent[]> {
  const { seed, load, facts, whatIf, fleet } = stream;
  const { levels } = whatIf.cache;
  const levelNames = levels.map(({ name }) => name);
  const { replay } = options;
  if (replay !== undefined)
    return parseTrace(await readText('--replay', replay), replay, { nodeNames: facts.nodeNames, levelNames });
  const rate = { least: 0, most: 100, whole: false };
  // The fleet's own mix names its own levels.
  const mix = options.mix ?? (levels === fleet.ownLevels ? fleet.mix : undefined);
  return fleetEvents({
    seed,
    load,
    facts,
    levelNames,
    events: numberOption('events', options.events, { least: 1, most: 10_000_000, whole: true }),
    deck: parseDeck(options.deck ?? fleet.deck ?? standardDeck, facts.perHost),
    mix: parseMix(mix, levels),
    cpuLeaders: numberOption('cpu-leaders', options.cpuLeaders, { least: 0, most: 1, whole: false }),
    scaleRate: numberOption('scale-rate', options.scaleRate, rate),
    lossRate: numberOption('loss-rate', options.lossRate, rate),
  });
}

function pictureOf({ cache }: WhatIf, { terminal }: CliContext): string {
  const groups = [...cache.groupKeys()].map(key => ({ key, name: key }));
  return fleetPicture(cache, groups, colours(wantsColour(terminal.env, terminal.outIsTerminal)));
}

async function readText(option: string, file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new InputError([`${option}: ${file} cannot be read: ${firstLineOf(error)}`]);
  }
}

async function writeText(option: string, file: string, text: string): Promise<void> {
  try {
    await writeFile(file, text);
  } catch (error) {
    throw new InputError([`${option}: ${file} cannot be written: ${firstLineOf(error)}`]);
  }
}
