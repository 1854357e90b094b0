/** A sub-domain or a host of the domain in which a group is to be spread. */
export interface Part {
  /** Which one it is. */
  readonly at: number;
  /** Units (workers, or slices) that it takes without the leader. */
  readonly units: number;
  /** Units beside the leader; -1 where the leader may not go. */
  readonly beside: number;
  /** No accelerator of it is in use. */
  readonly whole: boolean;
  /** Members of the group stand there already, so that using it opens nothing. */
  readonly kept: boolean;
}

export interface Share {
  readonly at: number;
  readonly units: number;
  readonly leader: boolean;
}

export interface Choice {
  /** In the order in which ranks go: the leader's part first. Parts that get nothing are left out. */
  readonly shares: readonly Share[];
  /** Parts without members so far that are used. */
  readonly opened: number;
  /** The whole ones among them. */
  readonly openedWhole: number;
}

/**
 * Spreads `wanted` units, and the leader if there is one, over parts.
 *
 * Exact in its two aims: as few parts as can be are opened, and of all such choices one that opens the fewest whole
 * ones. Among these a tight fit is preferred, so that roomy parts stay roomy; of equals the first is taken. Undefined when
 * the parts together do not hold them.
 */
export function chooseParts(parts: readonly Part[], wanted: number, withLeader: boolean): Choice | undefined {
  const pool = poolOf(parts);
  if (!withLeader) {
    const rest = chooseRest(pool, wanted, undefined);
    return rest && choiceOf(rest, wanted, undefined);
  }
  let best: { choice: Rest; leader: Part } | undefined;
  // Leaders' parts of equal worth need equally many others, so the first of each kind is enough.
  const tried = new Set<string>();
  for (const leader of parts) {
    if (leader.beside < 0) continue;
    const worth = `${leader.beside}/${leader.units}/${leader.whole}/${leader.kept}`;
    if (tried.has(worth)) continue;
    tried.add(worth);
    const choice = chooseRest(pool, Math.max(0, wanted - leader.beside), leader);
    if (choice === undefined) continue;
    if (best === undefined || isBetter(choice, leader, best.choice, best.leader)) best = { choice, leader };
  }
  return best && choiceOf(best.choice, wanted, best.leader);
}

/** Parts other than the leader's. */
interface Rest {
  readonly parts: readonly Part[];
  readonly opened: number;
  readonly openedWhole: number;
  readonly room: number;
}

/** Parts that take units, sorted by room; each list with the roomiest first. */
interface Pool {
  readonly kept: readonly Part[];
  readonly broken: readonly Part[];
  readonly whole: readonly Part[];
}

function poolOf(parts: readonly Part[]): Pool {
  const roomy = parts.filter(part => part.units > 0).sort((a, b) => b.units - a.units);
  return {
    kept: roomy.filter(part => part.kept),
    broken: roomy.filter(part => !part.kept && !part.whole),
    whole: roomy.filter(part => !part.kept && part.whole),
  };
}

function chooseRest(pool: Pool, wanted: number, leader: Part | undefined): Rest | undefined {
  if (wanted === 0) return { parts: [], opened: 0, openedWhole: 0, room: 0 };
  const kept = fewest(pool.kept, wanted, leader);
  const keptRoom = roomOf(kept);
  if (keptRoom >= wanted)
    return {
      parts: tightened(kept, pool.kept, keptRoom - wanted, leader),
      opened: 0,
      openedWhole: 0,
      room: keptRoom,
    };
  const missing = wanted - keptRoom;
  const count = fewestOf(pool, missing, leader);
  if (count === undefined) return undefined;
  for (let openedWhole = 0; openedWhole <= count; openedWhole++) {
    const broken = firstOf(pool.broken, count - openedWhole, leader);
    const whole = firstOf(pool.whole, openedWhole, leader);
    const room = roomOf(broken) + roomOf(whole);
    if (broken.length + whole.length < count || room < missing) continue;
    const tightWhole = tightened(whole, pool.whole, room - missing, leader);
    const slack = roomOf(broken) + roomOf(tightWhole) - missing;
    const tightBroken = tightened(broken, pool.broken, slack, leader);
    const parts = [...kept, ...tightBroken, ...tightWhole];
    return { parts, opened: count, openedWhole, room: roomOf(parts) };
  }
  return undefined;
}

