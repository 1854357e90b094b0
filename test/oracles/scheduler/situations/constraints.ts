import type { SliceDevice } from '../../../../src/api/dra.ts';
import { claim, device, deviceClass, driver, request, slice } from '../../../builders/devices.ts';
import {
  distinctV,
  either,
  everything,
  listed,
  nicDriver,
  type Sketches,
  sameV,
  v,
  versioned,
} from './sketch.ts';

const ofNoKind = (name: string): SliceDevice => ({ name, attributes: { v: {} } });

/** Attributes, and constraints on them. */
export const constraints: Sketches = {
  'a constraint that all devices meet': {
    slices: [slice('s', [device('a', v('x')), device('b', v('x'))])],
    claims: [claim('c', [request('r', { count: 2 })], [sameV])],
  },
  'a constraint on an attribute that no device has': {
    slices: [slice('s', ['a', 'b'])],
    claims: [claim('c', [request('r')], [sameV])],
  },
  'integers that differ': {
    slices: [slice('s', [device('a', v(1)), device('b', v(2))])],
    claims: [claim('c', [request('r', { count: 2 })], [sameV])],
  },
  'integers that differ among all devices': {
    slices: [slice('s', [device('a', v(1)), device('b', v(2))])],
    claims: [claim('c', [everything('r')], [sameV])],
  },
  'texts that differ': {
    slices: [slice('s', [device('a', v('x')), device('b', v('y'))])],
    claims: [claim('c', [request('r', { count: 2 })], [sameV])],
  },
  'flags that differ': {
    slices: [slice('s', [device('a', v(true)), device('b', v(false))])],
    claims: [claim('c', [request('r', { count: 2 })], [sameV])],
  },
  'versions that differ': {
    slices: [slice('s', [versioned('a', '1.0.0'), versioned('b', '1.0.1')])],
    claims: [claim('c', [request('r', { count: 2 })], [sameV])],
  },
  'versions that are the same': {
    slices: [slice('s', [versioned('a', '1.0.0'), versioned('b', '1.0.0')])],
    claims: [claim('c', [request('r', { count: 2 })], [sameV])],
  },
  'a text and a version of the same letters': {
    slices: [slice('s', [versioned('a', '1.0.0'), device('b', v('1.0.0'))])],
    claims: [claim('c', [request('r', { count: 2 })], [sameV])],
  },
  'a constraint on one request only': {
    slices: [slice('s', [device('a', v(1)), device('b', v(2))])],
    claims: [claim('c', [request('r'), request('q')], [{ ...sameV, requests: ['r'] }])],
  },
  'a constraint that needs a second try': {
    slices: [slice('s', [device('a', v(1)), device('b', v(2)), device('c', v(2))])],
    claims: [claim('c', [request('r'), request('q')], [{ ...sameV, requests: ['r', 'q'] }])],
  },
  'an attribute under the full name and one without domain': {
    slices: [slice('s', [device('a', { [`${driver}/v`]: 1 }), device('b', v(1))])],
    claims: [claim('c', [request('r', { count: 2 })], [sameV])],
  },
  'an attribute under both names': {
    slices: [slice('s', [device('a', { v: 1, [`${driver}/v`]: 2 }), device('b', v(2))])],
    claims: [claim('c', [request('r', { count: 2 })], [sameV])],
  },
  'an attribute of another driver with the same id': {
    slices: [slice('s', [device('a', v(1))]), slice('t', [device('b', v(1))], { driver: nicDriver })],
    claims: [claim('c', [request('r'), request('q', { deviceClassName: 'nic' })], [sameV])],
  },
  'two constraints of which the second fails first': {
    slices: [
      slice('s', [
        device('a', { v: 1, w: 1 }),
        device('b', { v: 1, w: 2 }),
        device('c', { v: 2, w: 2 }),
        device('d', { v: 1, w: 1 }),
      ]),
    ],
    claims: [claim('c', [request('r', { count: 2 })], [sameV, { matchAttribute: `${driver}/w` }])],
  },
  'a constraint of a kind that is not known': {
    slices: [slice('s', ['a'])],
    claims: [claim('c', [request('r')], [{}])],
  },
  'distinct values for two requests': {
    slices: [slice('s', [device('a', v(1)), device('b', v(1)), device('c', v(2))])],
    claims: [claim('c', [request('r'), request('q')], [distinctV])],
  },
  'distinct values for three devices of one request that has two': {
    slices: [slice('s', [device('a', v(1)), device('b', v(2)), device('c', v(1))])],
    claims: [claim('c', [request('r', { count: 3 })], [distinctV])],
  },
  'distinct values for three devices of one request': {
    slices: [slice('s', [device('a', v(1)), device('b', v(2)), device('c', v(3))])],
    claims: [claim('c', [request('r', { count: 3 })], [distinctV])],
  },
  'distinct values where the first device of a request has the value of its third': {
    slices: [slice('s', [device('a', v(1)), device('b', v(2)), device('c', v(1)), device('d', v(3))])],
    claims: [claim('c', [request('r', { count: 3 })], [distinctV])],
  },
  'distinct values for two requests of two devices': {
    slices: [slice('s', [device('a', v(1)), device('b', v(2)), device('c', v(1)), device('d', v(2))])],
    claims: [claim('c', [request('r', { count: 2 }), request('q', { count: 2 })], [distinctV])],
  },
  'distinct values where a device has none': {
    slices: [slice('s', ['a', device('b', v(2))])],
    claims: [claim('c', [request('r', { count: 2 })], [distinctV])],
  },
  'distinct flags for three devices': {
    slices: [slice('s', [device('a', v(true)), device('b', v(false)), device('c', v(true))])],
    claims: [claim('c', [request('r', { count: 3 })], [distinctV])],
  },
  'distinct versions': {
    slices: [slice('s', [versioned('a', '1.0.0'), versioned('b', '1.0.0'), versioned('c', '2.0.0')])],
    claims: [claim('c', [request('r', { count: 2 })], [distinctV])],
  },
  'distinct values for alternatives': {
    slices: [slice('s', [device('a', v(1)), device('b', v(1)), device('c', v(2))])],
    claims: [claim('c', [either('r', {}), either('q', {})], [{ ...distinctV, requests: ['r/s0', 'q'] }])],
  },
  'distinct values that need going back': {
    slices: [
      slice('s', [device('a', { v: 1, w: 1 }), device('b', { v: 2, w: 2 }), device('c', { v: 1, w: 2 })]),
    ],
    claims: [claim('c', [request('r'), request('q')], [distinctV, { matchAttribute: `${driver}/w` }])],
  },
  'distinct values of a device that is allocated twice': {
    slices: [
      slice('s', [
        device('a', v(1), { allowMultipleAllocations: true }),
        device('b', v(2), { allowMultipleAllocations: true }),
      ]),
    ],
    claims: [claim('c', [request('r'), request('q')], [distinctV])],
  },
  'one list alone under matchAttribute': {
    slices: [slice('s', [listed('a', 'x')])],
    claims: [claim('c', [request('r')], [sameV])],
  },
  'equal lists under matchAttribute with the gate off': {
    slices: [slice('s', [listed('a', 'x'), listed('b', 'x')])],
    claims: [claim('c', [request('r', { count: 2 })], [sameV])],
  },
  'lists under distinctAttribute with the gate off': {
    slices: [slice('s', [listed('a', 'x'), listed('b', 'y')])],
    claims: [claim('c', [request('r', { count: 2 })], [distinctV])],
  },
  'a list, then a text under distinctAttribute': {
    slices: [slice('s', [listed('a', 'x'), device('b', v('x'))])],
    claims: [claim('c', [request('r', { count: 2 })], [distinctV])],
  },
  'distinct values of one device that is allocated twice': {
    slices: [slice('s', [device('a', v(1), { allowMultipleAllocations: true })])],
    claims: [claim('c', [request('r'), request('q')], [distinctV])],
  },
  'a list of integers under matchAttribute': {
    slices: [slice('s', [{ name: 'a', attributes: { v: { ints: [0, 1] } } }, device('b', v(1))])],
    claims: [claim('c', [request('r', { count: 2 })], [sameV])],
  },
  'an attribute of no kind that a selector may look at': {
    slices: [slice('s', [ofNoKind('a')])],
    claims: [claim('c', [request('r')], [sameV])],
  },
  'an attribute of no kind under matchAttribute': {
    slices: [slice('s', [ofNoKind('a')])],
    classes: [deviceClass('gpu')],
    claims: [claim('c', [request('r')], [sameV])],
  },
  'two attributes of no kind under matchAttribute': {
    slices: [slice('s', [ofNoKind('a'), ofNoKind('b')])],
    classes: [deviceClass('gpu')],
    claims: [claim('c', [request('r', { count: 2 })], [sameV])],
  },
  'an attribute of no kind under distinctAttribute': {
    slices: [slice('s', [ofNoKind('a'), device('b', v(1))])],
    classes: [deviceClass('gpu')],
    claims: [claim('c', [request('r', { count: 2 })], [distinctV])],
  },
  'a constraint on one alternative that is met by the other': {
    slices: [slice('s', [device('a', v(1)), device('b', v(2)), device('c', v(1))])],
    claims: [
      claim('c', [either('r', { count: 3 }, { count: 2 })], [{ ...sameV, requests: ['r/s0', 'r/s1'] }]),
    ],
  },
  'a constraint on a request that is not there': {
    slices: [slice('s', [device('a', v(1)), device('b', v(2))])],
    claims: [claim('c', [request('r', { count: 2 })], [{ ...sameV, requests: ['q'] }])],
  },
};
