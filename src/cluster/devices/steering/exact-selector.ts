import type { AttributeValue, Device } from '../device.ts';

/**
 * The CEL expression that picks exactly the planned devices among those that a request could get, or undefined where
 * there is none. CEL knows no device names, so attributes have to tell devices apart:
 *
 *     device.attributes["resource.kubernetes.io"].?pciBusID.orValue("") in ["0000:10:1c.0"]
 *
 * Optional access, for a device without the attribute would be an error, and with an error in a selector the pod is never
 * scheduled; the attributes of an unknown domain are an empty map (k8s.io/dynamic-resource-allocation v0.37.2
 * cel/compile.go). The default "" is in no list of values, also not of numbers.
 *
 * Tried in this order: one attribute that is different on every device, so that nothing else can come to match; one that
 * happens to pick the planned devices; two together; and at last the same, counting devices that no expression tells apart
 * as one, such as places of a MIG profile on one GPU, as long as something is left out. Among equals the attributes that
 * drivers mean as identities come first, then the shortest expression, then the name: the same input, the same answer.
 *
 * @param planned at least one device, all of one driver
 * @param offered what class and selectors of the request let through, the planned devices among them
 */
export function exactSelector(planned: readonly Device[], offered: readonly Device[]): string | undefined {
  const driver = planned[0]?.id.driver;
  if (driver === undefined) return undefined;
  const singles = conditionsOf(planned);
  const pairs = () =>
    singles.flatMap((first, index) => singles.slice(index + 1).map(second => [first, second]));
  const own = new Set(planned);
  const fits = (chosen: readonly Condition[], wanted: ReadonlySet<Device>) => {
    const picked = offered.filter(device => chosen.every(condition => holds(condition, device)));
    if (sameSet(picked, wanted)) return written(chosen, undefined);
    const ofDriver = picked.filter(device => device.id.driver === driver);
    return sameSet(ofDriver, wanted) ? written(chosen, driver) : undefined;
  };
  const first = (sets: readonly (readonly Condition[])[], wanted: ReadonlySet<Device>) => {
    for (const chosen of sets) {
      const expression = fits(chosen, wanted);
      if (expression !== undefined) return expression;
    }
    return undefined;
  };

  const alone = singles.map(condition => [condition]);
  const identities = singles
    .filter(condition => isIdentity(condition, offered))
    .map(condition => [condition]);
  const exact = first(identities, own) ?? first(alone, own) ?? first(pairs(), own);
  if (exact !== undefined) return exact;

  const twins = withTwins(planned, offered);
  if (twins.size === own.size || twins.size === offered.length) return undefined;
  return first(alone, twins) ?? first(pairs(), twins);
}

/** An attribute and the values that the planned devices have. */
interface Condition {
  readonly attribute: string;
  readonly kind: ScalarValue['kind'];
  readonly values: ReadonlySet<string>;
  readonly expression: string;
}

type ScalarValue = Extract<AttributeValue, { kind: 'string' | 'int' | 'bool' | 'version' }>;

/** What drivers mean as the identity of a device, the best known first. */
const knownIdentities: readonly string[] = ['pciBusID', 'uuid', 'pciAddress', 'pciAddr', 'UUID'];

/** Words of CEL's grammar that no field may be called by. */
const reservedWords: ReadonlySet<string> = new Set(
  (
    'as break const continue else false for function if import in let loop namespace null package return true var ' +
    'void while'
  ).split(' '),
);

/** One for each attribute that all planned devices have with values of one kind, the best first. */
function conditionsOf(planned: readonly Device[]): readonly Condition[] {
  const [first, ...others] = planned;
  if (first === undefined) return [];
  return [...first.attributes.keys()]
    .filter(attribute => others.every(device => device.attributes.has(attribute)))
    .flatMap(attribute => conditionOn(attribute, planned))
    .map(condition => ({ condition, rank: rankOf(condition.attribute) }))
    .sort(
      (a, b) =>
        a.rank - b.rank ||
        a.condition.expression.length - b.condition.expression.length ||
        compareText(a.condition.attribute, b.condition.attribute),
    )
    .map(({ condition }) => condition);
}

