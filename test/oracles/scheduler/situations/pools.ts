import { claim, device, driver, request, slice } from '../../../builders/devices.ts';
import { attributeIs, bindsLate, everything, type Sketches, v } from './sketch.ts';

const zone = (value: string) => ({
  nodeSelectorTerms: [{ matchExpressions: [{ key: 'zone', operator: 'In', values: [value] }] }],
});
const netPool = { name: 'net' };

/** Pools, their generations, and the nodes that devices reach. */
export const pools: Sketches = {
  'an obsolete slice': {
    slices: [
      slice('old', ['a'], { pool: { generation: 1 } }),
      slice('new', ['b'], { pool: { generation: 2 } }),
    ],
    claims: [claim('c', [request('r')])],
  },
  'an obsolete slice that comes later': {
    slices: [
      slice('new', ['b'], { pool: { generation: 2 } }),
      slice('old', ['a'], { pool: { generation: 1 } }),
    ],
    claims: [claim('c', [request('r')])],
  },
  'a device twice in a pool': { slices: [slice('s', ['a', 'a'])], claims: [claim('c', [request('r')])] },
  'a device twice in two slices of a pool': {
    slices: [
      slice('s', ['a'], { pool: { resourceSliceCount: 2 } }),
      slice('t', ['a'], { pool: { resourceSliceCount: 2 } }),
    ],
    claims: [claim('c', [request('r')])],
  },
  'an incomplete pool': {
    slices: [slice('s', ['a'], { pool: { resourceSliceCount: 2 } })],
    claims: [claim('c', [request('r')])],
  },
  'an incomplete pool beside a whole one': {
    slices: [
      slice('s', ['a'], { pool: { resourceSliceCount: 2 } }),
      slice('t', ['b'], { pool: { name: 'p' } }),
    ],
    claims: [claim('c', [request('r')])],
  },
  'more slices than a pool should have': {
    slices: [slice('s', ['a']), slice('t', ['b'])],
    claims: [claim('c', [request('r')])],
  },
  'an invalid pool beside a whole one': {
    slices: [slice('s', ['a', 'a']), slice('t', ['b'], { pool: { name: 'p' } })],
    claims: [claim('c', [request('r')])],
  },
  'an invalid pool beside one that is too small': {
    slices: [slice('s', ['a', 'a']), slice('t', ['b'], { pool: { name: 'p' } })],
    claims: [claim('c', [request('r', { count: 2 })])],
  },
  'a device on the network': {
    slices: [slice('s', ['a'], { nodeSelector: zone('a'), pool: netPool })],
    claims: [claim('c', [request('r')])],
    labels: { zone: 'a' },
  },
  'a device on another network': {
    slices: [slice('s', ['a'], { nodeSelector: zone('b'), pool: netPool })],
    claims: [claim('c', [request('r')])],
    labels: { zone: 'a' },
  },
  'two networks in one claim': {
    slices: [
      slice('s', ['a'], { nodeSelector: zone('a'), pool: netPool }),
      slice('t', ['b'], {
        nodeSelector: {
          nodeSelectorTerms: [
            {
              matchExpressions: [
                { key: 'rack', operator: 'Exists' },
                { key: 'zone', operator: 'In', values: ['a'] },
              ],
            },
          ],
        },
        pool: { name: 'net2' },
      }),
    ],
    claims: [claim('c', [request('r', { count: 2 })])],
    labels: { zone: 'a', rack: '1' },
  },
  'a local device and one on the network': {
    slices: [slice('s', ['a'], { nodeSelector: zone('a'), pool: netPool }), slice('t', ['b'])],
    claims: [claim('c', [request('r', { count: 2 })]), claim('d', [])],
    labels: { zone: 'a' },
  },
  'a selector with a field': {
    slices: [
      slice('s', ['a'], {
        nodeSelector: {
          nodeSelectorTerms: [{ matchFields: [{ key: 'metadata.name', operator: 'In', values: ['n1'] }] }],
        },
      }),
    ],
    claims: [claim('c', [request('r')])],
  },
  'a selector without terms': {
    slices: [slice('s', ['a'], { nodeSelector: { nodeSelectorTerms: [] } })],
    claims: [claim('c', [request('r')])],
  },
  'a selector that is not valid': {
    slices: [
      slice('s', ['a']),
      slice('t', ['b'], {
        nodeSelector: { nodeSelectorTerms: [{ matchExpressions: [{ key: 'zone', operator: 'In' }] }] },
        pool: netPool,
      }),
    ],
    claims: [claim('c', [request('r')])],
  },
  'a slice for all nodes': {
    slices: [slice('s', ['a'], { allNodes: true })],
    claims: [claim('c', [request('r')])],
  },
  'a slice that says not where it is': {
    slices: [
      {
        metadata: { name: 's' },
        spec: { driver, pool: { name: 'p', generation: 1, resourceSliceCount: 1 }, devices: [{ name: 'a' }] },
      },
    ],
    claims: [claim('c', [request('r')])],
  },
  'a slice that says not where it is, in a pool that needs it': {
    slices: [
      {
        metadata: { name: 's' },
        spec: {
          driver,
          pool: { name: 'n1', generation: 1, resourceSliceCount: 2 },
          devices: [{ name: 'a' }],
        },
      },
      slice('t', ['b'], { pool: { resourceSliceCount: 2 } }),
    ],
    claims: [claim('c', [request('r')])],
  },
  'devices that name their node': {
    slices: [
      slice(
        's',
        [
          { name: 'a', nodeName: 'n2' },
          { name: 'b', nodeName: 'n1' },
        ],
        { perDeviceNodeSelection: true },
      ),
    ],
    claims: [claim('c', [request('r')])],
  },
  'devices that select their nodes': {
    slices: [
      slice(
        's',
        [
          { name: 'a', nodeSelector: zone('b') },
          { name: 'b', nodeSelector: zone('a') },
          { name: 'c', allNodes: true },
        ],
        { perDeviceNodeSelection: true },
      ),
    ],
    claims: [claim('c', [request('r', { count: 2 })])],
    labels: { zone: 'a' },
  },
  'all of the devices that select their nodes': {
    slices: [
      slice(
        's',
        [
          { name: 'a', nodeSelector: zone('b') },
          { name: 'b', nodeSelector: zone('a') },
        ],
        { perDeviceNodeSelection: true },
      ),
    ],
    claims: [claim('c', [everything('r')])],
    labels: { zone: 'a' },
  },
  'an expression that fails on a device of another node': {
    slices: [
      slice(
        's',
        [
          { name: 'a', nodeName: 'n2' },
          { ...device('b', v(1)), nodeName: 'n1' },
        ],
        { perDeviceNodeSelection: true },
      ),
    ],
    claims: [claim('c', [request('r', { selectors: attributeIs(1) })])],
  },
  'a pool over two nodes': {
    slices: [
      slice('s', ['a'], { pool: { name: 'p', resourceSliceCount: 2 } }),
      slice('t', ['b'], { nodeName: 'n2', pool: { name: 'p', resourceSliceCount: 2 } }),
    ],
    claims: [claim('c', [everything('r')])],
  },
  'a pool over two nodes, of which ours is out of date': {
    slices: [
      slice('s', ['a'], { pool: { name: 'p', resourceSliceCount: 2 } }),
      slice('t', ['b'], { nodeName: 'n2', pool: { name: 'p', generation: 2, resourceSliceCount: 2 } }),
    ],
    claims: [claim('c', [request('r')])],
  },
  'a pool that has moved to another node': {
    slices: [
      slice('s', ['a'], { pool: { name: 'p' } }),
      slice('t', ['b'], { nodeName: 'n2', pool: { name: 'p', generation: 2 } }),
    ],
    claims: [claim('c', [request('r')])],
  },
  'a pool that has moved to this node': {
    slices: [
      slice('t', ['b'], { pool: { name: 'p', generation: 2 } }),
      slice('s', ['a'], { nodeName: 'n2', pool: { name: 'p' } }),
    ],
    claims: [claim('c', [everything('r')])],
  },
  'a pool that is moving to this node': {
    slices: [
      slice('t', ['b'], { pool: { name: 'p', generation: 2, resourceSliceCount: 2 } }),
      slice('s', ['a'], { nodeName: 'n2', pool: { name: 'p' } }),
    ],
    claims: [claim('c', [everything('r')])],
  },
  'a pool over two nodes, the other part of which is invalid': {
    slices: [
      slice('s', ['a'], { pool: { name: 'p', resourceSliceCount: 2 } }),
      slice('t', [{ name: 'b', consumesCounters: [{ counterSet: 'none', counters: {} }] }], {
        nodeName: 'n2',
        pool: { name: 'p', resourceSliceCount: 2 },
      }),
    ],
    claims: [claim('c', [request('r')])],
  },
  'binding conditions last': {
    slices: [
      slice('s', [{ name: 'a', ...bindsLate }], {
        pool: { name: 'a' },
      }),
      slice('t', ['b'], { pool: { name: 'b' } }),
    ],
    claims: [claim('c', [request('r')])],
  },
  'binding conditions among the two': {
    slices: [
      slice('s', [{ name: 'a', ...bindsLate }], {
        pool: { name: 'a' },
      }),
      slice('t', ['b'], { pool: { name: 'b' } }),
    ],
    claims: [claim('c', [request('r', { count: 2 })])],
  },
  'a device that binds to its node': {
    slices: [slice('s', [{ name: 'a', bindsToNode: true }], { allNodes: true })],
    claims: [claim('c', [request('r')])],
  },
  'compatibility groups with the gate off': {
    slices: [
      slice('k', [], {
        pool: { resourceSliceCount: 2 },
        sharedCounters: [{ name: 'c', counters: { m: { value: '1' } } }],
      }),
      slice(
        's',
        [
          {
            name: 'a',
            consumesCounters: [
              { counterSet: 'c', counters: { m: { value: '1' } }, compatibilityGroups: ['x'] },
            ],
          },
          'b',
        ],
        { pool: { resourceSliceCount: 2 } },
      ),
      slice('t', ['d'], { pool: { name: 'p' } }),
    ],
    claims: [claim('c', [request('r')])],
  },
  'derived attributes with the gate off': {
    slices: [slice('s', ['a'])],
    claims: [claim('c', [request('r', { derivedAttributes: [{ name: 'x' }] })])],
  },
  'a pool that is moving away from this node': {
    slices: [
      slice('s', ['a'], { pool: { name: 'p' } }),
      slice('t', ['b'], { nodeName: 'n2', pool: { name: 'p', generation: 2, resourceSliceCount: 2 } }),
    ],
    claims: [claim('c', [everything('r')])],
  },
  'a pool whose slices reach nodes in every way': {
    slices: [
      slice('s', ['a'], { pool: { name: 'p', resourceSliceCount: 4 } }),
      slice('t', ['b'], { nodeSelector: zone('b'), pool: { name: 'p', resourceSliceCount: 4 } }),
      slice('u', ['d'], { nodeSelector: zone('a'), pool: { name: 'p', resourceSliceCount: 4 } }),
      slice('v', ['e'], { allNodes: true, pool: { name: 'p', resourceSliceCount: 4 } }),
    ],
    claims: [claim('c', [everything('r')])],
    labels: { zone: 'a' },
  },
  'a device on the network that binds to its node': {
    slices: [slice('s', [{ name: 'a', bindsToNode: true }], { nodeSelector: zone('a'), pool: netPool })],
    claims: [claim('c', [request('r')])],
    labels: { zone: 'a' },
  },
  'a claim on the network after one that is local': {
    slices: [
      slice('s', ['b'], { nodeSelector: zone('a'), pool: netPool }),
      slice('t', ['a'], { pool: { name: 'a' } }),
    ],
    claims: [claim('c', [request('r')]), claim('d', [request('r')])],
    labels: { zone: 'a' },
  },
  'binding conditions of every device': {
    slices: [
      slice(
        's',
        ['a', 'b', 'c'].map(name => ({ name, ...bindsLate })),
      ),
    ],
    claims: [claim('c', [request('r', { count: 2 }), request('q')])],
  },
  'binding conditions beside a device without, in one slice': {
    slices: [slice('s', [{ name: 'a', ...bindsLate }, 'b'])],
    claims: [claim('c', [request('r'), request('q')])],
  },
  'binding conditions in one of several slices of a pool': {
    slices: [
      slice('s1', [{ name: 'a', ...bindsLate }], { pool: { resourceSliceCount: 3 } }),
      slice('s3', ['c'], { pool: { resourceSliceCount: 3 } }),
      slice('s2', ['b'], { pool: { resourceSliceCount: 3 } }),
    ],
    claims: [claim('c', [request('r', { count: 2 })])],
  },
};
