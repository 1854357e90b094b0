import type { PodInfo } from '../group/pod-info.ts';
import { isRecord } from '../kube/raw-object.ts';
import { type InvalidRequest, invalidRequest, isInvalidRequest } from './invalid-request.ts';
import { NodeNames } from './node-names.ts';
import { readPod } from './request-pod.ts';

/**
 * The wire form of a kube-scheduler extender (k8s.io/kube-scheduler extender/v1): JSON with the names of Go fields, and
 * `null` for what is absent.
 */

/** What filter and prioritize are asked. */
export type NodeArgs =
  | { readonly kind: 'names'; readonly pod: PodInfo; readonly names: NodeNames }
  /** Whole Node objects came instead of names, which is how a scheduler asks without `nodeCacheCapable: true`. */
  | { readonly kind: 'nodes' };

/** An ExtenderArgs of which only the outer shape has been looked at. */
export interface RawNodeArgs {
  readonly pod: unknown;
  readonly nodes: unknown;
  readonly names: NodeNames | null;
}

/** The pods that would be evicted on one node. */
export interface Victims {
  readonly uids: readonly string[];
  /** How many of them a PodDisruptionBudget protects. */
  readonly numPdbViolations: number;
}

/** What preempt is asked: the nodes on which evictions would make room for the pod. */
export interface PreemptionArgs {
  readonly pod: PodInfo;
  readonly victimsByNode: ReadonlyMap<string, Victims>;
}

/** What is told of a filter. Names in neither list are refused, too. */
export interface FilterResult {
  readonly kept: NodeNames;
  readonly refused: readonly string[];
  readonly sentence: string;
}

/** Go's encoder writes the fields in this order and without whitespace. */
const head = Buffer.from('{"Pod":');
const joint = Buffer.from(',"Nodes":null,"NodeNames":');
const tail = '}'.charCodeAt(0);

/** Reads the body of filter and prioritize. The error names the first field at fault. */
export function readNodeArgs(body: Buffer): NodeArgs | InvalidRequest {
  const args = cutNodeArgs(body) ?? parseNodeArgs(body);
  if (isInvalidRequest(args)) return args;
  const pod = readPod(args.pod, 'Pod');
  if (isInvalidRequest(pod)) return pod;
  if (args.names === null && args.nodes !== null) return { kind: 'nodes' };
  return { kind: 'names', pod, names: args.names ?? NodeNames.fromList([]) };
}

/**
 * Takes a body apart by its bytes and parses only the pod. Undefined for a body that is not put together just as Go does
 * it. The text of the joint may stand inside the pod, too; but only where all before it is one JSON value, the pod is
 * what ends there.
 */
export function cutNodeArgs(body: Buffer): RawNodeArgs | undefined {
  if (body.length < head.length || head.compare(body, 0, head.length) !== 0) return undefined;
  const podEnd = body.lastIndexOf(joint);
  if (podEnd < head.length || body[body.length - 1] !== tail) return undefined;
  const names = NodeNames.fromBytes(body.subarray(podEnd + joint.length, body.length - 1));
  if (names === undefined) return undefined;
  const pod = parseJson(body.toString('utf8', head.length, podEnd));
  return pod === undefined ? undefined : { pod: pod.value, nodes: null, names };
}

/** Takes any body apart, by parsing all of it. */
export function parseNodeArgs(body: Buffer): RawNodeArgs | InvalidRequest {
  const args = parseObject(body);
  if (isInvalidRequest(args)) return args;
  const { Pod: pod, Nodes: nodes = null, NodeNames: names } = args;
  if (names === null) return { pod, nodes, names };
  if (!Array.isArray(names)) return invalidRequest('NodeNames', 'must be a list of names, or null');
  const odd = names.findIndex(name => typeof name !== 'string');
  if (odd !== -1) return invalidRequest(`NodeNames[${odd}]`, 'must be a string');
  return { pod, nodes, names: NodeNames.fromList(names) };
}

