import { isMap, isNode, LineCounter, parseDocument } from 'yaml';
import { z } from 'zod';
import { hostLevelName, type TopologyLevel } from './cluster/topology.ts';
import { topologyPresets } from './cluster/topology-presets.ts';
import { failureSchema } from './failure-config.ts';
import { preemptionSchema } from './preemption-config.ts';

const seconds = (standard: number, about: string) =>
  z.number().positive().max(86_400).default(standard).describe(about);
const port = (standard: number, about: string) =>
  z.int().min(0).max(65_535).default(standard).describe(about);
const presetNames = Object.keys(topologyPresets);

const levelSchema = z.strictObject({
  name: z
    .string()
    .regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/, 'must be a lower-case word such as rack')
    .describe('word used in annotations'),
  nodeLabel: z.string().min(1).max(317).describe('node label whose value names the domain'),
  shapeLabel: z
    .string()
    .min(1)
    .max(317)
    .exactOptional()
    .describe('node label whose value is the shape of the TPU slice that a domain is, e.g. 4x4'),
  shape: z
    .string()
    .regex(/^[1-9][0-9]{0,4}(x[1-9][0-9]{0,4}){1,2}$/, 'must be a TPU shape such as 4x4 or 2x2x2')
    .exactOptional()
    .describe('the shape itself, where all domains of the level have the same'),
});

/** The one description of the configuration: it validates, fills in defaults, and makes the reference in the README. */
export const configSchema = z.strictObject({
  namespace: z.string().min(1).default('berth-system').describe("namespace of Berth's Lease and Secret"),
  configMapName: z
    .string()
    .min(1)
    .default('berth-config')
    .describe('ConfigMap in that namespace on which annotation berth.dev/halt stops evictions'),
  observeOnly: z
    .boolean()
    .default(false)
    .describe('read and answer, but never write to pods, whatever namespaces ask for'),
  topology: z
    .strictObject({
      preset: z
        .enum(presetNames)
        .optional()
        .describe(`levels of a platform: ${presetNames.join(', ')}`),
      levels: z
        .array(levelSchema)
        .min(1)
        .max(8)
        .optional()
        .describe('levels, coarse to fine, instead of a preset; the host is implied'),
    })
    .prefault({}),
  placement: z
    .strictObject({
      prefer: z
        .enum(['pack', 'spread'])
        .default('pack')
        .describe('`pack` leaves whole domains alone, `spread` takes the emptiest'),
      warmHosts: z.boolean().default(true).describe('among equals, hosts that had the group before'),
      agedAfterSeconds: seconds(600, 'first in line for so long: a domain is reserved for it'),
      strandedAfterSeconds: seconds(10, 'a pinned pod Unschedulable for so long is planned again'),
      membersLateAfterSeconds: seconds(
        5,
        'a labelled group is planned without its late members after so long',
      ),
      replanBudget: z
        .strictObject({
          perGroup: z
            .int()
            .min(0)
            .max(1000)
            .default(5)
            .describe('times a group may be planned again by deleting unbound pods'),
          perMinutes: z.number().positive().default(10).describe('window of that budget, in minutes'),
        })
        .prefault({}),
    })
    .prefault({}),
  devices: z
    .strictObject({
      steerClaims: z
        .boolean()
        .default(true)
        .describe('put planned devices before what claims made from templates ask for'),
      impossible: z
        .enum(['warn', 'refuse'])
        .default('warn')
        .describe('what becomes of a group whose devices no node there is could ever give'),
    })
    .prefault({}),
  failure: failureSchema,
  preemption: preemptionSchema,
  webhook: z
    .strictObject({
      host: z.string().default('0.0.0.0').describe('address to listen on'),
      port: port(10_250, 'HTTPS port; 0 takes any free one'),
      certDir: z
        .string()
        .optional()
        .describe('folder with tls.crt, tls.key, ca.crt kept by somebody else, e.g. cert-manager'),
      configurationName: z
        .string()
        .default('zz-berth-mutating-webhook-configuration')
        .describe('webhook configuration that gets the caBundle'),
      dnsNames: z
        .array(z.string())
        .default([
          'berth-webhook.berth-system.svc',
          'berth-webhook.berth-system.svc.cluster.local',
          'berth-extender.berth-system.svc',
        ])
        .describe('names in the certificate, which the extender shows too'),
      ipAddresses: z.array(z.string()).default([]).describe('IP addresses in the certificate'),
    })
    .prefault({}),
  extender: z
    .strictObject({
      enabled: z.boolean().default(true).describe('serve filter, prioritize and preempt for kube-scheduler'),
      host: z.string().default('0.0.0.0').describe('address to listen on'),
      port: port(10_251, 'HTTPS port, which demands a client certificate; 0 takes any free one'),
    })
    .prefault({}),
  admin: z
    .strictObject({
      host: z.string().default('0.0.0.0').describe('address of /healthz, /readyz and /metrics'),
      port: port(8080, 'HTTP port; 0 takes any free one'),
    })
    .prefault({}),
  lease: z
    .strictObject({
      name: z.string().min(1).default('berth').describe('name of the Lease'),
      durationSeconds: seconds(15, 'others take over after so long without a renewal'),
      renewDeadlineSeconds: seconds(10, 'the holder stops acting after so long without a renewal'),
      retryPeriodSeconds: seconds(2, 'time between tries'),
    })
    .prefault({}),
  log: z
    .strictObject({
      level: z
        .enum(['trace', 'debug', 'info', 'warn', 'error'])
        .default('info')
        .describe('least severe level that is logged'),
    })
    .prefault({}),
  shutdownDelaySeconds: z
    .number()
    .min(0)
    .max(300)
    .default(5)
    .describe('after SIGTERM requests are served for so long while /readyz says no'),
});

