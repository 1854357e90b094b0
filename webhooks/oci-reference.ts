/** The rules of github.com/distribution/reference, which container runtimes apply to `volumes[].image.reference`. */
const domainPattern =
  /^(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?$/;
const componentPattern = /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*$/;
const tagPattern = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const digestPattern = /^[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}$/;
const hexDigits: ReadonlyMap<string, number> = new Map([
  ['sha256', 64],
  ['sha384', 96],
  ['sha512', 128],
]);

const longestName = 255;
/** Longer than any name with tag and digest; keeps the patterns away from a body's worth of text. */
const longestReference = 1024;

/** What is wrong with an OCI reference `[domain/]path[:tag][@digest]`, to follow its field name; undefined if nothing. */
export function whyNotReference(reference: string): string | undefined {
  if (reference === '') return 'must not be empty';
  if (reference.length > longestReference) return `must have at most ${longestReference} characters`;
  if (reference.includes('://')) return 'must be an OCI reference without a scheme';
  if (/^[0-9a-f]{64}$/.test(reference)) return 'must not be an image ID';
  const [tagged = '', digest, ...more] = reference.split('@');
  if (more.length > 0) return 'must have at most one digest';
  if (digest !== undefined && !isDigest(digest)) return 'must have a digest such as sha256:<64 hex digits>';
  const { name, tag } = splitTag(tagged);
  if (tag !== undefined && !tagPattern.test(tag))
    return 'must have a tag of at most 128 characters of [A-Za-z0-9_.-]';
  return whyNotName(name);
}

/** A colon before the last slash belongs to a port. */
function splitTag(tagged: string): { readonly name: string; readonly tag: string | undefined } {
  const colon = tagged.indexOf(':', tagged.lastIndexOf('/') + 1);
  return colon === -1
    ? { name: tagged, tag: undefined }
    : { name: tagged.slice(0, colon), tag: tagged.slice(colon + 1) };
}

function whyNotName(name: string): string | undefined {
  if (name.length > longestName) return `must have a name of at most ${longestName} characters`;
  const components = name.split('/');
  const [first = ''] = components;
  const hasDomain = components.length > 1 && isDomain(first);
  if (hasDomain && !domainPattern.test(first))
    return `must name a registry as host or host:port before the first slash`;
  const path = hasDomain ? components.slice(1) : components;
  return path.every(component => componentPattern.test(component))
    ? undefined
    : 'must have a repository path of lower-case letters and digits, separated by one of . _ __ - /';
}

/** As Docker tells `registry/path` from `path/path`: only hosts have dots, ports or capitals, or are `localhost`. */
function isDomain(component: string): boolean {
  return component === 'localhost' || /[.:A-Z]/.test(component);
}

/** The runtimes know three algorithms and want their digits in full and in lower case. */
function isDigest(text: string): boolean {
  if (!digestPattern.test(text)) return false;
  const [algorithm = '', hex = ''] = text.split(':');
  const digits = hexDigits.get(algorithm);
  return digits === undefined || (hex.length === digits && !/[A-F]/.test(hex));
}
