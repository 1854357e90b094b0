/**
 * The command line, a file or an object in it is at fault. Each problem names its place: `file:line`, the option or the
 * field.
 */
export class InputError extends Error {
  override readonly name = 'InputError';
  readonly code = 'InvalidInput';
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join('\n'));
    this.problems = problems;
  }
}

/** What a file's reader or parser said, without the rest of its stack or drawing. */
export function firstLineOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.split('\n')[0] ?? '';
}