export type Config = z.infer<typeof configSchema>;

/** What is wrong with a configuration file, each with its place. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly code = 'InvalidConfig';
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join('\n'));
    this.problems = problems;
  }
}

/**
 * Reads a configuration. An empty text gives the defaults.
 * @throws ConfigError that names each key at fault, its line and column, and for an unknown key the nearest known one
 */
export function readConfig(text: string, fileName: string): Config {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true });
  const at = (offset: number) => {
    const { line, col } = lines.linePos(offset);
    return `${fileName}:${line}:${col}`;
  };
  if (document.errors.length > 0) {
    throw new ConfigError(
      document.errors.map(error => `${at(error.pos[0])}: ${error.message.split('\n')[0]}`),
    );
  }
  const result = configSchema.safeParse(document.toJS() ?? {});
  if (!result.success) {
    throw new ConfigError(
      result.error.issues.flatMap(issue =>
        describeIssue(issue, path => at(offsetOf(document.contents, path))),
      ),
    );
  }
  const problems = contradictions(result.data);
  if (problems.length > 0) throw new ConfigError(problems.map(problem => `${fileName}: ${problem}`));
  return result.data;
}

/** The levels in force: those listed, else the preset's, else the zone alone. */
export function topologyLevels(config: Config): readonly TopologyLevel[] {
  return config.topology.levels ?? topologyPresets[config.topology.preset ?? 'zone'] ?? [];
}

function contradictions({ topology, lease }: Config): readonly string[] {
  const problems: string[] = [];
  if (topology.preset !== undefined && topology.levels !== undefined) {
    problems.push('topology.preset and topology.levels exclude each other: keep one');
  }
  const names = topology.levels?.map(level => level.name) ?? [];
  const labels = topology.levels?.map(level => level.nodeLabel) ?? [];
  if (new Set(names).size < names.length) problems.push('topology.levels: two levels have the same name');
  if (new Set(labels).size < labels.length)
    problems.push('topology.levels: two levels have the same nodeLabel');
  if (topology.levels?.some(level => level.shape !== undefined && level.shapeLabel !== undefined))
    problems.push('topology.levels: shape and shapeLabel of one level exclude each other: keep one');
  if (names.includes(hostLevelName))
    problems.push(`topology.levels: ${hostLevelName} is implied, leave it out`);
  const { durationSeconds, renewDeadlineSeconds, retryPeriodSeconds } = lease;
  if (durationSeconds <= renewDeadlineSeconds || renewDeadlineSeconds <= retryPeriodSeconds * 1.2) {
    problems.push('lease: durationSeconds > renewDeadlineSeconds > 1.2 x retryPeriodSeconds must hold');
  }
  return problems;
}

