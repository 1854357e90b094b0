import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { readAudit } from '../../hack/bed/audit.ts';
import type { BerthProcess } from '../../hack/bed/berth.ts';
import { Authority } from '../../hack/bed/certificates.ts';
import type { Cluster } from '../../hack/bed/cluster.ts';
import { racks } from '../../hack/bed/fleet-presets.ts';
import { extenderBodyLimitBytes } from '../../src/extender/plugin.ts';
import {
  conditionOf,
  createLws,
  createPod,
  gpuResources,
  listPods,
  makeNamespace,
  makePriorityClass,
  openBed,
  runBerth,
  singlePod,
  until,
  waitForBound,
  withFleet,
} from './bed.ts';
import { quantile } from './cpu-pods.ts';
import {
  callExtender,
  countCalls,
  type ExtenderVerb,
  schedulerIdentity,
  type TlsIdentity,
  withExtender,
} from './extender.ts';
import { plannedNodes } from './invariants.ts';

t.setTimeout(600_000);

/** The container's, in deploy/base. */
const memoryLimitMiB = 1024;
const inOneRack = { 'berth.dev/required-topology': 'rack' };

t.test('a single of high priority where evictions would make room on a node that Berth refuses', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, { name: 'pair', nodes: racks({ racks: 1, hostsPerRack: 2, gpus: 8 }) });
  const high = await makePriorityClass(t, cluster, 'high', 1_000);
  const low = await makePriorityClass(t, cluster, 'low', 10);
  const berth = await runBerth(t, cluster);
  await withExtender(t, cluster, 'pin-extender', berth);

  // Half of each host is in use by pods that may be evicted, the other half is for one member each.
  const others = await makeNamespace(t, cluster, {});
  const listVictims = () => listPods(cluster, others, 'victim');
  const single = async () =>
    (await listPods(cluster, others)).find(({ metadata }) => metadata.name === 'single');
  for (const nodeName of ['r00-h00', 'r00-h01']) {
    for (const number of [0, 1, 2, 3]) {
      const spec = { nodeName, priorityClassName: low };
      const name = `victim-${nodeName}-${number}`;
      await createPod(cluster, singlePod(others, name, gpuResources(1), spec, { victim: '' }));
    }
  }
  await waitForBound(cluster, others, 8);
  const namespace = await makeNamespace(t, cluster, { 'berth.dev/mode': 'pin-extender' });
  await createLws(cluster, namespace, {
    name: 'group',
    size: 2,
    gpus: 4,
    annotations: inOneRack,
    podAnnotations: { 'bed.berth.test/not-ready': 'true' },
    leader: { priorityClassName: high },
    worker: { priorityClassName: high },
    spec: { startupPolicy: 'LeaderReady' },
  });
  const [leader] = await waitForBound(cluster, namespace, 1);
  const held = leader === undefined ? undefined : plannedNodes(leader)?.[1];
  t.not(held, undefined, 'the devices of the worker that does not exist yet are held');
  t.not(held, leader?.spec.nodeName, 'on the other host');

  const { nextOffset } = await readAudit(cluster.auditLogPath);
  await createPod(cluster, singlePod(others, 'single', gpuResources(8), { priorityClassName: high }));

  await t.test('with the shipped configuration nobody dies and it stays pending', async t => {
    await until('kube-scheduler to ask about evictions', 20_000, async () => {
      return (await countCalls(berth, 'preempt')).size > 0;
    });
    // An eviction would follow at once: the control needs less.
    await delay(2_000);
    t.strictSame(await deletions(cluster, nextOffset), [], 'kube-scheduler has deleted no pod');
    t.equal((await listVictims()).length, 8, 'and all eight are there');
    const pod = await single();
    t.equal(pod?.spec.nodeName, undefined, 'the single is pending');
    t.notOk(JSON.stringify(pod?.status).includes('nominatedNodeName'), 'and hopes for no node');
    t.ok((await countCalls(berth, 'preempt')).get('dropped'), 'Berth was asked, and let nobody die');
    t.comment(`preempt: ${JSON.stringify([...(await countCalls(berth, 'preempt'))])}`);
    t.comment(pod && conditionOf(pod, 'PodScheduled')?.message);
  });

  await t.test('control: without preemptVerb pods die for a node that Berth then refuses', async t => {
    await withExtender(t, cluster, 'pin-extender', berth, { extender: { preemptVerb: '' } });
    await until('evictions by kube-scheduler', 20_000, async () => {
      return (await deletions(cluster, nextOffset)).length >= 4;
    });
    await until('the victims to be gone', 20_000, async () => (await listVictims()).length <= 4);
    await delay(1_000);
    const killed = await deletions(cluster, nextOffset);
    t.ok(
      killed.every(name => name.startsWith(`victim-${held}-`)),
      'all of them were on the host whose devices are held',
    );
    const pod = await single();
    t.equal(pod?.spec.nodeName, undefined, 'in vain: the single is pending as before');
    t.comment(`${killed.length} pods killed in vain: ${killed.join(', ')}`);
    await cluster.request('DELETE', `/api/v1/namespaces/${others}/pods/single`, { gracePeriodSeconds: 0 });
  });

  await t.test('control: evictions that help are let happen', async t => {
    await withExtender(t, cluster, 'pin-extender', berth);
    // What the evictions have left free beside the held devices.
    const rest = { nodeName: held, priorityClassName: high };
    await createPod(cluster, singlePod(others, 'rest', gpuResources(4), rest));
    const { nextOffset } = await readAudit(cluster.auditLogPath);
    await createPod(cluster, singlePod(others, 'single', gpuResources(4), { priorityClassName: high }));
    await until('the single to be bound', 30_000, async () => (await single())?.spec.nodeName !== undefined);
    t.equal((await single())?.spec.nodeName, leader?.spec.nodeName, 'on the host where nothing is held');
    t.equal((await deletions(cluster, nextOffset)).length, 4, 'in place of four pods of lower priority');
    t.ok((await countCalls(berth, 'preempt')).get('kept'), 'Berth was asked, and let it happen');
  });
});

