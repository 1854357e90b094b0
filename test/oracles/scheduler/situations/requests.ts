import { claim, device, deviceClass, request, slice } from '../../../builders/devices.ts';
import {
  attributeIs,
  everything,
  large,
  many,
  needsLarge,
  type Sketches,
  sameV,
  selectedBy,
  small,
  taken,
  v,
} from './sketch.ts';

/** Requests, counts and the order of search. */
export const requests: Sketches = {
  'nothing at all': {},
  'no claims': { slices: [slice('s', ['a'])] },
  'a claim without requests': { slices: [slice('s', ['a'])], claims: [claim('c', [])] },
  'one device': { slices: [slice('s', ['a'])], claims: [claim('c', [request('r')])] },
  'no slices': { claims: [claim('c', [request('r')])] },
  'a slice without devices': { slices: [slice('s', [])], claims: [claim('c', [request('r')])] },
  'a device of another node': {
    slices: [slice('s', ['a'], { nodeName: 'n2' })],
    claims: [claim('c', [request('r')])],
  },
  'a small and a large one': {
    slices: [slice('s', [small, large])],
    claims: [claim('c', [request('r', { selectors: attributeIs('small') }), needsLarge('q')])],
  },
  'going back on a request': {
    slices: [slice('s', [large, small])],
    claims: [claim('c', [request('r'), needsLarge('q')])],
  },
  'going back on a claim': {
    slices: [slice('s', [large, small])],
    claims: [claim('c', [request('r')]), claim('d', [needsLarge('q')])],
  },
  'devices over several slices': {
    slices: [
      slice('b', ['b1', 'b2'], { pool: { resourceSliceCount: 2 } }),
      slice('a', ['a1'], { pool: { resourceSliceCount: 2 } }),
    ],
    claims: [claim('c', [request('r', { count: 3 })])],
  },
  'pools by driver, then by name': {
    slices: [
      slice('1', ['z1'], { pool: { name: 'z' } }),
      slice('2', ['a1'], { pool: { name: 'a' } }),
      slice('3', ['n1'], { driver: 'a.example.com', pool: { name: 'z' } }),
    ],
    classes: [deviceClass('any')],
    claims: [claim('c', [request('r', { deviceClassName: 'any', count: 3 })])],
  },
  'too few devices': { slices: [slice('s', ['a'])], claims: [claim('c', [request('r', { count: 2 })])] },
  'too few for the last claim': {
    slices: [slice('s', ['a', 'b'])],
    claims: [claim('c', [request('r')]), claim('d', [request('r')]), claim('e', [request('r')])],
  },
  'no classes': { slices: [slice('s', ['a'])], classes: [], claims: [claim('c', [request('r')])] },
  'a class that is not there': {
    slices: [slice('s', ['a'])],
    claims: [claim('c', [request('r', { deviceClassName: 'other' })])],
  },
  'a request without class': {
    slices: [slice('s', ['a'])],
    claims: [claim('c', [request('r', { deviceClassName: '' })])],
  },
  'a selector of a kind that is not known': {
    slices: [slice('s', ['a'])],
    claims: [claim('c', [request('r', { selectors: [{}] })])],
  },
  'an allocation mode that is not known': {
    slices: [slice('s', ['a'])],
    claims: [claim('c', [request('r', { allocationMode: 'Most' })])],
  },
  'an expression that does not compile': {
    slices: [slice('s', ['a'])],
    claims: [claim('c', [request('r', { selectors: selectedBy('no expression') })])],
  },
  'an expression that does not compile, without devices': {
    claims: [claim('c', [request('r', { selectors: selectedBy('no expression') })])],
  },
  'a class that does not compile': {
    slices: [slice('s', ['a'])],
    classes: [deviceClass('gpu', 'no expression')],
    claims: [claim('c', [request('r')])],
  },
  'an expression that fails on the second device': {
    slices: [slice('s', [device('a', v(1)), 'b'])],
    claims: [claim('c', [request('r', { count: 2, selectors: attributeIs(1) })])],
  },
  'an expression that fails on a device in use': {
    slices: [slice('s', ['a', device('b', v(1))])],
    claims: [claim('c', [request('r', { selectors: attributeIs(1) })])],
    allocated: [taken('a')],
  },
  'an expression that fails among all devices': {
    slices: [slice('s', ['a'])],
    claims: [claim('c', [everything('r', { selectors: attributeIs(1) })])],
  },
  '33 devices of one request': {
    slices: [slice('s', many(40))],
    claims: [claim('c', [request('r', { count: 33 })])],
  },
  '32 devices of one request': {
    slices: [slice('s', many(40))],
    claims: [claim('c', [request('r', { count: 32 })])],
  },
  '33 devices of two requests': {
    slices: [slice('s', many(40))],
    claims: [claim('c', [request('r', { count: 16 }), request('q', { count: 17 })])],
  },
  '32 devices of two requests': {
    slices: [slice('s', many(40))],
    claims: [claim('c', [request('r', { count: 16 }), request('q', { count: 16 })])],
  },
  '33 devices of two claims': {
    slices: [slice('s', many(40))],
    claims: [claim('c', [request('r', { count: 16 })]), claim('d', [request('q', { count: 17 })])],
  },
  'a count beyond all integers that matter': {
    slices: [slice('s', ['a'])],
    claims: [
      claim('c', [request('r', { count: 9007199254740991 }), request('q', { count: 9007199254740991 })]),
    ],
  },
  'all of 33 devices': { slices: [slice('s', many(33))], claims: [claim('c', [everything('r')])] },
  'devices in use': {
    slices: [slice('s', ['a', 'b'])],
    claims: [claim('c', [request('r')])],
    allocated: [taken('a')],
  },
  'every combination of two over three pools': {
    slices: ['p1', 'p2', 'p3'].map(name =>
      slice(name, [device(`${name}a`, { v: name }), device(`${name}b`, { v: `${name}x` })], {
        pool: { name },
      }),
    ),
    claims: [claim('c', [request('r', { count: 3 })], [sameV])],
  },
  'combinations with going back over slices and pools': {
    slices: ['p1', 'p2'].flatMap(name =>
      ['x', 'y'].map(part =>
        slice(
          `${name}${part}`,
          [device(`${name}${part}1`, { v: part }), device(`${name}${part}2`, { v: part })],
          { pool: { name, resourceSliceCount: 2 } },
        ),
      ),
    ),
    claims: [
      claim('c', [request('r', { count: 4 })], [sameV]),
      claim('d', [request('r', { count: 3 })], [sameV]),
    ],
  },
  'slices by name, whatever the order in which they came': {
    slices: ['s3', 's2', 's1'].map(name => slice(name, [`${name}d`], { pool: { resourceSliceCount: 3 } })),
    claims: [claim('c', [request('r', { count: 2 })])],
  },
  'the same names of requests in two claims': {
    slices: [slice('s', [small, large])],
    claims: [claim('c', [request('r')]), claim('d', [request('r')])],
  },
  'a count of nothing': {
    slices: [slice('s', ['a'])],
    claims: [claim('c', [request('r', { count: 0 })])],
  },
};