type Path = readonly PropertyKey[];

function describeIssue(issue: z.core.$ZodIssue, at: (path: Path) => string): readonly string[] {
  if (issue.code !== 'unrecognized_keys') {
    return [`${at(issue.path)}: ${keyText(issue.path)}: ${issue.message}`];
  }
  return issue.keys.map(key => {
    const path = [...issue.path, key];
    const nearest = nearestOf(key, knownKeys(issue.path));
    const hint = nearest === undefined ? '' : `; did you mean ${keyText([...issue.path, nearest])}?`;
    return `${at(path)}: unknown key ${keyText(path)}${hint}`;
  });
}

function keyText(path: Path): string {
  return path.length === 0
    ? 'the configuration'
    : path
        .map((part, i) => (typeof part === 'number' ? `[${part}]` : `${i === 0 ? '' : '.'}${String(part)}`))
        .join('');
}

/** Offset of a key (or list element) in the text; of the nearest parent that is there when it is not. */
function offsetOf(contents: unknown, path: Path): number {
  let node = contents;
  let offset = isNode(node) ? (node.range?.[0] ?? 0) : 0;
  for (const part of path) {
    if (isMap(node)) {
      const pair = node.items.find(item => isNode(item.key) && String(item.key) === String(part));
      if (pair === undefined) return offset;
      offset = isNode(pair.key) ? (pair.key.range?.[0] ?? offset) : offset;
      node = pair.value;
    } else if (isNode(node) && 'get' in node && typeof node.get === 'function') {
      node = node.get(part, true);
      offset = isNode(node) ? (node.range?.[0] ?? offset) : offset;
    }
  }
  return offset;
}

interface JsonSchema {
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly items?: JsonSchema;
  readonly description?: string;
  readonly default?: unknown;
}

function knownKeys(path: Path): readonly string[] {
  let schema: JsonSchema | undefined = jsonSchema();
  for (const part of path)
    schema = typeof part === 'number' ? schema?.items : schema?.properties?.[String(part)];
  return Object.keys(schema?.properties ?? {});
}

function jsonSchema(): JsonSchema {
  return z.toJSONSchema(configSchema, { io: 'input' }) as JsonSchema;
}

/** Rows of the configuration reference, in the order of the schema. */
export function configReference(): readonly {
  readonly key: string;
  readonly standard: string;
  readonly about: string;
}[] {
  const rows: { key: string; standard: string; about: string }[] = [];
  function visit(schema: JsonSchema, path: string): void {
    for (const [name, inner] of Object.entries(schema.properties ?? {})) {
      const key = path === '' ? name : `${path}.${name}`;
      if (inner.properties !== undefined) visit(inner, key);
      else {
        const standard = inner.default === undefined ? '' : JSON.stringify(inner.default);
        rows.push({ key, standard, about: inner.description ?? '' });
        if (inner.items?.properties !== undefined) visit(inner.items, `${key}[]`);
      }
    }
  }
  visit(jsonSchema(), '');
  return rows;
}

/** The candidate with the fewest edits, when that is less than half of the word. */
function nearestOf(word: string, candidates: readonly string[]): string | undefined {
  let nearest: string | undefined;
  let fewest = Math.ceil(word.length / 2) + 1;
  for (const candidate of candidates) {
    const edits = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (edits < fewest) {
      nearest = candidate;
      fewest = edits;
    }
  }
  return nearest;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, swap));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
