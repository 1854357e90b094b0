import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import type { Node } from '../../../src/api/kubernetes.ts';
import { drawFleet, nodeOf } from '../../builders/fleet.ts';

/** Writes files into a folder of the test's own; gives the path of each by its name. */
export function filesFor(t: Test, files: Readonly<Record<string, string>>): (name: string) => string {
  const folder = mkdtempSync(join(tmpdir(), 'berth-cli-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  return name => join(folder, name);
}

export function listOf(items: readonly object[]): string {
  return JSON.stringify({ apiVersion: 'v1', kind: 'List', items });
}

export const rackLevels = 'rack=example.com/rack';

/** Racks r0, r1 ... of hosts with 8 GPUs. */
export function rackNodes(racks: number, hosts: number): readonly Node[] {
  return Array.from({ length: racks }, (_, rack) =>
    Array.from({ length: hosts }, (_, host) =>
      nodeOf({ name: `r${rack}-h${host}`, labels: { 'example.com/rack': `r${rack}` }, gpu: 8 }),
    ),
  ).flat();
}

/** Nodes and pods of a drawing, see drawFleet, as a file. */
export function drawnFile(drawing: string): string {
  const { nodes, pods } = drawFleet(drawing);
  return listOf([...nodes, ...pods]);
}

export interface SetParts {
  readonly name?: string;
  readonly replicas?: number;
  readonly size?: number;
  readonly gpus?: number;
  readonly annotations?: string;
  readonly priorityClass?: string;
}

/** A LeaderWorkerSet as somebody would write it. */
export function setManifest(parts: SetParts = {}): string {
  const { name = 'llm', replicas = 1, size = 2, gpus = 8, annotations, priorityClass } = parts;
  return `apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
metadata:
  name: ${name}
${annotations === undefined ? '' : `  annotations: {${annotations}}\n`}spec:
  replicas: ${replicas}
  leaderWorkerTemplate:
    size: ${size}
    workerTemplate:
      spec:
${priorityClass === undefined ? '' : `        priorityClassName: ${priorityClass}\n`}        containers:
          - name: main
            image: registry.example.com/server
            resources:
              limits:
                nvidia.com/gpu: ${gpus}
`;
}
