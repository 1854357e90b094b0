import t from 'tap';
import type { ResourceClaimTemplate } from '../../../src/api/dra.ts';
import type { Pod } from '../../../src/api/kubernetes.ts';
import { ClusterCache } from '../../../src/cache/cluster-cache.ts';
import { chooseDevices } from '../../../src/cluster/devices/choose-devices.ts';
import type { WantedClaim } from '../../../src/cluster/devices/claims.ts';
import {
  decodeDeviceClass,
  decodeResourceClaim,
  decodeResourceClaimTemplate,
} from '../../../src/cluster/devices/decode-claim.ts';
import { decodeResourceSlice } from '../../../src/cluster/devices/decode-slice.ts';
import { decodeNode } from '../../../src/cluster/node-info.ts';
import { demandOn, questionOn } from '../../../src/planner/device-fit.ts';
import { type PlanInput, planGroup } from '../../../src/planner/plan.ts';
import { describeRejection } from '../../../src/planner/rejection.ts';
import { labelOf } from '../../builders/fleet.ts';
import { decode, groupInfoOf, inputOf, labelledPod } from '../../builders/planning.ts';
import { type Trial, trialOf } from '../../e2e/device-trials.ts';
import { classes, type Wish } from '../../e2e/random-devices.ts';

const firstSeed = Number(process.env['BERTH_SEED'] ?? 31_000);
const trials = 600;
const namespace = 'serving';
const levels = [{ name: 'rack', nodeLabel: labelOf('rack') }];

/** The group of a trial in front of its fleet, whose strangers have what they want where it can be had. */
function inputOfTrial({ fleet, devices }: Trial): PlanInput {
  const cache = new ClusterCache({ levels, steersClaims: true });
  cache.nodes.replace(
    fleet.nodes.map(node =>
      decodeNode({ ...node, status: { ...node.status, conditions: [{ type: 'Ready', status: 'True' }] } }),
    ),
  );
  cache.deviceClasses.replace(classes.map(decodeDeviceClass));
  cache.resourceSlices.replace((fleet.slices ?? []).map(decodeResourceSlice));
  cache.resourceClaimTemplates.replace(
    devices.templates.map((wish, index) => decodeResourceClaimTemplate(templateOf(wish, index))),
  );
  for (const { node, wish } of devices.strangers) letIn(cache, node, wish);
  if (devices.shared !== undefined)
    cache.resourceClaims.upsert(
      decodeResourceClaim({
        metadata: { name: 'shared', namespace, uid: 'shared' },
        spec: { devices: devices.shared },
      }),
    );
  cache.pods.replace(devices.members.map((_, rank) => decode(memberOf(devices, rank))));
  return inputOf(cache, groupInfoOf(cache, `${namespace}/g`), {});
}

function templateOf(wish: Wish, index: number): ResourceClaimTemplate {
  return { metadata: { name: `t${index}`, namespace }, spec: { spec: { devices: wish } } };
}

function memberOf({ members, shared }: Trial['devices'], rank: number): Pod {
  const pod = labelledPod(members.length, rank, { cpu: 1 }, 'rack');
  const resourceClaims = [
    { name: 'own', resourceClaimTemplateName: `t${members[rank]}` },
    ...(shared === undefined ? [] : [{ name: 'shared', resourceClaimName: 'shared' }]),
  ];
  return { ...pod, spec: { ...pod.spec, resourceClaims } };
}

function letIn(cache: ClusterCache, name: string, wish: Wish): void {
  const spec = { devices: wish };
  const node = cache.nodeInfo(name);
  if (node?.devices === undefined) return;
  const members = [[{ name: 'own', spec }]];
  const choice = chooseDevices({
    ...questionOn(node, node.devices),
    members,
    minRung: undefined,
    steerable: false,
  });
  if (choice.kind !== 'chosen') return;
  const results = choice.members.flatMap(member => member.results);
  const metadata = { name: `of-${name}`, namespace, uid: `of-${name}` };
  cache.resourceClaims.upsert(
    decodeResourceClaim({ metadata, spec, status: { allocation: { devices: { results } } } }),
  );
}

/** Whether any way to deal the members out over the nodes of one rack gives all of them devices. */
function fitsAnyhow({ demands, snapshot }: PlanInput, { racks, devices }: Trial): boolean {
  const known = new Map<string, boolean>();
  const have = (at: number, ranks: readonly number[]): boolean => {
    const key = `${at}: ${ranks}`;
    const before = known.get(key);
    if (before !== undefined) return before;
    const node = snapshot.nodes.at(at);
    const asked = ranks.flatMap(rank => {
      const demand = demands[rank];
      return node === undefined || demand === undefined ? [] : [demandOn(node, demand)];
    });
    const members: readonly (readonly WantedClaim[])[] = asked.map(({ claims }) => claims);
    const answer =
      node?.devices !== undefined &&
      chooseDevices({
        ...questionOn(node, node.devices),
        members,
        minRung: undefined,
        steerable: asked.every(({ steerable }) => steerable),
      }).kind !== 'none';
    known.set(key, answer);
    return answer;
  };
  return racks.some(rack => {
    const nodes = [...snapshot.nodes].flatMap(({ record }, at) =>
      record.labels[labelOf('rack')] === rack ? [at] : [],
    );
    const all = [...demands.keys()];
    // Members that share a claim stand on one node.
    if (devices.shared !== undefined) return nodes.some(at => have(at, all));
    const deal = (rank: number, dealt: readonly (readonly number[])[]): boolean =>
      rank === all.length
        ? dealt.every((ranks, index) => ranks.length === 0 || have(nodes[index] ?? -1, ranks))
        : dealt.some((ranks, index) => deal(rank + 1, dealt.with(index, [...ranks, rank])));
    return deal(
      0,
      nodes.map(() => []),
    );
  });
}

t.test('a group is planned if and only if its members can be dealt out with devices for all', async t => {
  const counts = { plan: 0, rejection: 0, undecided: 0 };
  for (let index = 0; index < trials; index++) {
    const trial = trialOf(firstSeed, index);
    const input = inputOfTrial(trial);
    const answer = planGroup(input);
    counts[answer.kind]++;
    const fits = fitsAnyhow(input, trial);
    if (answer.kind === 'undecided') t.comment(`trial ${index} (${trial.devices.kind}): ${answer.reason}`);
    else if ((answer.kind === 'plan') !== fits) {
      const said = answer.kind === 'plan' ? answer.nodes.join() : describeRejection(answer, levels);
      t.fail(
        `seed ${firstSeed}, trial ${index} (${trial.devices.kind}): ${said}, though it ${fits ? 'fits' : 'does not fit'}`,
      );
    }
  }
  t.comment(JSON.stringify(counts));
  t.ok(counts.plan > trials / 4 && counts.rejection > trials / 4);
  t.equal(counts.undecided, 0, 'none is left undecided');
});
