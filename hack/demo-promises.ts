import type { GroupPicture, Picture } from './demo-picture.ts';
import { gpusPerHost, large, late } from './demo-scenario.ts';
import type { Injected, Step } from './demo-story.ts';

/** What Berth promises and did not keep in this story, a sentence each; empty when all is well. */
export function brokenPromises(steps: readonly Step[]): readonly string[] {
  return steps.flatMap(step => {
    switch (step.kind) {
      case 'placed':
        return [...brokenIn(step.picture), ...notWhole(step.picture, ({ name }) => !isLate(name))];
      case 'waits':
        return [...brokenIn(step.picture), ...badWait(step)];
      case 'freed':
        return [...brokenIn(step.picture), ...notWhole(step.picture, ({ name }) => name !== step.deleted)];
      case 'injected':
        return missingIn(step.injected);
      case 'times':
        return step.admission.reviews === 0 || step.admission.failed > 0
          ? [`${step.admission.reviews} admission reviews, ${step.admission.failed} of them failed`]
          : [];
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

function notWhole({ groups }: Picture, isMeant: (group: GroupPicture) => boolean): readonly string[] {
  return groups
    .filter(group => isMeant(group) && group.state !== 'whole')
    .map(({ name, state }) => `group ${name} should be whole in one rack and is ${state}`);
}

function badWait({ picture, sentence }: Extract<Step, { kind: 'waits' }>): readonly string[] {
  const group = picture.groups.find(({ name }) => isLate(name));
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

function isLate(groupName: string): boolean {
  return groupName.startsWith(`${late.name}-`);
}