function conditionOn(attribute: string, planned: readonly Device[]): readonly Condition[] {
  const values = planned.map(device => scalarOf(device, attribute)).filter(value => value !== undefined);
  const [first] = values;
  // Literals in a list must be of one type. "" would be what devices without the attribute have.
  if (first === undefined || values.length < planned.length) return [];
  if (values.some(({ kind, value }) => kind !== first.kind || value === '')) return [];
  const literals = [...new Map(values.map(value => [keyOf(value), literalOf(value)])).entries()].sort(
    ([a], [b]) => compareText(a, b),
  );
  const list = literals.map(([, literal]) => literal).join(', ');
  return [
    {
      attribute,
      kind: first.kind,
      values: new Set(literals.map(([key]) => key)),
      expression: `${accessTo(attribute)}.orValue("") in [${list}]`,
    },
  ];
}

function holds({ attribute, kind, values }: Condition, device: Device): boolean {
  const value = scalarOf(device, attribute);
  return value !== undefined && value.kind === kind && values.has(keyOf(value));
}

/** Whether no two of the offered devices have the same value. */
function isIdentity({ attribute }: Condition, offered: readonly Device[]): boolean {
  const values = offered.map(device => scalarOf(device, attribute)).filter(value => value !== undefined);
  return new Set(values.map(value => `${value.kind} ${keyOf(value)}`)).size === values.length;
}

/** The planned devices and all offered ones with the same driver, attributes and capacity. */
function withTwins(planned: readonly Device[], offered: readonly Device[]): ReadonlySet<Device> {
  const looks = new Set(planned.map(looksOf));
  return new Set(offered.filter(device => looks.has(looksOf(device))));
}

/** All of a device that an expression can see. */
function looksOf({ id, attributes, capacity, allowMultipleAllocations }: Device): string {
  const sorted = <T>(map: ReadonlyMap<string, T>, show: (value: T) => string) =>
    [...map].map(([name, value]) => `${name}=${show(value)}`).sort(compareText);
  return JSON.stringify([
    id.driver,
    sorted(attributes, ({ kind, value }) => `${kind} ${JSON.stringify(String(value))}`),
    sorted(capacity, ({ value }) => String(value)),
    allowMultipleAllocations,
  ]);
}

function written(conditions: readonly Condition[], driver: string | undefined): string {
  return [
    ...(driver === undefined ? [] : [`device.driver == ${JSON.stringify(driver)}`]),
    ...conditions.map(({ expression }) => expression),
  ].join(' && ');
}

function accessTo(attribute: string): string {
  const slash = attribute.indexOf('/');
  const domain = attribute.slice(0, slash);
  const id = attribute.slice(slash + 1);
  const isField = /^[A-Za-z_]\w*$/.test(id) && !reservedWords.has(id);
  return `device.attributes[${JSON.stringify(domain)}]${isField ? `.?${id}` : `[?${JSON.stringify(id)}]`}`;
}

function scalarOf({ attributes }: Device, attribute: string): ScalarValue | undefined {
  const value = attributes.get(attribute);
  switch (value?.kind) {
    case 'string':
    case 'int':
    case 'bool':
    case 'version':
      return value;
    default:
      return undefined;
  }
}

/** Equal for values that CEL calls equal: of a version the build does not count. */
function keyOf({ kind, value }: ScalarValue): string {
  return kind === 'version' ? (value.split('+')[0] ?? '') : String(value);
}

function literalOf(value: ScalarValue): string {
  switch (value.kind) {
    case 'string':
      return JSON.stringify(value.value);
    case 'version':
      return `semver(${JSON.stringify(value.value)})`;
    default:
      return String(value.value);
  }
}

function rankOf(attribute: string): number {
  const rank = knownIdentities.indexOf(attribute.slice(attribute.indexOf('/') + 1));
  return rank === -1 ? knownIdentities.length : rank;
}

function sameSet(devices: readonly Device[], wanted: ReadonlySet<Device>): boolean {
  return devices.length === wanted.size && devices.every(device => wanted.has(device));
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
