import { open } from 'node:fs/promises';

/** One write as the API server has logged it. */
export interface WriteEvent {
  readonly verb: string;
  readonly resource: string;
  /** Empty for the object itself, else e.g. `status`, `binding`, `eviction`. */
  readonly subresource: string;
  readonly namespace: string;
  /** Empty for a collection, and for what was refused before it had a name. */
  readonly name: string;
  readonly user: string;
  /** HTTP status of the answer. */
  readonly code: number;
  /** UID that an eviction or deletion of a pod or StatefulSet insists on; empty where there is none. */
  readonly uid: string;
  /** Whether nothing was written in truth. */
  readonly dryRun: boolean;
  /** When the answer was sent. */
  readonly at: Date;
}

export interface AuditPage {
  readonly events: readonly WriteEvent[];
  /** Where to go on reading. */
  readonly nextOffset: number;
}

/** A line of the log, with the fields that we read. */
interface AuditEntry {
  readonly verb: string;
  readonly requestURI: string;
  readonly user: { readonly username?: string };
  readonly objectRef?: {
    readonly resource?: string;
    readonly subresource?: string;
    readonly namespace?: string;
    readonly name?: string;
  };
  readonly responseStatus?: { readonly code?: number };
  /** Only of evictions and deletions, see `auditPolicy`. */
  readonly requestObject?: DeleteOptions & { readonly deleteOptions?: DeleteOptions };
  readonly stageTimestamp: string;
}

interface DeleteOptions {
  readonly preconditions?: { readonly uid?: string };
}

/**
 * Reads the audit log from a byte offset on: all writes but those on leases and events. A line that is being written
 * is left for the next call.
 */
export async function readAudit(path: string, fromOffset = 0): Promise<AuditPage> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const buffer = Buffer.alloc(Math.max(size - fromOffset, 0));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, fromOffset);
    const end = buffer.subarray(0, bytesRead).lastIndexOf('\n') + 1;
    return { events: parseAudit(buffer.toString('utf8', 0, end)), nextOffset: fromOffset + end };
  } finally {
    await file.close();
  }
}

/** Reads whole lines of an audit log. */
export function parseAudit(text: string): WriteEvent[] {
  return text
    .split('\n')
    .filter(line => line !== '')
    .map(line => {
      const entry: AuditEntry = JSON.parse(line);
      const { requestObject } = entry;
      return {
        verb: entry.verb,
        resource: entry.objectRef?.resource ?? '',
        subresource: entry.objectRef?.subresource ?? '',
        namespace: entry.objectRef?.namespace ?? '',
        name: entry.objectRef?.name ?? '',
        user: entry.user.username ?? '',
        code: entry.responseStatus?.code ?? 0,
        uid: (requestObject?.deleteOptions ?? requestObject)?.preconditions?.uid ?? '',
        dryRun: entry.requestURI.includes('dryRun=All'),
        at: new Date(entry.stageTimestamp),
      };
    });
}
