import { type DeviceKey, deviceKey } from '../cluster/devices/device.ts';
import { type Evidence, isOfWideRule } from './evidence.ts';

export interface CliqueQuestion {
  readonly cliqueOfNode: (name: string) => string | undefined;
  readonly nowMs: number;
  /** Evidence must have stood for so long: a clique is many nodes, and a group that is starting there would be planned again. */
  readonly afterMs: number;
}

/**
 * NVLink cliques that no plan may use, each with the cause, and milliseconds until time alone adds one. What one GPU tells
 * of its links may be the GPU itself, which is kept off anyhow; two of a clique are a word against the switches.
 */
export function suspectCliques(
  evidence: Iterable<Evidence>,
  { cliqueOfNode, nowMs, afterMs }: CliqueQuestion,
): { readonly causes: ReadonlyMap<string, string>; readonly dueInMs: number | undefined } {
  const suspect = new Map<string, string>();
  const links = new Map<string, DeviceKey>();
  let dueInMs: number | undefined;
  for (const { sighting, firstSeenMs } of evidence) {
    const { clique, ofNvlink, device, cause, nodeName, class: of } = sighting;
    if (of === 'info' || (clique === undefined && ofNvlink !== true)) continue;
    const leftMs = firstSeenMs + afterMs - nowMs;
    if (leftMs > 0) {
      dueInMs = Math.min(leftMs, dueInMs ?? leftMs);
      continue;
    }
    if (clique !== undefined) suspect.set(clique, cause);
    const isLink = ofNvlink === true && device !== undefined && !isOfWideRule(sighting);
    const around = isLink ? cliqueOfNode(nodeName) : undefined;
    if (around === undefined || device === undefined) continue;
    const key = deviceKey(device);
    if ((links.get(around) ?? key) !== key) suspect.set(around, cause);
    links.set(around, key);
  }
  return { causes: suspect, dueInMs };
}
