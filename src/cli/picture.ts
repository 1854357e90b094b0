import type { ClusterCache } from '../cache/cluster-cache.ts';
import { seatOf } from '../cache/group-view.ts';
import { resultsOfPlan } from '../cluster/devices/claims.ts';
import type { DeviceId } from '../cluster/devices/device.ts';
import type { NodeInfo } from '../cluster/node-info.ts';
import type { Resources } from '../cluster/resources.ts';
import type { TopologyDomain } from '../cluster/topology.ts';
import type { Colours } from './colours.ts';
import { mainDevice } from './host-devices.ts';

const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const signs = { free: '·', taken: '▒', unusable: '×' } as const;
const mostCells = 16;
const hostsPerLine = 8;

/** A group or single pod that is drawn with a letter of its own. */
export interface Drawn {
  /** Key of the group, or UID of the pod. */
  readonly key: string;
  readonly name: string;
}

interface Seat {
  readonly number: number;
  readonly rank: number;
  readonly devices: number;
}

/**
 * The fleet as racks of hosts, one sign for each device (for the host where it has none), and beside a host the ranks
 * that stand on it.
 */
export function fleetPicture(cache: ClusterCache, drawn: readonly Drawn[], colours: Colours): string {
  const { tree } = cache.snapshot();
  const seats = seatsByNode(cache, drawn);
  const infoOf = (host: TopologyDomain) => cache.nodeInfo(tree.nodeNames[host.nodes[0] ?? 0] ?? '');
  const drawHost = (host: TopologyDomain): Cell => {
    const info = infoOf(host);
    return info === undefined ? { text: '', width: 0 } : hostCell(info, seats, colours);
  };
  const shown = new Set([...seats.values()].flat().map(({ number }) => number));
  const legend = drawn.flatMap(({ name }, number) =>
    shown.has(number) ? [`${colours.group(letterOf(number), number)} ${name}`] : [],
  );
  const levels = tree.levels.map(level => level.name);
  return [
    ...drawDomain(tree.root, '', drawHost, levels),
    '',
    ...legend,
    `${signs.taken} taken by others   ${signs.free} free   ${signs.unusable} not usable; numbers are ranks`,
    '',
  ].join('\n');
}

/** What is drawn, and how many columns it takes without its colour. */
interface Cell {
  readonly text: string;
  readonly width: number;
}

function drawDomain(
  domain: TopologyDomain,
  indent: string,
  drawHost: (host: TopologyDomain) => Cell,
  levels: readonly string[],
): readonly string[] {
  const hosts = domain.children.filter(({ level }) => level === levels.length);
  if (hosts.length > 0) return drawHosts(hosts.map(drawHost), indent);
  return domain.children.flatMap((child, i) => {
    const last = i === domain.children.length - 1;
    const name = `${levels[child.level] ?? ''} ${child.path.at(-1) || '(none)'}`;
    const inner = drawDomain(child, `${indent}${last ? '   ' : '│  '}`, drawHost, levels);
    return [`${indent}${last ? '└─ ' : '├─ '}${name}`, ...inner];
  });
}

function drawHosts(cells: readonly Cell[], indent: string): readonly string[] {
  const width = Math.max(...cells.map(cell => cell.width));
  const lines: string[] = [];
  for (let at = 0; at < cells.length; at += hostsPerLine) {
    const line = cells
      .slice(at, at + hostsPerLine)
      .map(({ text, width: own }) => text + ' '.repeat(width - own));
    lines.push(`${indent}${line.join(' ')}`.trimEnd());
  }
  return lines;
}

function hostCell(info: NodeInfo, seats: ReadonlyMap<string, readonly Seat[]>, colours: Colours): Cell {
  const here = seats.get(info.record.name) ?? [];
  const device = mainDevice(info);
  const count = device?.count ?? 1;
  const cells = Math.min(count, mostCells);
  // Where there are more devices than signs, a sign stands for several.
  const scaled = (devices: number) => Math.min(cells, Math.ceil((devices * cells) / count));
  const own = here.map(seat => ({ ...seat, cells: device === undefined ? 1 : scaled(seat.devices) }));
  const ownCells = own.reduce((sum, seat) => sum + seat.cells, 0);
  const free = device === undefined ? (info.untouched ? 1 : 0) : scaled(device.free);
  const usable = info.record.ready && !info.record.cordoned;
  const freeCells = Math.max(0, Math.min(cells - ownCells, free));
  const others = Math.max(0, cells - ownCells - freeCells);
  const signsOf = own.map(seat => colours.group(letterOf(seat.number).repeat(seat.cells), seat.number));
  const rest = signs.taken.repeat(others) + (usable ? signs.free : signs.unusable).repeat(freeCells);
  const ranks = here.map(({ rank }) => rank).sort((a, b) => a - b);
  const note = ranks.length === 0 ? '' : ` ${ranks.join(',')}`;
  return {
    text: `▕${signsOf.join('')}${colours.faint(rest)}▏${note}`,
    width: Math.max(ownCells, cells) + 2 + note.length,
  };
}

function seatsByNode(cache: ClusterCache, drawn: readonly Drawn[]): ReadonlyMap<string, readonly Seat[]> {
  const seats = new Map<string, Seat[]>();
  const add = (node: string | undefined, seat: Seat) => {
    if (node === undefined) return;
    const here = seats.get(node) ?? [];
    here.push(seat);
    seats.set(node, here);
  };
  drawn.forEach(({ key }, number) => {
    const view = cache.group(key);
    view?.plan?.nodes.forEach((_, rank) => {
      const node = seatOf(view, rank);
      const { requests, devices } = view.plan ?? {};
      const planned = devices?.[rank]?.claims.flatMap(resultsOfPlan) ?? [];
      add(node, { number, rank, devices: devicesOn(cache, node, { requests: requests?.[rank], planned }) });
    });
    const pod = cache.pod(key);
    if (pod === undefined) return;
    const node = cache.plannedNode(pod);
    add(node, { number, rank: 0, devices: devicesOn(cache, node, { requests: pod.requests, planned: [] }) });
  });
  return seats;
}

function devicesOn(
  cache: ClusterCache,
  node: string | undefined,
  taken: { readonly requests: Resources | undefined; readonly planned: readonly DeviceId[] },
): number {
  const info = node === undefined ? undefined : cache.nodeInfo(node);
  const device = info === undefined ? undefined : mainDevice(info);
  if (device === undefined) return 0;
  return Math.max(device.countOf(taken.planned), taken.requests?.get(device.resource) ?? 0);
}

/** After the last letter they begin again: colours and names tell the rest. */
function letterOf(number: number): string {
  return letters[number % letters.length] ?? '?';
}
