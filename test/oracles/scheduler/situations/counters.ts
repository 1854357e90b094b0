import { claim, device, request, slice } from '../../../builders/devices.ts';
import {
  attributeIs,
  bindsLate,
  counted,
  either,
  everything,
  inSet,
  nicDriver,
  part,
  type Sketches,
  sameV,
  sick,
  taken,
  v,
} from './sketch.ts';

/** Counters that partitions of a device share. */
export const counters: Sketches = {
  'one partition': { slices: counted('8Gi', [part('a', '4Gi')]), claims: [claim('c', [request('r')])] },
  'as many partitions as there is memory': {
    slices: counted('8Gi', [part('a', '4Gi'), part('b', '4Gi'), part('c', '4Gi')]),
    claims: [claim('c', [request('r', { count: 2 })]), claim('d', [request('r')])],
  },
  'partitions that fit only by going back': {
    slices: counted('8Gi', [part('a', '6Gi'), part('b', '4Gi'), part('c', '4Gi')]),
    claims: [claim('c', [request('r', { count: 2 })])],
  },
  'an alternative of smaller partitions': {
    slices: counted('8Gi', [part('a', '12Gi'), part('b', '4Gi')]),
    claims: [claim('c', [either('r', { count: 2 }, { count: 1 })])],
  },
  'a partition in use': {
    slices: counted('8Gi', [part('a', '6Gi'), part('b', '4Gi'), part('c', '2Gi')]),
    claims: [claim('c', [request('r')])],
    allocated: [taken('a')],
  },
  'more in use than there is': {
    slices: counted('8Gi', [part('a', '6Gi'), part('b', '6Gi'), part('c', '0')]),
    claims: [claim('c', [request('r')])],
    allocated: [taken('a'), taken('b')],
  },
  'a device without counters where more is in use than there is': {
    slices: counted('8Gi', [part('a', '6Gi'), part('b', '6Gi'), { name: 'c' }]),
    claims: [claim('c', [request('r')])],
    allocated: [taken('a'), taken('b')],
  },
  'another set of the pool that is overdrawn': {
    slices: counted(
      '8Gi',
      [part('a', '9Gi'), { name: 'b', consumesCounters: inSet('c1', '1Gi') }],
      ['c0', 'c1'],
    ),
    claims: [claim('c', [request('r')])],
    allocated: [taken('a')],
  },
  'two sets': {
    slices: counted(
      '8Gi',
      [part('a', '8Gi'), part('b', '8Gi'), { name: 'c', consumesCounters: inSet('c1', '8Gi') }],
      ['c0', 'c1'],
    ),
    claims: [claim('c', [request('r', { count: 2 })])],
  },
  'a device that draws on two sets': {
    slices: counted(
      '8Gi',
      [
        { name: 'a', consumesCounters: [...inSet('c0', '8Gi'), ...inSet('c1', '4Gi')] },
        { name: 'b', consumesCounters: inSet('c1', '5Gi') },
        { name: 'c', consumesCounters: inSet('c1', '4Gi') },
      ],
      ['c0', 'c1'],
    ),
    claims: [claim('c', [request('r', { count: 2 })])],
  },
  'two pools with sets of one name': {
    slices: [
      ...counted('8Gi', [part('a', '8Gi')]),
      ...counted('8Gi', [part('a', '8Gi')]).map(each => ({
        metadata: { name: `p-${each.metadata.name}` },
        spec: { ...each.spec, pool: { ...each.spec.pool, name: 'p' } },
      })),
    ],
    claims: [claim('c', [request('r', { count: 2 })])],
  },
  'a taint gives counters back': {
    slices: counted('8Gi', [
      { ...sick('a', 'NoSchedule'), consumesCounters: inSet('c0', '8Gi') },
      part('b', '8Gi'),
    ]),
    claims: [claim('c', [request('r')])],
  },
  'a constraint gives counters back': {
    slices: counted('8Gi', [
      part('a', '4Gi', { attributes: { v: { int: 1 } } }),
      part('b', '4Gi', { attributes: { v: { int: 2 } } }),
      part('c', '4Gi', { attributes: { v: { int: 1 } } }),
    ]),
    claims: [claim('c', [request('r', { count: 2 })], [sameV])],
  },
  'all partitions under a constraint that fails': {
    slices: counted('8Gi', [
      part('a', '4Gi', { attributes: { v: { int: 1 } } }),
      part('b', '4Gi', { attributes: { v: { int: 2 } } }),
    ]),
    claims: [claim('c', [everything('r')], [sameV])],
  },
  'all partitions': {
    slices: counted('8Gi', [part('a', '4Gi'), part('b', '4Gi')]),
    claims: [claim('c', [everything('r')])],
  },
  'all partitions that are more than the memory': {
    slices: counted('8Gi', [part('a', '4Gi'), part('b', '8Gi')]),
    claims: [claim('c', [everything('r')])],
  },
  'a set that is not there': {
    slices: counted('8Gi', [{ name: 'a', consumesCounters: inSet('c9', '1Gi') }]),
    claims: [claim('c', [request('r')])],
  },
  'a counter that is not in its set': {
    slices: counted('8Gi', [
      { name: 'a', consumesCounters: inSet('c0', '1Gi', { engines: { value: '1' } }) },
    ]),
    claims: [claim('c', [request('r')])],
  },
  'a set of another pool': {
    slices: [
      ...counted(
        '8Gi',
        ['a'].map(name => ({ name })),
      ),
      slice('x', [part('b', '1Gi')], { pool: { name: 'p' } }),
    ],
    claims: [claim('c', [request('r', { count: 2 })])],
  },
  'a set twice': {
    slices: [
      ...counted('8Gi', [part('a', '4Gi')]).map(each => ({
        ...each,
        spec: { ...each.spec, pool: { ...each.spec.pool, resourceSliceCount: 3 } },
      })),
      slice('k2', [], {
        pool: { resourceSliceCount: 3 },
        sharedCounters: [{ name: 'c0', counters: { memory: { value: '1' } } }],
      }),
    ],
    claims: [claim('c', [request('r')])],
  },
  'partitions on two nodes that draw on one set': {
    slices: [
      slice('k', [], {
        allNodes: true,
        pool: { resourceSliceCount: 3 },
        sharedCounters: [{ name: 'c0', counters: { memory: { value: '8Gi' } } }],
      }),
      slice('s', [part('a', '6Gi'), part('a2', '4Gi')], { pool: { resourceSliceCount: 3 } }),
      slice('t', [part('b', '4Gi')], { nodeName: 'n2', pool: { resourceSliceCount: 3 } }),
    ],
    claims: [claim('c', [request('r')])],
    allocated: [taken('b')],
  },
  'counters that stand with another node': {
    slices: [
      slice('k', [], {
        nodeName: 'n2',
        pool: { resourceSliceCount: 2 },
        sharedCounters: [{ name: 'c0', counters: { memory: { value: '8Gi' } } }],
      }),
      slice('s', [part('a', '6Gi')], { pool: { resourceSliceCount: 2 } }),
    ],
    claims: [claim('c', [request('r')])],
  },
  'admin access draws counters, too': {
    slices: counted('8Gi', [part('a', '6Gi'), part('b', '4Gi')]),
    claims: [claim('c', [request('r', { adminAccess: true }), request('q')])],
  },
  'binding conditions and counters': {
    slices: counted('8Gi', [part('a', '4Gi', { ...bindsLate }), part('b', '4Gi')]),
    claims: [claim('c', [request('r', { count: 2 })])],
  },
  'a partition that a later request needs': {
    slices: counted(
      '30Gi',
      ['a', 'b', 'c'].map((name, index) =>
        device(name, v(index === 0), {
          consumesCounters: [...inSet('c0', '10Gi'), ...inSet('c1', '1')],
        }),
      ),
      ['c0', 'c1'],
    ),
    claims: [claim('c', [request('r', { count: 2 }), request('q', { selectors: attributeIs(true) })])],
  },
  'binding conditions of all partitions': {
    slices: counted('8Gi', [part('a', '4Gi', bindsLate), part('b', '4Gi', bindsLate)]),
    claims: [claim('c', [request('r', { count: 2 })])],
  },
  'binding conditions of partitions over several slices': {
    slices: [
      slice('s4', [part('a', '4Gi', bindsLate)], { pool: { resourceSliceCount: 4 } }),
      slice('s3', [], {
        pool: { resourceSliceCount: 4 },
        sharedCounters: [{ name: 'c0', counters: { memory: { value: '8Gi' } } }],
      }),
      slice('s2', [{ name: 'b', consumesCounters: inSet('c1', '4Gi') }], { pool: { resourceSliceCount: 4 } }),
      slice('s1', [], {
        pool: { resourceSliceCount: 4 },
        sharedCounters: [{ name: 'c1', counters: { memory: { value: '8Gi' } } }],
      }),
    ],
    claims: [claim('c', [request('r', { count: 2 })])],
  },
  'binding conditions, taints and counters': {
    slices: counted('8Gi', [
      { ...sick('a', 'NoSchedule'), ...bindsLate, consumesCounters: inSet('c0', '4Gi') },
      part('b', '4Gi', bindsLate),
    ]),
    claims: [claim('c', [request('r', { count: 2 })])],
  },
  'binding conditions, tolerated taints and counters': {
    slices: counted('8Gi', [
      { ...sick('a', 'NoSchedule'), ...bindsLate, consumesCounters: inSet('c0', '4Gi') },
      part('b', '4Gi', bindsLate),
    ]),
    claims: [claim('c', [request('r', { count: 2, tolerations: [{ operator: 'Exists' }] })])],
  },
  'counters of a pool of the same name of another driver': {
    slices: [
      ...counted('8Gi', [part('a', '8Gi')]),
      ...counted('4Gi', [part('b', '4Gi')]).map(each => ({
        metadata: { name: `n-${each.metadata.name}` },
        spec: { ...each.spec, driver: nicDriver },
      })),
    ],
    claims: [claim('c', [request('r'), request('q', { deviceClassName: 'nic' })])],
  },
  'counters that a device draws in fractions': {
    slices: counted('1', [part('a', '500m'), part('b', '501m'), part('c', '500m')]),
    claims: [claim('c', [request('r', { count: 2 })])],
  },
  'all counters in use, and a device that draws nothing': {
    slices: counted('8Gi', [part('a', '8Gi'), part('b', '0'), 'c']),
    claims: [claim('c', [request('r'), request('q')])],
    allocated: [taken('a')],
  },
};
