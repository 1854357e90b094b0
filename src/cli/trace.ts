import { z } from 'zod';
import type { FleetEvent } from './event-stream.ts';
import { InputError } from './input-error.ts';

const atSeconds = z.number().min(0);
const owner = z.string().regex(/^[a-z]([-a-z0-9]{0,50}[a-z0-9])?$/, 'must be a lower-case word');
const replicas = z.int().min(0).max(10_000);
const ask = z.strictObject({
  kind: z.enum(['group', 'single']),
  size: z.int().min(1).max(100_000),
  devices: z.int().min(0),
  leaderDevices: z.int().min(0),
  topology: z.strictObject({ wish: z.enum(['required', 'preferred']), level: z.string() }).optional(),
});
const eventSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('arrive'), atSeconds, owner, replicas, ask }),
  z.strictObject({ kind: z.literal('scale'), atSeconds, owner, replicas }),
  z.strictObject({ kind: z.literal('depart'), atSeconds, owner }),
  z.strictObject({ kind: z.enum(['node-lost', 'node-back']), atSeconds, node: z.string() }),
]);

/** One event per line, in the order of time. */
export function formatTrace(events: readonly FleetEvent[]): string {
  return events.map(event => `${JSON.stringify(event)}\n`).join('');
}

/**
 * Reads a trace back for a fleet.
 * @throws InputError that names the line
 */
export function parseTrace(
  text: string,
  file: string,
  fleet: { readonly nodeNames: readonly string[]; readonly levelNames: readonly string[] },
): readonly FleetEvent[] {
  const nodes = new Set(fleet.nodeNames);
  const levels = new Set(fleet.levelNames);
  const events: FleetEvent[] = [];
  const problems: string[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    const parsed = eventOf(line);
    const previous = events.at(-1)?.atSeconds ?? 0;
    const problem =
      typeof parsed === 'string' ? parsed : problemOf(parsed, { nodes, levels, previousSeconds: previous });
    if (problem !== undefined) problems.push(`${file}:${index + 1}: ${problem}`);
    else if (typeof parsed !== 'string') events.push(parsed);
    // The first few tell what is wrong with the rest.
    if (problems.length === 10) break;
  }
  if (problems.length > 0) throw new InputError(problems);
  return events;
}

function eventOf(line: string): FleetEvent | string {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return 'the line is no JSON';
  }
  const result = eventSchema.safeParse(value);
  if (result.success) return result.data;
  return result.error.issues.map(issue => `${issue.path.join('.') || 'event'}: ${issue.message}`).join('; ');
}

function problemOf(
  event: FleetEvent,
  known: {
    readonly nodes: ReadonlySet<string>;
    readonly levels: ReadonlySet<string>;
    readonly previousSeconds: number;
  },
): string | undefined {
  if (event.atSeconds < known.previousSeconds) return 'atSeconds: is earlier than the event before';
  if ('node' in event && !known.nodes.has(event.node)) return `node: ${event.node} is not in the fleet`;
  const level = event.kind === 'arrive' ? event.ask.topology?.level : undefined;
  if (level !== undefined && !known.levels.has(level))
    return `ask.topology.level: there is no level ${level}`;
  return undefined;
}
