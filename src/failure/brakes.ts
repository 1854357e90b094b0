import { berth } from '../api/names.ts';
import type { BreakerState } from './breakers.ts';
import type { DomainName } from './domains.ts';
import type { History } from './history.ts';
import { type FailureMode, type FailureSettings, goesAsFarAs } from './settings.ts';
import { type FaultOrigin, isPreemption, type SignalClass, type SignalName } from './signal.ts';

export type BrakeName =
  | 'remake'
  | 'mode'
  | 'claim'
  | 'halt'
  | 'stale'
  | 'new-holder'
  | 'after-outage'
  | 'api-health'
  | 'debounce'
  | 'mass-failure'
  | 'device-mass'
  | 'domain-failure'
  | 'device-failure'
  | 'blast-radius'
  | 'exclusion'
  | 'rate'
  | 'in-flight'
  | 'restart-budget'
  | 'plan-first'
  | 'disruption-budget'
  | 'maintenance-window'
  | 'dry-run';

/** All that the brakes look at, for one group with one fault. */
export interface BrakeFacts {
  readonly settings: FailureSettings;
  /**
   * The least of what cluster, namespace, owner, leader and the Node of the fault ask for, and of what is set for
   * suspicions; for a preemption, what is set for those.
   */
  readonly mode: FailureMode;
  readonly signal: SignalName;
  /** Another group still needs the place. */
  readonly claimed: boolean;
  /** Why nobody would make it anew as it must be; undefined when somebody would. */
  readonly whyNotRemade: string | undefined;
  /** Berth places this group: its new incarnation will be planned. */
  readonly placed: boolean;
  readonly halted: boolean;
  /** Everything was read completely once. */
  readonly synced: boolean;
  /** Age of the oldest view of any resource. */
  readonly stalestMs: number;
  readonly holderForMs: number;
  /** Since the API server could be reached again after an outage; 0 while it lasts, infinite when there was none. */
  readonly apiBackForMs: number;
  /** The same of the nodes: an outage is when hardly any of any domain is ready. */
  readonly nodesBackForMs: number;
  readonly calls: { readonly total: number; readonly failed: number };
  readonly class: SignalClass;
  readonly ripeInMs: number;
  /** For so long a maintenance window is open still; 0 when none is. */
  readonly maintenanceForMs: number;
  readonly domainFailure: BreakerState;
  readonly massFailure: BreakerState;
  readonly deviceFailure: BreakerState;
  readonly deviceMass: BreakerState;
  /** How many groups the one object behind the fault hits; undefined where no single object could hit many. */
  readonly blast: BlastFacts | undefined;
  /** Why new claims are not kept off the device that failed; undefined when they are, or none failed. */
  readonly inUse?: string | undefined;
  /** A group that was evicted for a failed device of a claim cannot return before this one releases the claim, too. */
  readonly awaited?: boolean;
  /** All members are Ready. */
  readonly serving: boolean;
  /** The leader is terminating already: the group goes whatever Berth does. */
  readonly doomed: boolean;
  readonly history: History;
  readonly groups: number;
  /** Groups that the owner itself would take down at once; see maxUnavailableOf. */
  readonly ownerCanSpare: number;
  /** Where the group stands, by the finest level; those alone in which another that was evicted is down. */
  readonly domains: readonly DomainFacts[];
  /** Whether the next place was found; undefined before the planner was asked. */
  readonly plan: { readonly found: true } | { readonly found: false; readonly why: string } | undefined;
  /** Why PodDisruptionBudgets do not allow it. */
  readonly budgetsForbid: string | undefined;
}

export interface BlastFacts {
  readonly origin: FaultOrigin;
  readonly groupsHit: number;
  readonly isConfirmed: boolean;
}

export interface DomainFacts {
  readonly domain: DomainName;
  /** Groups that were evicted there while they served and are not Ready again. */
  readonly inFlight: number;
  /** Groups that stand there now. */
  readonly groups: number;
}

export interface Braked {
  readonly brake: BrakeName;
  /** The same sentence as long as the brake holds for the same cause. */
  readonly message: string;
  /** When it may be worth looking again; changes bring the group back sooner. */
  readonly retryAfterMs: number;
}

