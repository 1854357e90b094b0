/**
 * What steering may do to requests for a driver's devices: `steer` puts planned devices before what was asked, `align`
 * leaves the request and may add a constraint, `leave` does neither.
 */
export type DriverPolicy = 'steer' | 'align' | 'leave';

/**
 * Drivers whose rule for finding a request's configuration is known and tested with alternatives
 * (test/unit/cluster/steering/config-survival.test.ts).
 */
const policies: ReadonlyMap<string, DriverPolicy> = new Map([
  ['gpu.nvidia.com', 'steer'],
  ['dra.net', 'steer'],
  ['gpu.amd.com', 'steer'],
  ['gpu.example.com', 'steer'],
  // Its devices are channel numbers, each the same as any other.
  ['compute-domain.nvidia.com', 'leave'],
]);

/** `align` for every driver that nobody has tested. */
export function driverPolicy(driver: string): DriverPolicy {
  return policies.get(driver) ?? 'align';
}
