import type { MaintenanceWindow } from './maintenance-windows.ts';
import type {
  ClaimConditionRow,
  DeviceAttributeRow,
  DeviceTaintRow,
  NodeConditionRow,
} from './signal-tables.ts';

/** How far Berth goes when a device or node fails, from least to most. */
export const failureModes = ['off', 'observe', 'cordon', 'evict'] as const;
export type FailureMode = (typeof failureModes)[number];

/** `cordon` only keeps plans and claims off what is suspect, `observe` only tells of it. */
export const suspectModes = ['observe', 'cordon', 'evict'] as const satisfies readonly FailureMode[];
export type SuspectMode = (typeof suspectModes)[number];

/** Every duration and limit of device-failure handling. Durations are real time, counted from Berth's own first sight. */
export interface FailureSettings {
  /** The furthest that Berth goes anywhere in the cluster; namespaces, owners and leaders can only ask for less. */
  readonly mode: FailureMode;
  /**
   * The furthest that it goes for a suspicion. `evict` all the same: a suspicion evicts only what has another place, and
   * only after it has stood for its own time, so that a persistent fault that no agent dares to call certain does not stay
   * under a group for ever. Whose model takes long to load, and whose agents cry wolf, turns it down to `cordon`.
   */
  readonly suspectMode: SuspectMode;
  /** Everything but the destructive calls. */
  readonly dryRun: boolean;

  /** While one is open, nothing is evicted for a suspicion. */
  readonly maintenanceWindows: readonly MaintenanceWindow[];

  /** Debounce by signal: so long a fault must stand before it counts. */
  readonly unhealthyAfterSeconds: number;
  readonly noExecuteAfterSeconds: number;
  readonly nodeGoneAfterSeconds: number;
  readonly nodeUnknownAfterSeconds: number;
  readonly nodeNotReadyAfterSeconds: number;
  readonly nodeShortAfterSeconds: number;
  readonly deviceMissingAfterSeconds: number;
  readonly cliqueAfterSeconds: number;
  readonly computeDomainAfterSeconds: number;
  /** What has no time of its own: taints on devices and conditions of nodes, by their class. */
  readonly certainAfterSeconds: number;
  readonly suspectAfterSeconds: number;
  /** So many pods that the kubelet refused within the window speak against their node. */
  readonly refusedPods: number;
  readonly refusedWindowSeconds: number;
  /** Rows that go before the tables that Berth knows by itself. */
  readonly deviceTaints: readonly DeviceTaintRow[];
  readonly nodeConditions: readonly NodeConditionRow[];
  readonly claimConditions: readonly ClaimConditionRow[];
  readonly deviceAttributes: readonly DeviceAttributeRow[];
  /** A device whose attributes say so often within the window that it is down is believed. */
  readonly downAlerts: number;
  readonly downWindowSeconds: number;

  /** A group that others began to delete is left to LWS for so long, which finishes most of them by itself. */
  readonly foreignGraceSeconds: number;
  /** A member that is still there so long after its deletion, on a node that is not Ready, needs fencing. */
  readonly fencingAfterSeconds: number;
  /** Nodes that hurt a group are kept off every plan for so long after its eviction. */
  readonly excludeMinutes: number;
  /** A group that drains is evicted after so long where no EndpointSlice can tell that requests stay away. */
  readonly drainSeconds: number;
  /** And after so long in any case. */
  readonly drainMaxSeconds: number;
  /** The next place of an evicted group is kept free for so long. */
  readonly reserveMinutes: number;

  /** A device is excluded once evidence against it has stood for so long. */
  readonly excludeAfterSeconds: number;
  /** It comes back when it has been well for so long. */
  readonly probationSeconds: number;
  /** And for so long a device or node that has come back is planned on last. */
  readonly lastChoiceHours: number;
  /** A device that went bad so often within the window stays excluded for `quarantineHours`. */
  readonly flapCount: number;
  readonly flapWindowSeconds: number;
  readonly quarantineHours: number;
  /** At most this share of a driver's devices is excluded by suspicion, and at least one. */
  readonly excludeShare: number;
  /** Nothing is excluded any more for a group of which more incarnations had devices or nodes go bad within 24 h. */
  readonly poisonDevices: number;
  readonly poisonNodes: number;

  /** Nothing is evicted when any watch has been silent for longer. */
  readonly staleAfterSeconds: number;
  /** A new holder of the Lease evicts nothing for so long. */
  readonly newHolderSeconds: number;
  /** The API server could not be reached for longer: an outage, after which what it says of nodes may be old. */
  readonly outageSeconds: number;
  /** Nodes that are not ready in every domain of the coarsest level, as this share of it at least: an outage, too. */
  readonly outageNodeShare: number;
  /** After an outage nothing is evicted for so long. */
  readonly afterOutageSeconds: number;
  /** Nothing is evicted when more of Berth's own calls failed within the window, of at least so many. */
  readonly apiFailureShare: number;
  readonly apiWindowSeconds: number;
  readonly apiMinCalls: number;

