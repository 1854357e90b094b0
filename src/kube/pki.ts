import {
  createHash,
  createPrivateKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  X509Certificate,
} from 'node:crypto';
import { AsnConvert, OctetString } from '@peculiar/asn1-schema';
import {
  AlgorithmIdentifier,
  AttributeTypeAndValue,
  AttributeValue,
  AuthorityKeyIdentifier,
  BasicConstraints,
  Certificate,
  ExtendedKeyUsage,
  Extension,
  Extensions,
  GeneralName,
  id_ce_authorityKeyIdentifier,
  id_ce_basicConstraints,
  id_ce_extKeyUsage,
  id_ce_keyUsage,
  id_ce_subjectAltName,
  id_ce_subjectKeyIdentifier,
  id_kp_clientAuth,
  id_kp_serverAuth,
  KeyIdentifier,
  KeyUsage,
  KeyUsageFlags,
  Name,
  RelativeDistinguishedName,
  SubjectAlternativeName,
  SubjectKeyIdentifier,
  SubjectPublicKeyInfo,
  TBSCertificate,
  Validity,
  Version,
} from '@peculiar/asn1-x509';

/** A certificate with its private key, both PEM. */
export interface Issued {
  readonly certPem: string;
  /** PKCS #8. */
  readonly keyPem: string;
}

export interface ServerNames {
  readonly dnsNames: readonly string[];
  readonly ipAddresses: readonly string[];
}

/**
 * - `renew-ca`: the authority is missing, unreadable, or past two thirds of its life
 * - `renew-leaf`: the same of a leaf, or no authority in the bundle has signed it, or it lacks a wanted name
 * - `fresh`: nothing to do
 */
export type CertificateState = 'fresh' | 'renew-leaf' | 'renew-ca';

export interface HeldCertificates {
  /** Key of the first certificate of the bundle. */
  readonly caKeyPem: string;
  /** The authority that signs, then those that have signed certificates still in use. */
  readonly caBundlePem: string;
  readonly server: Issued;
  readonly serverNames: ServerNames;
  readonly client: Issued;
}

const dayMs = 24 * 3600 * 1000;
const caLifeMs = 10 * 365 * dayMs;
const leafLifeMs = 365 * dayMs;
/** Certificates are valid a little before they are made, for the clocks of other machines. */
const backdateMs = 3600 * 1000;

const ecdsaWithSha256 = '1.2.840.10045.4.3.2';
const commonNameType = '2.5.4.3';

/** Makes a self-signed authority: ECDSA P-256, ten years, for end certificates only. */
export function createAuthority({
  commonName,
  now,
}: {
  readonly commonName: string;
  readonly now: Date;
}): Issued {
  const key = newKey();
  // Old and new authority share a bundle for years, and verifiers look an issuer up by its subject first.
  const subject = nameOf(`${commonName} ${randomBytes(4).toString('hex')}`);
  return issue({
    key,
    subject,
    issuer: { subject, key, keyId: keyIdOf(key) },
    notBefore: new Date(now.getTime() - backdateMs),
    notAfter: new Date(now.getTime() + caLifeMs),
    extensions: [
      extension(id_ce_basicConstraints, true, new BasicConstraints({ cA: true, pathLenConstraint: 0 })),
      extension(id_ce_keyUsage, true, new KeyUsage(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign)),
    ],
  });
}

/** Issues a server certificate for one year. */
export function issueServerCertificate(
  authority: Issued,
  {
    commonName,
    names,
    now,
  }: { readonly commonName: string; readonly names: ServerNames; readonly now: Date },
): Issued {
  const alternatives = [
    ...names.dnsNames.map(dNSName => new GeneralName({ dNSName })),
    ...names.ipAddresses.map(iPAddress => new GeneralName({ iPAddress })),
  ];
  return issueLeaf(authority, commonName, now, [
    extension(id_ce_extKeyUsage, false, new ExtendedKeyUsage([id_kp_serverAuth])),
    extension(id_ce_subjectAltName, false, new SubjectAlternativeName(alternatives)),
  ]);
}

