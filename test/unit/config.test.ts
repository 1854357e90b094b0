import t from 'tap';
import { ConfigError, readConfig, topologyLevels } from '../../src/config.ts';

function problemsOf(text: string): readonly string[] {
  try {
    readConfig(text, 'c.yaml');
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems;
  }
}

const level = (more: string) => `topology: { levels: [{ name: pool, nodeLabel: pool${more} }] }`;

t.test('levels of TPU slices', async t => {
  const levelsOf = (text: string) => topologyLevels(readConfig(text, 'c.yaml'));
  t.same(levelsOf(level(', shapeLabel: shape')), [{ name: 'pool', nodeLabel: 'pool', shapeLabel: 'shape' }]);
  t.same(levelsOf(level(', shape: 2x2x2')), [{ name: 'pool', nodeLabel: 'pool', shape: '2x2x2' }]);
  t.same(levelsOf(level('')), [{ name: 'pool', nodeLabel: 'pool' }]);
  t.equal(levelsOf('topology: { preset: gke-tpu-cubes }').at(-1)?.shape, '4x4x4');
});

t.test('shapes that cannot be', async t => {
  t.match(problemsOf(level(', shape: big')), [
    /topology.levels\[0\].shape: must be a TPU shape such as 4x4 or 2x2x2/,
  ]);
  t.match(problemsOf(level(', shape: 4x4, shapeLabel: shape')), [
    /topology.levels: shape and shapeLabel of one level exclude each other/,
  ]);
  t.match(problemsOf(level(', shapelabel: shape')), [/did you mean topology.levels\[0\].shapeLabel\?/]);
});

t.test('rows about taints of devices and conditions of nodes', async t => {
  const { failure } = readConfig(
    `failure:
  deviceTaints:
    - { key: example.com/dead, class: certain }
    - { key: gpu.nvidia.com/xid, value: "74", class: suspect }
  nodeConditions:
    - { type: Acme*, class: certain, afterSeconds: 30 }
    - { type: AcmeReady, status: "False", class: info }`,
    'c.yaml',
  );
  t.same(failure.deviceTaints, [
    { key: 'example.com/dead', class: 'certain' },
    { key: 'gpu.nvidia.com/xid', value: '74', class: 'suspect' },
  ]);
  t.same(failure.nodeConditions, [
    { type: 'Acme*', status: 'True', class: 'certain', afterSeconds: 30 },
    { type: 'AcmeReady', status: 'False', class: 'info' },
  ]);
  const { failure: more } = readConfig(
    `failure:
  nodeConditions: [{ type: AcmeNic, class: suspect, network: true }]
  claimConditions: [{ type: Ready }, { driver: dra.net, type: LinkUp, status: Unknown, class: info, afterSeconds: 5 }]
  deviceAttributes: [{ attribute: acme.com/link, value: down }]`,
    'c.yaml',
  );
  t.same(more.nodeConditions, [{ type: 'AcmeNic', status: 'True', class: 'suspect', network: true }]);
  t.same(more.claimConditions, [
    { type: 'Ready', status: 'False', class: 'suspect' },
    { driver: 'dra.net', type: 'LinkUp', status: 'Unknown', class: 'info', afterSeconds: 5 },
  ]);
  t.same(more.deviceAttributes, [{ attribute: 'acme.com/link', value: 'down', class: 'suspect' }]);
  const row = (key: string, text: string) => problemsOf(`failure: { ${key}: [{ ${text} }] }`);
  t.match(row('deviceTaints', 'key: x, class: sure'), [/failure.deviceTaints\[0\].class/]);
  t.match(row('deviceTaints', 'class: info'), [/failure.deviceTaints\[0\].key/]);
  t.match(row('nodeConditions', 'type: "A*B*C", class: info'), [/type: must have one \* at most/]);
  t.match(row('maintenanceWindows', 'cron: "61 * * * *", durationMinutes: 5'), [
    /failure.maintenanceWindows\[0\].cron: .*minute: 61/,
  ]);
  t.match(row('maintenanceWindows', 'cron: "@daily", durationMinutes: 5, timeZone: Berlin'), [
    /failure.maintenanceWindows\[0\].timeZone: must be a time zone/,
  ]);
  t.match(row('maintenanceWindows', 'cron: "@daily", durationMinutes: 0'), [
    /failure.maintenanceWindows\[0\].durationMinutes/,
  ]);
  t.match(row('nodeConditions', 'type: A, status: Bad, class: info'), [/nodeConditions\[0\].status/]);
  t.match(row('nodeConditions', 'type: A, class: info, afterSeconds: -1'), [/afterSeconds/]);
  t.match(row('nodeConditions', 'type: A, class: info, after: 1'), [/unknown key/]);
  t.match(row('claimConditions', 'driver: dra.net'), [/claimConditions\[0\].type/]);
  t.match(row('deviceAttributes', 'attribute: a'), [/deviceAttributes\[0\].value/]);
});
