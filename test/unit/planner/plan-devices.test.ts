import t from 'tap';
import { decodeDeviceClass, decodeResourceClaimTemplate } from '../../../src/cluster/devices/decode-claim.ts';
import { decodeResourceSlice } from '../../../src/cluster/devices/decode-slice.ts';
import { deviceClass, request, slice } from '../../builders/devices.ts';
import { cacheOf, drawFleet, labelOf } from '../../builders/fleet.ts';
import { groupInfoOf, inputOf, labelledPod, outcomeOf } from '../../builders/planning.ts';
import { type Ask, requiredDuringScheduling } from '../../builders/pods.ts';

const twoRacks = drawFleet(`
  rack r0
    - a
    - b
  rack r1
    - c
`);

const oneTwoTwoOne = [1, 2, 2, 1].map(count => ({ count }));

/** Keeps away from its like over racks, which counts cannot tell: one assignment after the other is tried. */
const lone: Ask = {
  labels: { app: 'lone' },
  affinity: {
    podAntiAffinity: {
      [requiredDuringScheduling]: [
        { topologyKey: labelOf('rack'), labelSelector: { matchLabels: { app: 'lone' } } },
      ],
    },
  },
};

/** The outcome for a labelled group by how many devices each member wants, and how many there are on each node. */
function outcomeFor(
  devices: Readonly<Record<string, number>>,
  members: readonly { readonly count: number; readonly ask?: Ask }[],
  required?: string,
): string {
  const pods = members.map(({ count, ask = {} }, rank) => {
    const pod = labelledPod(members.length, rank, { cpu: 1, ...ask }, required);
    const resourceClaims = [{ name: 'npus', resourceClaimTemplateName: `npus-${count}` }];
    return { ...pod, spec: { ...pod.spec, resourceClaims } };
  });
  const cache = cacheOf(twoRacks, pods);
  cache.deviceClasses.upsert(decodeDeviceClass(deviceClass('gpu')));
  for (const [nodeName, count] of Object.entries(devices)) {
    const names = Array.from({ length: count }, (_, index) => `npu-${index}`);
    const raw = slice(`slice-${nodeName}`, names, { nodeName, pool: { name: nodeName } });
    cache.resourceSlices.upsert(decodeResourceSlice(raw));
  }
  for (const { count } of members) {
    const spec = { devices: { requests: [request('npus', { count })] } };
    const metadata = { name: `npus-${count}`, namespace: 'serving' };
    cache.resourceClaimTemplates.upsert(decodeResourceClaimTemplate({ metadata, spec: { spec } }));
  }
  return outcomeOf(inputOf(cache, groupInfoOf(cache, 'serving/g'), {}));
}

t.test('where each host has devices enough for either kind of members, and not for both', async t => {
  t.equal(outcomeFor({ a: 3, b: 3 }, oneTwoTwoOne, 'rack'), 'a a b b', 'they are paired up');
  t.equal(outcomeFor({ a: 3, b: 2, c: 6 }, oneTwoTwoOne, 'rack'), 'c c c c', 'another rack may do');
  t.equal(
    outcomeFor({ a: 3, b: 2, c: 4 }, oneTwoTwoOne, 'rack'),
    '4 pods do not fit in one rack: none of 2 holds them all',
    'a refusal is sure',
  );
});

t.test('members that are tried one after the other are tried with their devices', async t => {
  const members = [{ count: 1, ask: lone }, { count: 1, ask: lone }, { count: 2 }, { count: 2 }];
  t.equal(outcomeFor({ a: 3, c: 3 }, members), 'a c a c');
  t.match(outcomeFor({ a: 3, c: 2 }, members), /^4 pods do not fit in the cluster/);
});