/** Issues a client certificate for one year. */
export function issueClientCertificate(
  authority: Issued,
  { commonName, now }: { readonly commonName: string; readonly now: Date },
): Issued {
  return issueLeaf(authority, commonName, now, [
    extension(id_ce_extKeyUsage, false, new ExtendedKeyUsage([id_kp_clientAuth])),
  ]);
}

/** The most urgent thing to do. After a `renew-ca`, ask again: leaves that still verify are kept. */
export function certificateState(now: Date, held: HeldCertificates): CertificateState {
  const authorities = readBundle(held.caBundlePem);
  const [signing] = authorities;
  if (signing === undefined || !isYoung(now, signing) || !holdsKey(signing, held.caKeyPem)) return 'renew-ca';
  const valid = authorities.filter(authority => isValid(now, authority));
  const server = readLeaf(now, held.server, valid);
  const client = readLeaf(now, held.client, valid);
  if (server === undefined || client === undefined) return 'renew-leaf';
  return coversNames(server, held.serverNames) ? 'fresh' : 'renew-leaf';
}

/** Puts a new authority before the old ones; those that have expired or cannot be read are dropped. */
export function caBundle(now: Date, newCaPem: string, oldBundlePem: string): string {
  const kept = readBundle(oldBundlePem).filter(authority => isValid(now, authority));
  const pems = [...readBundle(newCaPem), ...kept].map(authority => authority.toString());
  return [...new Set(pems)].join('');
}

interface Issuer {
  readonly subject: Name;
  readonly key: KeyPair;
  readonly keyId: ArrayBuffer;
}

