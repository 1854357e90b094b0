import type { DeviceClass } from '../../src/api/dra.ts';

const groupVersion = 'resource.k8s.io/v1';
const attributesOf = (driver: string) => `device.attributes['${driver}']`;

/** Classes as the charts of the drivers install them. */
export const gpuClass = deviceClass('gpu.nvidia.com', ofType('gpu.nvidia.com', 'gpu'));
export const migClass = deviceClass('mig.nvidia.com', ofType('gpu.nvidia.com', 'mig'));
/** The same class where whole GPUs also answer to `nvidia.com/gpu` in a container's limits. */
export const gpuClassForLimits = deviceClass(
  'gpu.nvidia.com',
  ofType('gpu.nvidia.com', 'gpu'),
  'nvidia.com/gpu',
);
export const channelClass = deviceClass(
  'compute-domain-default-channel.nvidia.com',
  `${ofType('compute-domain.nvidia.com', 'channel')} && ${attributesOf('compute-domain.nvidia.com')}.id == 0`,
);
export const daemonClass = deviceClass(
  'compute-domain-daemon.nvidia.com',
  ofType('compute-domain.nvidia.com', 'daemon'),
);
export const efaClass = deviceClass(
  'efa.networking.k8s.aws',
  `device.driver == 'dra.net' && ${attributesOf('dra.net')}.pciDevice == 'Elastic Fabric Adapter (EFA)'`,
);
/** What dranet's documentation suggests where a cloud brings no class of its own. */
export const rdmaClass = deviceClass(
  'dranet-rdma',
  `device.driver == 'dra.net' && ${attributesOf('dra.net')}.?rdma.orValue(false)`,
);

function ofType(driver: string, type: string): string {
  return `device.driver == '${driver}' && ${attributesOf(driver)}.type == '${type}'`;
}

function deviceClass(name: string, expression: string, extendedResourceName?: string): DeviceClass {
  return {
    apiVersion: groupVersion,
    kind: 'DeviceClass',
    metadata: { name },
    spec: {
      selectors: [{ cel: { expression } }],
      ...(extendedResourceName !== undefined && { extendedResourceName }),
    },
  };
}
