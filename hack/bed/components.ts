import { join } from 'node:path';
import { stringify } from 'yaml';
import type { BinaryName } from './recipes.ts';

/** A program of the bed that keeps running. */
export type Component = Exclude<BinaryName, 'kubectl'>;

export type PortName =
  | 'kube-apiserver'
  | 'kube-controller-manager'
  | 'kube-scheduler'
  | 'lws-webhook'
  | 'lws-health';

/** Where one cluster lives on this machine. */
export interface Layout {
  /** Run folder: certificates, kubeconfigs, configuration, process ids, audit log. */
  readonly directory: string;
  /** Folder of etcd, in memory where the machine has such a file system. */
  readonly dataDirectory: string;
  readonly logDirectory: string;
  readonly ports: Readonly<Record<PortName, number>>;
  /** `many`, from about 1,000 nodes on, renews node leases more seldom and is more patient with them. */
  readonly nodes: 'few' | 'many';
}

/** Users of the API server, each with a kubeconfig of that name. */
export type KubeconfigUser = 'admin' | 'kube-scheduler' | 'kube-controller-manager' | 'lws' | 'kwok';

export const clusterAddress = '127.0.0.1';
const serviceRange = '10.0.0.0/16';
const etcdQuotaBytes = 8 * 1024 ** 3;
const leaseSeconds = { few: 40, many: 200 } as const;
/** kube-controller-manager's patience must exceed the lease, else nodes flap and their pods stay not ready. */
const nodeGraceSeconds = { few: 50, many: 400 } as const;

export function serverOf(layout: Layout): string {
  return `https://${clusterAddress}:${layout.ports['kube-apiserver']}`;
}

export function pkiFolderOf(layout: Layout): string {
  return join(layout.directory, 'pki');
}

export function kubeconfigPathOf(layout: Layout, user: KubeconfigUser): string {
  return join(layout.directory, 'kubeconfig', `${user}.yaml`);
}

export function configPathOf(layout: Layout, file: ConfigFile): string {
  return join(layout.directory, 'config', file);
}

/** Configuration files that components read. */
export type ConfigFile = 'audit-policy.yaml' | 'kube-scheduler.yaml' | 'kwok.yaml' | 'lws.yaml';

export function auditLogPathOf(layout: Layout): string {
  return join(layout.logDirectory, 'audit.jsonl');
}

export function logPathOf(layout: Layout, component: Component): string {
  return join(layout.logDirectory, `${component}.log`);
}

/** The command line of a component, without the program. */
export function argumentsOf(component: Component, layout: Layout): string[] {
  switch (component) {
    case 'etcd':
      return etcdArguments(layout);
    case 'kube-apiserver':
      return apiserverArguments(layout);
    case 'kube-controller-manager':
      return controllerManagerArguments(layout);
    case 'kube-scheduler':
      return schedulerArguments(layout);
    case 'lws':
      return lwsArguments(layout);
    case 'kwok':
      return kwokArguments(layout);
  }
}

/** Where a component says whether it is well; undefined where it has no such address. */
export function healthUrlOf(component: Component, layout: Layout): string | undefined {
  switch (component) {
    case 'kube-apiserver':
      return `${serverOf(layout)}/readyz`;
    case 'kube-scheduler':
      // Unlike healthz, readyz also waits until the caches are filled.
      return `https://${clusterAddress}:${layout.ports[component]}/readyz`;
    case 'kube-controller-manager':
      return `https://${clusterAddress}:${layout.ports[component]}/healthz`;
    case 'lws':
      return `http://${clusterAddress}:${layout.ports['lws-health']}/healthz`;
    case 'etcd':
    case 'kwok':
      return undefined;
  }
}

/**
 * What the audit log holds: every write but leases and events, which are noise to a test. Of what evicts and deletes pods
 * it holds the options too, for those tell which incarnation was meant.
 */
export function auditPolicy(): string {
  return stringify({
    apiVersion: 'audit.k8s.io/v1',
    kind: 'Policy',
    omitStages: ['RequestReceived', 'ResponseStarted', 'Panic'],
    rules: [
      { level: 'None', verbs: ['get', 'list', 'watch'] },
      { level: 'None', resources: [{ group: 'coordination.k8s.io', resources: ['leases'] }] },
      { level: 'None', resources: [{ group: '', resources: ['events'] }] },
      { level: 'None', resources: [{ group: 'events.k8s.io', resources: ['events'] }] },
      { level: 'Request', verbs: ['create'], resources: [{ group: '', resources: ['pods/eviction'] }] },
      { level: 'Request', verbs: ['delete'], resources: [{ group: '', resources: ['pods'] }] },
      { level: 'Request', verbs: ['delete'], resources: [{ group: 'apps', resources: ['statefulsets'] }] },
      { level: 'Metadata', verbs: ['create', 'update', 'patch', 'delete', 'deletecollection'] },
    ],
  });
}

/** KWOK's own options, to stand before its stages in one file. */
export function kwokOptions(): string {
  return stringify({
    apiVersion: 'config.kwok.x-k8s.io/v1alpha1',
    kind: 'KwokConfiguration',
    options: { podPlayStageParallelism: 16, nodePlayStageParallelism: 16, nodeLeaseParallelism: 16 },
  });
}

