import net from 'node:net';
import t from 'tap';
import { AdminServer, type Readiness } from '../../../src/telemetry/admin-server.ts';
import { createLogger } from '../../../src/telemetry/logger.ts';
import { createMetrics } from '../../../src/telemetry/metrics.ts';

const silentLog = createLogger({ level: 'silent' });

t.test('metrics have the names and labels that dashboards rely on', async t => {
  const metrics = createMetrics();
  metrics.admissionDuration.observe({ webhook: 'pod', outcome: 'allowed' }, 0.0002);
  metrics.planDuration.observe({ outcome: 'placed' }, 0.01);
  metrics.placement.observe(3);
  metrics.groupsWaiting.set({ reason: 'capacity' }, 2);
  metrics.groupsPlaced.inc();
  metrics.pinsStranded.inc({ reason: 'node-gone' });
  metrics.replans.inc({ scope: 'member', outcome: 'placed' });
  metrics.singlesPinned.inc();
  metrics.invalidRequests.inc({ field: 'required-topology' });
  metrics.claimsSteered.inc(2);
  metrics.claimsUnsteered.inc({ reason: 'no-attribute' });
  metrics.reflectorRelists.inc({ resource: 'pods', cause: 'expired' });
  metrics.decodeErrors.inc({ resource: 'pods' });
  metrics.apiRequests.inc({ method: 'GET', status: 200 });
  metrics.eventsDropped.inc();
  metrics.sources.caches = () => [
    { resource: 'pods', synced: true, stalenessSeconds: 1.5, objects: 7 },
    { resource: 'nodes', synced: false, stalenessSeconds: Number.POSITIVE_INFINITY, objects: 0 },
  ];
  metrics.sources.queues = () => [{ queue: 'groups', depth: 4 }];
  metrics.sources.isLeaseHolder = () => true;
  const text = await metrics.registry.metrics();
  const lines = new Set(text.split('\n'));
  for (const line of [
    'berth_admission_duration_seconds_bucket{le="0.0001",webhook="pod",outcome="allowed"} 0',
    'berth_admission_duration_seconds_bucket{le="0.00025",webhook="pod",outcome="allowed"} 1',
    'berth_admission_duration_seconds_bucket{le="5",webhook="pod",outcome="allowed"} 1',
    'berth_plan_duration_seconds_count{outcome="placed"} 1',
    'berth_placement_seconds_sum 3',
    'berth_groups_waiting{reason="capacity"} 2',
    'berth_groups_placed_total 1',
    'berth_pins_stranded_total{reason="node-gone"} 1',
    'berth_replans_total{scope="member",outcome="placed"} 1',
    'berth_singles_pinned_total 1',
    'berth_invalid_requests_total{field="required-topology"} 1',
    'berth_claims_steered_total 2',
    'berth_claims_unsteered_total{reason="no-attribute"} 1',
    'berth_reflector_relists_total{resource="pods",cause="expired"} 1',
    'berth_decode_errors_total{resource="pods"} 1',
    'berth_api_requests_total{method="GET",status="200"} 1',
    'berth_events_dropped_total 1',
    'berth_cache_staleness_seconds{resource="pods"} 1.5',
    'berth_cache_staleness_seconds{resource="nodes"} +Inf',
    'berth_cache_synced{resource="pods"} 1',
    'berth_cache_synced{resource="nodes"} 0',
    'berth_cache_objects{resource="pods"} 7',
    'berth_work_queue_depth{queue="groups"} 4',
    'berth_lease_holder 1',
  ]) {
    t.ok(lines.has(line), line);
  }
  t.match(text, /^process_resident_memory_bytes \d/m);
  t.match(text, /^nodejs_eventloop_lag_p99_seconds \d/m);
});

t.test('two registries know nothing of each other, and sources may be unset', async t => {
  const [a, b] = [createMetrics(), createMetrics()];
  a.groupsPlaced.inc();
  t.match(await b.registry.metrics(), /^berth_groups_placed_total 0$/m);
  t.match(await b.registry.metrics(), /^berth_lease_holder 0$/m);
});

t.test('the logger writes JSON lines and never a secret', async t => {
  const lines: string[] = [];
  const log = createLogger({ level: 'info', destination: { write: line => void lines.push(line) } });
  log.debug('not at this level');
  log.info(
    {
      pod: 'ns/p',
      token: 'secret',
      headers: { authorization: 'Bearer secret', Authorization: 'secret', accept: 'json' },
      request: { headers: { authorization: 'secret' } },
      data: { 'tls.key': 'secret', 'tls.crt': 'public' },
    },
    'asked',
  );
  log.error({ err: new Error('broken') }, 'failed');
  t.equal(lines.length, 2);
  t.notMatch(lines[0], /secret/);
  const [first, second] = lines.map(line => JSON.parse(line));
  t.match(first, {
    level: 'info',
    msg: 'asked',
    pod: 'ns/p',
    headers: { accept: 'json' },
    data: { 'tls.crt': 'public' },
  });
  t.match(first.time, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  t.match(second, { level: 'error', err: { message: 'broken', stack: String } });
});

t.test('the admin server', async t => {
  let readiness: () => Readiness = () => ({ ready: true, reasons: [] });
  const { registry } = createMetrics();
  const options = { host: '127.0.0.1', registry, log: silentLog, readiness: () => readiness() };
  const server = new AdminServer({ ...options, port: 0 });
  const { host, port } = await server.start();
  t.equal(host, '127.0.0.1');
  const get = async (path: string, method = 'GET') => {
    const response = await fetch(`http://${host}:${port}${path}`, { method });
    return {
      status: response.status,
      type: response.headers.get('content-type'),
      text: await response.text(),
    };
  };
  const type = 'text/plain; charset=utf-8';
  t.strictSame(await get('/healthz'), { status: 200, type, text: 'ok\n' });
  t.strictSame(await get('/readyz'), { status: 200, type, text: 'ok\n' });
  readiness = () => ({ ready: false, reasons: ['pods: not synced', 'nodes: no contact for 95 s'] });
  t.strictSame(await get('/readyz'), {
    status: 503,
    type,
    text: 'pods: not synced\nnodes: no contact for 95 s\n',
  });
  readiness = () => {
    throw new Error('secret detail');
  };
  t.strictSame(await get('/readyz'), { status: 500, type, text: 'internal error\n' });
  t.match(await get('/metrics'), {
    status: 200,
    type: /version=0.0.4/,
    text: /^berth_groups_placed_total 0$/m,
  });
  t.strictSame(await get('/other'), { status: 404, type, text: 'not found\n' });
  t.equal((await get('/healthz', 'POST')).status, 404);

  const taken = new AdminServer({ ...options, port });
  await t.rejects(taken.start(), { code: 'EADDRINUSE' });
  const idle = net.connect(port, '127.0.0.1');
  await new Promise(resolve => idle.on('connect', resolve));
  await server.stop();
  await new Promise(resolve => idle.on('close', resolve));
  t.pass('a kept connection does not hold up the end');
});
