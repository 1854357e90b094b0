import { claim, device, deviceClass, driver, request, slice } from '../../../builders/devices.ts';
import {
  all,
  attributeIs,
  either,
  everything,
  large,
  many,
  needsLarge,
  nicDriver,
  type Sketches,
  sameV,
  small,
  taken,
  v,
} from './sketch.ts';

/** Requests with `firstAvailable`, for all devices, and with admin access. */
export const alternatives: Sketches = {
  'the first alternative is not there': {
    slices: [slice('s', [small])],
    claims: [
      claim('c', [either('r', { selectors: attributeIs('large') }, { selectors: attributeIs('small') })]),
    ],
  },
  'no alternative is there': {
    slices: [slice('s', [small])],
    claims: [claim('c', [either('r', { count: 3 }, { count: 2 })])],
  },
  'alternatives of two classes': {
    slices: [slice('s', ['a']), slice('t', ['b'], { driver: nicDriver })],
    claims: [claim('c', [either('r', { count: 2 }, { deviceClassName: 'nic' })])],
  },
  'a constraint on the parent of alternatives': {
    slices: [slice('s', [device('a', v(1)), device('b', v(2)), device('c', v(2))])],
    claims: [claim('c', [either('r', { count: 2 }), request('q')], [{ ...sameV, requests: ['r'] }])],
  },
  'a constraint on one alternative': {
    slices: [slice('s', [device('a', v(1)), device('b', v(2))])],
    claims: [
      claim(
        'c',
        [either('r', { count: 2 }, { count: 2, selectors: [] })],
        [{ ...sameV, requests: ['r/s0'] }],
      ),
    ],
  },
  'an alternative that wants all': {
    slices: [slice('s', ['a', 'b'])],
    claims: [claim('c', [either('r', { count: 3 }, all)])],
  },
  'two requests whose alternatives want all': {
    slices: [slice('s', ['a', 'b', 'c'])],
    claims: [claim('c', [either('r', all, { count: 2 }), either('q', all, { count: 1 })])],
  },
  'an alternative of all with a selector': {
    slices: [slice('s', [small, large])],
    claims: [
      claim('c', [
        either('r', { ...all, selectors: attributeIs('huge') }, { ...all, selectors: attributeIs('large') }),
      ]),
    ],
  },
  'an alternative of all over pools': {
    slices: [slice('s', [small]), slice('t', [large], { pool: { name: 'p' } })],
    claims: [claim('c', [either('r', { ...all, selectors: attributeIs('large') })])],
  },
  'an alternative of all without devices': {
    slices: [slice('s', [])],
    claims: [claim('c', [either('r', all, { count: 1 })])],
  },
  'an alternative of all of which one is in use': {
    slices: [slice('s', ['a', 'b'])],
    claims: [claim('c', [either('r', all, { count: 1 })])],
    allocated: [taken('a')],
  },
  'the first alternative is more than a claim may get': {
    slices: [slice('s', many(40))],
    claims: [claim('c', [either('r', { count: 33 }, { count: 2 })])],
  },
  'all alternatives are more than a claim may get': {
    slices: [slice('s', many(40))],
    claims: [claim('c', [either('r', { count: 33 }, { count: 34 })])],
  },
  'alternatives that are too many beside what is there': {
    slices: [slice('s', many(40))],
    claims: [claim('c', [request('q', { count: 16 }), either('r', { count: 17 }, { count: 16 })])],
  },
  'the least of alternatives is too many beside the rest': {
    slices: [slice('s', many(40))],
    claims: [claim('c', [request('q', { count: 16 }), either('r', { count: 17 }, { count: 18 })])],
  },
  'alternatives that are too many after others took the larger': {
    slices: [slice('s', many(40))],
    claims: [
      claim('c', [either('q', { count: 20 }, { count: 2 }), either('r', { count: 20 }, { count: 21 })]),
    ],
  },
  'too many only because all devices are many': {
    slices: [slice('s', many(33))],
    claims: [claim('c', [either('r', all, { count: 3 })])],
  },
  'an alternative whose expression fails': {
    slices: [slice('s', ['a'])],
    claims: [claim('c', [either('r', { selectors: attributeIs(1) }, {})])],
  },
  'going back to a second alternative': {
    slices: [slice('s', [small, large])],
    claims: [claim('c', [either('r', { selectors: attributeIs('large') }, {}), needsLarge('q')])],
  },
  'an alternative without its class': {
    slices: [slice('s', ['a'])],
    claims: [claim('c', [either('r', { deviceClassName: 'other' }, {})])],
  },
  'all devices, one of them': { slices: [slice('s', ['a'])], claims: [claim('c', [everything('r')])] },
  'all devices, two of them': { slices: [slice('s', ['a', 'b'])], claims: [claim('c', [everything('r')])] },
  'all devices, one of which is in use': {
    slices: [slice('s', ['a', 'b'])],
    claims: [claim('c', [everything('r')])],
    allocated: [taken('b')],
  },
  'all devices of no slices': { claims: [claim('c', [everything('r')])] },
  'all devices of an incomplete pool': {
    slices: [slice('s', ['a'], { pool: { resourceSliceCount: 2 } })],
    claims: [claim('c', [everything('r')])],
  },
  'all devices of an incomplete pool of another driver': {
    slices: [slice('s', ['a']), slice('t', ['b'], { driver: nicDriver, pool: { resourceSliceCount: 2 } })],
    claims: [claim('c', [everything('r')])],
  },
  'all devices of an invalid pool': {
    slices: [slice('s', ['a', 'a'])],
    claims: [claim('c', [everything('r')])],
  },
  'all devices of one driver and one of another': {
    slices: [slice('s', ['a', 'b']), slice('t', ['c'], { driver: nicDriver })],
    claims: [claim('c', [everything('r'), request('q', { deviceClassName: 'nic' })])],
  },
  'one of a driver, then all of it': {
    slices: [slice('s', ['a', 'b'])],
    claims: [claim('c', [request('q'), everything('r')])],
  },
  'all of a driver, then one of it': {
    slices: [slice('s', ['a', 'b'])],
    claims: [claim('c', [everything('r'), request('q')])],
  },
  'all devices twice': {
    slices: [slice('s', ['a', 'b'])],
    claims: [claim('c', [everything('r')]), claim('d', [everything('r')])],
  },
  'admin access to a device in use': {
    slices: [slice('s', ['a'])],
    claims: [claim('c', [request('r', { adminAccess: true })])],
    allocated: [taken('a')],
  },
  'admin access that is said to be off': {
    slices: [slice('s', ['a'])],
    claims: [claim('c', [request('r', { adminAccess: false })])],
    allocated: [taken('a')],
  },
  'admin access that another claim has': {
    slices: [slice('s', ['a'])],
    claims: [claim('c', [request('r')])],
    allocated: [taken('a', { adminAccess: true })],
  },
  'admin access to all devices, some in use': {
    slices: [slice('s', ['a', 'b'])],
    claims: [claim('c', [everything('r', { adminAccess: true })])],
    allocated: [taken('b')],
  },
  'admin access to all devices twice in a claim': {
    slices: [slice('s', ['a', 'b'])],
    claims: [claim('c', [request('q', { adminAccess: true }), everything('r', { adminAccess: true })])],
  },
  'admin access of two claims of a pod': {
    slices: [slice('s', ['a'])],
    claims: [
      claim('c', [request('r', { adminAccess: true })]),
      claim('d', [request('r', { adminAccess: true })]),
    ],
  },
  'admin access of one claim, ownership of another': {
    slices: [slice('s', ['a'])],
    claims: [claim('c', [request('r', { adminAccess: true })]), claim('d', [request('r')])],
  },
  'ownership of one claim, admin access of another': {
    slices: [slice('s', ['a'])],
    claims: [claim('c', [request('r')]), claim('d', [request('r', { adminAccess: true })])],
  },
  'admin access to two of three': {
    slices: [slice('s', ['a', 'b', 'c'])],
    claims: [
      claim('c', [request('r', { count: 2, adminAccess: true }), request('q', { adminAccess: true })]),
    ],
    allocated: [taken('a'), taken('b')],
  },
  'alternatives of all over pools of two nodes': {
    slices: [
      slice('s', [small], { pool: { name: 'p1' } }),
      slice('t', [small, large], { nodeName: 'n2', pool: { name: 'p2' } }),
    ],
    claims: [
      claim('c', [
        either('r', { ...all, selectors: attributeIs('large') }, { ...all, selectors: attributeIs('small') }),
      ]),
    ],
  },
  'alternatives of all, of a class that leaves some out': {
    slices: [
      slice('s', [
        device('a', { v: 'large', offered: false }),
        device('b', { v: 'small', offered: false }),
        device('c', { v: 'small', offered: true }),
      ]),
    ],
    classes: [deviceClass('gpu', `device.attributes["${driver}"].offered`)],
    claims: [
      claim('c', [
        either('r', { ...all, selectors: attributeIs('large') }, { ...all, selectors: attributeIs('small') }),
      ]),
    ],
  },
  'combinations of the alternatives of two requests': {
    slices: [slice('s', [large, small, device('small2', { v: 'small' })])],
    claims: [
      claim('c', [
        either('r', { count: 3, selectors: attributeIs('small') }, { count: 2 }),
        either('q', { count: 2 }, { selectors: attributeIs('large') }),
      ]),
    ],
  },
  'alternatives with derived attributes': {
    slices: [slice('s', ['a'])],
    claims: [claim('c', [either('r', { derivedAttributes: [{ name: 'x' }] }, {})])],
  },
  'both a device and alternatives': {
    slices: [slice('s', ['a', 'b'])],
    claims: [claim('c', [{ ...either('r', {}), ...request('r', { count: 2 }) }])],
  },
};
