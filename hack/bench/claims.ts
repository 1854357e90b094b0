import { type Arms, runClaimArms } from './claim-arms.ts';
import { type ClaimQuestionName, claimCases, claimQuestionNames } from './claim-questions.ts';
import { type BenchContext, scaled } from './context.ts';
import type { Figure } from './figures.ts';
import { percentile, summarize } from './statistics.ts';

const sizes = [8, 64, 128];
const cases = 50;
const fullRounds = 60;
const part = 'claims';

/**
 * How long it takes to say which devices the claim of a pod would get on a node, beside the allocator that kube-scheduler
 * asks. Both have read everything beforehand.
 *
 * @throws Error when they do not give the same devices
 */
export async function measureClaims(context: BenchContext): Promise<readonly Figure[]> {
  const figures: Figure[] = [];
  let served = 0;
  context.say('claims: building the Go allocator, which takes minutes the first time');
  for (const devices of sizes) {
    const ofSize: Arms[] = [];
    for (const name of claimQuestionNames) {
      context.say(`claims: ${name}, ${devices} devices on the node`);
      const asked = claimCases(name, { devices, cases, seed: devices });
      const arms = await runClaimArms(asked, scaled(context, fullRounds));
      figures.push(...figuresOf(name, devices, arms));
      ofSize.push(arms);
    }
    figures.push({
      part,
      what: `${devices} devices, all of these claims, pools gathered and selectors evaluated anew`,
      unit: 'claims/s',
      berth: summarize([perSecond(ofSize.flatMap(({ anew }) => anew))]),
      beside: { name: 'Go', value: summarize([perSecond(ofSize.flatMap(({ go }) => go))]) },
    });
    served += ofSize.reduce((sum, arms) => sum + arms.served, 0);
  }
  context.note(
    `Claims were predicted on nodes of which 0 to 80 % of the devices were taken; ${served} of ` +
      `${sizes.length * claimQuestionNames.length * cases} got devices, the same from both. Go is ` +
      'k8s.io/dynamic-resource-allocation/structured v0.37.2 in a process of its own, which gathers the pools of the node ' +
      'and evaluates selectors for every pod; Berth, in the process of the benchmark without the variables named here, ' +
      'keeps both until slices change. Both ran warm, one after the other, on one thread but for the collection of garbage.',
  );
  return figures;
}

function figuresOf(name: ClaimQuestionName, devices: number, { berth, go }: Arms): readonly Figure[] {
  const what = `${devices} devices, ${name}`;
  return [
    {
      part,
      what: `${what}: predicted`,
      unit: 'claims/s',
      berth: summarize([perSecond(berth)]),
      beside: { name: 'Go', value: summarize([perSecond(go)]) },
    },
    {
      part,
      what: `${what}: p99 per pod`,
      unit: 'µs',
      berth: summarize([percentile(berth, 99)]),
      beside: { name: 'Go', value: summarize([percentile(go, 99)]) },
    },
  ];
}

function perSecond(microseconds: readonly number[]): number {
  return (1e6 * microseconds.length) / microseconds.reduce((sum, each) => sum + each, 0);
}
