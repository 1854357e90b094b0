/** Marks text for a terminal, or leaves it as it is. */
export interface Colours {
  readonly good: (text: string) => string;
  readonly bad: (text: string) => string;
  readonly faint: (text: string) => string;
  /** One of a few colours that are told apart, by number. */
  readonly group: (text: string, number: number) => string;
}

const groupColours = [36, 33, 35, 34, 32, 96, 93, 95, 94, 92];

/** Colour says nothing that the text does not say too. */
export function colours(enabled: boolean): Colours {
  const paint = (text: string, code: number) =>
    enabled && text !== '' ? `\u001b[${code}m${text}\u001b[0m` : text;
  return {
    good: text => paint(text, 32),
    bad: text => paint(text, 31),
    faint: text => paint(text, 90),
    group: (text, number) => paint(text, groupColours[number % groupColours.length] ?? 0),
  };
}

/** The convention of no-color.org: any value but the empty one switches colour off. */
export function wantsColour(env: Readonly<Record<string, string | undefined>>, isTerminal: boolean): boolean {
  return isTerminal && !env['NO_COLOR'] && env['TERM'] !== 'dumb';
}
