import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

/** State of one reflector, read when metrics are collected. */
export interface CacheState {
  readonly resource: string;
  readonly synced: boolean;
  readonly stalenessSeconds: number;
  readonly objects: number;
}

export interface QueueState {
  readonly queue: string;
  readonly depth: number;
}

/** Where the gauges look when they are collected; unset sources give no samples. */
export interface MetricSources {
  caches?: () => Iterable<CacheState>;
  queues?: () => Iterable<QueueState>;
  isLeaseHolder?: () => boolean;
}

export interface Metrics {
  readonly registry: Registry;
  /** To be filled in by whoever owns the caches, queues and the Lease. */
  readonly sources: MetricSources;
  readonly admissionDuration: Histogram<'webhook' | 'outcome'>;
  readonly filterDuration: Histogram<'outcome'>;
  readonly prioritizeDuration: Histogram<'outcome'>;
  readonly preemptDuration: Histogram<'outcome'>;
  readonly planDuration: Histogram<'outcome'>;
  readonly placement: Histogram;
  readonly groupsWaiting: Gauge<'reason'>;
  readonly groupsPlaced: Counter;
  readonly pinsStranded: Counter<'reason'>;
  readonly replans: Counter<'scope' | 'outcome'>;
  readonly singlesPinned: Counter;
  readonly invalidRequests: Counter<'field'>;
  readonly claimsSteered: Counter;
  readonly claimsUnsteered: Counter<'reason'>;
  readonly claimsRemade: Counter;
  readonly alignmentReached: Counter<'rung'>;
  readonly evictions: Counter<'class' | 'outcome'>;
  readonly brakes: Gauge<'brake'>;
  readonly intentsOpen: Gauge<'phase'>;
  readonly recovery: Histogram<'step'>;
  readonly failures: Gauge<'signal'>;
  readonly serviceGates: Counter<'status'>;
  readonly devicesExcluded: Gauge<'driver'>;
  readonly devicesInUse: Gauge<'driver'>;
  readonly poisonGroups: Gauge;
  readonly preemptions: Counter<'outcome'>;
  readonly preemptionVictims: Counter<'kind'>;
  readonly reflectorRelists: Counter<'resource' | 'cause'>;
  readonly decodeErrors: Counter<'resource'>;
  readonly apiRequests: Counter<'method' | 'status'>;
  readonly eventsDropped: Counter;
}

/** 0.1 ms to 5 s */
const requestBuckets = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5,
];
/** 0.1 s to an hour: a group may wait for capacity. */
const waitBuckets = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600];

/**
 * All metrics of one process in a registry of their own. Every label has few values by construction: resources,
 * reasons, HTTP statuses; never a name of an object.
 */
export function createMetrics(): Metrics {
  const registry = new Registry();
  const sources: MetricSources = {};
  collectDefaultMetrics({ register: registry });
  collectFromSources(registry, sources);
  return {
    registry,
    sources,
    ...placementMetrics(registry),
    ...steeringMetrics(registry),
    ...extenderMetrics(registry),
    ...failureMetrics(registry),
    ...preemptionMetrics(registry),
    ...apiMetrics(registry),
  };
}

/** Makes a gauge show these counts by the value of its one label, and nothing else. */
export function setCounts<Label extends string>(
  gauge: Gauge<Label>,
  counts: ReadonlyMap<string, number>,
): void {
  gauge.reset();
  for (const [value, count] of counts) gauge.labels(value).set(count);
}

