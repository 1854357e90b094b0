import { Command } from 'commander';
import { BerthNotReady } from './bed/berth-process.ts';
import { BuildError } from './bed/go-command.ts';
import { ComponentFailure } from './bed/processes.ts';
import type { Picture } from './demo-picture.ts';
import { StoryStuck } from './demo-pods.ts';
import { brokenPromises } from './demo-promises.ts';
import { simulatedWorld } from './demo-simulated.ts';
import { type Step, tellStory } from './demo-story.ts';
import { colourStyle, plainStyle, promisesText, textOf } from './demo-text.ts';
import type { World } from './demo-world.ts';

interface DemoOptions {
  readonly real?: boolean;
  readonly json?: boolean;
}

const titles = {
  simulated:
    'Berth demo. SIMULATED cluster: only Berth itself is real here, with all that it answers and does.',
  real: 'Berth demo on a real control plane; only the kubelets are played (KWOK).',
};

await new Command('hack/demo')
  .description('Shows what Berth does to groups of pods, with and without it, and checks that it does so.')
  .option('--real', 'on a real control plane (etcd, kube-apiserver, kube-scheduler, LWS); needs Go')
  .option('--json', 'print the result as JSON and nothing else')
  .addHelpText(
    'after',
    `
Without --real only Berth is real: its server runs as a process of its own, answers AdmissionReviews and the scheduler's
questions over HTTPS, and evicts.
API server, controllers, scheduler and kubelets are simulated. The first --real builds them from their Go modules
(Go 1.26 or newer; about 15 minutes on 2 cores) and keeps them in the cache folder.

Exit code: 0 when everything was as Berth promises, 1 when not.
Environment: NO_COLOR turns colours off; they are off as well when the output is no terminal.`,
  )
  .showHelpAfterError('(hack/demo --help shows what there is)')
  .action(run)
  .parseAsync();

async function run({ real = false, json = false }: DemoOptions): Promise<void> {
  const startedMs = performance.now();
  const style = process.stdout.isTTY && !process.env['NO_COLOR'] ? colourStyle : plainStyle;
  const say = (text: string) => void (json || process.stdout.write(`${text}\n`));
  const kind = real ? 'real' : 'simulated';
  say(style.heading(titles[kind]));
  const steps: Step[] = [];
  const broken = await play(real, step => {
    steps.push(step);
    say(textOf(step, kind, style));
  });
  const durationMs = Math.round(performance.now() - startedMs);
  say(`${promisesText(broken, style)}\n\nDone after ${(durationMs / 1000).toFixed(1)} s. ${next(real)}`);
  if (json) process.stdout.write(`${JSON.stringify(resultOf(kind, steps, broken, durationMs))}\n`);
  if (broken.length > 0) process.exitCode = 1;
}

/** Tells the story and returns what was not as promised. */
async function play(real: boolean, onStep: (step: Step) => void): Promise<readonly string[]> {
  const steps: Step[] = [];
  let world: World | undefined;
  let broken: readonly string[];
  try {
    world = await makeWorld(real);
    await tellStory(world, step => {
      steps.push(step);
      onStep(step);
    });
    broken = brokenPromises(steps);
  } catch (error) {
    if (!isExpected(error)) throw error;
    broken = [...brokenPromises(steps), error.message];
  }
  await world?.stop(broken.length > 0);
  return broken;
}

/** Errors whose message says all: no stack trace is wanted. */
function isExpected(error: unknown): error is Error {
  return [StoryStuck, BerthNotReady, BuildError, ComponentFailure].some(known => error instanceof known);
}

/** The bed is loaded only when it is used: it is much more code than the demo. */
async function makeWorld(real: boolean): Promise<World> {
  if (!real) return simulatedWorld();
  const { realWorld } = await import('./demo-real.ts');
  return realWorld(text => void process.stderr.write(`berth: ${text}\n`));
}

function next(real: boolean): string {
  const demo = real
    ? '  ./hack/cluster up --fleet generic   a cluster like this one, to try yourself'
    : '  ./hack/demo --real   the same on real etcd, kube-apiserver, kube-scheduler and LWS (needs Go)';
  return `Next:\n${demo}\n  ./hack/test          all tests\n  README.md            how to install Berth on a cluster`;
}

function resultOf(
  kind: World['kind'],
  steps: readonly Step[],
  broken: readonly string[],
  durationMs: number,
): object {
  const find = <K extends Step['kind']>(wanted: K) =>
    steps.find((step): step is Extract<Step, { kind: K }> => step.kind === wanted);
  const waits = find('waits');
  const freed = find('freed');
  const held = find('held');
  const recovered = find('recovered');
  return {
    cluster: kind,
    kept: broken.length === 0,
    broken,
    durationMs,
    withoutBerth: groupsOf(find('stock')?.picture),
    withBerth: groupsOf(find('placed')?.picture),
    placements: find('placed')?.placements,
    waiting: { pod: waits?.pod, sentence: waits?.sentence, groups: groupsOf(waits?.picture) },
    freed: { deleted: freed?.deleted, durationMs: freed?.durationMs, groups: groupsOf(freed?.picture) },
    injected: find('injected')?.injected,
    extender: {
      singles: find('scored')?.singles,
      strangers: held?.strangers.map(({ name, node }) => ({ name, node: node ?? null })),
      sentence: held?.sentence,
      groups: groupsOf(find('loaded')?.picture),
      calls: find('times')?.calls,
    },
    recovery: recovered && {
      group: recovered.group,
      badNode: recovered.badNode,
      durationMs: recovered.durationMs,
      times: recovered.intents.map(({ times }) => times),
      events: recovered.events,
      members: recovered.members,
      others: recovered.others,
      groups: groupsOf(recovered.picture),
    },
    admission: find('times')?.admission,
  };
}

/** Nodes by rank, and the racks that they are in. */
function groupsOf(picture: Picture | undefined): object[] {
  return (picture?.groups ?? [])
    .filter(({ state }) => state !== 'absent')
    .map(({ name, size, state, racks, nodes }) => {
      return { name, size, state, domains: racks, nodes: nodes.map(node => node ?? null) };
    });
}
