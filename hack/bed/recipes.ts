import { createHash } from 'node:crypto';

/** The seven programs of the bed. */
export type BinaryName =
  | 'etcd'
  | 'kube-apiserver'
  | 'kube-controller-manager'
  | 'kube-scheduler'
  | 'kubectl'
  | 'kwok'
  | 'lws';

/** How one program is made from a Go module. */
export interface Recipe {
  readonly name: BinaryName;
  readonly module: string;
  readonly version: string;
  /** Main package inside the module. */
  readonly package: string;
  readonly ldflags: string;
  /** Modules that the module's own go.mod replaces by folders are required at this version instead. */
  readonly stagingVersion?: string;
}

/** The release that is tested; another may be had for a try. */
const kubernetesVersion = readVersion(process.env['BERTH_KUBERNETES']) ?? '1.37.2';
const strip = '-s -w';
const buildFlags = ['-trimpath'] as const;
const goDirective = '1.26.0';

/** Go release that the recipes need, as [major, minor]. */
export const neededGo = [1, 26] as const;

export const recipes: readonly Recipe[] = [
  kubernetes('kube-apiserver'),
  kubernetes('kube-controller-manager'),
  kubernetes('kube-scheduler'),
  kubernetes('kubectl'),
  {
    name: 'etcd',
    module: 'go.etcd.io/etcd/server/v3',
    version: 'v3.6.5',
    package: 'go.etcd.io/etcd/server/v3',
    ldflags: strip,
  },
  {
    name: 'kwok',
    module: 'sigs.k8s.io/kwok',
    version: 'v0.8.0',
    package: 'sigs.k8s.io/kwok/cmd/kwok',
    ldflags: strip,
  },
  {
    name: 'lws',
    module: 'sigs.k8s.io/lws',
    version: 'v0.9.0',
    package: 'sigs.k8s.io/lws/cmd',
    ldflags: strip,
  },
];

/** The recipe of a program. */
export function recipeFor(name: BinaryName): Recipe {
  const recipe = recipes.find(candidate => candidate.name === name);
  if (recipe === undefined) throw new Error(`no recipe makes ${name}`);
  return recipe;
}

/**
 * File name of a built program in the cache: whatever changes the program changes the name, so an old file is never
 * taken for a new one.
 */
export function cacheKeyOf(recipe: Recipe, goos: string, goarch: string): string {
  return `${recipe.name}-${recipe.version}-${goos}-${goarch}-${digest([recipe, buildFlags, goDirective])}`;
}

/** Folder name of the module in which a recipe is built; the four Kubernetes programs share one. */
export function workspaceKeyOf(recipe: Recipe): string {
  const label = recipe.module.replaceAll('/', '_');
  const facts = [recipe.module, recipe.version, recipe.stagingVersion, packagesOf(recipe), goDirective];
  return `${label}-${recipe.version}-${digest(facts)}`;
}

/** Arguments for `go` that build the recipe into `output`. `-v` names each package, which feeds the progress line. */
export function buildArguments(recipe: Recipe, output: string): string[] {
  return ['build', '-v', ...buildFlags, `-ldflags=${recipe.ldflags}`, '-o', output, recipe.package];
}

/**
 * The go.mod of the building module. A module that lives in a monorepo (k8s.io/kubernetes) points at sibling folders
 * with `replace`, which only hold in its own checkout: they are redirected to the published versions.
 *
 * @param upstreamGoMod text of the built module's own go.mod
 */
export function workspaceGoMod(recipe: Recipe, upstreamGoMod: string): string {
  const lines = [
    'module berth.test/bed',
    '',
    `go ${goDirective}`,
    '',
    `require ${recipe.module} ${recipe.version}`,
  ];
  const { stagingVersion } = recipe;
  if (stagingVersion !== undefined) {
    for (const module of folderReplacements(upstreamGoMod)) {
      lines.push(`replace ${module} => ${module} ${stagingVersion}`);
    }
  }
  return `${lines.join('\n')}\n`;
}

/** A file that makes `go mod tidy` keep what the main packages import. */
export function workspaceToolsGo(recipe: Recipe): string {
  const imports = packagesOf(recipe).map(path => `\t_ "${path}"`);
  return `//go:build tools\n\npackage tools\n\nimport (\n${imports.join('\n')}\n)\n`;
}

/**
 * GOFLAGS for our own `go` calls: what the user set stays, but `-mod` must allow go.mod and go.sum of the throw-away
 * module to be completed.
 */
export function goFlags(userFlags: string): string {
  const kept = userFlags.split(/\s+/).filter(flag => flag !== '' && !/^--?mod=/.test(flag));
  return [...kept, '-mod=mod'].join(' ');
}

/** Whether a version as `go env GOVERSION` prints it (`go1.26.8`, `go1.27rc1`) is new enough. */
export function isGoNewEnough(goVersion: string): boolean {
  const match = /^go(\d+)\.(\d+)/.exec(goVersion);
  if (match === null) return false;
  const major = Number(match[1]);
  const minor = Number(match[2]);
  return major > neededGo[0] || (major === neededGo[0] && minor >= neededGo[1]);
}

function readVersion(text: string | undefined): string | undefined {
  if (text === undefined || text === '') return undefined;
  if (/^1\.\d+\.\d+$/.test(text)) return text;
  throw new Error(`BERTH_KUBERNETES must be a release such as 1.37.2; got ${JSON.stringify(text)}`);
}

function kubernetes(name: BinaryName): Recipe {
  const [, minor, patch] = kubernetesVersion.split('.');
  const version = 'k8s.io/component-base/version';
  return {
    name,
    module: 'k8s.io/kubernetes',
    version: `v${kubernetesVersion}`,
    package: `k8s.io/kubernetes/cmd/${name}`,
    // Without a version the components call themselves v0.0.0 and refuse to emulate any release.
    ldflags: [
      strip,
      `-X ${version}.gitVersion=v${kubernetesVersion}`,
      `-X ${version}.gitMajor=1`,
      `-X ${version}.gitMinor=${minor}`,
      `-X ${version}.gitTreeState=clean`,
    ].join(' '),
    stagingVersion: `v0.${minor}.${patch}`,
  };
}

function folderReplacements(goMod: string): string[] {
  const modules = [...goMod.matchAll(/^\s*(?:replace\s+)?(\S+)\s+=>\s+\.\//gm)].map(match => match[1] ?? '');
  return [...new Set(modules)].sort();
}

function packagesOf(recipe: Recipe): string[] {
  return recipes
    .filter(other => other.module === recipe.module)
    .map(other => other.package)
    .sort();
}

function digest(facts: unknown): string {
  return createHash('sha256').update(JSON.stringify(facts)).digest('hex').slice(0, 10);
}
