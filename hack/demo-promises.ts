import type { CallTimes, Held, Loaded, Scored } from './demo-extender.ts';
import { type Recovered, recoveryReasons } from './demo-failure.ts';
import { type GroupPicture, type Picture, rackOfHost } from './demo-picture.ts';
import { belongsTo, gpusPerHost, large, late, loading, small } from './demo-scenario.ts';
import type { Injected, Step } from './demo-story.ts';
import type { AdmissionTimes } from './demo-world.ts';

/** What Berth promises and did not keep in this story, a sentence each; empty when all is well. */
export function brokenPromises(steps: readonly Step[]): readonly string[] {
  return steps.flatMap(step => {
    switch (step.kind) {
      case 'placed':
        return [...brokenIn(step.picture), ...notWhole(step.picture, isEarly)];
      case 'waits':
        return [...brokenIn(step.picture), ...badWait(step)];
      case 'freed':
        return [
          ...brokenIn(step.picture),
          ...notWhole(
            step.picture,
            name => (isEarly(name) || belongsTo(name, late)) && name !== step.deleted,
          ),
        ];
      case 'injected':
        return missingIn(step.injected);
      case 'scored':
        return badScores(step);
      case 'held':
        return [...brokenIn(step.picture), ...badHold(step)];
      case 'loaded':
        return [...brokenIn(step.picture), ...badLoading(step, steps)];
      case 'recovered':
        return [...brokenIn(step.picture), ...badRecovery(step)];
      case 'times':
        return [...badAdmission(step.admission), ...step.calls.flatMap(badCalls)];
      default:
        return [];
    }
  });
}

/** What must hold at every moment. */
function brokenIn({ groups, hosts }: Picture): readonly string[] {
  return [
    ...groups.filter(({ state }) => state === 'split').map(({ name }) => `group ${name} is split over racks`),
    ...groups
      .filter(({ state }) => state === 'half-placed')
      .map(({ name }) => `group ${name} holds GPUs with only some of its pods`),
    ...groups.filter(group => !isInOrder(group)).map(({ name }) => `ranks of ${name} are out of order`),
    ...hosts
      .filter(({ taken }) => taken.length > gpusPerHost)
      .map(({ name, taken }) => `host ${name} has ${taken.length} of ${gpusPerHost} GPUs taken`),
  ];
}

function notWhole({ groups }: Picture, isMeant: (name: string) => boolean): readonly string[] {
  return groups
    .filter(({ name, state }) => isMeant(name) && state !== 'whole')
    .map(({ name, state }) => `group ${name} should be whole in one rack and is ${state}`);
}

function badWait({ picture, sentence }: Extract<Step, { kind: 'waits' }>): readonly string[] {
  const group = picture.groups.find(({ name }) => belongsTo(name, late));
  return [
    ...(group?.state === 'waiting' ? [] : [`group ${late.name} should wait and is ${group?.state}`]),
    ...(sentence === '' ? [`group ${late.name} waits without a word`] : []),
  ];
}

/** Hosts are named in the order of the racks' topology. */
function isInOrder({ nodes }: GroupPicture): boolean {
  const placed = nodes.filter(node => node !== undefined);
  return placed.every((node, index) => index === 0 || (placed[index - 1] ?? '') < node);
}

function missingIn({ pod, env, volume }: Injected): readonly string[] {
  const expected = ['LWS_LEADER_ADDRESS', 'MASTER_ADDR', 'MASTER_PORT', 'NNODES', 'NODE_RANK'];
  const absent = expected.filter(name => !env.some(entry => entry.name === name));
  return [
    ...absent.map(name => `pod ${pod} lacks ${name}`),
    ...(volume?.reference === large.model ? [] : [`pod ${pod} lacks the image volume of its model`]),
  ];
}

