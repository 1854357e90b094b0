import { constants } from 'node:fs';
import { access, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BuildProgress } from './build-progress.ts';
import { cacheFolder } from './folders.ts';
import { BuildError, checkGo, runGo } from './go-command.ts';
import { withLock } from './lock.ts';
import {
  type BinaryName,
  buildArguments,
  cacheKeyOf,
  type Recipe,
  recipeFor,
  recipes,
  workspaceGoMod,
  workspaceKeyOf,
  workspaceToolsGo,
} from './recipes.ts';

/** Where the bed's programs are. */
export interface Binaries {
  readonly pathOf: (name: BinaryName) => string;
  /** Folder with the parts of the LWS module's `config` tree that the bed reads: `crd/bases`, `rbac`, `webhook`. */
  readonly lwsManifests: string;
}

/** Builds one recipe inside one run. */
interface Job {
  readonly recipe: Recipe;
  readonly folder: string;
  readonly hear: (line: string) => void;
  readonly enter: (activity: string) => void;
  readonly signal: AbortSignal;
}

const assetsNeeded: readonly BinaryName[] = ['etcd', 'kube-apiserver', 'kubectl'];
const assetsOptional: readonly BinaryName[] = ['kube-scheduler', 'kube-controller-manager'];
/** Starts the names of folders that become something by a rename. */
const unfinished = '.fresh-';
const manifestFolders = ['crd/bases', 'rbac', 'webhook'] as const;

/**
 * Makes sure that all programs of the bed exist, building the missing ones from their Go modules into the cache.
 * Needs neither Go nor network when everything is there.
 *
 * @throws BuildError
 */
export async function ensureBinaries(): Promise<Binaries> {
  const folder = join(cacheFolder(), 'bin');
  const assets = await envtestAssets();
  const wanted = recipes.filter(recipe => !assets.has(recipe.name));
  if ((await missingOf(wanted, folder)).length > 0) {
    await withLock(join(cacheFolder(), 'build.lock'), tellWaiting, async () => {
      const missing = await missingOf(wanted, folder);
      if (missing.length > 0) await buildAll(missing, folder);
    });
  }
  return {
    pathOf: name => assets.get(name) ?? join(folder, fileNameOf(recipeFor(name))),
    lwsManifests: manifestsBeside(join(folder, fileNameOf(recipeFor('lws')))),
  };
}

/** Programs that controller-runtime's envtest has brought; `KUBEBUILDER_ASSETS` is its variable for their folder. */
async function envtestAssets(): Promise<Map<BinaryName, string>> {
  const assets = new Map<BinaryName, string>();
  const folder = process.env['KUBEBUILDER_ASSETS'];
  if (!folder) return assets;
  for (const name of [...assetsNeeded, ...assetsOptional]) {
    if (await isExecutable(join(folder, name))) assets.set(name, join(folder, name));
  }
  const absent = assetsNeeded.filter(name => !assets.has(name));
  if (absent.length === 0) return assets;
  throw new BuildError(
    'AssetsIncomplete',
    `KUBEBUILDER_ASSETS is ${folder}, but ${absent.join(', ')} is not there. Unset it to have everything built from ` +
      'source, or let it name a folder that holds etcd, kube-apiserver and kubectl.',
  );
}

async function missingOf(wanted: readonly Recipe[], folder: string): Promise<Recipe[]> {
  const present = await Promise.all(wanted.map(recipe => isExecutable(join(folder, fileNameOf(recipe)))));
  return wanted.filter((_, index) => present[index] !== true);
}

async function buildAll(missing: readonly Recipe[], folder: string): Promise<void> {
  await checkGo();
  await mkdir(folder, { recursive: true });
  await removeUnfinished(folder);
  await removeUnfinished(join(cacheFolder(), 'src'));
  const live = process.stderr.isTTY === true;
  process.stderr.write(
    `berth: building ${missing.map(recipe => recipe.name).join(', ')} into ${folder} ` +
      '(once; with an empty Go cache about 15 minutes for all seven on 2 cores)\n',
  );
  const progress = new BuildProgress({
    total: missing.length,
    live,
    write: text => process.stderr.write(text),
    nowMs: Date.now,
    columns: process.stderr.columns ?? 80,
    intervalMs: 15_000,
  });
  const timer = setInterval(() => progress.tick(), live ? 250 : 1000);
  try {
    await buildInLanes(missing, folder, progress);
  } finally {
    clearInterval(timer);
    progress.end();
  }
}

