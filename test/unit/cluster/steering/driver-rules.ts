import type {
  DeviceClaimConfiguration,
  DeviceRequest,
  DeviceRequestAllocationResult,
  ResourceClaimSpec,
} from '../../../../src/api/dra.ts';

/** What drivers get to see of an allocated claim. */
export interface Allocated {
  readonly results: readonly Pick<DeviceRequestAllocationResult, 'request' | 'driver'>[];
  readonly config: readonly AllocatedConfig[];
}

export type AllocatedConfig = DeviceClaimConfiguration & { readonly source: 'FromClass' | 'FromClaim' };

/** Which alternative of a request with alternatives was taken; undefined for one without. */
export type Choice = (request: DeviceRequest) => string | undefined;

/** Parameters of the classes, each with its driver. */
export type ClassConfigs = Readonly<Record<string, readonly DeviceClaimConfiguration[]>>;

export interface AllocateInput {
  readonly spec: ResourceClaimSpec;
  readonly choice: Choice;
  readonly driverOf: (className: string) => string;
  readonly classConfigs: ClassConfigs;
  /** kube-scheduler empties the names of what covers all requests from 1.37 on. */
  readonly emptiesNames: boolean;
}

/**
 * The configurations that kube-scheduler puts into an allocation, and the names of the results:
 * k8s.io/dynamic-resource-allocation v0.37.2 structured/internal/incubating/allocator_incubating.go, "Populate configs".
 */
export function allocate({ spec, choice, driverOf, classConfigs, emptiesNames }: AllocateInput): Allocated {
  const { requests = [], config = [] } = spec.devices ?? {};
  const chosen = requests.map(request => {
    const alternative = choice(request);
    const body = request.exactly ?? request.firstAvailable?.find(({ name }) => name === alternative);
    if (body === undefined) throw new Error(`${request.name} has no alternative ${alternative}`);
    const full = request.exactly === undefined ? `${request.name}/${alternative}` : request.name;
    return { parent: request.name, full, className: body.deviceClassName };
  });
  const classNames = [...new Set(chosen.map(({ className }) => className))];
  const fromClasses = classNames.flatMap(className =>
    (classConfigs[className] ?? []).map(
      (entry): AllocatedConfig => ({
        ...entry,
        source: 'FromClass',
        requests: chosen.filter(other => other.className === className).map(({ full }) => full),
      }),
    ),
  );
  const fromClaim = config
    .filter(({ requests: names = [] }) => names.length === 0 || chosen.some(isNamedIn(names)))
    .map((entry): AllocatedConfig => ({ ...entry, source: 'FromClaim' }));
  return {
    results: chosen.map(({ full, className }) => ({ request: full, driver: driverOf(className) })),
    config: [...fromClasses, ...fromClaim].map(entry =>
      emptiesNames && chosen.every(isNamedIn(entry.requests ?? [])) ? { ...entry, requests: [] } : entry,
    ),
  };
}

function isNamedIn(names: readonly string[]) {
  return ({ parent, full }: { readonly parent: string; readonly full: string }) =>
    names.includes(parent) || names.includes(full);
}

/** The parameters that hold for one result, `default`, or `error` where the driver refuses to prepare the claim. */
export type DriverRule = (allocated: Allocated, request: string) => unknown;

/**
 * How drivers find the parameters of a result, in our own words. All of them compare the name in the result with those
 * of a configuration letter by letter; only the order, and what an empty list of names takes, differ.
 */
export const driverRules: Readonly<Record<string, DriverRule>> = {
  // kubernetes-sigs/dra-driver-nvidia-gpu@9593204 cmd/gpu-kubelet-plugin/device_state.go getConfigResultsMap: the last
  // one that names the result holds, and is an error for a device of another type; one without names is passed over then.
  'gpu.nvidia.com': ofType('gpu.nvidia.com', 'GpuConfig'),
  // The same repository and commit, cmd/compute-domain-kubelet-plugin/device_state.go getConfigResultsMap.
  'compute-domain.nvidia.com': ofType('compute-domain.nvidia.com', 'ComputeDomainChannelConfig'),
  // kubernetes-sigs/dranet@f258477 pkg/driver/dra_hooks.go prepareResourceClaim: the first that fits.
  'dra.net': ({ config }, request) =>
    config
      .filter(({ opaque }) => opaque?.driver === 'dra.net')
      .find(({ requests = [] }) => requests.length === 0 || requests.includes(request))?.opaque?.parameters ??
    'default',
  // ROCm/k8s-gpu-dra-driver@2622427 cmd/gpu-kubeletplugin/state.go prepareDevices: the last that fits.
  'gpu.amd.com': lastThatFits('gpu.amd.com'),
  // kubernetes-sigs/dra-example-driver@31914ce cmd/dra-example-kubeletplugin/state.go computeDeviceConfig.
  'gpu.example.com': lastThatFits('gpu.example.com'),
};

function ofType(driver: string, kind: string): DriverRule {
  return ({ config }, request) => {
    for (const { requests = [], parameters } of ofDriver(config, driver).toReversed()) {
      const fits =
        typeof parameters === 'object' &&
        parameters !== null &&
        'kind' in parameters &&
        parameters.kind === kind;
      if (requests.includes(request)) return fits ? parameters : 'error';
      if (requests.length === 0 && fits) return parameters;
    }
    return 'default';
  };
}

function lastThatFits(driver: string): DriverRule {
  return ({ config }, request) =>
    ofDriver(config, driver).findLast(({ requests }) => requests.length === 0 || requests.includes(request))
      ?.parameters ?? 'default';
}

/** Those of classes before those of the claim, as all four drivers sort them (GetOpaqueDeviceConfigs). */
function ofDriver(config: readonly AllocatedConfig[], driver: string) {
  return (['FromClass', 'FromClaim'] as const).flatMap(source =>
    config.flatMap(entry =>
      entry.source === source && entry.opaque?.driver === driver
        ? [{ requests: entry.requests ?? [], parameters: entry.opaque.parameters }]
        : [],
    ),
  );
}
