import { z } from 'zod';
import { faultOfWindow } from './failure/maintenance-windows.ts';
import {
  defaultFailureSettings,
  type FailureSettings,
  failureModes,
  suspectModes,
} from './failure/settings.ts';

type NumberKey = {
  readonly [K in keyof FailureSettings]: FailureSettings[K] extends number ? K : never;
}[keyof FailureSettings];

const dayInSeconds = 86_400;

function number(
  key: NumberKey,
  about: string,
  limits: { readonly min?: number; readonly max?: number } = {},
) {
  const { min = 0, max = dayInSeconds } = limits;
  return z.number().min(min).max(max).default(defaultFailureSettings[key]).describe(about);
}

function count(key: NumberKey, about: string, min = 1) {
  return z.int().min(min).max(100_000).default(defaultFailureSettings[key]).describe(about);
}

function share(key: NumberKey, about: string) {
  return number(key, about, { min: 0.01, max: 1 });
}

const signalClass = z
  .enum(['certain', 'suspect', 'info'])
  .describe('`certain` may evict, `suspect` only what has another place, `info` is counted');

const deviceTaintRow = z.strictObject({
  key: z.string().min(1).max(317).describe('key of the taint'),
  value: z.string().max(63).exactOptional().describe('its value; any when absent'),
  class: signalClass,
});

const afterSeconds = z
  .number()
  .min(0)
  .max(dayInSeconds)
  .exactOptional()
  .describe('it must stand for so long; certainAfterSeconds or suspectAfterSeconds when absent');

const driver = z.string().min(1).max(63).exactOptional().describe('driver of the device; any when absent');

const nodeConditionRow = z.strictObject({
  type: z
    .string()
    .max(316)
    .regex(/^[^*]*\*?[^*]*$/, 'must have one * at most')
    .min(1)
    .describe('type of the condition; one `*` stands for any text'),
  status: z
    .enum(['True', 'False', 'Unknown'])
    .default('True')
    .describe('status that speaks against the node'),
  class: signalClass,
  network: z
    .boolean()
    .exactOptional()
    .describe(
      'it is about NICs: only members hurt that have one by claim or resource, or the network of their host',
    ),
  afterSeconds,
});

const claimConditionRow = z.strictObject({
  driver,
  type: z.string().min(1).max(316).describe('type of the condition'),
  status: z
    .enum(['True', 'False', 'Unknown'])
    .default('False')
    .describe('status that speaks against the device'),
  class: signalClass.default('suspect'),
  afterSeconds,
});

const deviceAttributeRow = z.strictObject({
  driver,
  attribute: z
    .string()
    .min(1)
    .max(96)
    .describe('name of the attribute; without a domain it is in that of the driver'),
  value: z.string().max(64).describe('value that says that the device is down, as text'),
  class: signalClass.default('suspect'),
});
const maintenanceWindow = z
  .strictObject({
    cron: z
      .string()
      .max(200)
      .describe('when it opens: five fields (minute, hour, day, month, weekday) or a name such as `@daily`'),
    durationMinutes: z.int().min(1).max(10_080).describe('it is open for so long'),
    timeZone: z
      .string()
      .max(64)
      .default('UTC')
      .describe('in which the times are meant, e.g. `Europe/Berlin`'),
  })
  .superRefine((window, context) => {
    const fault = faultOfWindow(window);
    if (fault !== undefined) context.addIssue({ code: 'custom', path: [fault.field], message: fault.rule });
  });