interface KeyPair {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

interface CertificateRequest {
  readonly key: KeyPair;
  readonly subject: Name;
  readonly issuer: Issuer;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly extensions: readonly Extension[];
}

function issueLeaf(
  authority: Issued,
  commonName: string,
  now: Date,
  extensions: readonly Extension[],
): Issued {
  const ca = new X509Certificate(authority.certPem);
  const notAfter = Math.min(now.getTime() + leafLifeMs, ca.validToDate.getTime());
  return issue({
    key: newKey(),
    subject: nameOf(commonName),
    issuer: issuerOf(ca, authority.keyPem),
    notBefore: new Date(now.getTime() - backdateMs),
    notAfter: new Date(notAfter),
    extensions: [
      extension(id_ce_basicConstraints, true, new BasicConstraints()),
      extension(id_ce_keyUsage, true, new KeyUsage(KeyUsageFlags.digitalSignature)),
      ...extensions,
    ],
  });
}

function issuerOf(ca: X509Certificate, keyPem: string): Issuer {
  const { subject } = AsnConvert.parse(ca.raw, Certificate).tbsCertificate;
  const key = { publicKey: ca.publicKey, privateKey: createPrivateKey(keyPem) };
  return { subject, key, keyId: keyIdOf(key) };
}

/** RFC 5280, 4.1: the signed part, then the signature over its DER. */
function issue({ key, subject, issuer, notBefore, notAfter, extensions }: CertificateRequest): Issued {
  const algorithm = new AlgorithmIdentifier({ algorithm: ecdsaWithSha256 });
  const keyIds = [
    extension(id_ce_subjectKeyIdentifier, false, new SubjectKeyIdentifier(keyIdOf(key))),
    extension(
      id_ce_authorityKeyIdentifier,
      false,
      new AuthorityKeyIdentifier({ keyIdentifier: new KeyIdentifier(issuer.keyId) }),
    ),
  ];
  const tbsCertificate = new TBSCertificate({
    version: Version.v3,
    serialNumber: serialNumber(),
    signature: algorithm,
    issuer: issuer.subject,
    validity: new Validity({ notBefore: wholeSeconds(notBefore), notAfter: wholeSeconds(notAfter) }),
    subject,
    subjectPublicKeyInfo: AsnConvert.parse(spkiOf(key), SubjectPublicKeyInfo),
    extensions: new Extensions([...extensions, ...keyIds]),
  });
  const signatureValue = bytes(
    sign('sha256', Buffer.from(AsnConvert.serialize(tbsCertificate)), issuer.key.privateKey),
  );
  const der = AsnConvert.serialize(
    new Certificate({ tbsCertificate, signatureAlgorithm: algorithm, signatureValue }),
  );
  const keyPem = key.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  return { certPem: new X509Certificate(Buffer.from(der)).toString(), keyPem };
}

function newKey(): KeyPair {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' });
}

function spkiOf({ publicKey }: KeyPair): Buffer {
  return publicKey.export({ type: 'spki', format: 'der' });
}

/** RFC 5280 leaves the method open; a hash of the whole key info is as good as its first one. */
function keyIdOf(key: KeyPair): ArrayBuffer {
  return bytes(createHash('sha256').update(spkiOf(key)).digest().subarray(0, 20));
}

/** 126 random bits; the first byte keeps the integer positive and of full length. */
function serialNumber(): ArrayBuffer {
  const serial = randomBytes(16);
  serial[0] = 0x40 | ((serial[0] ?? 0) & 0x3f);
  return bytes(serial);
}

function nameOf(commonName: string): Name {
  const value = new AttributeValue({ utf8String: commonName });
  return new Name([
    new RelativeDistinguishedName([new AttributeTypeAndValue({ type: commonNameType, value })]),
  ]);
}

function extension(extnID: string, critical: boolean, value: unknown): Extension {
  return new Extension({ extnID, critical, extnValue: new OctetString(AsnConvert.serialize(value)) });
}

/** Certificates know no fractions of a second. */
function wholeSeconds(time: Date): Date {
  return new Date(Math.floor(time.getTime() / 1000) * 1000);
}

/** A copy, for small Buffers share one pool. */
function bytes(buffer: Buffer): ArrayBuffer {
  return new Uint8Array(buffer).buffer;
}

const pemPattern = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

function readBundle(pem: string): readonly X509Certificate[] {
  return (pem.match(pemPattern) ?? []).flatMap(text => readCertificate(text) ?? []);
}

function readCertificate(pem: string): X509Certificate | undefined {
  try {
    return new X509Certificate(pem);
  } catch {
    // What cannot be read is as good as absent: it is made anew.
    return undefined;
  }
}

/** The leaf if it may stay in use. */
function readLeaf(
  now: Date,
  { certPem, keyPem }: Issued,
  authorities: readonly X509Certificate[],
): X509Certificate | undefined {
  const leaf = readCertificate(certPem);
  if (leaf === undefined || !isYoung(now, leaf) || !holdsKey(leaf, keyPem)) return undefined;
  return authorities.some(authority => leaf.verify(authority.publicKey)) ? leaf : undefined;
}

function holdsKey(certificate: X509Certificate, keyPem: string): boolean {
  try {
    return certificate.checkPrivateKey(createPrivateKey(keyPem));
  } catch {
    return false;
  }
}

function isValid(now: Date, { validFromDate, validToDate }: X509Certificate): boolean {
  return validFromDate <= now && now < validToDate;
}

/** Within the first two thirds of its life. */
function isYoung(now: Date, certificate: X509Certificate): boolean {
  const from = certificate.validFromDate.getTime();
  const renewAt = from + ((certificate.validToDate.getTime() - from) * 2) / 3;
  return isValid(now, certificate) && now.getTime() < renewAt;
}

function coversNames(certificate: X509Certificate, { dnsNames, ipAddresses }: ServerNames): boolean {
  return (
    dnsNames.every(name => certificate.checkHost(name) !== undefined) &&
    ipAddresses.every(address => certificate.checkIP(address) !== undefined)
  );
}
