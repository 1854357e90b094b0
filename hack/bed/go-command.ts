import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { goFlags, isGoNewEnough, neededGo } from './recipes.ts';

/** A program of the bed could not be brought; the message says what to do. */
export class BuildError extends Error {
  readonly code: 'GoMissing' | 'GoTooOld' | 'GoFailed' | 'AssetsIncomplete';

  constructor(code: BuildError['code'], message: string) {
    super(message);
    this.name = 'BuildError';
    this.code = code;
  }
}

export interface GoCall {
  readonly arguments: readonly string[];
  /** Folder of the module to work in. */
  readonly folder: string;
  /** Takes what `go` says, line by line. */
  readonly hear?: (line: string) => void;
  readonly signal?: AbortSignal;
}

const keptLines = 15;
const remedy =
  `Install Go ${neededGo.join('.')} or newer from https://go.dev/dl/ (or with your package manager), make sure that ` +
  '`go version` shows it, and run this again.';

/**
 * Makes sure that a Go toolchain is there which can build the recipes.
 *
 * @throws BuildError `GoMissing`, `GoTooOld`
 */
export async function checkGo(): Promise<void> {
  const text = await runGo({ arguments: ['env', 'GOVERSION', 'GOTOOLCHAIN'], folder: '/' });
  const [version = '', toolchain = ''] = text.split('\n');
  // From Go 1.21 on, `go` fetches the newer toolchain that a go.mod asks for, unless the user said `local`.
  const fetchesNewer = /^go1\.(2[1-9]|[3-9]\d)/.test(version) && /auto|path/.test(toolchain);
  if (isGoNewEnough(version) || fetchesNewer) return;
  throw new BuildError(
    'GoTooOld',
    `Go ${neededGo.join('.')} is needed to build the test bed; found ${version}. ${remedy}`,
  );
}

/**
 * Runs one `go` command and returns its standard output.
 *
 * @throws BuildError `GoMissing`, `GoFailed` with the last lines that `go` said
 */
export function runGo(call: GoCall): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('go', call.arguments, {
      cwd: call.folder,
      env: goEnvironment(),
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(call.signal === undefined ? {} : { signal: call.signal }),
    });
    const said: string[] = [];
    let output = '';
    child.stdout.setEncoding('utf8').on('data', chunk => {
      output += chunk;
    });
    createInterface({ input: child.stderr }).on('line', line => {
      call.hear?.(line);
      said.push(line);
      if (said.length > keptLines) said.shift();
    });
    child.on('error', error => {
      const missing = 'code' in error && error.code === 'ENOENT';
      reject(missing ? new BuildError('GoMissing', `Go was not found on PATH. ${remedy}`) : error);
    });
    child.on('close', code => {
      if (code === 0) resolve(output);
      // `go mod download -json` puts its error into the JSON.
      else
        reject(failure(call, code, said.length > 0 ? said : output.trimEnd().split('\n').slice(-keptLines)));
    });
  });
}

/** CGO off and GOOS/GOARCH of this machine: the result must run here, whatever the user cross-compiles otherwise. */
function goEnvironment(): NodeJS.ProcessEnv {
  const { GOOS, GOARCH, ...env } = process.env;
  return { ...env, CGO_ENABLED: '0', GOWORK: 'off', GOFLAGS: goFlags(env['GOFLAGS'] ?? '') };
}

function failure(call: GoCall, code: number | null, said: readonly string[]): BuildError {
  const command = `go ${call.arguments.join(' ')}`;
  const hint = said.some(line => /dial tcp|lookup|proxyconnect|i\/o timeout|TLS handshake/.test(line))
    ? 'The module proxy could not be reached: check the network and `go env GOPROXY`, then run this again.'
    : 'What is built already is kept; run this again once the cause is mended.';
  return new BuildError(
    'GoFailed',
    `${command} ended with ${code} in ${call.folder}:\n${said.join('\n')}\n${hint}`,
  );
}