function placementMetrics(registry: Registry) {
  const registers = [registry];
  return {
    admissionDuration: new Histogram({
      name: 'berth_admission_duration_seconds',
      help: 'Time to answer an AdmissionReview.',
      labelNames: ['webhook', 'outcome'],
      buckets: requestBuckets,
      registers,
    }),
    planDuration: new Histogram({
      name: 'berth_plan_duration_seconds',
      help: 'Time to plan one group.',
      labelNames: ['outcome'],
      buckets: requestBuckets,
      registers,
    }),
    placement: new Histogram({
      name: 'berth_placement_seconds',
      help: 'Time from the gate on a leader to the pin of its group.',
      buckets: waitBuckets,
      registers,
    }),
    groupsWaiting: new Gauge({
      name: 'berth_groups_waiting',
      help: 'Gated groups by the reason why they wait.',
      labelNames: ['reason'],
      registers,
    }),
    groupsPlaced: new Counter({
      name: 'berth_groups_placed_total',
      help: 'Groups whose plan was written.',
      registers,
    }),
    pinsStranded: new Counter({
      name: 'berth_pins_stranded_total',
      help: 'Pinned pods that could not be bound to their node.',
      labelNames: ['reason'],
      registers,
    }),
    replans: new Counter({
      name: 'berth_replans_total',
      help: 'Stranded pins planned again, for one member or the whole group.',
      labelNames: ['scope', 'outcome'],
      registers,
    }),
    singlesPinned: new Counter({
      name: 'berth_singles_pinned_total',
      help: 'Single pods pinned to a node.',
      registers,
    }),
    invalidRequests: new Counter({
      name: 'berth_invalid_requests_total',
      help: 'Annotations and labels of users that could not be used.',
      labelNames: ['field'],
      registers,
    }),
  } satisfies Partial<Metrics>;
}

function steeringMetrics(registry: Registry) {
  const registers = [registry];
  return {
    claimsSteered: new Counter({
      name: 'berth_claims_steered_total',
      help: 'Requests of ResourceClaims that were steered to planned devices.',
      registers,
    }),
    claimsRemade: new Counter({
      name: 'berth_claims_remade_total',
      help: 'ResourceClaims of waiting pods that were deleted because they were made without steering; kube-controller-manager makes them again.',
      registers,
    }),
    alignmentReached: new Counter({
      name: 'berth_alignment_reached',
      help: 'Members planned with devices, by how near these stand: pcie (one PCIe root), numa (one NUMA node), host.',
      labelNames: ['rung'],
      registers,
    }),
    claimsUnsteered: new Counter({
      name: 'berth_claims_unsteered_total',
      help: 'Requests of ResourceClaims that passed as they were asked, by the reason.',
      labelNames: ['reason'],
      registers,
    }),
  } satisfies Partial<Metrics>;
}

function extenderMetrics(registry: Registry) {
  const duration = (name: string, help: string): Histogram<'outcome'> =>
    new Histogram({
      name,
      help,
      labelNames: ['outcome'],
      buckets: requestBuckets,
      registers: [registry],
    });
  return {
    filterDuration: duration(
      'berth_filter_duration_seconds',
      'Time to tell kube-scheduler which nodes a pod may go to.',
    ),
    prioritizeDuration: duration(
      'berth_prioritize_duration_seconds',
      'Time to score nodes for kube-scheduler.',
    ),
    preemptDuration: duration(
      'berth_preempt_duration_seconds',
      'Time to tell kube-scheduler which preemptions would be in vain.',
    ),
  } satisfies Partial<Metrics>;
}