interface Brake {
  readonly name: BrakeName;
  /** Also stops the eviction of an intent that is there already, as long as nothing has been deleted. */
  readonly stopsBegun: boolean;
  /** Holds for a group that goes anyhow, too: finishing it sooner is no harm, but these forbid any act. */
  readonly stopsDoomed: boolean;
  /** `failures`: it makes no sense where nothing is wrong with the group, see preemption.ts for the limits there. */
  readonly holds: 'all' | 'failures' | 'preemptions';
  readonly check: (facts: BrakeFacts) => Omit<Braked, 'brake'> | undefined;
}

const lookAgainMs = 30_000;

/** All brakes in the order in which they are told. Each alone is enough to hold an eviction. */
export const brakes: readonly Brake[] = [
  {
    // No mode would change that, so it is told first.
    name: 'remake',
    stopsBegun: true,
    stopsDoomed: true,
    holds: 'failures',
    check: ({ whyNotRemade }) => (whyNotRemade === undefined ? undefined : hold(whyNotRemade, lookAgainMs)),
  },
  {
    name: 'mode',
    stopsBegun: true,
    stopsDoomed: true,
    holds: 'all',
    check: ({ mode, placed, class: signalClass, settings: { suspectMode } }) => {
      if (!goesAsFarAs(mode, 'evict')) {
        const isOfSuspects = signalClass === 'suspect' && mode === suspectMode;
        const what = isOfSuspects ? `failure mode ${mode} of suspect failures` : `failure mode ${mode}`;
        return hold(`${what} does not evict`, lookAgainMs);
      }
      return placed
        ? undefined
        : hold('Berth does not place this group, so it does not evict it', lookAgainMs);
    },
  },
  {
    name: 'claim',
    stopsBegun: true,
    stopsDoomed: true,
    holds: 'preemptions',
    check: ({ claimed }) => (claimed ? undefined : hold('nobody needs its place any more', lookAgainMs)),
  },
  {
    name: 'halt',
    stopsBegun: true,
    stopsDoomed: true,
    holds: 'all',
    check: ({ halted }) => (halted ? hold('an administrator has halted all evictions', 5_000) : undefined),
  },
  {
    name: 'stale',
    stopsBegun: true,
    stopsDoomed: true,
    holds: 'all',
    check: ({ synced, stalestMs, settings }) => {
      if (!synced) return hold('the cluster has not been read completely yet', 2_000);
      return stalestMs > settings.staleAfterSeconds * 1000
        ? hold("Berth's view of the cluster is too old", 2_000)
        : undefined;
    },
  },
  {
    name: 'new-holder',
    stopsBegun: false,
    stopsDoomed: true,
    holds: 'all',
    check: ({ holderForMs, settings }) => {
      const leftMs = settings.newHolderSeconds * 1000 - holderForMs;
      return leftMs > 0 ? hold('this replica has taken over only just now', leftMs) : undefined;
    },
  },
  {
    // Nodes that could not report are taken for dead until they have reported again.
    name: 'after-outage',
    stopsBegun: false,
    stopsDoomed: true,
    holds: 'all',
    check: ({ apiBackForMs, nodesBackForMs, settings }) => {
      const waitMs = settings.afterOutageSeconds * 1000;
      if (apiBackForMs < waitMs)
        return hold('the API server could not be reached for long until just now', waitMs - apiBackForMs);
      return nodesBackForMs < waitMs
        ? hold('hardly any node of any domain was ready until just now', waitMs - nodesBackForMs)
        : undefined;
    },
  },
  {
    name: 'api-health',
    stopsBegun: true,
    stopsDoomed: true,
    holds: 'all',
    check: ({ calls, settings }) =>
      calls.total >= settings.apiMinCalls && calls.failed > settings.apiFailureShare * calls.total
        ? hold('too many calls to the API server fail', 5_000)
        : undefined,
  },
  {
    name: 'debounce',
    stopsBegun: false,
    stopsDoomed: false,
    holds: 'all',
    check: ({ ripeInMs }) => (ripeInMs > 0 ? hold('the failure may pass by itself', ripeInMs) : undefined),
  },
  {
    name: 'mass-failure',
    stopsBegun: true,
    stopsDoomed: true,
    holds: 'all',
    check: ({ massFailure }) =>
      massFailure === 'tripped'
        ? hold('too large a part of the accelerator nodes has gone bad at once', lookAgainMs)
        : undefined,
  },
  {
    name: 'device-mass',
    stopsBegun: true,
    stopsDoomed: true,
    holds: 'all',
    check: ({ deviceMass }) =>
      deviceMass === 'tripped'
        ? hold('too large a part of the devices of one driver has gone bad at once', lookAgainMs)
        : undefined,
  },
  {
    name: 'domain-failure',
    stopsBegun: false,
    stopsDoomed: false,
    holds: 'all',
    check: facts =>
      checkSlowed(facts, facts.domainFailure, 'too many nodes of one domain have gone bad within minutes'),
  },
  {
    name: 'device-failure',
    stopsBegun: false,
    stopsDoomed: false,
    holds: 'all',
    check: facts =>
      checkSlowed(facts, facts.deviceFailure, 'too many devices of one driver have gone bad within minutes'),
  },
  {
    // An administrator's rule that means more than was thought, or a driver that calls everything sick.
    name: 'blast-radius',
    stopsBegun: true,
    stopsDoomed: false,
    holds: 'failures',
    check: ({ blast, groups, settings }) =>
      blast !== undefined && isTooWide(blast, groups, settings)
        ? hold(blastText(blast.origin), lookAgainMs)
        : undefined,
  },
  {
    // Its next place could be the same device.
    name: 'exclusion',
    stopsBegun: false,
    stopsDoomed: false,
    holds: 'failures',
    check: ({ inUse }) => (inUse === undefined ? undefined : hold(inUse, 1_000)),
  },
  {
    name: 'rate',
    stopsBegun: false,
    stopsDoomed: false,
    holds: 'failures',
    check: ({ history }) =>
      history.rateWaitMs > 0
        ? hold('other groups were evicted only just now', history.rateWaitMs)
        : undefined,
  },
  {
    name: 'in-flight',
    stopsBegun: false,
    stopsDoomed: false,
    holds: 'failures',
    check: ({ serving, history, groups, domains, ownerCanSpare, settings }) => {
      // A group that is broken already costs nobody anything.
      if (!serving) return undefined;
      const { inFlightMin, inFlightShare, inFlightPerDomain } = settings;
      const limit = Math.max(inFlightMin, Math.floor(inFlightShare * groups));
      if (history.inFlightOfOwner >= Math.max(settings.inFlightPerOwner, ownerCanSpare))
        return hold('another group of its owner was evicted and is not Ready again', lookAgainMs);
      // Spares and warm weights are near; and where the trouble is that of the domain, the next group would tell.
      const full = domains.find(
        near => near.inFlight >= Math.max(inFlightPerDomain, Math.floor(inFlightShare * near.groups)),
      );
      if (full !== undefined)
        return hold(
          `as many groups as may be down at once in ${full.domain} were evicted and are not Ready again`,
          lookAgainMs,
        );
      return history.inFlight >= limit
        ? hold('as many evicted groups as may be down at once are not Ready again', lookAgainMs)
        : undefined;
    },
  },
  {
    name: 'restart-budget',
    stopsBegun: false,
    stopsDoomed: false,
    holds: 'all',
    check: ({ history: { restarts } }) => {
      if (restarts.kind === 'free') return undefined;
      const retryAfterMs = Math.min(restarts.retryAfterMs, 60 * 60_000);
      return restarts.kind === 'waits'
        ? hold('the group was evicted often of late and must wait longer each time', retryAfterMs)
        : hold(
            'the group was evicted as often as it may be within a day; look for what breaks it',
            retryAfterMs,
          );
    },
  },
  {
    name: 'plan-first',
    stopsBegun: false,
    stopsDoomed: false,
    holds: 'failures',
    check: facts => {
      if (!needsPlan(facts)) return undefined;
      if (facts.plan === undefined) return hold('its next place has not been looked for yet', 1_000);
      return facts.plan.found ? undefined : hold(`there is no other place for it: ${facts.plan.why}`, 10_000);
    },
  },
  {
    name: 'disruption-budget',
    stopsBegun: true,
    stopsDoomed: false,
    holds: 'all',
    check: ({ budgetsForbid }) => (budgetsForbid === undefined ? undefined : hold(budgetsForbid, 10_000)),
  },
  {
    // Whoever works on the cluster takes things down by hand, and brings them back.
    name: 'maintenance-window',
    stopsBegun: true,
    stopsDoomed: false,
    holds: 'failures',
    check: ({ maintenanceForMs, class: signalClass }) =>
      maintenanceForMs > 0 && signalClass !== 'certain'
        ? hold('a maintenance window is open, in which only certain failures evict', maintenanceForMs)
        : undefined,
  },
  {
    name: 'dry-run',
    stopsBegun: true,
    stopsDoomed: true,
    holds: 'all',
    check: ({ settings }) => (settings.dryRun ? hold('evictions are in dry run', lookAgainMs) : undefined),
  },
];