/** How many of the roomiest new parts hold the units, broken or whole; undefined when all of them do not. */
function fewestOf({ broken, whole }: Pool, wanted: number, leader: Part | undefined): number | undefined {
  let [left, count, atBroken, atWhole] = [wanted, 0, 0, 0];
  while (left > 0) {
    if (broken[atBroken] === leader && leader !== undefined) atBroken++;
    if (whole[atWhole] === leader && leader !== undefined) atWhole++;
    const [a, b] = [broken[atBroken]?.units ?? 0, whole[atWhole]?.units ?? 0];
    if (a === 0 && b === 0) return undefined;
    if (a >= b) atBroken++;
    else atWhole++;
    left -= Math.max(a, b);
    count++;
  }
  return count;
}

/** As few of the roomiest as hold the units, or all of them. */
function fewest(sorted: readonly Part[], wanted: number, leader: Part | undefined): readonly Part[] {
  const chosen: Part[] = [];
  let left = wanted;
  for (const part of sorted) {
    if (left <= 0) break;
    if (part === leader) continue;
    chosen.push(part);
    left -= part.units;
  }
  return chosen;
}

function firstOf(sorted: readonly Part[], count: number, leader: Part | undefined): readonly Part[] {
  const chosen: Part[] = [];
  for (let at = 0; chosen.length < count && at < sorted.length; at++) {
    const part = sorted[at];
    if (part !== undefined && part !== leader) chosen.push(part);
  }
  return chosen;
}

/** Puts the tightest part that still does in the place of the least roomy one. */
function tightened(
  chosen: readonly Part[],
  sorted: readonly Part[],
  slack: number,
  leader: Part | undefined,
): readonly Part[] {
  const last = chosen.at(-1);
  if (last === undefined || slack <= 0) return chosen;
  const least = last.units - slack;
  let tightest = last;
  for (let at = sorted.indexOf(last) + 1; at < sorted.length; at++) {
    const part = sorted[at];
    if (part === undefined || part.units < least) break;
    if (part !== leader && part.units < tightest.units) tightest = part;
  }
  return [...chosen.slice(0, -1), tightest];
}

function roomOf(parts: readonly Part[]): number {
  return parts.reduce((sum, part) => sum + part.units, 0);
}

function isBetter(a: Rest, aLeader: Part, b: Rest, bLeader: Part): boolean {
  return (
    (a.opened + opens(aLeader) - b.opened - opens(bLeader) ||
      a.openedWhole + opensWhole(aLeader) - b.openedWhole - opensWhole(bLeader) ||
      opensWhole(aLeader) - opensWhole(bLeader) ||
      a.room + aLeader.units - b.room - bLeader.units ||
      aLeader.units - bLeader.units) < 0
  );
}

function opens(part: Part): number {
  return part.kept ? 0 : 1;
}

function opensWhole(part: Part): number {
  return part.kept || !part.whole ? 0 : 1;
}

/** Fills the leader's part first, then those that are kept or broken; what is left over is left in the last one. */
function choiceOf(rest: Rest, wanted: number, leader: Part | undefined): Choice {
  const shares: Share[] = [];
  let left = wanted;
  if (leader !== undefined) {
    const units = Math.min(left, leader.beside);
    shares.push({ at: leader.at, units, leader: true });
    left -= units;
  }
  for (const part of rest.parts) {
    const units = Math.min(left, part.units);
    if (units > 0) shares.push({ at: part.at, units, leader: false });
    left -= units;
  }
  return {
    shares,
    opened: rest.opened + (leader === undefined ? 0 : opens(leader)),
    openedWhole: rest.openedWhole + (leader === undefined ? 0 : opensWhole(leader)),
  };
}
