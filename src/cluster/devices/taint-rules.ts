import type { DeviceTaint, DeviceTaintRule } from '../../api/dra.ts';
import { berth } from '../../api/names.ts';
import type { AppliedTaint, DeviceSlice } from './device.ts';
import { optionalTextAt, recordAt, textAt } from './format-error.ts';

/** What Berth keeps of a DeviceTaintRule. */
export interface TaintRuleRecord {
  readonly name: string;
  /** Each part that is set must match; none set matches every device. Undefined matches none. */
  readonly selector:
    | {
        readonly driver: string | undefined;
        readonly pool: string | undefined;
        readonly device: string | undefined;
      }
    | undefined;
  readonly taint: DeviceTaint;
  /** Annotation `berth.dev/confirmed` is there. */
  readonly isConfirmed: boolean;
  /** Of one that bears Berth's label. */
  readonly ofBerth?: {
    readonly uid: string;
    /** Annotation `berth.dev/exclusion` as written. */
    readonly record: string;
    /** Annotation `berth.dev/release` is there. */
    readonly isReleased: boolean;
  };
}

/**
 * What Berth keeps of a DeviceTaintRule.
 * @throws DeviceFormatError, which names the field
 */
export function decodeTaintRule({ metadata, spec }: DeviceTaintRule): TaintRuleRecord {
  const { deviceSelector, taint } = recordAt(spec, 'spec');
  const at = 'spec.deviceSelector';
  const selector = deviceSelector === undefined ? undefined : recordAt(deviceSelector, at);
  const given = recordAt(taint, 'spec.taint');
  textAt(given['key'], 'spec.taint.key');
  textAt(given['effect'], 'spec.taint.effect');
  return {
    name: textAt(metadata.name, 'metadata.name'),
    selector: selector && {
      driver: optionalTextAt(selector['driver'], `${at}.driver`),
      pool: optionalTextAt(selector['pool'], `${at}.pool`),
      device: optionalTextAt(selector['device'], `${at}.device`),
    },
    taint: given as unknown as DeviceTaint,
    isConfirmed: metadata.annotations?.[berth.confirmed] !== undefined,
    ...(metadata.labels?.[berth.excluded] !== undefined && {
      ofBerth: {
        uid: metadata.uid ?? '',
        record: metadata.annotations?.[berth.exclusion] ?? '',
        isReleased: metadata.annotations?.[berth.release] !== undefined,
      },
    }),
  };
}

/** Whether a rule may have a say about a slice. */
export function concernsSlice({ selector }: TaintRuleRecord, { driver, pool }: DeviceSlice): boolean {
  if (selector === undefined) return false;
  return (selector.driver ?? driver) === driver && (selector.pool ?? pool) === pool;
}

/**
 * The slice with what rules add to the taints of its devices; the same object where they add nothing
 * (k8s.io/dynamic-resource-allocation resourceslice/tracker applyPatches, v0.37.2).
 */
export function withTaintRules(slice: DeviceSlice, rules: Iterable<TaintRuleRecord>): DeviceSlice {
  const concerning = [...rules].filter(rule => concernsSlice(rule, slice));
  if (concerning.length === 0) return slice;
  let changed = false;
  const devices = slice.devices.map(device => {
    const more = concerning.flatMap(rule =>
      (rule.selector?.device ?? device.id.device) === device.id.device ? [appliedTaint(rule)] : [],
    );
    if (more.length === 0) return device;
    changed = true;
    return { ...device, taints: [...device.taints, ...more] };
  });
  return changed ? { ...slice, devices } : slice;
}

function appliedTaint({ name, selector, taint, isConfirmed }: TaintRuleRecord): AppliedTaint {
  const isNarrow =
    selector?.driver !== undefined && selector.pool !== undefined && selector.device !== undefined;
  return { ...taint, rule: { name, isNarrow, isConfirmed } };
}
