import type { TopologyLevel } from '../cluster/topology.ts';
import type { DeckEntry, MixEntry } from './event-stream.ts';
import { InputError } from './input-error.ts';

/** Sizes met in the field: most groups are small, a few are not. */
export const standardDeck = '2,2,2,2,4,4,5,8,9,16';

/**
 * Reads sizes such as `2,4,16` (members that take whole hosts) or `2x4` (2 members of 4 devices).
 * @param perHost devices of a whole host
 * @throws InputError
 */
export function parseDeck(text: string, perHost: number): readonly DeckEntry[] {
  return text.split(',').map(part => {
    const [, size, devices] = /^\s*([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?\s*$/.exec(part) ?? [];
    if (size === undefined)
      throw new InputError([`--deck: ${JSON.stringify(part)} is neither a size like 4 nor one like 4x8`]);
    const entry = { size: Number(size), devices: devices === undefined ? perHost : Number(devices) };
    if (entry.devices > perHost)
      throw new InputError([`--deck: ${part.trim()}: no host of the fleet has ${entry.devices} devices`]);
    return entry;
  });
}

/**
 * Reads shares such as `rack=60,prefer-rack=20,any=10,single=10`. A level's name stands for groups that require it.
 * Without a text: most groups require the finest level.
 * @throws InputError
 */
export function parseMix(text: string | undefined, levels: readonly TopologyLevel[]): readonly MixEntry[] {
  const mix = (text ?? standardMix(levels)).split(',').map(part => {
    const [, word = '', share = ''] = /^\s*([-a-z0-9]+)=(\d+(?:\.\d+)?)\s*$/.exec(part) ?? [];
    const topology = topologyOf(word, levels);
    if (share === '' || topology === undefined)
      throw new InputError([
        `--mix: ${JSON.stringify(part)} is not like ${wordsOf(levels)}, each with a share`,
      ]);
    return { weight: Number(share), ...topology };
  });
  if (mix.every(({ weight }) => weight === 0)) throw new InputError(['--mix: all shares are 0']);
  return mix;
}

/**
 * Reads a number of the command line.
 * @throws InputError that names the option
 */
export function numberOption(
  name: string,
  text: string,
  limits: { readonly least: number; readonly most: number; readonly whole: boolean },
): number {
  const value = Number(text);
  const { least, most, whole } = limits;
  if (text.trim() === '' || !(value >= least && value <= most) || (whole && !Number.isInteger(value)))
    throw new InputError([
      `--${name}: ${JSON.stringify(text)} is no ${whole ? 'whole ' : ''}number from ${least} to ${most}`,
    ]);
  return value;
}

function topologyOf(word: string, levels: readonly TopologyLevel[]): Omit<MixEntry, 'weight'> | undefined {
  if (word === 'single') return { kind: 'single' };
  if (word === 'any') return { kind: 'group' };
  const exact = levels.findIndex(({ name }) => name === word);
  if (exact !== -1) return { kind: 'group', topology: { wish: 'required', level: exact } };
  const preferred = levels.findIndex(({ name }) => `prefer-${name}` === word);
  return preferred === -1 ? undefined : { kind: 'group', topology: { wish: 'preferred', level: preferred } };
}

function standardMix(levels: readonly TopologyLevel[]): string {
  const finest = levels.at(-1)?.name;
  return finest === undefined ? 'any=90,single=10' : `${finest}=60,prefer-${finest}=20,any=10,single=10`;
}

function wordsOf(levels: readonly TopologyLevel[]): string {
  return ['single', 'any', ...levels.flatMap(({ name }) => [name, `prefer-${name}`])].join(', ');
}