/** Whether the one object behind a fault hits more groups than it may, and nobody has said that this is meant. */
export function isTooWide(
  { groupsHit, isConfirmed }: BlastFacts,
  groups: number,
  { blastMaxGroups, blastMaxShare }: FailureSettings,
): boolean {
  return !isConfirmed && groupsHit > Math.max(blastMaxGroups, Math.floor(blastMaxShare * groups));
}

/** What they hold is thought through to the end first, so that it can be told what would be done. */
export const rehearsed: readonly BrakeName[] = ['maintenance-window', 'dry-run'];

/**
 * A suspicion evicts only what has somewhere to go; a certain failure only asks for that while the group still serves. A
 * group that is preempted has no other place, or the other would have got it. Where groups share a claim all were asked
 * about when the first of them went; held now, the others would keep it down for ever.
 */
export function needsPlan({
  class: signalClass,
  serving,
  signal,
  awaited = false,
}: Pick<BrakeFacts, 'class' | 'serving' | 'signal' | 'awaited'>): boolean {
  return !isPreemption(signal) && !awaited && (signalClass !== 'certain' || serving);
}

/** Every brake that holds a new eviction; the first is the one to tell. Empty: go. */
export function brakesOnNew(facts: BrakeFacts): readonly Braked[] {
  return holding(facts, brake => !facts.doomed || brake.stopsDoomed);
}

