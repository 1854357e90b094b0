import { Cron } from 'croner';

/** When people work on the cluster, again and again: what looks broken then is most likely in their hands. */
export interface MaintenanceWindow {
  /** When it opens: minute, hour, day of month, month, day of week, or a name such as `@daily`. */
  readonly cron: string;
  readonly durationMinutes: number;
  /** IANA name of the zone in which that is meant. */
  readonly timeZone: string;
}

const minuteMs = 60_000;
/** A date by itself would be past one day, and with that a configuration that no replica starts with any more. */
const shape = /^(@[a-z]+|\S+( +\S+){4})$/;
/** Any time will do: an expression that comes at all comes again and again. */
const longAgo = new Date(0);

/** Tells when windows are open. Knows no clock: it is told the time. */
export class MaintenanceCalendar {
  readonly #windows: readonly { readonly cron: Cron; readonly durationMs: number }[];
  /** Windows open and close at whole minutes, and a storm asks often. */
  #known: { readonly minute: number; readonly closesAtMs: number } | undefined;

  /** @throws where {@link faultOfWindow} finds fault */
  constructor(windows: readonly MaintenanceWindow[]) {
    this.#windows = windows.map(({ cron, durationMinutes, timeZone }) => ({
      cron: parse(cron, timeZone),
      durationMs: durationMinutes * minuteMs,
    }));
  }

  /** Milliseconds for which a window is open still; 0 when none is. */
  openForMs(wallMs: number): number {
    const minute = Math.floor(wallMs / minuteMs);
    if (this.#known?.minute !== minute) this.#known = { minute, closesAtMs: this.#closesAtMs(wallMs) };
    return Math.max(0, this.#known.closesAtMs - wallMs);
  }

  #closesAtMs(wallMs: number): number {
    let closesAtMs = 0;
    for (const { cron, durationMs } of this.#windows) {
      const opensAtMs = cron.nextRun(new Date(wallMs - durationMs))?.getTime();
      if (opensAtMs !== undefined && opensAtMs <= wallMs)
        closesAtMs = Math.max(closesAtMs, opensAtMs + durationMs);
    }
    return closesAtMs;
  }
}

/** What is wrong with a window, and with which field of it; undefined where nothing is. */
export function faultOfWindow({
  cron,
  timeZone,
}: Pick<MaintenanceWindow, 'cron' | 'timeZone'>):
  | { readonly field: 'cron' | 'timeZone'; readonly rule: string }
  | undefined {
  try {
    new Intl.DateTimeFormat('en', { timeZone });
  } catch {
    return { field: 'timeZone', rule: 'must be a time zone such as Europe/Berlin or UTC' };
  }
  const rule = 'must be five fields, such as 0 2 * * 6, or a name such as @daily';
  if (!shape.test(cron)) return { field: 'cron', rule };
  try {
    return parse(cron, timeZone).nextRun(longAgo) === null
      ? { field: 'cron', rule: 'never comes' }
      : undefined;
  } catch (error) {
    return { field: 'cron', rule: `${rule}: ${error instanceof Error ? error.message : 'it is neither'}` };
  }
}

/** It calls nobody by itself: it is only asked. */
function parse(cron: string, timeZone: string): Cron {
  return new Cron(cron, { timezone: timeZone, mode: '5-part', paused: true });
}
