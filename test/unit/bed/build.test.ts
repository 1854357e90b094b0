import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { BuildProgress } from '../../../hack/bed/build-progress.ts';
import { withLock } from '../../../hack/bed/lock.ts';
import {
  buildArguments,
  cacheKeyOf,
  goFlags,
  isGoNewEnough,
  type Recipe,
  recipeFor,
  recipes,
  workspaceGoMod,
  workspaceKeyOf,
  workspaceToolsGo,
} from '../../../hack/bed/recipes.ts';

t.test('a cached program has a name of its own per version, platform and recipe', async t => {
  const lws = recipeFor('lws');
  const variants: [Recipe, string, string][] = [
    [lws, 'linux', 'amd64'],
    [lws, 'linux', 'arm64'],
    [lws, 'darwin', 'arm64'],
    [{ ...lws, version: 'v0.9.1' }, 'linux', 'amd64'],
    [{ ...lws, ldflags: '' }, 'linux', 'amd64'],
    [{ ...lws, package: 'sigs.k8s.io/lws/other' }, 'linux', 'amd64'],
    [recipeFor('kwok'), 'linux', 'amd64'],
  ];
  const keys = variants.map(([recipe, os, arch]) => cacheKeyOf(recipe, os, arch));
  t.equal(new Set(keys).size, variants.length);
  t.match(keys[0], /^lws-v0\.9\.0-linux-amd64-[0-9a-f]{10}$/);
  t.equal(cacheKeyOf(recipeFor('lws'), 'linux', 'amd64'), keys[0], 'the same facts give the same name');
});

t.test('the Kubernetes programs are built from one module, the others each from their own', async t => {
  const workspaces = recipes.map(recipe => workspaceKeyOf(recipe));
  t.equal(new Set(workspaces).size, 4);
  t.match(workspaceToolsGo(recipeFor('kubectl')), /_ "k8s\.io\/kubernetes\/cmd\/kube-apiserver"/);
  t.match(
    buildArguments(recipeFor('kubectl'), '/out').join(' '),
    /gitVersion=v1\.37\.2 .*-o \/out k8s\.io\/kubernetes\/cmd\/kubectl$/,
  );
});

t.test('folders that a monorepo points at become the published modules', async t => {
  const upstream =
    'module k8s.io/kubernetes\n\nreplace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n\tk8s.io/a => ./b\n\tx => y v1\n)\n';
  t.equal(
    workspaceGoMod(recipeFor('kubectl'), upstream),
    [
      'module berth.test/bed\n',
      'go 1.26.0\n',
      'require k8s.io/kubernetes v1.37.2',
      'replace k8s.io/a => k8s.io/a v0.37.2',
      'replace k8s.io/api => k8s.io/api v0.37.2',
      '',
    ].join('\n'),
  );
  t.notMatch(workspaceGoMod(recipeFor('lws'), upstream), /replace/);
});

t.test("the user's GOFLAGS stay, but for the module mode", async t => {
  t.equal(goFlags(''), '-mod=mod');
  t.equal(goFlags('-buildvcs=false -mod=vendor  -p=1'), '-buildvcs=false -p=1 -mod=mod');
});

t.test('Go 1.26 and newer are accepted', async t => {
  for (const [version, want] of [
    ['go1.26', true],
    ['go1.26.8', true],
    ['go1.27rc1', true],
    ['go2.0', true],
    ['go1.25.9', false],
    ['go1.3', false],
    ['devel', false],
  ] as const) {
    t.equal(isGoNewEnough(version), want, version);
  }
});

t.test('progress away from a terminal is a line now and then, and one per program', async t => {
  let nowMs = 0;
  const written: string[] = [];
  const progress = new BuildProgress({
    total: 2,
    live: false,
    write: text => written.push(text),
    nowMs: () => nowMs,
    columns: 80,
    intervalMs: 15_000,
  });
  progress.start('etcd');
  progress.hear('etcd', 'go: downloading go.uber.org/zap v1.27.0');
  nowMs = 14_000;
  progress.tick();
  t.strictSame(written, []);
  nowMs = 16_000;
  progress.tick();
  progress.hear('etcd', 'go.uber.org/zap/internal');
  progress.hear('etcd', '# some warning of the compiler');
  nowMs = 32_000;
  progress.tick();
  nowMs = 75_000;
  progress.finish('etcd');
  t.strictSame(written, [
    'berth: 0 of 2 built, 0:16; etcd: downloading go.uber.org/zap\n',
    'berth: 0 of 2 built, 0:32; etcd: compiled 1 packages, last go.uber.org/zap/internal\n',
    'berth: built etcd in 1:15 (1 of 2 built)\n',
  ]);
});

t.test('progress on a terminal rewrites one line and keeps it inside the window', async t => {
  const written: string[] = [];
  const options = {
    total: 7,
    live: true,
    write: (text: string) => written.push(text),
    nowMs: () => 0,
    intervalMs: 1,
  };
  const progress = new BuildProgress({ ...options, columns: 40 });
  progress.start('kube-apiserver');
  progress.enter('kube-apiserver', 'compiling and linking');
  progress.tick();
  progress.end();
  t.equal(written[1], '\r\u001b[K0 of 7 built, 0:00; kube-apiserver: com');
  t.equal(written.at(-1), '\r\u001b[K');
});

t.test('of two that want a lock at once the second waits for the first', async t => {
  const path = join(t.testdir(), 'lock');
  const order: string[] = [];
  const release = Promise.withResolvers<void>();
  const held = Promise.withResolvers<void>();
  const first = withLock(
    path,
    () => t.fail('the first need not wait'),
    async () => {
      order.push('first in');
      held.resolve();
      await release.promise;
      order.push('first out');
    },
  );
  await held.promise;
  const second = withLock(
    path,
    pid => {
      t.equal(pid, process.pid);
      release.resolve();
    },
    async () => order.push('second in'),
  );
  await Promise.all([first, second]);
  t.strictSame(order, ['first in', 'first out', 'second in']);
});

t.test('a lock whose holder was killed is taken over, and nothing is left of it', async t => {
  const folder = t.testdir();
  const path = join(folder, 'lock');
  await mkdir(path);
  // A process id that exists, held by a process that started at another time: the id was used again.
  await writeFile(join(path, 'holder.json'), JSON.stringify({ pid: process.pid, startMark: 'long ago' }));
  t.equal(
    await withLock(
      path,
      () => t.fail('waited for a dead holder'),
      async () => 'worked',
    ),
    'worked',
  );
  t.strictSame(await readdir(folder), []);
});

t.test('a lock is given back when the work fails', async t => {
  const path = join(t.testdir(), 'lock');
  await t.rejects(
    withLock(
      path,
      () => undefined,
      () => Promise.reject(new Error('no')),
    ),
    { message: 'no' },
  );
  t.equal(
    await withLock(
      path,
      () => undefined,
      async () => 'free',
    ),
    'free',
  );
});