t.test('callers without right and calls without sense', async t => {
  const cluster = await openBed(t);
  await withFleet(t, cluster, { name: 'pair', nodes: racks({ racks: 1, hostsPerRack: 2, gpus: 8 }) });
  const berth = await runBerth(t, cluster);
  const identity = await schedulerIdentity(cluster);
  const foreign = await foreignIdentity(identity);
  const good = filterBody();
  const verbs: readonly ExtenderVerb[] = ['filter', 'prioritize', 'preempt'];
  const ask = (body: string | Buffer, as: TlsIdentity = identity, verb: ExtenderVerb = 'filter') =>
    callExtender(berth, verb, body, as).then(
      ({ status }) => `${status}`,
      (error: NodeJS.ErrnoException) => error.code ?? error.message,
    );
  t.equal(await ask(good), '200', 'control: kube-scheduler with its certificate gets an answer');
  const residentBefore = await memoryMiB(berth, 'VmRSS');
  const meanwhile = keepAsking(berth, identity, good);

  await t.test('without a certificate of Berth’s authority there is no answer', async t => {
    const { ca } = identity;
    for (const verb of verbs) {
      t.notMatch(await ask(good, { ca }, verb), /^\d+$/, `${verb} without a client certificate`);
      t.notMatch(await ask(good, foreign.stranger, verb), /^\d+$/, `${verb} with one of another authority`);
    }
    t.comment(
      `no certificate: ${await ask(good, { ca })}; another authority’s: ${await ask(good, foreign.stranger)}`,
    );
    t.match(
      await ask(good, foreign.suspicious),
      /SELF_SIGNED|UNABLE_TO|SIGNATURE/,
      'a client that trusts another authority does not talk to Berth',
    );
  });

  await t.test('what cannot be read is refused with 400', async t => {
    const cases: Readonly<Record<string, string | Buffer>> = {
      empty: '',
      'not JSON': 'GET / HTTP/1.1',
      'cut off': good.slice(0, good.length / 2),
      'random bytes': Buffer.from(Array.from({ length: 4_096 }, (_, i) => (i * 2_654_435_761) >>> 24)),
      'a list': '[]',
      'no pod': '{"NodeNames":["r00-h00"]}',
      'names that are no strings': good.replace('["r00-h00","r00-h01"]', '[1,{}]'),
      'a pod that is a number': '{"Pod":1,"Nodes":null,"NodeNames":["r00-h00"]}',
      'nested ever deeper': '['.repeat(200_000),
    };
    for (const verb of verbs) {
      for (const [name, body] of Object.entries(cases)) {
        if (verb === 'preempt' && name === 'names that are no strings') continue;
        t.equal(await ask(body, identity, verb), '400', `${verb}: ${name}`);
      }
    }
  });

  await t.test('bodies of 16 MiB', async t => {
    const wide = (bytes: number) => good.replace('"image":"main"', `"image":"${'x'.repeat(bytes)}"`);
    const startedMs = performance.now();
    t.equal(await ask(wide(extenderBodyLimitBytes - 2_000)), '200', 'just within the limit it is answered');
    t.comment(`a body of 16 MiB is answered in ${Math.round(performance.now() - startedMs)} ms`);
    // The answer may come, and the connection be closed, while the client still writes.
    t.match(await ask(wide(extenderBodyLimitBytes)), /^(413|EPIPE|ECONNRESET)$/, 'above it is refused');
    const many = await Promise.all(
      Array.from({ length: 6 }, () => ask(Buffer.alloc(extenderBodyLimitBytes, 'x'))),
    );
    t.ok(
      many.every(status => status === '400'),
      `six at once that are no JSON: ${many.join(', ')}`,
    );
  });

  await t.test('200 calls at once are all answered', async t => {
    const startedMs = performance.now();
    const answers = await Promise.all(Array.from({ length: 200 }, () => ask(good)));
    t.comment(`200 calls at once, each on a new connection: ${Math.round(performance.now() - startedMs)} ms`);
    t.strictSame([...new Set(answers)], ['200'], 'with 200');
  });

  const asked = await meanwhile.end();
  t.strictSame([...new Set(asked.statuses)], ['200'], 'the right client was answered all the while');
  t.comment(
    `${asked.statuses.length} calls meanwhile: median ${quantile(asked.tookMs, 0.5).toFixed(1)} ms, ` +
      `worst ${quantile(asked.tookMs, 1).toFixed(0)} ms`,
  );
  const peak = await memoryMiB(berth, 'VmHWM');
  t.comment(`resident memory ${residentBefore} MiB before, ${peak} MiB at most`);
  t.ok(peak < memoryLimitMiB, 'it would not have been killed for its memory');
  t.equal((await fetch(`${berth.adminUrl}/readyz`)).status, 200, 'Berth is ready');
  const invalid = (await countCalls(berth, 'filter')).get('invalid') ?? 0;
  t.ok(invalid > 10, `a metric counts what was refused (${invalid})`);
});

