import { globSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import t from 'tap';

/** Folders by layer: each may import itself and the layers before its own, never a sibling of its layer. */
const layers: readonly (readonly string[])[] = [
  ['api'],
  ['cluster'],
  ['group'],
  ['planner', 'failure'],
  ['cache'],
  ['kube', 'telemetry'],
  ['extender', 'controller', 'webhooks', 'cli'],
  ['main'],
];
const pureLayers = 5;
/** Packages that compute and touch nothing, by the folder of a pure layer that may use them. */
const purePackages: ReadonlyMap<string, string> = new Map([
  ['@marcbachmann/cel-js', 'src/cluster/devices/cel'],
  ['@marcbachmann/cel-js/serialize', 'src/cluster/devices/cel'],
  ['re2js', 'src/cluster/devices/cel'],
  ['croner', 'src/failure'],
]);

const impurities: readonly RegExp[] = [
  /\bDate\.now\b/,
  /\bnew Date\(\s*\)/,
  /\bMath\.random\b/,
  /(?<![.\w#])process\b(?!\s*[:(=])/,
  /(?<![.\w#])(setTimeout|setInterval|setImmediate|queueMicrotask)\b/,
  /(?<![.\w#])console\b/,
  /(?<![.\w#])performance\b/,
  /(?<![.\w#])globalThis\b/,
  /(?<![.\w#])fetch\s*\(/,
];

const ownedPrefixes: readonly string[] = ['berth.dev/', 'leaderworkerset.sigs.k8s.io/'];
const namesFile = 'src/api/names.ts';

const checkout = resolve(import.meta.dirname, '../..');

interface Source {
  /** Relative to the checkout. */
  readonly file: string;
  readonly text: string;
}

function sourcesUnder(...patterns: readonly string[]): readonly Source[] {
  return patterns
    .flatMap(pattern => globSync(pattern, { cwd: checkout }))
    .sort()
    .map(file => ({ file, text: readFileSync(join(checkout, file), 'utf8') }));
}

/** What is wrong with a file of src/ or webhooks/. */
function faultsOf({ file, text }: Source): readonly string[] {
  const { code, strings } = scan(text);
  const layer = layerOf(file);
  const faults: string[] = [];
  if (layer === -1) faults.push(`${file} is in a folder that belongs to no layer`);
  for (const specifier of importsOf(text)) {
    const fault = faultOfImport(file, layer, specifier);
    if (fault !== undefined) faults.push(`${file} imports ${specifier}: ${fault}`);
  }
  if (layer >= 0 && layer < pureLayers) {
    for (const impurity of impurities) {
      const found = impurity.exec(code);
      if (found !== null) faults.push(`${file} uses ${found[0].trim()}, but its layer is pure`);
    }
  }
  if (file !== namesFile) {
    for (const literal of strings) {
      if (ownedPrefixes.some(prefix => literal.startsWith(prefix)))
        faults.push(`${file} spells the key ${literal}, which belongs into ${namesFile}`);
    }
  }
  return faults;
}

function faultOfImport(file: string, layer: number, specifier: string): string | undefined {
  if (!specifier.startsWith('.')) {
    const isAllowed = layer >= pureLayers || purePackages.get(specifier) === dirname(file);
    return isAllowed ? undefined : 'a pure layer needs no package and no built-in';
  }
  const target = join(dirname(file), specifier);
  const targetLayer = layerOf(target);
  if (targetLayer === -1) return 'it belongs to no layer';
  if (targetLayer > layer) return 'the layer stands above its own';
  if (targetLayer === layer && folderOf(target) !== folderOf(file)) return 'siblings do not know each other';
  return undefined;
}

function folderOf(file: string): string {
  const parts = file.split('/');
  if (parts[0] === 'webhooks') return 'webhooks';
  if (parts[0] !== 'src') return '';
  return parts.length === 2 ? 'main' : (parts[1] ?? '');
}

function layerOf(file: string): number {
  return layers.findIndex(folders => folders.includes(folderOf(file)));
}

function importsOf(text: string): readonly string[] {
  const { tokens } = scan(text);
  const statement = /(?:\b(?:import|export)\b[^;'"]*?\bfrom\s*|\bimport\s*\(\s*|\bimport\s+)'(\d+)'/g;
  const joined = tokens.map(token => (token.string ? `'${token.index}'` : token.text)).join('');
  const strings = tokens.filter(token => token.string).map(token => token.text);
  return [...joined.matchAll(statement)].map(([, index]) => strings[Number(index)] ?? '');
}

interface Token {
  readonly string: boolean;
  readonly text: string;
  /** Counts strings. */
  readonly index: number;
}

/** Tells code from comments and string literals; code inside template literals is code. */
function scan(text: string): {
  readonly code: string;
  readonly strings: readonly string[];
  readonly tokens: readonly Token[];
} {
  const tokens: Token[] = [];
  const strings: string[] = [];
  let code = '';
  let run = '';
  const templates: number[] = [];
  let depth = 0;
  let at = 0;
  const flush = () => {
    if (run !== '') tokens.push({ string: false, text: run, index: -1 });
    code += run;
    run = '';
  };
  const emit = (literal: string) => {
    flush();
    tokens.push({ string: true, text: literal, index: strings.length });
    strings.push(literal);
    code += "''";
  };
  const readUntil = (end: RegExp): string => {
    const start = at;
    while (at < text.length) {
      if (text[at] === '\\') at += 2;
      else if (end.test(text.slice(at, at + 2))) break;
      else at++;
    }
    return text.slice(start, at);
  };
  const readTemplate = () => {
    emit(readUntil(/^(`|\$\{)/));
    if (text[at] === '$') {
      templates.push(depth);
      at += 2;
    } else at++;
  };
  while (at < text.length) {
    const two = text.slice(at, at + 2);
    const one = two[0] ?? '';
    if (two === '//') {
      while (at < text.length && text[at] !== '\n') at++;
    } else if (two === '/*') {
      at = text.indexOf('*/', at) === -1 ? text.length : text.indexOf('*/', at) + 2;
    } else if (one === "'" || one === '"') {
      at++;
      emit(readUntil(one === "'" ? /^'/ : /^"/));
      at++;
    } else if (one === '`') {
      at++;
      readTemplate();
    } else if (one === '}' && templates.at(-1) === depth) {
      templates.pop();
      at++;
      readTemplate();
    } else if (one === '/' && /(^|[(,=:[!&|?{};>]|\breturn)\s*$/.test(run === '' ? code.slice(-20) : run)) {
      at = endOfRegExp(text, at);
      run += '/regexp/';
    } else {
      if (one === '{') depth++;
      if (one === '}') depth--;
      run += one;
      at++;
    }
  }
  flush();
  return { code, strings, tokens };
}

function endOfRegExp(text: string, start: number): number {
  let inClass = false;
  for (let at = start + 1; at < text.length; at++) {
    const char = text[at];
    if (char === '\\') at++;
    else if (char === '[') inClass = true;
    else if (char === ']') inClass = false;
    else if (char === '/' && !inClass) return at + 1;
  }
  return text.length;
}

function faultsOfTest({ file, text }: Source): readonly string[] {
  return importsOf(text)
    .filter(specifier => join(dirname(file), specifier).startsWith('hack/simulator'))
    .map(specifier => `${file} imports ${specifier}: what tests rely on must not rest on the simulator`);
}

t.test('every file imports only the layers that stand before its own, and pure layers stay pure', async t => {
  const sources = sourcesUnder('src/**/*.ts', 'webhooks/**/*.ts');
  t.ok(sources.length > 40, 'the sources are found');
  t.ok(sources.flatMap(({ text }) => importsOf(text)).length > sources.length, 'and their imports');
  t.same(sources.flatMap(faultsOf), []);
});

t.test('no test rests on the simulator', async t => {
  t.same(sourcesUnder('test/**/*.ts').flatMap(faultsOfTest), []);
});

t.test('the check itself', async t => {
  const faults = (file: string, text: string) => faultsOf({ file, text });
  const right: readonly [string, string][] = [
    ['src/planner/a.ts', "import { x } from '../group/x.ts';\nimport type { Y } from './y.ts';"],
    ['src/cache/a.ts', "export { x } from '../planner/x.ts';"],
    ['src/kube/a.ts', "import { setTimeout } from 'node:timers';\nconsole.log(process.env, Date.now());"],
    ['src/main.ts', "import '../webhooks/plugin.ts';\nimport { x } from './controller/x.ts';"],
    ['src/cli/a.ts', "import { x } from '../kube/x.ts';\nimport { y } from '../planner/y.ts';"],
    ['webhooks/a.ts', "import { lws } from '../src/api/names.ts';"],
    ['src/api/names.ts', "export const mode = 'berth.dev/mode';"],
    ['src/group/a.ts', '// Date.now() and process.env, setTimeout\n/** console */ const a = "process.env";'],
    [
      'src/group/a.ts',
      "// import { x } from '../cache/x.ts';\nconst text = \"import x from '../cache/x.ts'\";",
    ],
    ['src/group/a.ts', "const a = b.process(c.console); // 'berth.dev/mode'\nconst { process: p } = q;"],
    ['src/group/a.ts', "const a = /'berth.dev\\/[/']/.test(b); const c = `see berth.dev/mode`;"],
  ];
  for (const [file, text] of right) t.same(faults(file, text), [], text);
  const wrong: readonly [string, string, RegExp][] = [
    ['src/group/a.ts', "import { x } from '../planner/x.ts';", /the layer stands above its own/],
    ['src/group/a.ts', "import type {\n  X,\n  Y,\n} from '../cache/x.ts';", /stands above/],
    ['src/group/a.ts', "export * from '../planner/x.ts';", /stands above/],
    ['src/group/a.ts', "const x = await import('../planner/x.ts');", /stands above/],
    ['src/group/a.ts', "import '../planner/x.ts';", /stands above/],
    ['src/kube/a.ts', "import { x } from '../telemetry/x.ts';", /siblings do not know each other/],
    ['src/planner/a.ts', "import { x } from '../failure/x.ts';", /siblings/],
    ['src/controller/a.ts', "import { x } from '../../webhooks/x.ts';", /siblings/],
    ['webhooks/a.ts', "import { x } from '../src/extender/x.ts';", /siblings/],
    ['src/cli/a.ts', "import { x } from '../controller/x.ts';", /siblings/],
    ['src/cli/a.ts', "import { x } from '../config.ts';", /stands above/],
    ['src/extender/a.ts', "import { x } from '../cli/x.ts';", /siblings/],
    ['webhooks/a.ts', "import { x } from '../src/main.ts';", /stands above/],
    ['src/kube/a.ts', "import { x } from '../../hack/x.ts';", /belongs to no layer/],
    ['src/helpers/a.ts', '', /in a folder that belongs to no layer/],
    ['src/cache/a.ts', "import { x } from 'node:fs';", /needs no package and no built-in/],
    ['src/api/a.ts', "import fc from 'fast-check';", /needs no package/],
    ['src/cache/a.ts', 'const now = Date.now();', /uses Date.now/],
    ['src/cache/a.ts', 'const now = new Date();', /uses new Date/],
    ['src/group/a.ts', 'const x = Math.random();', /uses Math.random/],
    ['src/group/a.ts', 'const x = process.env.X;', /uses process/],
    ['src/group/a.ts', 'setTimeout(() => {}, 1);', /uses setTimeout/],
    ['src/group/a.ts', 'console.log(1);', /uses console/],
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is a source
    ['src/group/a.ts', 'const x = `${a} ${Date.now()}`;', /uses Date.now/],
    ['src/group/a.ts', "const x = /'/.test(y) || Math.random();", /uses Math.random/],
    ['src/kube/a.ts', "const x = 'berth.dev/mode';", /spells the key berth.dev\/mode/],
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is a source
    ['webhooks/a.ts', 'const x = `berth.dev/${y}`;', /spells the key/],
    ['src/main.ts', 'const x = "leaderworkerset.sigs.k8s.io/name";', /spells the key/],
  ];
  for (const [file, text, fault] of wrong) t.match(faults(file, text), [fault], text || file);
  const test = { file: 'test/e2e/a.test.ts', text: "import { x } from '../../hack/simulator/x.ts';" };
  t.equal(faultsOfTest(test).length, 1);
  t.same(faultsOfTest({ ...test, text: "import { x } from '../../hack/bed/x.ts';" }), []);
});
