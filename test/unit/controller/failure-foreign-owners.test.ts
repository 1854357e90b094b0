import t from 'tap';
import type { Pod } from '../../../src/api/kubernetes.ts';
import { FakeCluster, groupsOf } from '../failure/fake-cluster.ts';
import { Replica } from '../failure/replica.ts';

t.setTimeout(180_000);

const labelled = (key: string, value: string) => (pod: Pod) => ({
  ...pod,
  metadata: { ...pod.metadata, labels: { ...pod.metadata.labels, [key]: value } },
});
const annotated = (key: string, value: string) => (pod: Pod) => ({
  ...pod,
  metadata: { ...pod.metadata, annotations: { ...pod.metadata.annotations, [key]: value } },
});
const scheduledBy = (schedulerName: string) => (pod: Pod) => ({
  ...pod,
  spec: { ...pod.spec, schedulerName },
});

/** How the pods of others look. */
const owners: Readonly<Record<string, (pod: Pod) => Pod>> = {
  'Kueue, by queue': labelled('kueue.x-k8s.io/queue-name', 'team-a'),
  'Kueue, by its mark': labelled('kueue.x-k8s.io/managed', 'true'),
  Grove: labelled('grove.io/podgang', 'llm-0'),
  'KAI, by queue': labelled('kai.scheduler/queue', 'team-a'),
  'KAI, by scheduler': scheduledBy('kai-scheduler'),
  'Volcano, by group': annotated('scheduling.k8s.io/group-name', 'llm-0'),
  'Volcano, by scheduler': scheduledBy('volcano'),
};

const faults: Readonly<Record<string, (cluster: FakeCluster) => void>> = {
  'a suspect failure': cluster => {
    workerOf(cluster).unhealthy = true;
  },
  'a certain failure': cluster =>
    cluster.setTaint(workerOf(cluster).pod.spec.nodeName ?? '', 'example.com/sick'),
  'a member that others evict': cluster => {
    // LWS would finish the group by itself.
    cluster.lwsMissesWorkers = true;
    cluster.disrupt(workerOf(cluster).pod.metadata.uid ?? '');
  },
};

function workerOf(cluster: FakeCluster) {
  const [, worker] = cluster.groups.flatMap(group => cluster.podsOf(group));
  if (worker === undefined) throw new Error('no such member');
  return worker;
}

async function run(fault: (cluster: FakeCluster) => void, mark: (pod: Pod) => Pod, ranks: readonly number[]) {
  const cluster = new FakeCluster(groupsOf(1, 3), 16);
  for (const state of cluster.pods.values()) if (ranks.includes(state.rank)) state.pod = mark(state.pod);
  const replica = new Replica(cluster, { settings: { unhealthyAfterSeconds: 5 } });
  await replica.run(500);
  fault(cluster);
  await replica.run(15_000, 500);
  return { cluster, replica };
}

for (const [what, fault] of Object.entries(faults)) {
  t.test(`${what} of a group that belongs to others`, async t => {
    const { cluster } = await run(fault, pod => pod, []);
    t.same(cluster.destructive, ['evict uid-llm-0-1'], 'one that Berth places is evicted');
    for (const [owner, mark] of Object.entries(owners)) {
      for (const ranks of [[0, 1, 2], [2]]) {
        const { cluster, replica } = await run(fault, mark, ranks);
        t.same(cluster.destructive, [], `${owner}, ranks ${ranks}`);
        t.same([...cluster.configMaps.keys()], [], 'nor is an eviction written down');
        t.ok(
          replica.events.some(event => event.startsWith('FailureDetected')),
          'though it was seen',
        );
      }
    }
  });
}
