import http from 'node:http';
import https from 'node:https';
import { ApiUnreachable, type UnreachableDetail } from './api-errors.ts';
import type { Clock } from './clock.ts';

export interface Exchange {
  readonly url: URL;
  readonly method: string;
  readonly agent: http.Agent;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Buffer | undefined;
  /** Until the answer is complete, or until its headers where the body is left to the caller. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** True: the body of this answer is read here; false: it is left in `response`, flowing not yet. */
  readonly readsBody: (status: number) => boolean;
  readonly clock: Clock;
}

export interface Answer {
  readonly status: number;
  readonly response: http.IncomingMessage;
  /** Empty where it was left in `response`. */
  readonly body: Buffer;
}

/** One HTTP exchange, whatever its status. Throws ApiUnreachable or the signal's reason. */
export async function sendExchange(exchange: Exchange): Promise<Answer> {
  exchange.signal?.throwIfAborted();
  try {
    return await sendOnce(exchange);
  } catch (error) {
    // The server closed an idle connection just when we took it. Only what changes nothing may be sent twice.
    const isStale = error instanceof ApiUnreachable && error.detail === 'stale-connection';
    if (isStale && exchange.method === 'GET') return sendOnce(exchange);
    throw error;
  }
}

function sendOnce(exchange: Exchange): Promise<Answer> {
  const { signal, timeoutMs } = exchange;
  return new Promise((resolve, reject) => {
    const request = startRequest(exchange);
    const timer = exchange.clock.setTimer(timeoutMs, () =>
      fail(new ApiUnreachable(`no answer within ${Math.round(timeoutMs)} ms`)),
    );
    const onAbort = () => fail(signal?.reason);
    signal?.addEventListener('abort', onAbort);
    const onError = (error: Error) =>
      fail(unreachable(error, request.reusedSocket ? 'stale-connection' : undefined));
    const settle = () => {
      timer.cancel();
      signal?.removeEventListener('abort', onAbort);
      // A pooled socket refers to the request that opened it for as long as it lives, and through our listeners that
      // request would keep its answer, a page of a list for one. Without any listener an error would end the process.
      request.on('error', ignore);
      request.off('error', onError);
    };
    const fail = (error: unknown) => {
      settle();
      reject(error);
      request.destroy();
    };
    request.on('error', onError);
    request.once('response', response => {
      const status = response.statusCode ?? 0;
      const succeed = (body: Buffer) => {
        settle();
        resolve({ status, response, body });
      };
      if (exchange.readsBody(status)) readBody(response, succeed, error => fail(unreachable(error)));
      else succeed(Buffer.alloc(0));
    });
    request.end(exchange.body);
  });
}

function startRequest({ url, method, agent, headers }: Exchange): http.ClientRequest {
  const library = url.protocol === 'https:' ? https : http;
  return library.request(url, { method, agent, headers });
}

function readBody(
  response: http.IncomingMessage,
  succeed: (body: Buffer) => void,
  fail: (error: Error) => void,
): void {
  const chunks: Buffer[] = [];
  const onData = (chunk: Buffer) => void chunks.push(chunk);
  response.on('data', onData);
  response.on('error', fail);
  response.once('end', () => {
    // As with the listeners of the request.
    response.off('data', onData);
    response.on('error', ignore);
    response.off('error', fail);
    succeed(Buffer.concat(chunks));
  });
}

function ignore(): void {}

/** Turns whatever a socket or stream threw into ApiUnreachable. */
export function unreachable(error: unknown, detail?: UnreachableDetail): ApiUnreachable {
  if (error instanceof ApiUnreachable) return error;
  const message = error instanceof Error && error.message !== '' ? error.message : 'connection failed';
  return new ApiUnreachable(message, detail ? { cause: error, detail } : { cause: error });
}
