import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parseAllDocuments } from 'yaml';
import type { ResourceSlice } from '../../../../src/api/dra.ts';
import type { Rung } from '../../../../src/cluster/devices/alignment.ts';
import type { NodeDevices } from '../../../../src/cluster/devices/choice-input.ts';
import { chooseDevices } from '../../../../src/cluster/devices/choose-devices.ts';
import { decodeDeviceClass } from '../../../../src/cluster/devices/decode-claim.ts';
import { decodeResourceSlice } from '../../../../src/cluster/devices/decode-slice.ts';
import { noDeviceUse } from '../../../../src/cluster/devices/device.ts';
import { membersThatFit } from '../../../../src/cluster/devices/members-that-fit.ts';
import { whyNeverFits } from '../../../../src/cluster/devices/never-fits.ts';
import { poolsFor } from '../../../../src/cluster/devices/pools.ts';
import { SliceIndex } from '../../../../src/cluster/devices/slice-index.ts';
import { pcieRoot, wants } from '../../../builders/device-nodes.ts';
import { deviceClass, simpleSelectors } from '../../../builders/devices.ts';
import { corpusFolder } from '../../webhooks/lws-pods.ts';

const rdma = 'device.driver == "dra.net" && device.attributes["dra.net"].rdma == true';
const classes = new Map(
  [deviceClass('gpu', 'device.driver == "gpu.nvidia.com"'), deviceClass('nic', rdma)].map(raw => [
    raw.metadata.name ?? '',
    decodeDeviceClass(raw),
  ]),
);

/** The node whose live slices are in folders of the corpus. */
function nodeOf(...entries: readonly string[]): NodeDevices {
  const folders = readdirSync(corpusFolder).filter(folder => entries.includes(folder.split('-')[0] ?? ''));
  const slices = folders.flatMap(folder =>
    readdirSync(join(corpusFolder, folder)).flatMap(file =>
      parseAllDocuments(readFileSync(join(corpusFolder, folder, file), 'utf8')).flatMap(document => {
        const object = document.toJS();
        return (object.items ?? [object]) as ResourceSlice[];
      }),
    ),
  );
  const node = { name: slices[0]?.spec.nodeName ?? '', labels: {} };
  return {
    node,
    pools: poolsFor(node, new SliceIndex(slices.map(decodeResourceSlice))),
    used: noDeviceUse,
    classes: name => classes.get(name),
    selectors: simpleSelectors,
  };
}

const fabric = (gpus: number, nics: number, ...matchAttributes: readonly string[]) => [
  wants('devices', { gpu: ['gpu', gpus], nic: ['nic', nics] }, ...matchAttributes),
];

t.test('live nodes take as many aligned claims as their dumps say', async t => {
  if (!existsSync(corpusFolder)) {
    t.comment(`NOT CHECKED against live slices: there is no corpus at ${corpusFolder} (set BERTH_CORPUS)`);
    return;
  }
  const p4d = nodeOf('C78', 'C79');
  const gb300 = nodeOf('C80');
  const count = (node: NodeDevices, demand: ReturnType<typeof fabric>, minRung?: Rung, steerable = true) => {
    const fit = membersThatFit({ ...node, demand, beside: undefined, most: 16, minRung, steerable });
    return fit.kind === 'count' ? fit.members : fit;
  };
  for (const [gpus, nics, want] of [
    [1, 1, 4],
    [2, 1, 4],
    [1, 2, 0],
    [2, 2, 0],
    [4, 4, 0],
  ] as const) {
    t.equal(count(p4d, fabric(gpus, nics, pcieRoot)), want, `p4d ${gpus} + ${nics}`);
    t.equal(count(gb300, fabric(gpus, nics, pcieRoot)), 0, `GB300 ${gpus} + ${nics}`);
  }
  t.equal(count(gb300, fabric(1, 1), 'numa'), 4, 'GB300 1 + 1 by NUMA node');
  t.equal(count(gb300, fabric(2, 2), 'numa'), 2, 'GB300 2 + 2 by NUMA node');
  t.equal(count(p4d, fabric(1, 1), 'pcie'), 4, 'p4d 1 + 1 where a root is demanded');
  t.equal(count(p4d, fabric(4, 2), 'numa'), 2, 'p4d 4 + 2, the NUMA node of GPUs by their NICs');

  const members = [fabric(1, 1), fabric(1, 1), fabric(1, 1), fabric(1, 1)];
  const rungs = (node: NodeDevices, steerable: boolean) => {
    const choice = chooseDevices({ ...node, members, minRung: undefined, steerable });
    return choice.kind === 'chosen' ? choice.members.map(({ rung }) => rung) : choice;
  };
  t.strictSame(rungs(p4d, true), ['pcie', 'pcie', 'pcie', 'pcie'], 'steered');
  t.strictSame(rungs(p4d, false), ['pcie', 'numa', 'host', 'host'], 'first fit pairs one of four');
  t.strictSame(rungs(gb300, true), ['numa', 'numa', 'numa', 'numa']);

  const fleet = Array.from({ length: 4 }, () => gb300);
  const question = { ...gb300, fleet };
  t.match(whyNeverFits({ ...question, demand: fabric(1, 1, pcieRoot), minRung: undefined }), {
    constraint: 'matchAttribute',
    attribute: pcieRoot,
    message: `request nic: 16 devices of class nic on 4 nodes, none has attribute ${pcieRoot}`,
  });
  t.equal(whyNeverFits({ ...question, demand: fabric(2, 2), minRung: 'numa' }), undefined);
});
