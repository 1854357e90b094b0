import type { FastifyBaseLogger, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ClusterCache } from '../cache/cluster-cache.ts';
import type { PodInfo } from '../group/pod-info.ts';
import { RecentMap } from '../kube/recent-map.ts';
import { filterNames } from './filter.ts';
import { type InvalidRequest, isInvalidRequest } from './invalid-request.ts';
import { Offers } from './offers.ts';
import { worthwhileVictims } from './preempt.ts';
import { isScored, noScores, prioritizeAnswer } from './prioritize.ts';
import { anywhere, type NowhereCause, type Verdict, verdictFor } from './verdict.ts';
import { filterAnswer, filterError, preemptionAnswer, readNodeArgs, readPreemptionArgs } from './wire.ts';

export type ExtenderVerb = 'filter' | 'prioritize' | 'preempt';

/** How a call ended: `invalid` is the caller's fault, `failed` Berth's. */
export type ExtenderOutcome =
  | Verdict['kind']
  | 'scored'
  | 'unscored'
  | 'kept'
  | 'dropped'
  | 'unsynced'
  | 'invalid'
  | 'failed';

export interface ExtenderOptions {
  readonly cache: ClusterCache;
  /** Whether the whole cluster has been read. */
  readonly synced: () => boolean;
  /** Milliseconds of a clock that only goes forward. */
  readonly nowMs: () => number;
  /** Nobody plans: nothing is refused, scored or dropped. */
  readonly observeOnly: boolean;
  /** Called once per request, with the time since its headers arrived. */
  readonly observe: (verb: ExtenderVerb, outcome: ExtenderOutcome, seconds: number) => void;
}

export const filterPath = '/filter';
export const prioritizePath = '/prioritize';
export const preemptPath = '/preempt';

/** 5,000 names are a few hundred KB and a pod at most 3 MiB; candidates for preemption may hold many whole pods. */
export const extenderBodyLimitBytes = 16 * 1024 * 1024;

const unsyncedText = 'berth: the cluster has not been read completely yet';
const wholeNodesText = 'berth: names of nodes are needed: set nodeCacheCapable: true for this extender';

/** Pods of which it has been logged why they cannot have their planned node. */
const rememberedPods = 10_000;

/** What a client is told about a request that could not be read. Nothing of the cause, which may be internal. */
const clientErrors: ReadonlyMap<number, string> = new Map([
  [400, 'the body does not match its headers'],
  [413, `the body is larger than ${extenderBodyLimitBytes} bytes`],
  [415, 'the content type must be application/json'],
]);

interface Answer {
  readonly outcome: ExtenderOutcome;
  /** JSON. */
  readonly body: Buffer;
  /** kube-scheduler reads the body only of 200. */
  readonly status: number;
}

/**
 * Serves filter, prioritize and preempt to kube-scheduler. Answers come from the cache and the request alone. Until the
 * cluster has been read nothing is decided: filter says so in its answer, prioritize fails, which kube-scheduler takes for
 * no opinion, and preempt lets nobody be evicted.
 */
