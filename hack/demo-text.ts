import { type GroupPicture, type Picture, wastedGpus } from './demo-picture.ts';
import { gpusPerHost, large, late, small, type Workload } from './demo-scenario.ts';
import type { Injected, Placement, Step } from './demo-story.ts';
import type { AdmissionTimes } from './demo-world.ts';

export type Kind = 'simulated' | 'real';

/** How text is set off: colour in a terminal, nothing elsewhere. */
export interface Style {
  readonly heading: (text: string) => string;
  readonly good: (text: string) => string;
  readonly bad: (text: string) => string;
  /** Colour of a group's letter. */
  readonly letter: (letter: string, text: string) => string;
}

const plain = (text: string) => text;
const paint = (code: string) => (text: string) => `\u001b[${code}m${text}\u001b[0m`;
const letterCodes = ['34', '36', '35', '33', '31'];

export const plainStyle: Style = { heading: plain, good: plain, bad: plain, letter: (_letter, text) => text };

export const colourStyle: Style = {
  heading: paint('1'),
  good: paint('32'),
  bad: paint('1;31'),
  letter: (letter, text) => paint(letterCodes[letter.charCodeAt(0) - 65] ?? '90')(text),
};

/** The text of one step. */
export function textOf(step: Step, kind: Kind, style: Style): string {
  switch (step.kind) {
    case 'fleet':
      return [
        section(style, '1. The fleet: 4 racks of 4 hosts with 8 GPUs, some taken by single pods (s)'),
        fleetText(step.picture, style),
      ].join('\n');
    case 'stock':
      return stockText(step.picture, kind, style);
    case 'started':
      return section(
        style,
        `3. With Berth: ${seconds(step.durationMs)} to start (process ${step.berth.pid}, webhook on port ${step.berth.webhookPort})`,
      );
    case 'placed':
      return placedText(step.picture, step.placements, style);
    case 'waits':
      return waitsText(step, style);
    case 'freed':
      return [
        `   Group ${step.deleted} is deleted. ${seconds(step.durationMs)} later ${late.name} is placed, whole:`,
        '',
        pictureText(step.picture, style),
      ].join('\n');
    case 'injected':
      return injectedText(step.injected, style);
    case 'times':
      return timesText(step.admission, kind, style);
  }
}

export function promisesText(broken: readonly string[], style: Style): string {
  if (broken.length === 0) {
    return style.good('   Checked: every group whole in one rack, ranks in order, none half-placed.');
  }
  return [...new Set(broken)].map(sentence => style.bad(`   NOT AS PROMISED: ${sentence}`)).join('\n');
}

function stockText(picture: Picture, kind: Kind, style: Style): string {
  const who = kind === 'real' ? 'kube-scheduler' : 'a simulated kube-scheduler';
  const wasted = wastedGpus(picture);
  const loss = `   ${wasted} GPUs are held by groups that cannot start.`;
  return [
    section(style, `2. Without Berth: ${who} places pod by pod, the emptiest host first`),
    '   Two single pods come, then groups that need whole hosts:',
    `   ${[small, large, late].map(sizeText).join('; ')}.`,
    '',
    pictureText(picture, style),
    ...(wasted > 0 ? ['', style.bad(loss)] : []),
  ].join('\n');
}

function sizeText({ name, replicas, size }: Workload): string {
  const count = replicas === 1 ? '1 group' : `${replicas} groups`;
  return `${name}, ${count} of ${size} x ${gpusPerHost} GPUs`;
}

function placedText(picture: Picture, placements: readonly Placement[], style: Style): string {
  const times = placements.map(
    ({ workload, pods, durationMs }) => `${workload} (${pods} pods) ${seconds(durationMs)}`,
  );
  return [
    '   The same two single pods and the same groups, each to be whole in one rack:',
    '',
    pictureText(picture, style),
    '',
    `   From the creation of the LeaderWorkerSet to its last pod bound: ${times.join(', ')}.`,
  ].join('\n');
}

function waitsText({ pod, sentence }: Extract<Step, { kind: 'waits' }>, style: Style): string {
  return [
    section(style, `4. ${late.name} comes (a group of ${late.size} x ${gpusPerHost} GPUs) and does not fit`),
    '   It waits behind a scheduling gate and holds no GPU. Condition berth.dev/Placed of',
    `   pod ${pod} says why:`,
    ...wrapped(sentence).map(line => `     ${line}`),
    '',
  ].join('\n');
}

function injectedText({ pod, env, volume }: Injected, style: Style): string {
  const width = Math.max(0, ...env.map(({ name }) => name.length));
  return [
    section(
      style,
      `5. What pod ${pod} got at its creation (LWS_* from LeaderWorkerSet, the rest from Berth)`,
    ),
    ...env.map(({ name, value }) => `   ${name.padEnd(width)}  ${value ?? ''}`),
    `   ${'image volume'.padEnd(width)}  ${volume?.reference} at ${volume?.mountPath}, read-only`,
  ].join('\n');
}

function timesText({ reviews, failed, p50Ms, p99Ms }: AdmissionTimes, kind: Kind, style: Style): string {
  const who =
    kind === 'real' ? 'kube-apiserver (from the buckets of its histogram)' : 'the simulated API server';
  return [
    section(style, '6. What it cost'),
    `   ${reviews} AdmissionReviews over HTTPS, ${failed} failed; p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms,`,
    `   measured by ${who}. The first ones pay for TLS and for compilation.`,
    '',
  ].join('\n');
}

function section(style: Style, title: string): string {
  return `\n${style.heading(title)}\n`;
}

function pictureText(picture: Picture, style: Style): string {
  const groups = picture.groups.filter(({ state }) => state !== 'absent');
  return `${fleetText(picture, style)}\n\n${groups.map(group => groupText(group, style)).join('\n')}`;
}

function fleetText({ hosts }: Picture, style: Style): string {
  const racks = [...new Set(hosts.map(({ rack }) => rack))];
  return racks
    .map(rack => {
      const cells = hosts.filter(host => host.rack === rack).map(host => hostText(host, style));
      return `   rack ${rack}   ${cells.join('   ')}`.trimEnd();
    })
    .join('\n');
}

/** Eight GPUs, then the rank of who has them all: `AAAAAAAA 0`. */
function hostText({ taken, rank }: Picture['hosts'][number], style: Style): string {
  const gpus = taken.replaceAll(/(.)\1*/g, (run, letter) => style.letter(letter, run));
  const free = '.'.repeat(Math.max(0, gpusPerHost - taken.length));
  return `${gpus}${free} ${rank ?? ' '}`;
}

function groupText({ letter, name, size, nodes, racks, state }: GroupPicture, style: Style): string {
  const placed = nodes.filter(node => node !== undefined).length;
  const where = racks.length === 0 ? '-' : racks.join(' ');
  const verdicts = {
    whole: style.good('whole'),
    split: style.bad(`SPLIT over ${racks.length} racks`),
    'half-placed': style.bad(`HALF-PLACED, holds ${placed * gpusPerHost} GPUs`),
    waiting: 'waits, holds nothing',
    absent: '',
  };
  const head = `   ${style.letter(letter, letter)} ${name.padEnd(10)} ${placed} of ${size} pods`;
  return `${head}   ${where.padEnd(15)}  ${verdicts[state]}`;
}

/** Lines of at most 85 characters. */
function wrapped(text: string): readonly string[] {
  return text.match(/.{1,85}(?: |$)/g)?.map(line => line.trimEnd()) ?? [];
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}
