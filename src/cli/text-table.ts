export interface Column {
  readonly title: string;
  /** Numbers stand to the right. */
  readonly right?: boolean;
}

/** A table as kubectl prints it: titles in capitals, two spaces between columns, no rules, nothing at the end of lines. */
export function textTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
): readonly string[] {
  const lines = [columns.map(({ title }) => title.toUpperCase()), ...rows];
  const widths = columns.map((_, i) => Math.max(...lines.map(line => (line[i] ?? '').length)));
  return lines.map(line =>
    columns
      .map(({ right }, i) => {
        const cell = line[i] ?? '';
        return right ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0);
      })
      .join('  ')
      .trimEnd(),
  );
}

export function indented(lines: readonly string[], by = 2): readonly string[] {
  return lines.map(line => (line === '' ? '' : `${' '.repeat(by)}${line}`));
}
