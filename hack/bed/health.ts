import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { ApiClient } from './api-client.ts';
import { type Component, healthUrlOf, type Layout } from './components.ts';
import { runningPid } from './processes.ts';

const timeoutMs = 2000;

/** Whether a component runs and says that it is well; for one without a health address, whether it runs. */
export async function isHealthy(layout: Layout, component: Component, client: ApiClient): Promise<boolean> {
  if (component === 'kube-apiserver') return client.answers('/readyz');
  const url = healthUrlOf(component, layout);
  return url === undefined ? runningPid(layout, component) !== undefined : answers(url);
}

/** Health addresses say nothing secret and do not ask who is there, so the certificate need not be checked. */
function answers(url: string): Promise<boolean> {
  return new Promise(resolve => {
    const options = { timeout: timeoutMs, agent: false };
    const request = url.startsWith('https:')
      ? httpsRequest(url, { ...options, rejectUnauthorized: false })
      : httpRequest(url, options);
    request.on('response', response => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    request.on('timeout', () => request.destroy());
    request.on('error', () => resolve(false));
    request.end();
  });
}