/** What killed builds have left; we hold the lock, so nobody is at work in them. */
async function removeUnfinished(folder: string): Promise<void> {
  const names = await readdir(folder).catch(() => []);
  for (const name of names.filter(candidate => candidate.startsWith(unfinished))) {
    await rm(join(folder, name), { recursive: true, force: true });
  }
}

/** Linking keeps one core busy and leaves the others idle, so the small programs are made beside the large ones. */
async function buildInLanes(
  missing: readonly Recipe[],
  folder: string,
  progress: BuildProgress,
): Promise<void> {
  const isLarge = (recipe: Recipe) => recipe.module === 'k8s.io/kubernetes';
  const lanes = [missing.filter(isLarge), missing.filter(recipe => !isLarge(recipe))];
  const abort = new AbortController();
  const { signal } = abort;
  const outcomes = await Promise.allSettled(
    lanes.map(async lane => {
      for (const recipe of lane) {
        signal.throwIfAborted();
        progress.start(recipe.name);
        const hear = (line: string) => progress.hear(recipe.name, line);
        const enter = (activity: string) => progress.enter(recipe.name, activity);
        await build({ recipe, folder, signal, hear, enter }).catch(error => {
          progress.fail(recipe.name);
          if (!signal.aborted) abort.abort(error);
          throw error;
        });
        progress.finish(recipe.name);
      }
    }),
  );
  // The first failure is the reason; the other lane only reports that it was stopped.
  if (outcomes.some(outcome => outcome.status === 'rejected')) throw signal.reason;
}

async function build(job: Job): Promise<void> {
  const workspace = await prepareWorkspace(job);
  const fresh = await mkdtemp(join(job.folder, unfinished));
  try {
    const output = join(fresh, job.recipe.name);
    job.enter('compiling and linking');
    await runGo({ ...job, arguments: buildArguments(job.recipe, output), folder: workspace });
    const target = join(job.folder, fileNameOf(job.recipe));
    // The manifests go first: a program that is there is taken to be complete.
    if (job.recipe.name === 'lws') await keepManifests(job, workspace, manifestsBeside(target));
    await rename(output, target);
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
}

/** The module to build from; it is kept with its go.sum, so that another build from it needs no network. */
async function prepareWorkspace(job: Job): Promise<string> {
  const { recipe } = job;
  const workspaces = join(cacheFolder(), 'src');
  const workspace = join(workspaces, workspaceKeyOf(recipe));
  if (await isReadable(workspace)) return workspace;

  await mkdir(workspaces, { recursive: true });
  const fresh = await mkdtemp(join(workspaces, unfinished));
  try {
    const { GoMod } = await moduleFacts(job, fresh);
    await writeFile(join(fresh, 'go.mod'), workspaceGoMod(recipe, await readFile(GoMod, 'utf8')));
    await writeFile(join(fresh, 'tools.go'), workspaceToolsGo(recipe));
    await runGo({ ...job, arguments: ['mod', 'tidy'], folder: fresh });
    await rename(fresh, workspace);
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
  return workspace;
}

/** The module cache may be emptied at any time, so what the bed reads at run time is copied beside the program. */
async function keepManifests(job: Job, workspace: string, target: string): Promise<void> {
  const { Dir } = await moduleFacts(job, workspace);
  for (const part of manifestFolders) {
    const source = join(Dir, 'config', part);
    await mkdir(join(target, part), { recursive: true });
    for (const file of await readdir(source)) {
      await writeFile(join(target, part, file), await readFile(join(source, file)));
    }
  }
}

async function moduleFacts(job: Job, folder: string): Promise<{ Dir: string; GoMod: string }> {
  const { module, version } = job.recipe;
  const text = await runGo({
    ...job,
    arguments: ['mod', 'download', '-json', `${module}@${version}`],
    folder,
  });
  const facts: { Dir: string; GoMod: string } = JSON.parse(text);
  return facts;
}

function fileNameOf(recipe: Recipe): string {
  return cacheKeyOf(recipe, process.platform, process.arch === 'x64' ? 'amd64' : process.arch);
}

function manifestsBeside(binary: string): string {
  return `${binary}.manifests`;
}

function tellWaiting(pid: number): void {
  process.stderr.write(`berth: process ${pid} is building the test bed already; waiting for it\n`);
}

function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

function isReadable(path: string): Promise<boolean> {
  return access(path, constants.R_OK).then(
    () => true,
    () => false,
  );
}