/** Reads the body of preempt. Victims that come as whole pods are read as their UIDs. */
export function readPreemptionArgs(body: Buffer): PreemptionArgs | InvalidRequest {
  const args = parseObject(body);
  if (isInvalidRequest(args)) return args;
  const pod = readPod(args['Pod'], 'Pod');
  if (isInvalidRequest(pod)) return pod;
  const field =
    (args['NodeNameToMetaVictims'] ?? null) === null ? 'NodeNameToVictims' : 'NodeNameToMetaVictims';
  const byNode = args[field] ?? {};
  if (!isRecord(byNode)) return invalidRequest(field, 'must be an object, or null');
  const victimsByNode = new Map<string, Victims>();
  for (const [node, value] of Object.entries(byNode)) {
    const victims = readVictims(value, `${field}[${node}]`, field === 'NodeNameToVictims');
    if (isInvalidRequest(victims)) return victims;
    victimsByNode.set(node, victims);
  }
  return { pod, victimsByNode };
}

/** An ExtenderFilterResult. What was kept goes back as the bytes that came. */
export function filterAnswer({ kept, refused, sentence }: FilterResult): Buffer {
  const why = JSON.stringify(sentence);
  const entries = refused.map(name => `${JSON.stringify(name)}:${why}`);
  return Buffer.concat([
    Buffer.from('{"Nodes":null,"NodeNames":'),
    kept.json,
    Buffer.from(`,"FailedNodes":null,"FailedAndUnresolvableNodes":{${entries.join(',')}},"Error":""}`),
  ]);
}

/** An ExtenderFilterResult that is no verdict: kube-scheduler tries again, or goes on alone where we are ignorable. */
export function filterError(message: string): Buffer {
  return Buffer.from(JSON.stringify({ Error: message }));
}

/** An ExtenderPreemptionResult. */
export function preemptionAnswer(victimsByNode: ReadonlyMap<string, Victims>): Buffer {
  const entries = [...victimsByNode].map(([node, { uids, numPdbViolations }]) => {
    const victims = { Pods: uids.map(uid => ({ UID: uid })), NumPDBViolations: numPdbViolations };
    return `${JSON.stringify(node)}:${JSON.stringify(victims)}`;
  });
  return Buffer.from(`{"NodeNameToMetaVictims":{${entries.join(',')}}}`);
}

function readVictims(value: unknown, field: string, areWholePods: boolean): Victims | InvalidRequest {
  if (!isRecord(value)) return invalidRequest(field, 'must be an object');
  const numPdbViolations = value['NumPDBViolations'] ?? 0;
  const pods = value['Pods'] ?? [];
  if (!Array.isArray(pods)) return invalidRequest(`${field}.Pods`, 'must be a list, or null');
  if (typeof numPdbViolations !== 'number' || !Number.isSafeInteger(numPdbViolations)) {
    return invalidRequest(`${field}.NumPDBViolations`, 'must be a whole number');
  }
  const uids: string[] = [];
  for (const [index, pod] of pods.entries()) {
    const uid = areWholePods ? uidOfPod(pod) : isRecord(pod) ? pod['UID'] : undefined;
    if (typeof uid !== 'string' || uid === '') {
      const key = areWholePods ? 'metadata.uid' : 'UID';
      return invalidRequest(`${field}.Pods[${index}].${key}`, 'must be a non-empty string');
    }
    uids.push(uid);
  }
  return { uids, numPdbViolations };
}

function uidOfPod(pod: unknown): unknown {
  return isRecord(pod) && isRecord(pod['metadata']) ? pod['metadata']['uid'] : undefined;
}

function parseObject(body: Buffer): Readonly<Record<string, unknown>> | InvalidRequest {
  const parsed = parseJson(body.toString('utf8'));
  if (parsed === undefined) return invalidRequest('', 'the body is not JSON');
  return isRecord(parsed.value) ? parsed.value : invalidRequest('', 'the body must be a JSON object');
}

function parseJson(text: string): { readonly value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) };
  } catch {
    return undefined;
  }
}