/** With plenty of empty hosts in a whole rack, singles go to where others are already. */
function badScores({ before, singles }: Scored): readonly string[] {
  const racks = [...new Set(before.hosts.map(({ rack }) => rack))];
  const isEmpty = (rack: string) => before.hosts.every(host => host.rack !== rack || host.taken === '');
  const emptyRacks = racks.filter(isEmpty);
  return [
    ...(emptyRacks.length === 0 ? ['no rack is empty before the single pods come'] : []),
    ...singles
      .filter(({ node }) => emptyRacks.includes(rackOfHost(node) ?? ''))
      .map(({ name, node }) => `single pod ${name} has broken an empty rack at ${node}`),
  ];
}

function badHold({ picture, strangers, sentence }: Held): readonly string[] {
  const { state, heldNodes = [] } = picture.groups.find(({ name }) => belongsTo(name, loading)) ?? {};
  const waiting = strangers.filter(({ node }) => node === undefined);
  return [
    ...(state === 'starting' ? [] : [`group ${loading.name} should have places held and is ${state}`]),
    ...strangers
      .filter(({ node }) => node !== undefined && heldNodes.includes(node))
      .map(({ name, node }) => `${name} is on ${node}, which is held for ${loading.name}`),
    ...(waiting.length === heldNodes.length ? [] : [`${waiting.length} strangers wait`]),
    ...(sentence.includes('berth: ') ? [] : [`kube-scheduler says nothing of Berth: ${sentence}`]),
  ];
}

function badLoading({ picture, worker, node }: Loaded, steps: readonly Step[]): readonly string[] {
  const isOfHeld = (step: Step): step is Held => step.kind === 'held';
  const held = steps.find(isOfHeld)?.picture.groups.flatMap(({ heldNodes }) => heldNodes) ?? [];
  return [
    ...notWhole(picture, name => belongsTo(name, loading)),
    ...(held.includes(node) ? [] : [`${worker} is on ${node}, which was not held for it`]),
  ];
}

function badRecovery({ picture, group, badNode, ...facts }: Recovered): readonly string[] {
  const { intents, events, members, others } = facts;
  const nodes = picture.groups.find(({ name }) => name === group)?.nodes ?? [];
  const [intent] = intents;
  const { signal, intent: decided, evicted, gone, bound, ready } = intent?.times ?? {};
  const times = [signal, decided, evicted, gone, bound, ready];
  const isOrdered = times.every((at, index) => at !== undefined && at >= (times[index - 1] ?? 0));
  return [
    ...notWhole(picture, name => name === group || isStanding(picture, name)),
    ...(nodes.includes(badNode) ? [`${group} is on ${badNode} again, whose GPU is broken`] : []),
    ...(intents.length === 1 ? [] : [`there are ${intents.length} intents for one fault`]),
    ...(intent?.outcome === 'recovered' ? [] : [`the intent was closed as ${intent?.outcome}`]),
    ...(intent?.signal === 'DeviceUnhealthy' ? [] : [`the intent was opened for ${intent?.signal}`]),
    ...(isOrdered ? [] : ['the times of the recovery are not all there, or not in order']),
    ...recoveryReasons
      .filter(wanted => !events.some(({ reason }) => reason === wanted))
      .map(wanted => `there is no event ${wanted}`),
    ...(members.same === 0 ? [] : [`${members.same} pods of ${group} are the same as before`]),
    ...(others.same === others.before ? [] : [`${others.before - others.same} pods of others are gone`]),
  ];
}

function isStanding({ groups }: Picture, groupName: string): boolean {
  return groups.some(({ name, state }) => name === groupName && state !== 'absent');
}

function badAdmission({ reviews, failed }: AdmissionTimes): readonly string[] {
  return reviews === 0 || failed > 0 ? [`${reviews} admission reviews, ${failed} of them failed`] : [];
}

function badCalls({ verb, calls, unanswered }: CallTimes): readonly string[] {
  return calls === 0 || unanswered > 0
    ? [`kube-scheduler called ${verb} ${calls} times, ${unanswered} of them without an answer`]
    : [];
}

/** A group that came before the one that found no room. */
function isEarly(groupName: string): boolean {
  return belongsTo(groupName, small) || belongsTo(groupName, large);
}