/** Configuration of device-failure handling; keys and defaults are those of FailureSettings. */
export const failureSchema = z
  .strictObject({
    mode: z
      .enum(failureModes)
      .default(defaultFailureSettings.mode)
      .describe('how far Berth goes anywhere: off, observe, cordon (plans keep off failing nodes) or evict'),
    suspectMode: z
      .enum(suspectModes)
      .default(defaultFailureSettings.suspectMode)
      .describe('how far it goes for suspect failures: observe, cordon or evict'),
    dryRun: z
      .boolean()
      .default(defaultFailureSettings.dryRun)
      .describe('do everything but the destructive calls, and say what would be done'),
    maintenanceWindows: z
      .array(maintenanceWindow)
      .max(100)
      .default([])
      .describe('while one is open only certain failures evict; the others are told of, and hold'),
    unhealthyAfterSeconds: number('unhealthyAfterSeconds', 'a device must be Unhealthy for so long'),
    noExecuteAfterSeconds: number('noExecuteAfterSeconds', 'a NoExecute taint must stand for so long'),
    nodeGoneAfterSeconds: number('nodeGoneAfterSeconds', 'a Node must be gone for so long'),
    nodeUnknownAfterSeconds: number('nodeUnknownAfterSeconds', 'a Node must be Ready=Unknown for so long'),
    nodeNotReadyAfterSeconds: number('nodeNotReadyAfterSeconds', 'a Node must be Ready=False for so long'),
    nodeShortAfterSeconds: number(
      'nodeShortAfterSeconds',
      'pods must have more accelerators than their Node offers for so long',
    ),
    deviceMissingAfterSeconds: number(
      'deviceMissingAfterSeconds',
      'a device must be gone from its pool, and its pod not Ready, for so long',
    ),
    cliqueAfterSeconds: number(
      'cliqueAfterSeconds',
      'the NVLink clique of a Node must be lost or changed under a group with channels for so long',
    ),
    computeDomainAfterSeconds: number(
      'computeDomainAfterSeconds',
      'a ComputeDomain must not be ready under a running member for so long, at least',
    ),
    certainAfterSeconds: number(
      'certainAfterSeconds',
      'taints of devices and conditions of nodes that are certain must stand for so long',
    ),
    suspectAfterSeconds: number('suspectAfterSeconds', 'those that are suspect must stand for so long'),
    refusedPods: count(
      'refusedPods',
      'pods refused by a kubelet (UnexpectedAdmissionError) that make its Node suspect',
    ),
    refusedWindowSeconds: number('refusedWindowSeconds', 'refused within so long', { min: 1 }),
    deviceTaints: z
      .array(deviceTaintRow)
      .max(1000)
      .default([])
      .describe('what NoSchedule taints of devices say, before the table that is built in'),
    nodeConditions: z
      .array(nodeConditionRow)
      .max(1000)
      .default([])
      .describe('what conditions of nodes say, before the table that is built in'),
    claimConditions: z
      .array(claimConditionRow)
      .max(1000)
      .default([])
      .describe('what conditions of devices in `status.devices` of claims say; others say nothing'),
    deviceAttributes: z
      .array(deviceAttributeRow)
      .max(1000)
      .default([])
      .describe('attributes of devices that say that they are down, before the table that is built in'),
    downAlerts: count('downAlerts', 'a suspect one must have gone down so often', 1),
    downWindowSeconds: number('downWindowSeconds', 'within so long; once alone is counted in metrics', {
      min: 1,
    }),
    foreignGraceSeconds: number(
      'foreignGraceSeconds',
      'a group that others began to delete is left to LWS for so long',
    ),
    fencingAfterSeconds: number(
      'fencingAfterSeconds',
      'a member still there so long after its deletion, on a node that is not Ready, needs fencing; on one that is, `EvictionHeld` names it so long after its grace period',
    ),
    drainSeconds: number(
      'drainSeconds',
      'a group taken out of traffic is evicted after so long where no Service with an address lists it',
      { max: 30 },
    ),
    drainMaxSeconds: number(
      'drainMaxSeconds',
      'and after so long in any case; 0: groups are not taken out of traffic',
      { max: 30 },
    ),
    excludeMinutes: number('excludeMinutes', 'plans keep off the failed node for so long'),
    reserveMinutes: number('reserveMinutes', 'the next place of an evicted group is kept for so long'),
    excludeAfterSeconds: number(
      'excludeAfterSeconds',
      'a device is kept off new claims once evidence against it has stood for so long',
    ),
    probationSeconds: number('probationSeconds', 'and until it has been well for so long'),
    lastChoiceHours: number(
      'lastChoiceHours',
      'plans use a device or node that has come back last for so long',
      { max: 720 },
    ),
    flapCount: count('flapCount', 'a device that went bad so often', 2),
    flapWindowSeconds: number('flapWindowSeconds', 'within so long', { min: 1 }),
    quarantineHours: number('quarantineHours', 'is kept off new claims for so long, well or not', {
      max: 720,
    }),
    excludeShare: share(
      'excludeShare',
      'at most this share of a driver, and at least one device, is kept off by suspicion',
    ),
    poisonDevices: count(
      'poisonDevices',
      'a group of which more incarnations had devices go bad in 24 hours is to blame itself, and nothing is excluded for it any more',
    ),
    poisonNodes: count('poisonNodes', 'the same with nodes'),
    staleAfterSeconds: number('staleAfterSeconds', 'nothing is evicted when a watch was silent for longer', {
      min: 1,
    }),
    newHolderSeconds: number('newHolderSeconds', 'a new holder of the Lease evicts nothing for so long'),
    outageSeconds: number('outageSeconds', 'an API server that could not be reached for longer was out', {
      min: 1,
    }),
    outageNodeShare: share(
      'outageNodeShare',
      'nodes are out when this share of each domain of the coarsest level is not ready',
    ),
    afterOutageSeconds: number(
      'afterOutageSeconds',
      'after either outage nothing new is evicted for so long',
    ),
    apiFailureShare: share(
      'apiFailureShare',
      "nothing is evicted while this share of Berth's own calls fails",
    ),
    apiWindowSeconds: number('apiWindowSeconds', 'window of that share', { min: 1 }),
    apiMinCalls: count('apiMinCalls', 'calls below which that share means nothing'),
    badNodeWindowSeconds: number(
      'badNodeWindowSeconds',
      'breakers count nodes and devices that went bad within so long',
    ),
    domainMinNodes: count(
      'domainMinNodes',
      'breaker domain-failure: at least so many new bad nodes of a domain',
    ),
    domainShare: share('domainShare', 'and at least this share of it'),
    domainEvictionsPerSecond: number(
      'domainEvictionsPerSecond',
      'evictions for certain failures while it is tripped',
    ),
    massMinNodes: count(
      'massMinNodes',
      'breaker mass-failure: at least so many accelerator nodes bad at once',
    ),
    massShare: share('massShare', 'and at least this share of all'),
    deviceMinCount: count(
      'deviceMinCount',
      'breaker device-failure: at least so many new bad devices of one driver',
    ),
    deviceShare: share('deviceShare', 'and at least this share of them'),
    deviceMassMinCount: count(
      'deviceMassMinCount',
      'breaker device-mass: at least so many devices of one driver bad at once',
    ),
    deviceMassShare: share('deviceMassShare', 'and at least this share of them'),
    blastMaxGroups: count(
      'blastMaxGroups',
      'groups that one DeviceTaintRule or one pool of devices may hit without confirmation: this many',
      0,
    ),
    blastMaxShare: share('blastMaxShare', 'or this share of all groups, whichever is more'),
    breakerQuietSeconds: number(
      'breakerQuietSeconds',
      'a tripped breaker stays tripped until nothing went bad for so long',
    ),
    servingEvictionsPerSecond: number(
      'servingEvictionsPerSecond',
      'evictions of groups that serve, in the whole cluster',
    ),
    servingBurst: count('servingBurst', 'how many of them at once'),
    brokenEvictionsPerSecond: number(
      'brokenEvictionsPerSecond',
      'evictions of groups that are broken already, in the whole cluster',
    ),
    brokenBurst: count('brokenBurst', 'how many of them at once'),
    inFlightMin: count('inFlightMin', 'serving groups that may be down at once: this many'),
    inFlightShare: share('inFlightShare', 'or this share of all groups, whichever is more'),
    inFlightPerOwner: count(
      'inFlightPerOwner',
      'and of one LeaderWorkerSet, or its maxUnavailable if that is more',
    ),
    inFlightPerDomain: count(
      'inFlightPerDomain',
      'and of one domain of the finest level: this many, or inFlightShare of the groups there, whichever is more',
    ),
    restartsPerHour: count('restartsPerHour', 'evictions of one group in an hour before waits begin'),
    restartFirstWaitMinutes: number('restartFirstWaitMinutes', 'first wait, which doubles from then on'),
    restartLongestWaitMinutes: number('restartLongestWaitMinutes', 'longest wait'),
    restartsPerDay: count('restartsPerDay', 'evictions of one group in 24 hours before it is held'),
    keepClosedHours: number('keepClosedHours', 'closed intents are kept for so long', { min: 24 }),
    keepClosedCount: count('keepClosedCount', 'and at most so many'),
  })
  .prefault({});
