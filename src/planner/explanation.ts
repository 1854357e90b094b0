/** For each level, from the required one inwards, what stands in the way of a refused group. Plain data, fit for JSON. */
export interface Explanation {
  readonly levels: readonly LevelExplanation[];
}

export interface LevelExplanation {
  /** -1 for the whole cluster, the number of levels for hosts. */
  readonly level: number;
  readonly name: string;
  /** Members that one domain must take: all of them, those of one slice, or one where the level is not asked for. */
  readonly wanted: number;
  /** Domains that can be asked: those without the members that stay are left out. */
  readonly domains: number;
  /** Domains by how many members more they would have to take, the nearest first. */
  readonly lacking: readonly { readonly missing: number; readonly domains: number }[];
  /** Every member needs a host of its own, so what is missing are hosts. */
  readonly hostEach: boolean;
  /** Domains that take no member even when empty; for hosts that need take only one, all that take none, by cause. */
  readonly barred: readonly { readonly cause: string; readonly domains: number }[];
  /** Domains with room in numbers that do not do: rules between pods, groups or slices forbid it, or members of many kinds. */
  readonly ruledOut: number;
  /** Hosts that would take a member but for what is held there, by who holds it, the most first. */
  readonly held: readonly { readonly key: string; readonly hosts: number }[];
}

/** More entries of a list than so many are counted. */
const entriesTold = 3;

/** One sentence for each level, the same for the same value. */
export function describeExplanation({ levels }: Explanation): string {
  return levels.map(describeLevel).join('. ');
}

function describeLevel(level: LevelExplanation): string {
  const { name, domains, barred, ruledOut, held } = level;
  if (domains === 0) return `${name}: there is no ${name} to ask`;
  const noun = domains === 1 ? name : `${name}s`;
  const parts = [...lackingParts(level)];
  const barredDomains = barred.reduce((sum, cause) => sum + cause.domains, 0);
  if (barredDomains > 0) {
    const causes = listed(barred.map(cause => `${cause.domains} ${cause.cause}`));
    parts.push(`${barredDomains} ${verb(barredDomains, 'takes', 'take')} no pod of it: ${causes}`);
  }
  if (ruledOut > 0)
    parts.push(
      `${ruledOut} ${verb(ruledOut, 'has', 'have')} room in numbers, yet not as the group asks for it`,
    );
  const [first, ...others] = parts;
  if (first === undefined) return `${name}: ${domains} ${noun}, each with room`;
  const told = [first.replace(/^\d+/, n => `${n} of ${domains} ${noun}`), ...others].join(', ');
  const holders = listed(
    held.map(({ key, hosts }) => `${hosts} ${verb(hosts, 'host', 'hosts')} held for ${key}`),
  );
  return `${name}: ${told}${holders === '' ? '' : `; ${holders}`}`;
}

function lackingParts({ lacking, hostEach, wanted, level }: LevelExplanation): readonly string[] {
  const shown = lacking.slice(0, entriesTold);
  const more = lacking.slice(entriesTold).reduce((sum, entry) => sum + entry.domains, 0);
  const parts = shown.map(({ missing, domains }) => {
    if (wanted === 1 && level >= 0)
      return `${domains} ${verb(domains, 'has', 'have')} no room for a pod of it`;
    const lack = verb(domains, 'lacks', 'lack');
    if (!hostEach) return `${domains} ${lack} room for ${missing} ${verb(missing, 'pod', 'pods')}`;
    return `${domains} ${lack} ${missing} free ${verb(missing, 'host', 'hosts')}`;
  });
  return more === 0 ? parts : [...parts, `${more} ${verb(more, 'lacks', 'lack')} more`];
}

function listed(entries: readonly string[]): string {
  const more = entries.length - entriesTold;
  return more <= 0 ? entries.join(', ') : `${entries.slice(0, entriesTold).join(', ')} and ${more} more`;
}

function verb(n: number, one: string, many: string): string {
  return n === 1 ? one : many;
}
