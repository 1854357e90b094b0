import type { SliceDevice } from '../../../../src/api/dra.ts';
import { claim, deviceClass, driver, request, slice } from '../../../builders/devices.ts';
import {
  attributeIs,
  counted,
  either,
  everything,
  inSet,
  part,
  type Sketches,
  sameV,
  selectedBy,
  taken,
} from './sketch.ts';

const shared = (
  name: string,
  value = '8Gi',
  requestPolicy?: object,
  more: Partial<SliceDevice> = {},
): SliceDevice => ({
  name,
  allowMultipleAllocations: true,
  capacity: { memory: { value, ...(requestPolicy !== undefined && { requestPolicy }) } },
  ...more,
});
const asks = (memory: string, name = 'r', more: object = {}) =>
  request(name, { capacity: { requests: { memory } }, ...more });
const share = (name: string, memory: string | undefined, id = 'x') =>
  taken(name, { shareID: `${name}-${id}`, ...(memory !== undefined && { consumedCapacity: { memory } }) });

/** Devices that several claims share by capacity. */
export const capacity: Sketches = {
  'a device with nothing to consume, several times': {
    slices: [slice('s', [{ name: 'a', allowMultipleAllocations: true }])],
    claims: [claim('c', [request('r'), request('q')]), claim('d', [request('r')])],
  },
  'all of a capacity without being asked': {
    slices: [slice('s', [shared('a'), shared('b')])],
    claims: [claim('c', [request('r')]), claim('d', [request('r')])],
  },
  'all of a capacity without being asked, and nothing left': {
    slices: [slice('s', [shared('a')])],
    claims: [claim('c', [request('r')]), claim('d', [request('r')])],
  },
  'amounts that fill a device': {
    slices: [slice('s', [shared('a'), shared('b')])],
    claims: [claim('c', [asks('3Gi'), asks('5Gi', 'q')]), claim('d', [asks('1Gi')])],
  },
  'a policy with a default': {
    slices: [slice('s', [shared('a', '8Gi', { default: '3Gi' })])],
    claims: [claim('c', [request('r'), request('q')]), claim('d', [request('r')])],
  },
  'a default of nothing': {
    slices: [slice('s', [shared('a', '8Gi', { default: '0', validValues: ['0'] })])],
    claims: [claim('c', [request('r'), request('q')])],
  },
  'more than a policy of nothing': {
    slices: [slice('s', [shared('a', '8Gi', { default: '0', validValues: ['0'] })])],
    claims: [claim('c', [asks('1')])],
  },
  'below the least of a range': {
    slices: [slice('s', [shared('a', '8Gi', { default: '4Gi', validRange: { min: '2Gi' } })])],
    claims: [claim('c', [asks('1Gi')])],
  },
  'between the steps of a range': {
    slices: [
      slice('s', [
        shared('a', '8Gi', { default: '2Gi', validRange: { min: '2Gi', step: '2Gi', max: '8Gi' } }),
      ]),
    ],
    claims: [claim('c', [asks('3Gi')])],
  },
  'beyond a range': {
    slices: [
      slice('s', [
        shared('a', '16Gi', { default: '2Gi', validRange: { min: '2Gi', max: '8Gi' } }),
        shared('b', '16Gi'),
      ]),
    ],
    claims: [claim('c', [asks('9Gi')])],
  },
  'rounded beyond the range': {
    slices: [
      slice('s', [
        shared('a', '16Gi', { default: '2Gi', validRange: { min: '2Gi', step: '4Gi', max: '8Gi' } }),
      ]),
    ],
    claims: [claim('c', [asks('7Gi')])],
  },
  'fractions of a range': {
    slices: [slice('s', [shared('a', '4', { default: '500m', validRange: { min: '500m', step: '250m' } })])],
    claims: [claim('c', [asks('600m'), asks('1', 'q')])],
  },
  'a fraction finer than thousandths': {
    slices: [slice('s', [shared('a', '4', { default: '500m', validRange: { min: '500m', step: '250m' } })])],
    claims: [claim('c', [asks('600500u')])],
  },
  'steps finer than thousandths': {
    slices: [slice('s', [shared('a', '4', { default: '1', validRange: { min: '1', step: '500u' } })])],
    claims: [claim('c', [asks('1500m')])],
  },
  'a request above all integers': {
    slices: [
      slice('s', [
        shared('a', '8Gi', { default: '2Gi', validRange: { min: '2Gi', step: '2Gi' } }),
        shared('b'),
      ]),
    ],
    claims: [claim('c', [asks('10E')])],
  },
  'a request that leaves the integers when rounded': {
    slices: [
      slice('s', [
        shared('a', '8Gi', { default: '2', validRange: { min: '2', step: '9223372036854775807' } }),
        shared('b'),
      ]),
    ],
    claims: [claim('c', [asks('9223372036854775806')])],
  },
  'a request above all integers among all devices': {
    slices: [slice('s', [shared('a', '8Gi', { default: '2Gi', validRange: { min: '2Gi', step: '2Gi' } })])],
    claims: [claim('c', [everything('r', { capacity: { requests: { memory: '10E' } } })])],
  },
  'a request below nothing': { slices: [slice('s', [shared('a')])], claims: [claim('c', [asks('-1')])] },
  'a request below nothing that a range lifts': {
    slices: [slice('s', [shared('a', '8Gi', { default: '2Gi', validRange: { min: '2Gi' } })])],
    claims: [claim('c', [asks('-1')])],
  },
  'one of the valid values': {
    slices: [slice('s', [shared('a', '8Gi', { default: '2Gi', validValues: ['2Gi', '4Gi'] })])],
    claims: [claim('c', [asks('4Gi')])],
  },
  'between two valid values': {
    slices: [slice('s', [shared('a', '8Gi', { default: '2Gi', validValues: ['2Gi', '4Gi'] })])],
    claims: [claim('c', [asks('3Gi')])],
  },
  'beyond the valid values': {
    slices: [slice('s', [shared('a', '8Gi', { default: '2Gi', validValues: ['2Gi', '4Gi'] })])],
    claims: [claim('c', [asks('5Gi')])],
  },
  'more than a device has': { slices: [slice('s', [shared('a')])], claims: [claim('c', [asks('9Gi')])] },
  'what others leave of a device': {
    slices: [slice('s', [shared('a')])],
    claims: [claim('c', [asks('3Gi')])],
    allocated: [share('a', '5Gi')],
  },
  'the next device, where others leave too little': {
    slices: [slice('s', [shared('a'), shared('b')])],
    claims: [claim('c', [asks('4Gi')])],
    allocated: [share('a', '3Gi'), share('a', '2Gi', 'y')],
  },
  'no device, where others leave too little': {
    slices: [slice('s', [shared('a')])],
    claims: [claim('c', [asks('4Gi')])],
    allocated: [share('a', '5Gi')],
  },
  'going back for the sake of capacity': {
    slices: [slice('s', [shared('a', '8Gi'), shared('b', '4Gi')])],
    claims: [claim('c', [asks('4Gi')]), claim('d', [asks('6Gi')])],
  },
  'an alternative that asks for less': {
    slices: [slice('s', [shared('a', '4Gi')])],
    claims: [
      claim('c', [
        either(
          'r',
          { capacity: { requests: { memory: '6Gi' } } },
          { capacity: { requests: { memory: '2Gi' } } },
        ),
      ]),
    ],
  },
  'a capacity that no device has': {
    slices: [slice('s', [shared('a')])],
    claims: [claim('c', [request('r', { capacity: { requests: { cores: '1' } } })])],
  },
  'a capacity under its full name': {
    slices: [slice('s', [shared('a')])],
    claims: [claim('c', [request('r', { capacity: { requests: { [`${driver}/memory`]: '1Gi' } } })])],
  },
  'a capacity that the slice writes by its full name': {
    slices: [
      slice('s', [
        { name: 'a', allowMultipleAllocations: true, capacity: { [`${driver}/memory`]: { value: '8Gi' } } },
      ]),
    ],
    claims: [
      claim('c', [request('r', { capacity: { requests: { [`${driver}/memory`]: '1Gi' } } })]),
      claim('d', [asks('1Gi')]),
    ],
  },
  'all devices, one of which lacks the capacity': {
    slices: [slice('s', [shared('a'), { name: 'b', allowMultipleAllocations: true }])],
    claims: [claim('c', [everything('r', { capacity: { requests: { memory: '1Gi' } } })])],
  },
  'all devices, one of which is too small': {
    slices: [slice('s', [shared('a'), shared('b', '2Gi')])],
    claims: [claim('c', [everything('r', { capacity: { requests: { memory: '4Gi' } } })])],
  },
  'all devices, one of which has too little left': {
    slices: [slice('s', [shared('a'), shared('b')])],
    claims: [claim('c', [everything('r', { capacity: { requests: { memory: '4Gi' } } })])],
    allocated: [share('b', '5Gi')],
  },
  'all devices twice, and enough for both': {
    slices: [slice('s', [shared('a'), shared('b')])],
    claims: [
      claim('c', [everything('r', { capacity: { requests: { memory: '4Gi' } } })]),
      claim('d', [everything('r', { capacity: { requests: { memory: '4Gi' } } })]),
    ],
  },
  'all devices twice, and too little for both': {
    slices: [slice('s', [shared('a'), shared('b')])],
    claims: [
      claim('c', [everything('r', { capacity: { requests: { memory: '4Gi' } } })]),
      claim('d', [everything('r', { capacity: { requests: { memory: '5Gi' } } })]),
    ],
  },
  'capacity of a device that is taken whole': {
    slices: [slice('s', [{ name: 'a', capacity: { memory: { value: '8Gi' } } }])],
    claims: [claim('c', [asks('4Gi')]), claim('d', [asks('4Gi')])],
  },
  'too much capacity of a device that is taken whole': {
    slices: [
      slice('s', [
        { name: 'a', capacity: { memory: { value: '8Gi' } } },
        { name: 'b', capacity: { memory: { value: '16Gi' }, cores: { value: '2' } } },
      ]),
    ],
    claims: [claim('c', [request('r', { capacity: { requests: { memory: '10Gi', cores: '1' } } })])],
  },
  'a device of several shares that is taken whole': {
    slices: [slice('s', [shared('a'), shared('b')])],
    claims: [claim('c', [asks('1Gi')])],
    allocated: [taken('a')],
  },
  'a device taken whole that had shares': {
    slices: [slice('s', [{ name: 'a', capacity: { memory: { value: '8Gi' } } }, 'b'])],
    claims: [claim('c', [request('r')])],
    allocated: [share('a', '1Gi')],
  },
  'a constraint that is given back for want of capacity': {
    slices: [
      slice('s', [
        shared('a', '2Gi', undefined, { attributes: { v: { int: 1 } } }),
        shared('b', '8Gi', undefined, { attributes: { v: { int: 2 } } }),
      ]),
    ],
    claims: [claim('c', [asks('4Gi'), asks('4Gi', 'q')], [sameV])],
  },
  'shares of a partition, whose counters are drawn once': {
    slices: counted('8Gi', [shared('a', '8Gi', undefined, { consumesCounters: inSet('c0', '6Gi') })]),
    claims: [claim('c', [asks('2Gi'), asks('2Gi', 'q')]), claim('d', [asks('2Gi')])],
  },
  'shares of a partition that has a share already': {
    slices: counted('8Gi', [
      shared('a', '8Gi', undefined, { consumesCounters: inSet('c0', '6Gi') }),
      part('b', '4Gi'),
    ]),
    claims: [claim('c', [asks('2Gi'), request('q', { count: 1 })])],
    allocated: [share('a', '1Gi')],
  },
  'shares that consume nothing of a partition': {
    slices: counted('8Gi', [
      { name: 'a', allowMultipleAllocations: true, consumesCounters: inSet('c0', '6Gi') },
      part('b', '4Gi'),
    ]),
    claims: [claim('c', [request('r'), request('q'), request('p')])],
    allocated: [share('a', undefined)],
  },
  'going back on a share of a partition': {
    slices: counted('8Gi', [
      shared('a', '8Gi', undefined, { consumesCounters: inSet('c0', '6Gi'), attributes: { v: { int: 1 } } }),
      part('b', '8Gi', { attributes: { v: { int: 2 } } }),
    ]),
    claims: [claim('c', [request('r'), request('q', { selectors: attributeIs(2) })])],
  },
  'going back on the second share of a partition that consumes nothing': {
    slices: counted('8Gi', [
      {
        name: 'a',
        allowMultipleAllocations: true,
        consumesCounters: inSet('c0', '4Gi'),
        attributes: { v: { int: 1 } },
      },
      {
        name: 'z',
        allowMultipleAllocations: true,
        consumesCounters: inSet('c0', '4Gi'),
        attributes: { v: { int: 2 } },
      },
      part('b', '4Gi', { attributes: { v: { int: 3 } } }),
    ]),
    claims: [claim('c', [request('r'), request('q'), request('p', { selectors: attributeIs(3) })])],
  },
  'a class of devices that are not shared': {
    slices: [slice('s', [shared('a'), { name: 'b', capacity: { memory: { value: '8Gi' } } }])],
    classes: [deviceClass('gpu', 'device.allowMultipleAllocations == false')],
    claims: [claim('c', [asks('1Gi')])],
  },
  'a class of devices that are shared': {
    slices: [slice('s', [{ name: 'b', capacity: { memory: { value: '8Gi' } } }, shared('a')])],
    classes: [deviceClass('gpu', 'device.allowMultipleAllocations')],
    claims: [claim('c', [asks('1Gi')])],
  },
  'a selector on capacity looks at the whole, not at what is left': {
    slices: [slice('s', [shared('a', '8Gi')])],
    claims: [
      claim('c', [
        asks('1Gi', 'r', {
          selectors: selectedBy(`device.capacity["${driver}"].memory.compareTo(quantity("8Gi")) == 0`),
        }),
      ]),
    ],
    allocated: [share('a', '5Gi')],
  },
  'several capacities of which one is used up': {
    slices: [
      slice('s', [
        {
          name: 'a',
          allowMultipleAllocations: true,
          capacity: { memory: { value: '8Gi' }, cores: { value: '4', requestPolicy: { default: '2' } } },
        },
      ]),
    ],
    claims: [claim('c', [asks('1Gi'), asks('1Gi', 'q')]), claim('d', [asks('1Gi')])],
  },
  'shares of partitions of two pools': {
    slices: [
      ...counted('8Gi', [shared('a', '8Gi', undefined, { consumesCounters: inSet('c0', '8Gi') })]),
      ...counted('8Gi', [shared('a', '4Gi', undefined, { consumesCounters: inSet('c0', '8Gi') })]).map(
        each => ({
          metadata: { name: `p-${each.metadata.name}` },
          spec: { ...each.spec, pool: { ...each.spec.pool, name: 'p' } },
        }),
      ),
    ],
    claims: [claim('c', [asks('5Gi'), asks('4Gi', 'q')]), claim('d', [asks('3Gi')])],
  },
  'admin access to a device that is shared': {
    slices: [slice('s', [shared('a', '8Gi')])],
    claims: [claim('c', [asks('8Gi', 'r', { adminAccess: true })]), claim('d', [asks('1Gi')])],
    allocated: [share('a', '8Gi')],
  },
  'a share that consumes nothing of a device that is full': {
    slices: [slice('s', [shared('a', '8Gi', { default: '0' })])],
    claims: [claim('c', [request('r'), asks('0', 'q')])],
    allocated: [share('a', '8Gi')],
  },
  'all devices where some are shared and one is taken whole': {
    slices: [slice('s', [shared('a'), { name: 'b', capacity: { memory: { value: '8Gi' } } }])],
    claims: [
      claim('c', [everything('r', { capacity: { requests: { memory: '2Gi' } } })]),
      claim('d', [asks('2Gi')]),
    ],
  },
  'the least of the valid values': {
    slices: [slice('s', [shared('a', '8Gi', { default: '4Gi', validValues: ['2Gi', '4Gi'] })])],
    claims: [claim('c', [asks('2Gi')])],
  },
  'the most of a range': {
    slices: [slice('s', [shared('a', '16Gi', { default: '2Gi', validRange: { min: '2Gi', max: '8Gi' } })])],
    claims: [claim('c', [asks('8Gi')])],
  },
  'the most of a range, by steps': {
    slices: [
      slice('s', [
        shared('a', '16Gi', { default: '2Gi', validRange: { min: '2Gi', step: '3Gi', max: '8Gi' } }),
      ]),
    ],
    claims: [claim('c', [asks('6Gi'), asks('2Gi', 'q')])],
  },
};