/** Names of pods that kube-scheduler has deleted. */
async function deletions(cluster: Cluster, fromOffset: number): Promise<readonly string[]> {
  const { events } = await readAudit(cluster.auditLogPath, fromOffset);
  return events
    .filter(
      ({ user, verb, resource, subresource }) =>
        user === 'system:kube-scheduler' &&
        resource === 'pods' &&
        (verb.startsWith('delete') || subresource === 'eviction'),
    )
    .map(({ name }) => name);
}

/** As kube-scheduler writes it. */
function filterBody(): string {
  const resources = { limits: { 'nvidia.com/gpu': '1' }, requests: { 'nvidia.com/gpu': '1' } };
  const pod = {
    metadata: { name: 'single', namespace: 'default', uid: 'single' },
    spec: { containers: [{ name: 'main', image: 'main', resources }] },
  };
  return JSON.stringify({ Pod: pod, Nodes: null, NodeNames: ['r00-h00', 'r00-h01'] });
}

/** Identities that an authority has signed whom Berth does not know. */
async function foreignIdentity(identity: Required<TlsIdentity>) {
  const authority = await Authority.create();
  const { certificatePem, keyPem } = await authority.issueClient({ user: 'berth-extender-client' });
  return {
    stranger: { ...identity, cert: certificatePem, key: keyPem },
    suspicious: { ...identity, ca: authority.pem },
  };
}

/** Calls filter every 50 ms, as the right client. */
function keepAsking(berth: BerthProcess, identity: TlsIdentity, body: string) {
  const statuses: string[] = [];
  const tookMs: number[] = [];
  let running = true;
  const loop = (async () => {
    while (running) {
      const startedMs = performance.now();
      const answer = callExtender(berth, 'filter', body, identity);
      statuses.push(await answer.then(({ status }) => String(status), String));
      tookMs.push(performance.now() - startedMs);
      await delay(50);
    }
  })();
  return {
    async end() {
      running = false;
      await loop;
      return { statuses, tookMs: tookMs.sort((a, b) => a - b) };
    },
  };
}

/** What /proc knows: resident now, or at most so far. */
async function memoryMiB({ pid }: BerthProcess, field: 'VmRSS' | 'VmHWM'): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const [, kib] = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status) ?? [];
  return Math.round(Number(kib) / 1024);
}