/** Brakes that hold an eviction whose intent is there already. Recovery that has begun is never held by the others. */
export function brakesOnBegun(facts: BrakeFacts): readonly Braked[] {
  return holding(facts, brake => brake.stopsBegun && (!facts.doomed || brake.stopsDoomed));
}

function holding(facts: BrakeFacts, counts: (brake: Brake) => boolean): readonly Braked[] {
  const other = isPreemption(facts.signal) ? 'failures' : 'preemptions';
  return brakes
    .filter(brake => brake.holds !== other && counts(brake))
    .flatMap(brake => {
      const held = brake.check(facts);
      return held === undefined ? [] : [{ brake: brake.name, ...held }];
    });
}

/** While such a breaker is tripped, certain failures are acted on slowly and others not at all. */
function checkSlowed(
  { class: signalClass, signal, history }: BrakeFacts,
  state: BreakerState,
  message: string,
): Omit<Braked, 'brake'> | undefined {
  if (state !== 'tripped') return undefined;
  // Nothing is wrong with those that would be preempted, and nobody knows yet what else will fail.
  if (signalClass !== 'certain' || isPreemption(signal)) return hold(message, lookAgainMs);
  return history.domainWaitMs > 0 ? hold(message, history.domainWaitMs) : undefined;
}

function blastText(origin: FaultOrigin): string {
  const [object, kind] =
    origin.kind === 'rule'
      ? [`DeviceTaintRule ${origin.name}`, 'it']
      : [`pool ${origin.pool} of ${origin.driver}`, 'a ResourceSlice of it'];
  return `${object} hits too many groups at once; annotate ${kind} with ${berth.confirmed} if that is meant`;
}

function hold(message: string, retryAfterMs: number): Omit<Braked, 'brake'> {
  return { message, retryAfterMs };
}
