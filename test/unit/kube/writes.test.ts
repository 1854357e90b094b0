import http from 'node:http';
import t, { type Test } from 'tap';
import {
  deletePod,
  evictPod,
  getObject,
  getPod,
  patchPod,
  patchPodCondition,
} from '../../../src/kube/writes.ts';
import { clientOf, respond, urlOf } from './fake-api-server.ts';

interface Sent {
  readonly request: string;
  readonly type: string | undefined;
  readonly body: unknown;
}

/** A server that answers every request with what it was sent. */
async function echo(t: Test) {
  const server = http.createServer((request, response) => {
    let text = '';
    request.on('data', chunk => (text += chunk));
    request.on('end', () =>
      respond(response, 200, {
        request: `${request.method} ${request.url}`,
        type: request.headers['content-type'],
        body: text === '' ? undefined : JSON.parse(text),
      }),
    );
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const client = clientOf(urlOf(server));
  t.teardown(async () => {
    client.close();
    await new Promise(resolve => server.close(resolve));
  });
  return client;
}

const pod = { namespace: 'ns', name: 'p', uid: 'u' };
const path = '/api/v1/namespaces/ns/pods/p';

t.test('every write names the incarnation it is meant for', async t => {
  const client = await echo(t);
  const remove = { op: 'remove', path: '/spec/schedulingGates/0' } as const;
  const condition = { type: 'berth.dev/Placed', status: 'False', reason: 'Waiting', message: 'm' };
  const options = { propagationPolicy: 'Foreground', gracePeriodSeconds: 0, dryRun: true } as const;
  const deleteOptions = {
    apiVersion: 'v1',
    kind: 'DeleteOptions',
    preconditions: { uid: 'u' },
    propagationPolicy: 'Foreground',
    gracePeriodSeconds: 0,
    dryRun: ['All'],
  };
  const table: [string, Promise<unknown>, Sent][] = [
    [
      'patchPod',
      patchPod(client, pod, [remove]),
      {
        request: `PATCH ${path}`,
        type: 'application/json-patch+json',
        body: [{ op: 'test', path: '/metadata/uid', value: 'u' }, remove],
      },
    ],
    [
      'patchPodCondition',
      patchPodCondition(client, pod, condition),
      {
        request: `PATCH ${path}/status`,
        type: 'application/strategic-merge-patch+json',
        body: { metadata: { uid: 'u' }, status: { conditions: [condition] } },
      },
    ],
    [
      'deletePod',
      deletePod(client, pod, options),
      { request: `DELETE ${path}`, type: 'application/json', body: deleteOptions },
    ],
    [
      'evictPod',
      evictPod(client, pod, options),
      {
        request: `POST ${path}/eviction?dryRun=All`,
        type: 'application/json',
        body: {
          apiVersion: 'policy/v1',
          kind: 'Eviction',
          metadata: { namespace: 'ns', name: 'p' },
          deleteOptions,
        },
      },
    ],
  ];
  for (const [name, answer, want] of table) t.strictSame(await answer, want, name);
});

t.test('without a UID or options nothing of them is sent', async t => {
  const client = await echo(t);
  const anyPod = { namespace: 'ns', name: 'p' };
  const bare = { apiVersion: 'v1', kind: 'DeleteOptions' };
  t.match(await patchPod(client, anyPod, []), { body: [] });
  t.strictSame(await deletePod(client, anyPod, { dryRun: false }), {
    request: `DELETE ${path}`,
    type: 'application/json',
    body: bare,
  });
  t.match(await patchPodCondition(client, anyPod, { type: 'a', status: 'True' }), {
    body: { status: { conditions: [{ type: 'a', status: 'True' }] } },
  });
});

t.test('reads one object, and stops at the signal', async t => {
  const client = await echo(t);
  t.match(await getPod(client, pod), { request: `GET ${path}` });
  t.match(await getObject(client, '/apis/apps/v1/namespaces/ns/statefulsets/s'), {
    request: 'GET /apis/apps/v1/namespaces/ns/statefulsets/s',
  });
  await t.rejects(getPod(client, pod, AbortSignal.abort()), { name: 'AbortError' });
  await t.rejects(evictPod(client, pod, { signal: AbortSignal.abort() }), { name: 'AbortError' });
});
