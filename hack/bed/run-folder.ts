import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { Authority, type Identity, type KeyPair, writeKeyPair, writeTokenKeys } from './certificates.ts';
import {
  auditPolicy,
  configPathOf,
  kubeconfigPathOf,
  kwokOptions,
  type Layout,
  lwsConfiguration,
  pkiFolderOf,
  serverOf,
} from './components.ts';
import { kubeconfig } from './kubeconfig.ts';
import { freePorts } from './ports.ts';
import { isAlive } from './process-facts.ts';
import { schedulerConfiguration } from './scheduler-config.ts';

/** What a new cluster's folder is made from. */
export interface RunOptions {
  readonly nodes: 'few' | 'many';
  readonly schedulerConfig: string | undefined;
  readonly logDirectory: string | undefined;
}

/** A prepared run folder and what the owner needs to speak to its API server. */
export interface Run {
  readonly layout: Layout;
  readonly caPem: string;
  readonly admin: KeyPair;
}

const namePrefix = 'berth-bed-';
const memoryFolder = '/dev/shm';
const staleAgeMs = 24 * 3600 * 1000;
const stagesPath = join(import.meta.dirname, 'stages.yaml');

/** Certificate users; LWS comes with a service account token instead, as it does when it runs as a pod. */
const identities = {
  admin: { user: 'bed-admin', groups: ['system:masters'] },
  'kube-scheduler': { user: 'system:kube-scheduler' },
  'kube-controller-manager': { user: 'system:kube-controller-manager' },
  kwok: { user: 'kwok', groups: ['system:masters'] },
} as const satisfies Readonly<Record<string, Identity>>;

/** Makes the folders of a new cluster with all certificates and configuration files in them. */
export async function prepareRun(options: RunOptions): Promise<Run> {
  await removeStaleRuns();
  const layout = await makeFolders(options);
  const authority = await Authority.create();
  const pki = pkiFolderOf(layout);
  await mkdir(pki, { recursive: true });
  await writeFile(join(pki, 'ca.crt'), authority.pem);
  const serving = await authority.issueServer();
  await writeKeyPair(pki, 'server', serving);
  // controller-runtime looks for exactly these file names.
  await writeKeyPair(join(pki, 'webhook'), 'tls', serving);
  await writeTokenKeys(pki);
  const admin = await writeKubeconfigs(layout, authority);
  await writeConfigurations(layout, options.schedulerConfig);
  return { layout, caPem: authority.pem, admin };
}

/** The admin's half of a run folder that another process has made. */
export async function readRun(layout: Layout): Promise<Run> {
  const pki = pkiFolderOf(layout);
  const [caPem, certificatePem, keyPem] = await Promise.all(
    ['ca.crt', 'admin.crt', 'admin.key'].map(file => readFile(join(pki, file), 'utf8')),
  );
  if (caPem === undefined || certificatePem === undefined || keyPem === undefined)
    throw new Error('unreachable');
  return { layout, caPem, admin: { certificatePem, keyPem } };
}

/** Writes the scheduler's configuration anew; it counts from the scheduler's next start. */
export async function writeSchedulerConfiguration(
  layout: Layout,
  callerYaml: string | undefined,
): Promise<void> {
  const text = schedulerConfiguration(callerYaml, kubeconfigPathOf(layout, 'kube-scheduler'));
  await writeFile(configPathOf(layout, 'kube-scheduler.yaml'), text);
}

/** Removes a cluster's folders; logs stay when asked for, and when the caller chose their folder. */
export async function removeRun(layout: Layout, keepLogs: boolean): Promise<void> {
  await rm(layout.dataDirectory, { recursive: true, force: true });
  if (!keepLogs) await rm(layout.directory, { recursive: true, force: true });
}

async function makeFolders(options: RunOptions): Promise<Layout> {
  const directory = await mkdtemp(join(tmpdir(), namePrefix));
  const dataDirectory = existsSync(memoryFolder)
    ? join(memoryFolder, basename(directory))
    : join(directory, 'data');
  const logDirectory = options.logDirectory ?? join(directory, 'logs');
  await mkdir(dataDirectory, { mode: 0o700 });
  await mkdir(logDirectory, { recursive: true });
  const [apiserver = 0, controllerManager = 0, scheduler = 0, webhook = 0, health = 0] = await freePorts(5);
  return {
    directory,
    dataDirectory,
    logDirectory,
    nodes: options.nodes,
    ports: {
      'kube-apiserver': apiserver,
      'kube-controller-manager': controllerManager,
      'kube-scheduler': scheduler,
      'lws-webhook': webhook,
      'lws-health': health,
    },
  };
}

async function writeKubeconfigs(layout: Layout, authority: Authority): Promise<KeyPair> {
  const admin = await authority.issueClient(identities.admin);
  await writeKeyPair(pkiFolderOf(layout), 'admin', admin);
  await mkdir(dirname(kubeconfigPathOf(layout, 'admin')), { recursive: true });
  for (const user of ['admin', 'kube-scheduler', 'kube-controller-manager', 'kwok'] as const) {
    const pair = user === 'admin' ? admin : await authority.issueClient(identities[user]);
    const text = kubeconfig(serverOf(layout), authority.pem, { kind: 'certificate', pair });
    await writeFile(kubeconfigPathOf(layout, user), text, { mode: 0o600 });
  }
  return admin;
}

async function writeConfigurations(layout: Layout, schedulerConfig: string | undefined): Promise<void> {
  await mkdir(dirname(configPathOf(layout, 'kwok.yaml')), { recursive: true });
  await writeFile(configPathOf(layout, 'audit-policy.yaml'), auditPolicy());
  await writeFile(configPathOf(layout, 'lws.yaml'), lwsConfiguration(layout));
  const stages = await readFile(stagesPath, 'utf8');
  await writeFile(configPathOf(layout, 'kwok.yaml'), `${kwokOptions()}---\n${stages}`);
  await writeSchedulerConfiguration(layout, schedulerConfig);
}

/** Folders that failed runs have left for their logs go after a day. */
async function removeStaleRuns(): Promise<void> {
  const names = (await readdir(tmpdir())).filter(name => name.startsWith(namePrefix));
  for (const name of names) {
    const directory = join(tmpdir(), name);
    const facts = await stat(directory).catch(() => undefined);
    if (facts === undefined || Date.now() - facts.mtimeMs < staleAgeMs || (await isInUse(directory)))
      continue;
    await rm(directory, { recursive: true, force: true });
    await rm(join(memoryFolder, name), { recursive: true, force: true });
  }
}

async function isInUse(directory: string): Promise<boolean> {
  const folder = join(directory, 'pids');
  const files = await readdir(folder).catch(() => []);
  const pids = await Promise.all(files.map(file => readFile(join(folder, file), 'utf8')));
  return pids.some(pid => isAlive(Number(pid)));
}
