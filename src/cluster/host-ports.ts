import type { Container, PodSpec } from '../api/kubernetes.ts';

/** A port of the node that a pod binds. */
export interface HostPort {
  /** `0.0.0.0` stands for every address. */
  readonly ip: string;
  readonly protocol: string;
  readonly port: number;
}

const everyAddress = '0.0.0.0';

/**
 * The node ports that a pod holds while it runs (k8s.io/kubernetes pkg/scheduler/util GetHostPorts): those of its
 * containers and sidecars, not of ordinary init containers. With hostNetwork a container port is a host port too; the
 * API server writes that into pods (SetDefaults_Pod) but not into templates, so it is applied here.
 */
export function hostPortsOf(spec: PodSpec): readonly HostPort[] {
  const sidecars = (spec.initContainers ?? []).filter(({ restartPolicy }) => restartPolicy === 'Always');
  return [...sidecars, ...spec.containers].flatMap(container =>
    containerHostPorts(container, spec.hostNetwork),
  );
}

/**
 * Whether one node cannot give out both ports: the NodePorts plugin, where addresses are compared as texts and only
 * `0.0.0.0` (or none) covers others.
 */
export function hostPortsConflict(a: HostPort, b: HostPort): boolean {
  if (a.port !== b.port || a.protocol !== b.protocol) return false;
  return a.ip === b.ip || a.ip === everyAddress || b.ip === everyAddress;
}

function containerHostPorts(container: Container, hostNetwork = false): readonly HostPort[] {
  return (container.ports ?? []).flatMap(({ hostIP, protocol, hostPort, containerPort }) => {
    const port = hostPort || (hostNetwork ? containerPort : 0) || 0;
    return port > 0 ? [{ ip: hostIP || everyAddress, protocol: protocol || 'TCP', port }] : [];
  });
}
