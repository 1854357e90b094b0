import { createHash } from 'node:crypto';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseAllDocuments } from 'yaml';
import type { EnvVar, LeaderWorkerSet, Pod, PodTemplateSpec } from '../../../src/api/kubernetes.ts';
import { k8s, lws } from '../../../src/api/names.ts';

const checkout = resolve(import.meta.dirname, '../../..');
const subdomainPolicy = 'leaderworkerset.sigs.k8s.io/subdomainPolicy';

/** Manifests met in the field, kept outside the checkout. */
export const corpusFolder = resolve(checkout, process.env.BERTH_CORPUS ?? '../shared/corpus');

/** The LeaderWorkerSets of a corpus entry such as `C14`; undefined when the corpus is not there. */
export function corpusSets(entry: string): readonly LeaderWorkerSet[] | undefined {
  if (!existsSync(corpusFolder)) return undefined;
  const files = globSync(`${entry}-*/*.yaml`, { cwd: corpusFolder });
  const documents = files.flatMap(file => {
    const text = readFileSync(join(corpusFolder, file), 'utf8');
    return parseAllDocuments(text).map(document => document.toJS());
  });
  return documents.filter(document => document?.kind === lws.kind);
}

/** The pods of one group as the controllers create them, before any admission. */
export function groupPods(
  set: LeaderWorkerSet,
  { namespace = 'serving', group = 0, uniqueSubdomain = false } = {},
): readonly Pod[] {
  const { size = 1, leaderTemplate, workerTemplate } = set.spec.leaderWorkerTemplate;
  const setName = set.metadata.name ?? '';
  const leaderName = `${setName}-${group}`;
  const subdomain = uniqueSubdomain ? leaderName : setName;
  const common = { namespace, annotations: { [lws.size]: String(size) }, labels: { [lws.name]: setName } };
  const leader = statefulSetPod(leaderTemplate ?? workerTemplate, {
    ...common,
    name: leaderName,
    index: group,
    // Only LWS's webhook gives the leader a subdomain of its own.
    subdomain: setName,
    labels: { ...common.labels, [lws.workerIndex]: '0' },
    annotations: { ...common.annotations, ...(uniqueSubdomain && { [subdomainPolicy]: 'UniquePerReplica' }) },
  });
  const workers = Array.from({ length: size - 1 }, (_, position) =>
    statefulSetPod(workerTemplate, {
      ...common,
      name: `${leaderName}-${position + 1}`,
      index: position + 1,
      subdomain,
      labels: {
        ...common.labels,
        [lws.groupIndex]: String(group),
        [lws.groupKey]: groupKey(namespace, leaderName),
      },
      annotations: { ...common.annotations, [lws.leaderName]: leaderName },
    }),
  );
  return [leader, ...workers];
}

/** What LWS's own pod webhook does to labels, subdomain and environment. */
export function admitByLws(pod: Pod): Pod {
  const { namespace = '', name = '', labels = {}, annotations = {} } = pod.metadata;
  const isLeader = labels[lws.workerIndex] === '0';
  const index = name.slice(name.lastIndexOf('-') + 1);
  const subdomain =
    isLeader && annotations[subdomainPolicy] === 'UniquePerReplica' ? name : pod.spec.subdomain;
  const added = isLeader
    ? { [lws.groupIndex]: index, [lws.groupKey]: groupKey(namespace, name) }
    : { [lws.workerIndex]: index };
  const allLabels = { ...labels, ...added };
  const own: EnvVar[] = [
    {
      name: lws.envLeaderAddress,
      value: `${labels[lws.name]}-${allLabels[lws.groupIndex]}.${subdomain}.${namespace}`,
    },
    { name: lws.envGroupSize, value: annotations[lws.size] ?? '' },
    { name: lws.envWorkerIndex, value: allLabels[lws.workerIndex] ?? '' },
  ];
  const { initContainers, containers } = pod.spec;
  const withEnv = <C extends { readonly env?: readonly EnvVar[] }>(container: C) => ({
    ...container,
    env: firstOfEachName([...own, ...(container.env ?? [])]),
  });
  return {
    ...pod,
    metadata: { ...pod.metadata, labels: allLabels },
    spec: {
      ...pod.spec,
      ...(subdomain !== undefined && { subdomain }),
      ...(initContainers && { initContainers: initContainers.map(withEnv) }),
      containers: containers.map(withEnv),
    },
  };
}

interface StatefulSetPod {
  readonly namespace: string;
  readonly name: string;
  readonly index: number;
  readonly subdomain: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

function statefulSetPod(template: PodTemplateSpec, pod: StatefulSetPod): Pod {
  const labels = { ...template.metadata?.labels, ...pod.labels, [k8s.podIndex]: String(pod.index) };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: pod.name,
      namespace: pod.namespace,
      labels,
      annotations: { ...template.metadata?.annotations, ...pod.annotations },
    },
    spec: {
      ...template.spec,
      hostname: pod.name,
      subdomain: pod.subdomain,
      schedulerName: k8s.defaultScheduler,
    },
  };
}

function firstOfEachName(env: readonly EnvVar[]): readonly EnvVar[] {
  return env.filter((entry, index) => env.findIndex(other => other.name === entry.name) === index);
}

function groupKey(namespace: string, leaderName: string): string {
  return createHash('sha1').update(`${namespace}/${leaderName}`).digest('hex');
}
