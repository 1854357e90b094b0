#!/usr/bin/env node
import { readFile } from 'node:fs/promises';
import { Command } from 'commander';
import type { CliContext } from './cli/cli-context.ts';
import { exitCodes } from './cli/exit-codes.ts';
import { InputError } from './cli/input-error.ts';
import { definePlan } from './cli/plan-command.ts';
import { defineSimulate } from './cli/simulate-command.ts';
import { defineSnapshot } from './cli/snapshot-command.ts';
import { processTerminal } from './cli/terminal.ts';
import { type Config, ConfigError, configReference, readConfig, topologyLevels } from './config.ts';
import { byPriorityThenAge } from './controller/waiting-line.ts';
import { CallWindow, isFailedCall } from './failure/call-window.ts';
import { Outage } from './failure/outage.ts';
import { HttpApiClient } from './kube/api-client.ts';
import { systemClock } from './kube/clock.ts';
import { type ConnectionSource, loadConnection, NoClusterConfig } from './kube/kube-config.ts';
import { createLogger } from './telemetry/logger.ts';
import { createMetrics } from './telemetry/metrics.ts';

const userAgent = 'berth/0.1.0';

const program = new Command('berth')
  .description('Places whole groups of pods (LeaderWorkerSet and its like) on the stock kube-scheduler.')
  .helpCommand(true)
  .showHelpAfterError('(berth --help shows what there is)')
  .exitOverride(error => process.exit(error.exitCode === 0 ? 0 : exitCodes.misuse));

program
  .command('serve')
  .description('Run the webhook, the extender, the controllers and the admin server until SIGTERM.')
  .option('--config <file>', 'YAML configuration; without it the defaults hold')
  .option('--kubeconfig <file>', 'default: $KUBECONFIG, ~/.kube/config, or the service account of the pod')
  .option('--context <name>', 'context of the kubeconfig')
  .addHelpText(
    'after',
    '\nSIGTERM and SIGINT drain: /readyz says no, requests are served on for shutdownDelaySeconds.',
  )
  .action(serve);

program
  .command('check-config')
  .description('Check a configuration file and print it with all defaults filled in.')
  .argument('<file>', 'YAML configuration')
  .action(async (file: string) => {
    console.log(JSON.stringify(await loadConfig(file), null, 2));
  });

program
  .command('config-reference')
  .description('Print every configuration key with its default, as a Markdown table.')
  .action(() => {
    console.log('| key | default | meaning |\n|---|---|---|');
    for (const { key, standard, about } of configReference()) {
      console.log(`| \`${key}\` | ${standard === '' ? '' : `\`${standard}\``} | ${about} |`);
    }
  });

const cli: CliContext = {
  terminal: processTerminal(),
  settingsOfConfig: async file => {
    const config = await loadConfig(file);
    const { prefer, warmHosts } = config.placement;
    return { levels: topologyLevels(config), objective: { prefer, warmHosts } };
  },
  inLine: byPriorityThenAge,
  connect: async options => {
    const connection = await loadConnection(sourceOf(options)).catch(error => {
      throw new NoClusterConfig(withCause(error));
    });
    const log = createLogger({ level: 'silent' });
    const client = new HttpApiClient({ connection, log, userAgent });
    return { client, close: () => client.close() };
  },
  setExitCode: code => {
    process.exitCode = code;
  },
};
definePlan(program.command('plan'), cli);
defineSimulate(program.command('simulate'), cli);
defineSnapshot(program.command('snapshot'), cli);

interface ClusterOptions {
  readonly kubeconfig?: string | undefined;
  readonly context?: string | undefined;
}

interface ServeOptions extends ClusterOptions {
  readonly config?: string;
}

async function serve(options: ServeOptions): Promise<void> {
  const config = options.config === undefined ? readConfig('', 'defaults') : await loadConfig(options.config);
  const log = createLogger({ level: config.log.level });
  const metrics = createMetrics();
  const apiCalls = new CallWindow(config.failure.apiWindowSeconds * 1000);
  const apiOutage = new Outage(config.failure.outageSeconds * 1000, systemClock.nowMs());
  const connection = await loadConnection(sourceOf(options));
  const client = new HttpApiClient({
    connection,
    log,
    userAgent,
    onResponse: ({ method, resource, status }) => {
      metrics.apiRequests.inc({ method, status: String(status) });
      const isFailed = isFailedCall(resource, status);
      apiCalls.add(isFailed, systemClock.nowMs());
      if (!isFailed) apiOutage.fine(systemClock.nowMs());
    },
  });
  process.on('unhandledRejection', error => {
    log.fatal({ err: error }, 'unhandled rejection');
    process.exit(exitCodes.failed);
  });
  // Servers and certificates take longest to load, and the other commands need none.
  const { startBerth } = await import('./berth.ts');
  const berth = await startBerth({ config, client, apiCalls, apiOutage, metrics, log });
  let stopping = false;
  const stop = async (signal: string) => {
    // A second signal means now.
    if (stopping) process.exit(exitCodes.failed);
    stopping = true;
    log.info({ signal }, 'signal received');
    await berth.stop();
    process.exit(0);
  };
  process.on('SIGTERM', () => void stop('SIGTERM'));
  process.on('SIGINT', () => void stop('SIGINT'));
}

function sourceOf({ kubeconfig, context }: ClusterOptions): ConnectionSource {
  return kubeconfig === undefined
    ? { kind: 'default', context }
    : { kind: 'file', path: kubeconfig, context };
}

async function loadConfig(file: string): Promise<Config> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    throw new ConfigError([
      `${file} cannot be read: ${error instanceof Error ? error.message : String(error)}`,
    ]);
  }
  return readConfig(text, file);
}

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof ConfigError || error instanceof NoClusterConfig) {
    console.error(`berth: ${error.message}\n(berth config-reference lists every key)`);
    process.exit(exitCodes.misuse);
  }
  if (error instanceof InputError) {
    console.error(error.problems.map(problem => `berth: ${problem}`).join('\n'));
    process.exit(exitCodes.misuse);
  }
  console.error(`berth: failed: ${withCause(error)}`);
  process.exit(exitCodes.failed);
}

function withCause(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause === undefined ? error.message : `${error.message}: ${withCause(error.cause)}`;
}
