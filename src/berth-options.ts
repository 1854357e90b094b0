import type { Logger } from 'pino';
import type { Config } from './config.ts';
import type { CallWindow } from './failure/call-window.ts';
import type { Outage } from './failure/outage.ts';
import type { ApiClient } from './kube/api-client.ts';
import type { Metrics } from './telemetry/metrics.ts';

/** What the whole process is made from. */
export interface BerthOptions {
  readonly config: Config;
  readonly client: ApiClient;
  /** Outcomes of all calls that `client` has made lately. */
  readonly apiCalls: CallWindow;
  /** Whether `client` reaches the API server. */
  readonly apiOutage: Outage;
  readonly metrics: Metrics;
  readonly log: Logger;
}
