import type { CallTimes, Held, Loaded, Scored } from './demo-extender.ts';
import type { Hurt, Recovered } from './demo-failure.ts';
import { type GroupPicture, type Picture, wastedGpus } from './demo-picture.ts';
import {
  belongsTo,
  failureSettings,
  gpusPerHost,
  large,
  late,
  loading,
  small,
  type Workload,
} from './demo-scenario.ts';
import type { Injected, Placement, Step } from './demo-story.ts';

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
const letterCodes = ['34', '36', '35', '33', '31', '32'];

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
    case 'scored':
      return scoredText(step, kind, style);
    case 'held':
      return heldText(step, style);
    case 'loaded':
      return loadedText(step, style);
    case 'hurt':
      return hurtText(step, style);
    case 'recovered':
      return recoveredText(step, style);
    case 'times':
      return timesText(step, kind, style);
  }
}

export function promisesText(broken: readonly string[], style: Style): string {
  if (broken.length === 0) {
    return style.good(
      '   Checked: groups whole in one rack, ranks in order, none half-placed, and all that is told above.',
    );
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
    '   From the creation of the LeaderWorkerSet to its last pod bound:',
    `   ${times.join(', ')}.`,
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

function scoredText({ deleted, before, singles }: Scored, kind: Kind, style: Style): string {
  const who = kind === 'real' ? 'kube-scheduler' : 'the simulated kube-scheduler';
  const hosts = [...new Set(singles.map(({ node }) => node))].sort();
  const racks = [...new Set(before.hosts.map(({ rack }) => rack))];
  const empty = racks.filter(rack => before.hosts.every(host => host.rack !== rack || host.taken === ''));
  return [
    section(style, '6. The scheduler asks Berth, too: mode pin-extender, deploy/scheduler/pin-extender.yaml'),
    `   Group ${deleted} is deleted, so rack ${empty.join(', ')} is empty. ${singles.length} single pods with 2 GPUs come.`,
    `   By itself ${who} takes the emptiest host. Berth scores the hosts, and they`,
    `   all go to racks that are broken already, onto ${hosts.join(', ')}.`,
    '',
  ].join('\n');
}

function heldText({ picture, strangers, sentence }: Held, style: Style): string {
  const { heldNodes = [] } = picture.groups.find(({ name }) => belongsTo(name, loading)) ?? {};
  const bound = strangers.filter(({ node }) => node !== undefined).length;
  const waiting = strangers.filter(({ node }) => node === undefined).map(({ name }) => name);
  return [
    `   ${loading.name} comes (a group of ${loading.size} x ${gpusPerHost} GPUs, LeaderReady). Its leader loads; its worker does not`,
    `   exist yet, and its place is held (small letters). ${strangers.length} strangers want ${gpusPerHost} GPUs each: ${bound} get them,`,
    `   ${waiting.join(', ')} is kept off ${heldNodes.join(', ')} and waits. kube-scheduler says:`,
    ...wrapped(sentence).map(line => `     ${line}`),
    '',
    fleetText(picture, style),
    '',
  ].join('\n');
}

function loadedText({ picture, worker, node, durationMs }: Loaded, style: Style): string {
  const groups = picture.groups.filter(({ name }) => belongsTo(name, loading));
  return [
    `   ${seconds(durationMs)} after its leader has all it needs, ${worker} is on ${node}:`,
    '',
    ...groups.map(group => groupText(group, style)),
  ].join('\n');
}

function hurtText({ picture, pod, node }: Hurt, style: Style): string {
  return [
    section(style, '7. A GPU breaks under a running group'),
    `   The strangers leave. Then the kubelet of ${node} reports a GPU of ${pod} as Unhealthy (x):`,
    '',
    fleetText(picture, style),
    '',
  ].join('\n');
}

function recoveredText(step: Recovered, style: Style): string {
  const { picture, group, durationMs, members, others } = step;
  return [
    `   With failure mode evict Berth waits ${failureSettings.unhealthyAfterSeconds} s (by default 60 s), plans the next place, and evicts the`,
    `   group as a whole. ${seconds(durationMs)} after the report it is ready elsewhere:`,
    '',
    fleetText(picture, style),
    '',
    ...picture.groups.filter(({ name }) => name === group).map(found => groupText(found, style)),
    '',
    ...recoveryText(step),
    '',
    `   All ${members.now} pods of ${group} are new; the ${others.same} other pods are the same as before, by UID.`,
  ].join('\n');
}

/** The record of the eviction, and what was said of it. */
function recoveryText({ intents, events }: Recovered): readonly string[] {
  return [
    ...intents.flatMap(({ times: { signal, intent, evicted, gone, bound, ready } }) => {
      const steps = [
        ['fault seen', signal],
        ['decided', intent],
        ['evicted', evicted],
        ['all gone', gone],
        ['all bound', bound],
        ['all ready', ready],
      ] as const;
      const times = steps.map(([name, at], index) => {
        return `t${index} ${name} ${at === undefined ? '-' : ((at - signal) / 1000).toFixed(2)}`;
      });
      return [
        '   Its record, a ConfigMap in berth-system, in seconds:',
        `     ${times.slice(0, 3).join(', ')},`,
        `     ${times.slice(3).join(', ')}`,
      ];
    }),
    '   Events of the leader:',
    ...events.map(({ reason, message }) => `     ${reason.padEnd(16)} ${cut(message, 76)}`),
  ];
}

function timesText({ admission, calls }: Extract<Step, { kind: 'times' }>, kind: Kind, style: Style): string {
  const { reviews, failed, p50Ms, p99Ms } = admission;
  const who =
    kind === 'real' ? 'kube-apiserver, from the buckets of its histogram' : 'the simulated API server';
  return [
    section(style, '8. What it cost'),
    `   ${reviews} AdmissionReviews over HTTPS, ${failed} failed; p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms. The first ones pay`,
    `   for TLS and for compilation. Measured by ${who}.`,
    ...calls.map(callText),
    '   Measured by Berth, from the buckets of its histograms.',
    '',
  ].join('\n');
}

function callText({ verb, calls, unanswered, p50Ms }: CallTimes): string {
  return `   ${calls} calls of ${verb} by the scheduler, ${unanswered} without an answer; p50 ${p50Ms.toFixed(1)} ms.`;
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
function hostText({ taken, held, broken, rank }: Picture['hosts'][number], style: Style): string {
  const used = `${taken}${held.toLowerCase()}`;
  const cells = `${used}${'.'.repeat(Math.max(0, gpusPerHost - used.length))}`;
  // One that is in use is drawn as broken all the same.
  const drawn = `${cells.slice(0, cells.length - broken)}${'x'.repeat(broken)}`;
  const gpus = drawn.replaceAll(/(.)\1*/g, (run, letter) => paintRun(letter, run, style));
  return `${gpus} ${rank ?? ' '}`;
}

function paintRun(letter: string, run: string, style: Style): string {
  if (letter === 'x') return style.bad(run);
  return letter === '.' ? run : style.letter(letter, run);
}

function groupText({ letter, name, size, nodes, racks, state }: GroupPicture, style: Style): string {
  const placed = nodes.filter(node => node !== undefined).length;
  const where = racks.length === 0 ? '-' : racks.join(' ');
  const verdicts = {
    whole: style.good('whole'),
    split: style.bad(`SPLIT over ${racks.length} racks`),
    'half-placed': style.bad(`HALF-PLACED, holds ${placed * gpusPerHost} GPUs`),
    waiting: 'waits, holds nothing',
    starting: 'starts, the rest is held',
    absent: '',
  };
  const head = `   ${style.letter(letter, letter)} ${name.padEnd(10)} ${placed} of ${size} pods`;
  return `${head}   ${where.padEnd(15)}  ${verdicts[state]}`;
}

/** Lines of at most 85 characters. */
function wrapped(text: string): readonly string[] {
  return text.match(/.{1,85}(?: |$)/g)?.map(line => line.trimEnd()) ?? [];
}

function cut(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 3).trimEnd()}...`;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}
