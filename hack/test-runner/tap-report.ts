export interface TestFile {
  readonly name: string;
  readonly passed: boolean;
  readonly seconds: number;
}

export interface FailedAssertion {
  /** File, then subtests, then the assertion. */
  readonly path: readonly string[];
  /** What tap tells about it, line by line. */
  readonly diagnostics: readonly string[];
}

export interface Totals {
  readonly passed: number;
  readonly failed: number;
}

const indentColumns = 4;
/** A diff of two big objects helps nobody. */
const maxDiagnosticLines = 60;
/** All else that tap tells about a file is how it was started. */
const fileDiagnostics =
  /^(exitCode|signal|failedSkip|failedTodo|failedOnly|expired|timeout|error|tapCaught)\b/;

/**
 * Reads the output of `tap run --reporter=tap` line by line: TAP 14, where a subtest stands four columns deeper than its
 * own test point, which follows it. A failing point with a failing one inside is the consequence only and left out.
 */
export class TapReport {
  readonly files: TestFile[] = [];
  readonly failures: FailedAssertion[] = [];
  passedSoFar = 0;
  totals: Totals | undefined;
  /** Names of the open subtests by depth. */
  readonly #names: string[] = [];
  /** Per depth: what passed and failed since the last point one level up. */
  readonly #passedAt: number[] = [];
  readonly #failedAt: boolean[] = [];
  #isAfterPoint = false;
  #diagnostics: { readonly end: string; readonly indent: number; readonly lines: string[] } | undefined;

  read(line: string): void {
    if (this.#diagnostics !== undefined) {
      this.#readDiagnostics(line);
      return;
    }
    const indent = line.length - line.trimStart().length;
    const text = line.slice(indent);
    // Of passing points too, so that nothing inside is taken for TAP.
    const isDiagnostics = this.#isAfterPoint && text === '---' && indent % indentColumns === 2;
    this.#isAfterPoint = false;
    if (isDiagnostics) {
      this.#diagnostics = { end: `${' '.repeat(indent)}...`, indent, lines: [] };
      return;
    }
    if (indent % indentColumns !== 0) return;
    const depth = indent / indentColumns;
    if (text.startsWith('# Subtest: ')) this.#names[depth] = text.slice('# Subtest: '.length);
    else if (depth === 0 && text.startsWith('# {')) this.totals = totalsOf(text);
    else this.#readPoint(depth, text);
  }

  #readPoint(depth: number, text: string): void {
    const point = /^(not )?ok\b(?: \d+)?(?: - (.*))?$/.exec(text);
    if (point === null) return;
    this.#isAfterPoint = true;
    const [, not, rest = ''] = point;
    const { name, seconds, directive } = partsOf(rest);
    const passed = not === undefined;
    const hadChildren = (this.#passedAt[depth + 1] ?? 0) > 0 || this.#failedAt[depth + 1] === true;
    const isConsequence = this.#failedAt[depth + 1] === true;
    this.#passedAt[depth + 1] = 0;
    this.#failedAt[depth + 1] = false;

    if (passed) {
      this.#passedAt[depth] = (this.#passedAt[depth] ?? 0) + 1;
      if (!hadChildren && !directive && depth > 0) this.passedSoFar += 1;
    } else {
      this.#failedAt[depth] = true;
      if (!isConsequence) this.#addFailure([...this.#names.slice(0, depth), name]);
    }
    if (depth === 0) this.files.push({ name, passed, seconds });
  }

  #addFailure(path: readonly string[]): void {
    this.failures.push({ path, diagnostics: [] });
  }

  #readDiagnostics(line: string): void {
    const open = this.#diagnostics;
    if (open === undefined) return;
    if (line !== open.end) {
      open.lines.push(line.slice(open.indent));
      return;
    }
    this.#diagnostics = undefined;
    this.#attach(Math.floor(open.indent / indentColumns), open.lines);
  }

  /** Diagnostics follow their point at once, so they are the last failure's if they are of its depth. */
  #attach(depth: number, lines: readonly string[]): void {
    const failure = this.failures.at(-1);
    if (failure === undefined || failure.path.length !== depth + 1 || failure.diagnostics.length > 0) return;
    const told = depth === 0 ? lines.filter(line => fileDiagnostics.test(line)) : lines;
    const diagnostics = told.slice(0, maxDiagnosticLines);
    if (told.length > diagnostics.length)
      diagnostics.push(`... and ${told.length - diagnostics.length} lines more`);
    this.failures[this.failures.length - 1] = { path: failure.path, diagnostics };
  }
}

function partsOf(rest: string): {
  readonly name: string;
  readonly seconds: number;
  readonly directive: boolean;
} {
  const [, name = rest, comment = ''] = /^(.*?)(?: # (.*))?$/.exec(rest) ?? [];
  const time = /time=([\d.]+)ms/.exec(comment)?.[1];
  return { name, seconds: Number(time ?? 0) / 1000, directive: /^(skip|todo)/i.test(comment) };
}

function totalsOf(text: string): Totals {
  const count = (key: string) => Number(new RegExp(`\\b${key}: (\\d+)`).exec(text)?.[1] ?? 0);
  return { passed: count('pass'), failed: count('fail') };
}
