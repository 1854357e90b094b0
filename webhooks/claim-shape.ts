import type { ResourceClaim } from '../src/api/dra.ts';
import { anything, type Check, entries, fields, list, number, optional, text } from './shape.ts';

/** As for pods (pod-shape.ts): every field that a review of a claim reads is checked first, and no other. */
export function isClaim(value: unknown): value is ResourceClaim {
  return whyNotClaim(value) === undefined;
}

/** The first field that a ResourceClaim cannot have in this form, as a sentence; undefined for a ResourceClaim. */
export function whyNotClaim(value: unknown): string | undefined {
  return claim(value, 'request.object');
}

const truth: Check = (value, path) =>
  typeof value === 'boolean' ? undefined : `${path} must be true or false`;

const bodyFields = {
  deviceClassName: text,
  selectors: optional(list(fields({ cel: optional(fields({ expression: text })) }))),
  allocationMode: optional(text),
  count: optional(number),
  tolerations: optional(list(anything)),
};
const names = optional(list(text));

const claim = fields({
  metadata: fields({
    name: optional(text),
    generateName: optional(text),
    annotations: optional(entries(text)),
    ownerReferences: optional(
      list(fields({ apiVersion: text, kind: text, name: text, uid: text, controller: optional(truth) })),
    ),
  }),
  spec: fields({
    devices: optional(
      fields({
        requests: optional(
          list(
            fields({
              name: text,
              exactly: optional(fields({ ...bodyFields, adminAccess: optional(truth) })),
              firstAvailable: optional(list(fields({ name: text, ...bodyFields }))),
            }),
          ),
        ),
        constraints: optional(list(fields({ requests: names, matchAttribute: optional(text) }))),
        config: optional(list(fields({ requests: names }))),
      }),
    ),
  }),
});
