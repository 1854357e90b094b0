import { writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import type { KubernetesObject } from '../api/kubernetes.ts';
import { lws } from '../api/names.ts';
import type { ApiClient } from '../kube/api-client.ts';
import { ApiError } from '../kube/api-errors.ts';
import { readPagedList } from '../kube/paged-list.ts';
import type { CliContext } from './cli-context.ts';
import { exitCodes } from './exit-codes.ts';
import { firstLineOf, InputError } from './input-error.ts';
import type { KnownKind } from './object-schemas.ts';
import { trimmed } from './trimmed-objects.ts';

interface SnapshotOptions {
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly output?: string;
}

const help = `
The dump holds nodes, namespaces, pods, LeaderWorkerSets, worker StatefulSets, PriorityClasses, and of DRA the slices,
classes, claims, claim templates and device taint rules, each cut down to what planning reads: no environment, commands,
images, parameters for drivers, or annotations but those that Berth gives a meaning. Names, labels and the attributes of
devices stay. It is read by "berth plan --fleet" and "berth simulate --fleet". Needs the right to list these resources.

Exit codes: 0 done, 1 the cluster could not be read, 2 the command line or the kubeconfig is at fault.

Examples:
  berth snapshot -o cluster.jsonl
  berth snapshot --context prod | berth plan --fleet - -f lws.yaml --config berth.yaml
`;

export function defineSnapshot(command: Command, context: CliContext): void {
  command
    .description('Dump what the planner reads of a live cluster, without secrets, to replay it elsewhere.')
    .option('--kubeconfig <file>', 'default: $KUBECONFIG, ~/.kube/config, or the service account of the pod')
    .option('--context <name>', 'context of the kubeconfig')
    .option(
      '-o, --output <file>',
      'file to write: a List for .json, else one object per line; default: to stdout',
    )
    .addHelpText('after', help)
    .action(async (options: SnapshotOptions) => context.setExitCode(await runSnapshot(options, context)));
}

async function runSnapshot(options: SnapshotOptions, { connect, terminal }: CliContext): Promise<number> {
  const { client, close } = await connect(options);
  let objects: readonly KubernetesObject[];
  try {
    objects = await readCluster(client, terminal.err);
  } finally {
    close();
  }
  const { output } = options;
  const text = output?.endsWith('.json') ? asList(objects) : asLines(objects);
  if (output === undefined) terminal.out(text);
  else await writeOutput(output, text);
  terminal.err(`${objects.length} objects${output === undefined ? '' : ` written to ${output}`}\n`);
  return exitCodes.done;
}

interface Resource {
  readonly kind: KnownKind;
  readonly path: string;
  readonly labelSelector?: string;
  /** A cluster may be without it, or without the right to read it. */
  readonly optional?: boolean;
}

const resourceApi = '/apis/resource.k8s.io/v1';

const resources: readonly Resource[] = [
  { kind: 'Node', path: '/api/v1/nodes' },
  { kind: 'Namespace', path: '/api/v1/namespaces' },
  { kind: 'LeaderWorkerSet', path: `/apis/${lws.apiVersion}/leaderworkersets`, optional: true },
  { kind: 'StatefulSet', path: '/apis/apps/v1/statefulsets', labelSelector: lws.name },
  { kind: 'PriorityClass', path: '/apis/scheduling.k8s.io/v1/priorityclasses', optional: true },
  // Only a cluster whose API server has DRA, and at this version, has these; the last one is a feature of its own.
  { kind: 'DeviceClass', path: `${resourceApi}/deviceclasses`, optional: true },
  { kind: 'ResourceSlice', path: `${resourceApi}/resourceslices`, optional: true },
  { kind: 'ResourceClaimTemplate', path: `${resourceApi}/resourceclaimtemplates`, optional: true },
  { kind: 'ResourceClaim', path: `${resourceApi}/resourceclaims`, optional: true },
  { kind: 'DeviceTaintRule', path: `${resourceApi}/devicetaintrules`, optional: true },
  { kind: 'Pod', path: '/api/v1/pods' },
];

const pageSize = 500;
const pageTimeoutMs = 60_000;

/** Reads everything that planning looks at, trimmed as it comes. Throws as ApiClient does. */
export async function readCluster(
  client: ApiClient,
  note: (text: string) => void,
): Promise<readonly KubernetesObject[]> {
  const objects: KubernetesObject[] = [];
  for (const resource of resources) {
    const { kind, path, labelSelector, optional } = resource;
    try {
      await readPagedList<KubernetesObject>({
        client,
        path,
        ...(labelSelector !== undefined && { query: { labelSelector } }),
        pageSize,
        timeoutMs: pageTimeoutMs,
        signal: new AbortController().signal,
        onObject: raw => objects.push(trimmed(kind, raw)),
      });
    } catch (error) {
      const missing = error instanceof ApiError && (error.status === 404 || error.status === 403);
      if (!missing || optional !== true) throw error;
      note(`note: no ${kind} read: ${firstLineOf(error)}\n`);
    }
  }
  return objects;
}

function asLines(objects: readonly KubernetesObject[]): string {
  return objects.map(object => `${JSON.stringify(object)}\n`).join('');
}

function asList(objects: readonly KubernetesObject[]): string {
  return `${JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }, null, 1)}\n`;
}

async function writeOutput(file: string, text: string): Promise<void> {
  try {
    await writeFile(file, text);
  } catch (error) {
    throw new InputError([`--output: ${file} cannot be written: ${firstLineOf(error)}`]);
  }
}