export async function extenderRoutes(server: FastifyInstance, options: ExtenderOptions): Promise<void> {
  const { cache, synced, observe, observeOnly, nowMs } = options;
  const refusals = new RecentMap<string, NowhereCause>(rememberedPods);
  const offers = new Offers({ cache, nowMs });

  // Bodies are taken apart by bytes.
  server.removeAllContentTypeParsers();
  server.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) =>
    done(null, body),
  );

  const serve = (
    verb: ExtenderVerb,
    url: string,
    answer: (body: Buffer, log: FastifyBaseLogger) => Answer,
  ): void => {
    const finish = (reply: FastifyReply, outcome: ExtenderOutcome) =>
      observe(verb, outcome, reply.elapsedTime / 1000);
    server.route({
      method: 'POST',
      url,
      bodyLimit: extenderBodyLimitBytes,
      errorHandler: (error, request, reply) => {
        const status = statusOf(error);
        const text = clientErrors.get(status);
        finish(reply, text === undefined ? 'failed' : 'invalid');
        if (text !== undefined) return reply.code(status).send({ error: text });
        request.log.error({ err: error, verb }, 'extender call failed');
        return reply.code(500).send({ error: 'internal error' });
      },
      handler: async (request, reply) => {
        const { outcome, status, body } = answer(bodyOf(request), request.log);
        finish(reply, outcome);
        return reply.code(status).type('application/json').send(body);
      },
    });
    server.route({ method: ['GET', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'], url, handler: refuseMethod });
  };

  serve('filter', filterPath, (body, log) => {
    if (!synced()) return { outcome: 'unsynced', status: 200, body: filterError(unsyncedText) };
    const args = readNodeArgs(body);
    if (isInvalidRequest(args)) return invalid(args);
    if (args.kind === 'nodes') return { outcome: 'invalid', status: 200, body: filterError(wholeNodesText) };
    const { pod, names } = args;
    const verdict = observeOnly ? anywhere : verdictFor(cache, pod, offers.pendingFor(pod.uid));
    logVerdict(log, refusals, pod, verdict, names.count);
    const result = filterNames(verdict, names);
    if ('offered' in verdict && verdict.offered !== undefined) {
      const { nodes, devices } = verdict.offered;
      // Where kube-scheduler cannot send it, it takes nothing.
      offers.note(pod.uid, devices, new Set([...nodes].filter(node => result.kept.has(node))));
    }
    return { outcome: verdict.kind, status: 200, body: filterAnswer(result) };
  });

  serve('prioritize', prioritizePath, (body, log) => {
    if (!synced()) return { outcome: 'unsynced', status: 500, body: errorBody(unsyncedText) };
    const args = readNodeArgs(body);
    if (isInvalidRequest(args)) return invalid(args);
    if (args.kind === 'nodes') return { outcome: 'invalid', status: 400, body: errorBody(wholeNodesText) };
    const { pod, names } = args;
    const scored = !observeOnly && isScored(cache, pod);
    log.debug({ ...factsOf(pod), names: names.count, scored }, 'prioritize answered');
    if (!scored) return { outcome: 'unscored', status: 200, body: noScores };
    return { outcome: 'scored', status: 200, body: prioritizeAnswer(cache.snapshot(), names) };
  });

  serve('preempt', preemptPath, (body, log) => {
    if (!synced()) return { outcome: 'unsynced', status: 200, body: preemptionAnswer(new Map()) };
    const args = readPreemptionArgs(body);
    if (isInvalidRequest(args)) return invalid(args);
    const kept = observeOnly ? args.victimsByNode : worthwhileVictims(cache, args);
    const candidates = args.victimsByNode.size;
    log.debug({ ...factsOf(args.pod), candidates, kept: kept.size }, 'preempt answered');
    const outcome = kept.size === candidates ? 'kept' : 'dropped';
    return { outcome, status: 200, body: preemptionAnswer(kept) };
  });
}

/** A lost place is told once; everything else may be told for every pod of the cluster, many times. */
function logVerdict(
  log: FastifyBaseLogger,
  refusals: RecentMap<string, NowhereCause>,
  pod: PodInfo,
  verdict: Verdict,
  names: number,
): void {
  log.debug({ ...factsOf(pod), names, verdict: verdict.kind, ...detailOf(verdict) }, 'filter answered');
  if (verdict.kind !== 'none' || verdict.cause === 'unplanned') return;
  if (refusals.get(pod.uid) === verdict.cause) return;
  refusals.set(pod.uid, verdict.cause);
  log.info({ ...factsOf(pod), cause: verdict.cause }, 'planned node refused');
}

function detailOf(verdict: Verdict): object {
  switch (verdict.kind) {
    case 'anywhere':
      return {};
    case 'only':
      return { node: verdict.node };
    case 'none':
      return { cause: verdict.cause };
    case 'except':
      return { keptOff: verdict.nodes.size };
  }
}

function factsOf({ namespace, name, uid }: PodInfo): object {
  return { pod: `${namespace}/${name}`, uid };
}

/** A POST without a body has none to parse. */
function bodyOf({ body }: FastifyRequest): Buffer {
  return Buffer.isBuffer(body) ? body : Buffer.alloc(0);
}

function invalid({ message }: InvalidRequest): Answer {
  return { outcome: 'invalid', status: 400, body: errorBody(message) };
}

function errorBody(error: string): Buffer {
  return Buffer.from(JSON.stringify({ error }));
}

function refuseMethod(_request: FastifyRequest, reply: FastifyReply): FastifyReply {
  return reply.code(405).header('allow', 'POST').send({ error: 'the method must be POST' });
}

function statusOf(error: unknown): number {
  if (typeof error !== 'object' || error === null || !('statusCode' in error)) return 500;
  return typeof error.statusCode === 'number' ? error.statusCode : 500;
}
