import { stringify } from 'yaml';
import type { KeyPair } from './certificates.ts';

/** How a client proves who it is. */
export type Credentials =
  | { readonly kind: 'certificate'; readonly pair: KeyPair }
  | { readonly kind: 'token'; readonly token: string };

/** A kubeconfig with everything inside it, so that the file may be copied anywhere on this machine. */
export function kubeconfig(
  server: string,
  caPem: string,
  credentials: Credentials,
  namespace = 'default',
): string {
  return stringify(
    {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'bed', cluster: { server, 'certificate-authority-data': base64(caPem) } }],
      users: [{ name: 'bed', user: userEntry(credentials) }],
      contexts: [{ name: 'bed', context: { cluster: 'bed', user: 'bed', namespace } }],
      'current-context': 'bed',
    },
    { lineWidth: 0 },
  );
}

function userEntry(credentials: Credentials): Record<string, string> {
  if (credentials.kind === 'token') return { token: credentials.token };
  return {
    'client-certificate-data': base64(credentials.pair.certificatePem),
    'client-key-data': base64(credentials.pair.keyPem),
  };
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}