function failureMetrics(registry: Registry) {
  const registers = [registry];
  return {
    evictions: new Counter({
      name: 'berth_evictions_total',
      help: 'Groups evicted, or not, by class of the signal; class preemption: for another group.',
      labelNames: ['class', 'outcome'],
      registers,
    }),
    brakes: new Gauge({
      name: 'berth_brake_active',
      help: 'Hurt groups that a brake keeps from being evicted.',
      labelNames: ['brake'],
      registers,
    }),
    intentsOpen: new Gauge({
      name: 'berth_intents_open',
      help: 'Evictions that have begun and are not over.',
      labelNames: ['phase'],
      registers,
    }),
    recovery: new Histogram({
      name: 'berth_recovery_seconds',
      help: 'Time from a failure to the group being Ready again, by step.',
      labelNames: ['step'],
      buckets: waitBuckets,
      registers,
    }),
    failures: new Gauge({
      name: 'berth_failures',
      help: 'Groups that a failure hurts now.',
      labelNames: ['signal'],
      registers,
    }),
    serviceGates: new Counter({
      name: 'berth_service_gates_total',
      help: "Conditions behind Berth's readiness gate that were written: True lets a pod be Ready, False takes it out of traffic.",
      labelNames: ['status'],
      registers,
    }),
    devicesExcluded: new Gauge({
      name: 'berth_devices_excluded',
      help: 'Devices that Berth keeps off new claims.',
      labelNames: ['driver'],
      registers,
    }),
    devicesInUse: new Gauge({
      name: 'berth_devices_suspect_in_use',
      help: 'Devices with evidence against them that are left in use: too many are suspect, or their group is to blame.',
      labelNames: ['driver'],
      registers,
    }),
    poisonGroups: new Gauge({
      name: 'berth_poison_groups',
      help: 'Groups that broke devices or nodes more often within 24 hours than bad luck explains.',
      registers,
    }),
  } satisfies Partial<Metrics>;
}

function preemptionMetrics(registry: Registry) {
  const registers = [registry];
  return {
    preemptions: new Counter({
      name: 'berth_preemptions_total',
      help: 'Groups for which others were to make room, when it began and by how it ended.',
      labelNames: ['outcome'],
      registers,
    }),
    preemptionVictims: new Counter({
      name: 'berth_preemption_victims_total',
      help: 'Groups and single pods that went to make room.',
      labelNames: ['kind'],
      registers,
    }),
  } satisfies Partial<Metrics>;
}

function apiMetrics(registry: Registry) {
  const registers = [registry];
  return {
    reflectorRelists: new Counter({
      name: 'berth_reflector_relists_total',
      help: 'Complete lists of a resource by what made them necessary.',
      labelNames: ['resource', 'cause'],
      registers,
    }),
    decodeErrors: new Counter({
      name: 'berth_decode_errors_total',
      help: 'Objects that could not be read and were left out.',
      labelNames: ['resource'],
      registers,
    }),
    apiRequests: new Counter({
      name: 'berth_api_requests_total',
      help: 'Requests to the API server by HTTP status; status 0: no answer.',
      labelNames: ['method', 'status'],
      registers,
    }),
    eventsDropped: new Counter({
      name: 'berth_events_dropped_total',
      help: 'Events that were not written: queue full, rate limit or failure.',
      registers,
    }),
  } satisfies Partial<Metrics>;
}

/** Gauges that are read rather than set: what they show is as true as the moment of the scrape. */
function collectFromSources(registry: Registry, sources: MetricSources): void {
  const cacheGauge = (name: string, help: string, read: (cache: CacheState) => number) => {
    const gauge: Gauge<'resource'> = new Gauge({
      name,
      help,
      labelNames: ['resource'],
      registers: [registry],
      collect() {
        gauge.reset();
        for (const cache of sources.caches?.() ?? []) gauge.set({ resource: cache.resource }, read(cache));
      },
    });
  };
  cacheGauge(
    'berth_cache_staleness_seconds',
    'Age of the last event, bookmark or list of a resource; +Inf before the first.',
    cache => cache.stalenessSeconds,
  );
  cacheGauge('berth_cache_synced', '1 once a resource was listed completely.', cache => Number(cache.synced));
  cacheGauge('berth_cache_objects', 'Objects of a resource in the cache.', cache => cache.objects);

  const depth: Gauge<'queue'> = new Gauge({
    name: 'berth_work_queue_depth',
    help: 'Keys that wait for a worker.',
    labelNames: ['queue'],
    registers: [registry],
    collect() {
      for (const state of sources.queues?.() ?? []) depth.set({ queue: state.queue }, state.depth);
    },
  });
  const holder: Gauge = new Gauge({
    name: 'berth_lease_holder',
    help: '1 while this process holds the Lease.',
    registers: [registry],
    collect() {
      holder.set(Number(sources.isLeaseHolder?.() ?? false));
    },
  });
}
