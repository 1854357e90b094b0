import fastify from 'fastify';
import type { ExtenderCertificates } from './extender-client.ts';
import { PlainExtender, type PlainKnowledge } from './parse-all.ts';

/** Sent once by the owner of this process, which then is told the port. */
export interface PlainStart {
  readonly certificates: ExtenderCertificates;
  readonly knowledge: PlainKnowledge;
}

const bodyLimitBytes = 16 * 1024 * 1024;

process.once('message', (message: PlainStart) => void serve(message));
process.once('disconnect', () => process.exit());

/** With the TLS of Berth's extender, so that only the handlers differ. */
async function serve({ certificates, knowledge }: PlainStart): Promise<void> {
  const { ca, serverCert: cert, serverKey: key } = certificates;
  const demandsCertificate = { requestCert: true, rejectUnauthorized: true };
  const server = fastify({
    https: { ca, cert, key, minVersion: 'TLSv1.2', ...demandsCertificate },
    bodyLimit: bodyLimitBytes,
    keepAliveTimeout: 120_000,
  });
  const extender = new PlainExtender(knowledge);
  // Fastify's own parser also looks for prototype poisoning, which would only make it slower.
  server.removeAllContentTypeParsers();
  server.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, body, done) =>
    done(null, body),
  );
  server.post('/filter', (request, reply) =>
    reply.type('application/json').send(extender.filter(String(request.body))),
  );
  server.post('/prioritize', (request, reply) =>
    reply.type('application/json').send(extender.prioritize(String(request.body))),
  );
  /** What the way there and back costs whatever the handler. */
  server.post('/discard', (_request, reply) => reply.type('application/json').send('{}'));
  const address = await server.listen({ host: '127.0.0.1', port: 0 });
  process.send?.(Number(new URL(address).port));
}
