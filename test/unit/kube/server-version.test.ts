import t from 'tap';
import type { ApiClient } from '../../../src/kube/api-client.ts';
import { readServerVersion, remakesDeletedClaims } from '../../../src/kube/server-version.ts';

function says(body: unknown): ApiClient {
  return { request: async () => body } as unknown as ApiClient;
}

t.test('the release is read as vendors write it, and nothing is guessed', async t => {
  t.same(await readServerVersion(says({ major: '1', minor: '37' })), { major: 1, minor: 37 });
  t.same(await readServerVersion(says({ major: '1', minor: '36+' })), { major: 1, minor: 36 });
  for (const body of [
    {},
    { major: '1' },
    { major: '1', minor: '' },
    { major: 1, minor: 37 },
    { major: '1', minor: 'x' },
  ])
    t.equal(await readServerVersion(says(body)), undefined, JSON.stringify(body));
});

t.test('from 1.37 on deleted claims are made again', async t => {
  t.same(
    [
      [1, 34],
      [1, 36],
      [1, 37],
      [1, 40],
      [2, 0],
    ].map(([major = 0, minor = 0]) => remakesDeletedClaims({ major, minor })),
    [false, false, true, true, true],
  );
});
