import type { Command } from 'commander';
import { topologyPresets } from '../cluster/topology-presets.ts';
import type { CliContext } from './cli-context.ts';
import { sortObjects } from './cluster-objects.ts';
import { colours, wantsColour } from './colours.ts';
import { exitCodes } from './exit-codes.ts';
import { fleetCache } from './fleet-cache.ts';
import { InputError } from './input-error.ts';
import { fleetPicture } from './picture.ts';
import { everythingFits, type PlanReport, planAll } from './plan-report.ts';
import { type SettingsOptions, settingsFrom, zoneLevels } from './plan-settings.ts';
import { planTable } from './plan-table.ts';
import { readObjects } from './read-objects.ts';
import { pendingElsewhere, takeManifests, waitingInFleet } from './requests.ts';
import { type OutputFormat, outputFormat, structured } from './terminal.ts';
import { newWhatIf, type WhatIf } from './what-if.ts';

interface PlanOptions extends SettingsOptions {
  readonly fleet: readonly string[];
  readonly filename?: readonly string[];
  readonly namespace: string;
  readonly output: string;
}

const help = `
Input is YAML, JSON or one JSON object per line: Nodes, Pods, Namespaces, LeaderWorkerSets, StatefulSets and
PriorityClasses, and for devices by DRA ResourceSlices, DeviceClasses, ResourceClaims, ResourceClaimTemplates and
DeviceTaintRules; lists of them included, or what "berth snapshot" has written. Nodes written by hand may leave out
conditions (Ready is taken) and the number of pods (110). Templates and claims may stand beside the workload.
Planned are every replica group of a LeaderWorkerSet, pods with group labels, single pods, and what waits for Berth in
the fleet already: by priority, then age, each seeing those before. Nothing is written to any cluster.

Exit codes: 0 everything fits, 1 failed, 2 the command line or a file is at fault, 3 something has got no place.

Examples:
  kubectl get nodes,pods,namespaces -A -o json > fleet.json
  berth plan --fleet fleet.json -f lws.yaml --preset gke
  berth snapshot -o cluster.jsonl && berth plan --fleet cluster.jsonl --config berth.yaml -o picture
  kustomize build . | berth plan --fleet fleet.json -f - --levels block=example.com/block,rack=example.com/rack -o json
`;

export function definePlan(command: Command, context: CliContext): void {
  command
    .description('Say where groups would go in a fleet, or why not, without touching a cluster.')
    .requiredOption('--fleet <source...>', 'files or folders with the fleet; - for standard input')
    .option('-f, --filename <source...>', 'manifests to plan: files or folders; - for standard input')
    .option('--levels <name=label,...>', 'topology levels, coarse to fine; the host is implied')
    .option('--preset <name>', `levels of a platform: ${Object.keys(topologyPresets).join(', ')}`)
    .option('--config <file>', "levels of Berth's own configuration file; without any of the three: the zone")
    .option('-n, --namespace <name>', 'namespace of manifests that name none', 'default')
    .option('-o, --output <format>', 'table, json, yaml or picture', 'table')
    .addHelpText('after', help)
    .action(async (options: PlanOptions) => context.setExitCode(await runPlan(options, context)));
}

async function runPlan(options: PlanOptions, context: CliContext): Promise<number> {
  const { terminal } = context;
  const format = outputFormat(options.output);
  const filenames = options.filename ?? [];
  if ([...options.fleet, ...filenames].filter(source => source === '-').length > 1)
    throw new InputError(['standard input (-) can be read once only']);
  const settings = await settingsFrom(options, zoneLevels, context.settingsOfConfig);
  const fleet = sortObjects(await readObjects(options.fleet, terminal.readStdin));
  const manifests = sortObjects(await readObjects(filenames, terminal.readStdin));
  if (fleet.nodes.length === 0)
    throw new InputError([`--fleet: there is no Node in ${options.fleet.join(', ')}`]);

  const cache = fleetCache(fleet, settings.levels);
  const waiting = waitingInFleet(cache);
  const pending = pendingElsewhere(cache);
  const priorityClasses = [...fleet.priorityClasses, ...manifests.priorityClasses];
  const { list, notes } = takeManifests(cache, manifests, { namespace: options.namespace, priorityClasses });
  const whatIf = newWhatIf(cache, settings.objective);
  const line = [...waiting, ...list].sort(context.inLine);
  const report = planAll(whatIf, line, [...fleetNotes(whatIf, pending), ...notes]);
  for (const note of report.notes) terminal.err(`note: ${note}\n`);
  terminal.out(rendered(report, { format, whatIf, context, line }));
  return everythingFits(report) ? exitCodes.done : exitCodes.noPlace;
}

function rendered(
  report: PlanReport,
  options: {
    readonly format: OutputFormat;
    readonly whatIf: WhatIf;
    readonly context: CliContext;
    readonly line: readonly { readonly key: string; readonly name: string }[];
  },
): string {
  const { format, whatIf, context, line } = options;
  if (format === 'json' || format === 'yaml') return structured(report, format);
  const { env, outIsTerminal } = context.terminal;
  const paint = colours(wantsColour(env, outIsTerminal));
  const table = planTable(report, paint);
  return format === 'table' ? table : `${fleetPicture(whatIf.cache, line, paint)}\n${table}`;
}

function fleetNotes({ cache }: WhatIf, pending: number): readonly string[] {
  const { tree } = cache.snapshot();
  const unused = tree.levels
    .filter((_, level) => (tree.domainsByLevel[level] ?? []).length === 0)
    .map(({ name, nodeLabel }) => `no node carries ${nodeLabel}: there is no ${name}`);
  if (pending === 0) return unused;
  const pods = pending === 1 ? '1 pod of the fleet is' : `${pending} pods of the fleet are`;
  return [...unused, `${pods} pending and not placed by Berth: no room is kept for that`];
}
