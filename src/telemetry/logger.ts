import { type DestinationStream, type Logger, pino, stdTimeFunctions } from 'pino';

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';

export interface LoggerOptions {
  readonly level: LogLevel;
  /** Default: standard output, written from this thread, so that the last lines before a crash are not lost. */
  readonly destination?: DestinationStream | undefined;
}

/** Keys whose values never belong into a log, at the top and up to two levels deep. */
const secretKeys = [
  'authorization',
  'Authorization',
  'token',
  'accessToken',
  'bearerToken',
  'password',
  'clientKey',
  'privateKey',
  'tls.key',
  'cookie',
  'set-cookie',
];

/** JSON lines with RFC 3339 times and level names. */
export function createLogger({ level, destination }: LoggerOptions): Logger {
  const options = {
    level,
    base: null,
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: { paths: secretKeys.flatMap(pathsTo), censor: '[redacted]' },
  };
  return destination ? pino(options, destination) : pino(options);
}

function pathsTo(key: string): string[] {
  const quoted = `["${key}"]`;
  return [quoted, `*${quoted}`, `*.*${quoted}`];
}
