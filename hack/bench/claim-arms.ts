import { allocate } from '../../src/cluster/devices/allocator/allocate.ts';
import type { AllocationQuestion } from '../../src/cluster/devices/allocator/question.ts';
import { CelSelectors } from '../../src/cluster/devices/cel/engine.ts';
import { decodeDeviceClass } from '../../src/cluster/devices/decode-claim.ts';
import { decodeResourceSlice } from '../../src/cluster/devices/decode-slice.ts';
import { deviceKey } from '../../src/cluster/devices/device.ts';
import { DeviceLedger } from '../../src/cluster/devices/device-ledger.ts';
import { poolsFor } from '../../src/cluster/devices/pools.ts';
import { SliceIndex } from '../../src/cluster/devices/slice-index.ts';
import { type Answer, ask } from '../../test/oracles/scheduler/oracle.ts';
import type { ClaimCase } from './claim-questions.ts';

/** The same cases, asked both; times in µs for each pod. */
export interface Arms {
  readonly berth: readonly number[];
  /** Berth when slices have just come: it gathers the pools of the node and evaluates the selectors. */
  readonly anew: readonly number[];
  readonly go: readonly number[];
  /** How many of the cases got devices. */
  readonly served: number;
}

/** V8 compiles while it runs, Go beforehand. */
const warmUp = 60;
const shortWarmUp = 10;

/** @throws Error when the two do not give the same devices */
export async function runClaimArms(cases: readonly ClaimCase[], rounds: number): Promise<Arms> {
  const go = await askGo(cases, rounds);
  const selectors = new CelSelectors();
  const questions = cases.map(each => questionOf(each, selectors));
  let served = 0;
  for (const [index, question] of questions.entries()) {
    const [ours, theirs] = [devicesOf(question), devicesIn(go.answers[index])];
    if (ours !== theirs) throw new Error(`Berth's allocator gives ${ours}, Go's gives ${theirs}`);
    if (ours !== 'none') served++;
  }
  const berth: number[] = [];
  for (let round = -warmUp; round < rounds; round++) {
    for (const question of questions) {
      const startedMs = performance.now();
      allocate(question);
      const ms = performance.now() - startedMs;
      if (round >= 0) berth.push(1e3 * ms);
    }
  }
  return { berth, anew: timesAnew(cases, selectors, Math.ceil(rounds / 3)), go: go.microseconds, served };
}

function timesAnew(cases: readonly ClaimCase[], selectors: CelSelectors, rounds: number): readonly number[] {
  const times: number[] = [];
  for (let round = -shortWarmUp; round < rounds; round++) {
    for (const each of cases) {
      const { source, ...rest } = readCase(each, selectors);
      const startedMs = performance.now();
      allocate({ ...rest, pools: poolsFor(rest.node, source) });
      const ms = performance.now() - startedMs;
      if (round >= 0) times.push(1e3 * ms);
    }
  }
  return times;
}

function questionOf(asked: ClaimCase, selectors: CelSelectors): AllocationQuestion {
  const { source, ...rest } = readCase(asked, selectors);
  return { ...rest, pools: poolsFor(rest.node, source) };
}

function readCase(
  { node, slices, classes, claims, taken }: ClaimCase,
  selectors: CelSelectors,
): Omit<AllocationQuestion, 'pools'> & { readonly source: SliceIndex } {
  const records = new Map(classes.map(raw => [raw.metadata.name ?? '', decodeDeviceClass(raw)]));
  const used = new DeviceLedger();
  used.add(taken);
  return {
    source: new SliceIndex(slices.map(decodeResourceSlice)),
    node: node.metadata,
    classes: name => records.get(name),
    selectors,
    claims: claims.map(({ metadata, spec }) => ({ name: metadata.name ?? '', spec })),
    used,
  };
}

interface GoAnswers {
  readonly microseconds: readonly number[];
  readonly answers: readonly Answer[];
}

async function askGo(cases: readonly ClaimCase[], rounds: number): Promise<GoAnswers> {
  const [answer = {}] = await ask([{ kind: 'timedDevices', timed: { cases, warmUp: shortWarmUp, rounds } }]);
  const { nanoseconds, answers } = answer;
  if (!Array.isArray(nanoseconds) || !Array.isArray(answers))
    throw new Error(`Go's allocator says ${JSON.stringify(answer)}`);
  return { microseconds: nanoseconds.map(each => Number(each) / 1e3), answers };
}

function devicesOf(question: AllocationQuestion): string {
  const answer = allocate(question);
  if (answer.kind !== 'allocated') return answer.kind;
  return answer.claims.flatMap(({ results }) => results.map(deviceKey)).join();
}

function devicesIn({ results, fails }: Answer = {}): string {
  if (typeof fails === 'string') return fails;
  if (!Array.isArray(results)) return 'none';
  return results
    .flatMap((ofClaim: readonly { readonly device: string }[]) => ofClaim.map(d => d.device))
    .join();
}
