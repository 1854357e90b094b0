import { parse, stringify } from 'yaml';

type Section = Record<string, unknown>;

/** Requests per second of the scheduler's client: the stock 50 would be what a benchmark measures. */
const clientQps = 1000;
const clientBurst = 2000;

/**
 * Completes a KubeSchedulerConfiguration for the bed: the kubeconfig is always the cluster's, client rate and leader
 * election only where the caller left them open.
 *
 * @param callerYaml the caller's configuration; the stock profile when undefined
 */
export function schedulerConfiguration(callerYaml: string | undefined, kubeconfigPath: string): string {
  const caller = sectionOf(callerYaml === undefined ? undefined : parse(callerYaml));
  return stringify({
    apiVersion: 'kubescheduler.config.k8s.io/v1',
    kind: 'KubeSchedulerConfiguration',
    ...caller,
    clientConnection: {
      qps: clientQps,
      burst: clientBurst,
      ...sectionOf(caller['clientConnection']),
      kubeconfig: kubeconfigPath,
    },
    leaderElection: { leaderElect: false, ...sectionOf(caller['leaderElection']) },
  });
}

function sectionOf(value: unknown): Section {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}