  /** Breakers count nodes and devices that went bad within this window. */
  readonly badNodeWindowSeconds: number;
  /** `domain-failure`: at least so many new bad nodes of one domain, and at least this share of it. */
  readonly domainMinNodes: number;
  readonly domainShare: number;
  /** While it is tripped, certain failures are acted on this often. */
  readonly domainEvictionsPerSecond: number;
  /** `mass-failure`: at least so many accelerator nodes bad at once, and at least this share of all. */
  readonly massMinNodes: number;
  readonly massShare: number;
  /** `device-failure`: at least so many new bad devices of one driver, and at least this share of them. */
  readonly deviceMinCount: number;
  readonly deviceShare: number;
  /** `device-mass`: at least so many devices of one driver bad at once, and at least this share of them. */
  readonly deviceMassMinCount: number;
  readonly deviceMassShare: number;
  /** `blast-radius`: one rule or pool may hit so many groups, or this share of all, whichever is more. */
  readonly blastMaxGroups: number;
  readonly blastMaxShare: number;
  /** A tripped breaker stays tripped until nothing has gone bad for so long. */
  readonly breakerQuietSeconds: number;

  /** Evictions of groups that serve, fleet-wide. */
  readonly servingEvictionsPerSecond: number;
  readonly servingBurst: number;
  /** Evictions of groups that are broken already, fleet-wide. */
  readonly brokenEvictionsPerSecond: number;
  readonly brokenBurst: number;
  /** Serving groups taken down and not Ready again: the larger of both. */
  readonly inFlightMin: number;
  readonly inFlightShare: number;
  readonly inFlightPerOwner: number;
  /** The same by domain of the finest configured level: so many, or `inFlightShare` of the groups there. */
  readonly inFlightPerDomain: number;
  /** Evictions of one group (over its incarnations) within an hour before waits begin, which double from `firstWait`. */
  readonly restartsPerHour: number;
  readonly restartFirstWaitMinutes: number;
  readonly restartLongestWaitMinutes: number;
  readonly restartsPerDay: number;

  /** Closed intents are kept for so long, and at most so many. */
  readonly keepClosedHours: number;
  readonly keepClosedCount: number;
}

export const defaultFailureSettings: FailureSettings = {
  mode: 'observe',
  suspectMode: 'evict',
  dryRun: false,
  maintenanceWindows: [],
  unhealthyAfterSeconds: 60,
  noExecuteAfterSeconds: 0,
  nodeGoneAfterSeconds: 10,
  nodeUnknownAfterSeconds: 60,
  nodeNotReadyAfterSeconds: 120,
  nodeShortAfterSeconds: 120,
  deviceMissingAfterSeconds: 120,
  cliqueAfterSeconds: 300,
  computeDomainAfterSeconds: 60,
  certainAfterSeconds: 5,
  suspectAfterSeconds: 180,
  refusedPods: 3,
  refusedWindowSeconds: 600,
  deviceTaints: [],
  nodeConditions: [],
  claimConditions: [],
  deviceAttributes: [],
  downAlerts: 2,
  downWindowSeconds: 300,
  foreignGraceSeconds: 2,
  fencingAfterSeconds: 30,
  excludeMinutes: 60,
  drainSeconds: 2,
  drainMaxSeconds: 30,
  reserveMinutes: 10,
  excludeAfterSeconds: 3,
  probationSeconds: 600,
  lastChoiceHours: 24,
  flapCount: 3,
  flapWindowSeconds: 1800,
  quarantineHours: 24,
  excludeShare: 0.1,
  poisonDevices: 3,
  poisonNodes: 2,
  staleAfterSeconds: 90,
  newHolderSeconds: 30,
  outageSeconds: 60,
  outageNodeShare: 0.9,
  afterOutageSeconds: 180,
  apiFailureShare: 0.2,
  apiWindowSeconds: 60,
  apiMinCalls: 10,
  badNodeWindowSeconds: 600,
  domainMinNodes: 3,
  domainShare: 0.2,
  domainEvictionsPerSecond: 0.01,
  massMinNodes: 3,
  massShare: 0.5,
  deviceMinCount: 3,
  deviceShare: 0.05,
  deviceMassMinCount: 3,
  deviceMassShare: 0.3,
  blastMaxGroups: 2,
  blastMaxShare: 0.05,
  breakerQuietSeconds: 1800,
  servingEvictionsPerSecond: 0.1,
  servingBurst: 3,
  brokenEvictionsPerSecond: 1,
  brokenBurst: 1,
  inFlightMin: 2,
  inFlightShare: 0.05,
  inFlightPerOwner: 1,
  inFlightPerDomain: 1,
  restartsPerHour: 3,
  restartFirstWaitMinutes: 2,
  restartLongestWaitMinutes: 60,
  restartsPerDay: 5,
  keepClosedHours: 48,
  keepClosedCount: 1000,
};

/** Undefined for a word that is no mode. */
export function parseFailureMode(text: string): FailureMode | undefined {
  return failureModes.find(mode => mode === text);
}

/**
 * The least of the modes that the configuration, a namespace, an owner and a leader ask for. A word that is no mode
 * counts as `observe`: who misspells an opt-out must not be evicted for it.
 */
export function leastMode(cluster: FailureMode, wishes: readonly (string | undefined)[]): FailureMode {
  const modes = wishes.flatMap(wish => (wish === undefined ? [] : [parseFailureMode(wish) ?? 'observe']));
  return [cluster, ...modes].reduce((least, mode) =>
    failureModes.indexOf(mode) < failureModes.indexOf(least) ? mode : least,
  );
}

/** Whether any of these wishes is to be left alone; a word that is no mode may be one that was misspelt. */
export function optsOut(wishes: readonly (string | undefined)[]): boolean {
  return wishes.some(wish => wish !== undefined && (parseFailureMode(wish) ?? 'off') === 'off');
}

/** Whether a mode goes at least as far as another. */
export function goesAsFarAs(mode: FailureMode, wanted: FailureMode): boolean {
  return failureModes.indexOf(mode) >= failureModes.indexOf(wanted);
}
