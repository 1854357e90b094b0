import './reflect-metadata.ts';
import { generateKeyPairSync } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as x509 from '@peculiar/x509';

/** A certificate with its private key, both PEM. */
export interface KeyPair {
  readonly certificatePem: string;
  readonly keyPem: string;
}

/** Who a client certificate speaks for, in the words of Kubernetes: common name and organizations. */
export interface Identity {
  readonly user: string;
  readonly groups?: readonly string[];
}

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const lifetimeMs = 365 * 24 * 3600 * 1000;
/** A certificate is valid a little before it is made: clocks of two processes need not agree to the millisecond. */
const backdateMs = 3600 * 1000;
const serverNames = ['localhost', 'kubernetes', 'kubernetes.default', 'kubernetes.default.svc'];
/** 10.0.0.1 is the first address of the service range. */
const serverAddresses = ['127.0.0.1', '10.0.0.1'];

/** One cluster's certificate authority. Its own key stays in memory: nothing is signed after the start. */
export class Authority {
  readonly pem: string;
  readonly #certificate: x509.X509Certificate;
  readonly #keys: x509.X509CertificateCreateSelfSignedParams['keys'];

  private constructor(
    certificate: x509.X509Certificate,
    keys: x509.X509CertificateCreateSelfSignedParams['keys'],
  ) {
    this.#certificate = certificate;
    this.#keys = keys;
    this.pem = `${certificate.toString('pem')}\n`;
  }

  static async create(): Promise<Authority> {
    const keys = await newKeys();
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      ...validity(),
      name: 'CN=berth-bed-ca',
      keys,
      signingAlgorithm: algorithm,
      extensions: [
        new x509.BasicConstraintsExtension(true, undefined, true),
        new x509.KeyUsagesExtension(
          x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.digitalSignature,
          true,
        ),
      ],
    });
    return new Authority(certificate, keys);
  }

  /** A server certificate for everything that listens on this machine. */
  issueServer(): Promise<KeyPair> {
    const names = [
      ...serverNames.map(value => ({ type: 'dns' as const, value })),
      ...serverAddresses.map(value => ({ type: 'ip' as const, value })),
    ];
    return this.#issue('CN=127.0.0.1', x509.ExtendedKeyUsage.serverAuth, [
      new x509.SubjectAlternativeNameExtension(names),
    ]);
  }

  /** A client certificate that the API server reads as this user. */
  issueClient(identity: Identity): Promise<KeyPair> {
    const organizations = (identity.groups ?? []).map(group => ({ O: [group] }));
    const name = new x509.Name([...organizations, { CN: [identity.user] }]);
    return this.#issue(name.toString(), x509.ExtendedKeyUsage.clientAuth, []);
  }

  async #issue(subject: string, usage: string, extensions: x509.Extension[]): Promise<KeyPair> {
    const keys = await newKeys();
    const certificate = await x509.X509CertificateGenerator.create({
      ...validity(),
      subject,
      issuer: this.#certificate.subject,
      publicKey: keys.publicKey,
      signingKey: this.#keys.privateKey,
      signingAlgorithm: algorithm,
      extensions: [
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([usage]),
        ...extensions,
      ],
    });
    const key = await crypto.subtle.exportKey('pkcs8', keys.privateKey);
    return {
      certificatePem: `${certificate.toString('pem')}\n`,
      keyPem: `${x509.PemConverter.encode(key, 'PRIVATE KEY')}\n`,
    };
  }
}

/** Writes `<folder>/<name>.crt` and `<folder>/<name>.key`. */
export async function writeKeyPair(folder: string, name: string, pair: KeyPair): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, `${name}.crt`), pair.certificatePem);
  await writeFile(join(folder, `${name}.key`), pair.keyPem, { mode: 0o600 });
}

/** Writes the key pair that signs service account tokens: `<folder>/sa.key` and `<folder>/sa.pub`. */
export async function writeTokenKeys(folder: string): Promise<void> {
  const { publicKey, privateKey } = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'sec1', format: 'pem' },
  });
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'sa.pub'), publicKey);
  await writeFile(join(folder, 'sa.key'), privateKey, { mode: 0o600 });
}

function newKeys() {
  return crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
}

function validity(): { notBefore: Date; notAfter: Date } {
  const now = Date.now();
  return { notBefore: new Date(now - backdateMs), notAfter: new Date(now + lifetimeMs) };
}
