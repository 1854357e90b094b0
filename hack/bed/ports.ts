import { createServer, type Server } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** Below the range from which kernels take ports for outgoing connections (32768 on Linux, 49152 on macOS). */
const firstPort = 20_000;
const lastPort = 32_000;

/**
 * Finds as many free ports of 127.0.0.1. They are drawn at random from outside the ephemeral range, so that neither a
 * second cluster starting now nor an outgoing connection is likely to take one before its owner binds it.
 */
export async function freePorts(count: number): Promise<number[]> {
  const held: Server[] = [];
  const ports: number[] = [];
  while (ports.length < count) {
    const port = firstPort + Math.floor(Math.random() * (lastPort - firstPort));
    const server = ports.includes(port) ? undefined : await tryListen(port);
    if (server === undefined) continue;
    held.push(server);
    ports.push(port);
  }
  await Promise.all(held.map(server => new Promise(done => server.close(done))));
  return ports;
}

/**
 * Waits until a port can be bound that a process which has just been killed had: it was seen taken still for a moment,
 * most likely because the kernel closes what io_uring holds a little after the end. @throws when it is taken after 10 s
 */
export async function awaitFreePort(port: number): Promise<void> {
  const deadlineMs = performance.now() + 10_000;
  for (;;) {
    const server = await tryListen(port);
    if (server !== undefined) {
      await new Promise(done => server.close(done));
      return;
    }
    if (performance.now() > deadlineMs) throw new Error(`port ${port} is still taken`);
    await delay(20);
  }
}

function tryListen(port: number): Promise<Server | undefined> {
  return new Promise(resolve => {
    const server = createServer();
    server.once('error', () => resolve(undefined));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => resolve(server));
  });
}
