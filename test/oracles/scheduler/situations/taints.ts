import { claim, request, slice } from '../../../builders/devices.ts';
import { either, everything, type Sketches, sick } from './sketch.ts';

/** Taints of devices. */
export const taints: Sketches = {
  'two tainted devices': {
    slices: [slice('s', [sick('a', 'NoSchedule'), sick('b', 'NoExecute')])],
    claims: [claim('c', [request('r')])],
  },
  'a device with two taints of which one is tolerated': {
    slices: [slice('s', [sick('a', 'NoSchedule', 'NoExecute')])],
    claims: [claim('c', [request('r', { tolerations: [{ key: 't0', operator: 'Exists' }] })])],
  },
  'a device with two taints that are tolerated': {
    slices: [slice('s', [sick('a', 'NoSchedule', 'NoExecute')])],
    claims: [
      claim('c', [
        request('r', {
          tolerations: [
            { key: 't0', operator: 'Equal', value: 'x', effect: 'NoSchedule' },
            { key: 't1', operator: 'Exists' },
          ],
        }),
      ]),
    ],
  },
  'a toleration of everything': {
    slices: [slice('s', [sick('a', 'NoSchedule', 'NoExecute')])],
    claims: [claim('c', [request('r', { tolerations: [{ operator: 'Exists' }] })])],
  },
  'a toleration of another value': {
    slices: [slice('s', [sick('a', 'NoSchedule')])],
    claims: [claim('c', [request('r', { tolerations: [{ key: 't0', operator: 'Equal', value: 'y' }] })])],
  },
  'a toleration of an effect that is not there': {
    slices: [slice('s', [sick('a', 'NoSchedule')])],
    claims: [
      claim('c', [request('r', { tolerations: [{ key: 't0', operator: 'Exists', effect: 'NoExecute' }] })]),
    ],
  },
  'effects that keep nothing away': {
    slices: [slice('s', [sick('a', 'None', 'SomethingNew')])],
    claims: [claim('c', [request('r')])],
  },
  'an alternative that tolerates': {
    slices: [slice('s', [sick('a', 'NoSchedule')])],
    claims: [claim('c', [either('r', {}, { tolerations: [{ operator: 'Exists' }] })])],
  },
  'admin access to a tainted device': {
    slices: [slice('s', [sick('a', 'NoSchedule')])],
    claims: [claim('c', [request('r', { adminAccess: true })])],
  },
  'all devices, one of them tainted': {
    slices: [slice('s', ['a', sick('b', 'NoSchedule')])],
    claims: [claim('c', [everything('r')])],
  },
  'all devices, all of them tainted and tolerated': {
    slices: [slice('s', [sick('a', 'NoSchedule'), sick('b', 'NoExecute')])],
    claims: [claim('c', [everything('r', { tolerations: [{ operator: 'Exists' }] })])],
  },
  'a toleration without operator': {
    slices: [slice('s', [sick('a', 'NoSchedule')])],
    claims: [claim('c', [request('r', { tolerations: [{ key: 't0', value: 'x' }] })])],
  },
  'a toleration of every key that names a value': {
    slices: [slice('s', [sick('a', 'NoSchedule')])],
    claims: [claim('c', [request('r', { tolerations: [{ operator: 'Equal', value: 'x' }] })])],
  },
  'a toleration of a kind that is not known': {
    slices: [slice('s', [sick('a', 'NoSchedule')])],
    claims: [claim('c', [request('r', { tolerations: [{ key: 't0', operator: 'Like', value: 'x' }] })])],
  },
};