/** Configuration of the LWS manager that needs neither its own certificates nor a leader election. */
export function lwsConfiguration(layout: Layout): string {
  return stringify({
    apiVersion: 'config.lws.x-k8s.io/v1alpha1',
    kind: 'Configuration',
    internalCertManagement: { enable: false },
    webhook: {
      host: clusterAddress,
      port: layout.ports['lws-webhook'],
      certDir: join(pkiFolderOf(layout), 'webhook'),
    },
    metrics: { bindAddress: '0' },
    health: { healthProbeBindAddress: `${clusterAddress}:${layout.ports['lws-health']}` },
    leaderElection: { leaderElect: false },
    clientConnection: { qps: 1000, burst: 2000 },
  });
}

/**
 * etcd on a Unix socket: no port to find, and no TLS to pay for on every read and write. It insists on a port in the
 * addresses that it advertises, though nobody dials them.
 */
function etcdArguments(layout: Layout): string[] {
  const peer = 'unix://peer:0';
  return [
    `--data-dir=${join(layout.dataDirectory, 'etcd')}`,
    `--listen-client-urls=${etcdSocketOf(layout)}`,
    '--advertise-client-urls=unix://localhost:0',
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=default=${peer}`,
    '--unsafe-no-fsync',
    `--quota-backend-bytes=${etcdQuotaBytes}`,
    '--log-level=warn',
  ];
}

function etcdSocketOf(layout: Layout): string {
  return `unix://${join(layout.dataDirectory, 'etcd.sock')}`;
}

function apiserverArguments(layout: Layout): string[] {
  const pki = pkiFolderOf(layout);
  return [
    `--etcd-servers=${etcdSocketOf(layout)}`,
    ...servingArguments(layout, 'kube-apiserver'),
    // A machine may have no other address than loopback, which the endpoint reconciler would reject.
    `--advertise-address=${clusterAddress}`,
    '--endpoint-reconciler-type=none',
    `--client-ca-file=${join(pki, 'ca.crt')}`,
    `--service-account-key-file=${join(pki, 'sa.pub')}`,
    `--service-account-signing-key-file=${join(pki, 'sa.key')}`,
    '--service-account-issuer=https://kubernetes.default.svc',
    `--service-cluster-ip-range=${serviceRange}`,
    '--authorization-mode=Node,RBAC',
    '--allow-privileged=true',
    // It taints each new node as not ready; our nodes are born ready, and taking 1,000 taints off again takes longer than
    // making the nodes. kube-controller-manager still taints by condition later.
    '--disable-admission-plugins=TaintNodesByCondition',
    `--audit-policy-file=${configPathOf(layout, 'audit-policy.yaml')}`,
    `--audit-log-path=${auditLogPathOf(layout)}`,
    // In MiB. The default, 0, rotates at 100 MiB, and a reader that remembers offsets would lose its place.
    '--audit-log-maxsize=1000000',
    '--max-requests-inflight=3000',
    '--max-mutating-requests-inflight=1000',
    '--delete-collection-workers=8',
  ];
}

function controllerManagerArguments(layout: Layout): string[] {
  const pki = pkiFolderOf(layout);
  return [
    `--kubeconfig=${kubeconfigPathOf(layout, 'kube-controller-manager')}`,
    ...servingArguments(layout, 'kube-controller-manager'),
    ...delegationArguments(layout, 'kube-controller-manager'),
    `--service-account-private-key-file=${join(pki, 'sa.key')}`,
    `--root-ca-file=${join(pki, 'ca.crt')}`,
    '--use-service-account-credentials=true',
    // The TTL annotation is for kubelets' secret caches; writing it anew at every size a fleet grows through costs more
    // than making the fleet.
    '--controllers=*,-ttl-controller',
    '--kube-api-qps=500',
    '--kube-api-burst=1000',
    '--concurrent-statefulset-syncs=20',
    `--node-monitor-grace-period=${nodeGraceSeconds[layout.nodes]}s`,
    '--leader-elect=false',
  ];
}

function schedulerArguments(layout: Layout): string[] {
  return [
    `--config=${configPathOf(layout, 'kube-scheduler.yaml')}`,
    ...servingArguments(layout, 'kube-scheduler'),
    ...delegationArguments(layout, 'kube-scheduler'),
  ];
}

function lwsArguments(layout: Layout): string[] {
  return [
    `--config=${configPathOf(layout, 'lws.yaml')}`,
    `--kubeconfig=${kubeconfigPathOf(layout, 'lws')}`,
    '--zap-devel=false',
  ];
}

function kwokArguments(layout: Layout): string[] {
  return [
    `--kubeconfig=${kubeconfigPathOf(layout, 'kwok')}`,
    `--config=${configPathOf(layout, 'kwok.yaml')}`,
    '--manage-all-nodes=true',
    `--node-lease-duration-seconds=${leaseSeconds[layout.nodes]}`,
    '--v=WARN',
  ];
}

function servingArguments(layout: Layout, port: PortName): string[] {
  const pki = pkiFolderOf(layout);
  return [
    `--bind-address=${clusterAddress}`,
    `--secure-port=${layout.ports[port]}`,
    `--tls-cert-file=${join(pki, 'server.crt')}`,
    `--tls-private-key-file=${join(pki, 'server.key')}`,
  ];
}

/** Lets a component ask the API server who its own callers are, so that the admin may read its metrics. */
function delegationArguments(layout: Layout, user: KubeconfigUser): string[] {
  const kubeconfig = kubeconfigPathOf(layout, user);
  return [`--authentication-kubeconfig=${kubeconfig}`, `--authorization-kubeconfig=${kubeconfig}`];
}
