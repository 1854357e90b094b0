import { z } from 'zod';
import { parseQuantity, QuantityError } from '../cluster/quantity.ts';

/**
 * Objects of DRA as far as planning reads them (resource.k8s.io/v1), checked as deep as the decoders of the running process
 * leave to the API server. What devices of a slice say of themselves is checked when it is decoded.
 */
const name = z.string().min(1);
/** Dumps for the eyes of others often come without UIDs. */
const ownerReferences = z
  .array(z.looseObject({ kind: z.string(), name, uid: z.string().optional() }))
  .optional();

const amounts = z
  .record(
    z.string(),
    z.union([z.string(), z.number()]).refine(isQuantity, 'must be a quantity like 2, 500m or 1.5Gi'),
  )
  .optional();
const selectors = z
  .array(z.looseObject({ cel: z.looseObject({ expression: z.string() }).optional() }))
  .optional();
const tolerations = z.array(z.looseObject({})).optional();
const nodeSelector = z.looseObject({ nodeSelectorTerms: z.array(z.looseObject({})) }).optional();

const requestBody = z.looseObject({
  deviceClassName: name,
  selectors,
  allocationMode: z.enum(['ExactCount', 'All']).optional(),
  count: z.int().min(0).optional(),
  adminAccess: z.boolean().optional(),
  tolerations,
  capacity: z.looseObject({ requests: amounts }).optional(),
});
const request = z
  .looseObject({
    name,
    exactly: requestBody.optional(),
    firstAvailable: z.array(requestBody.extend({ name })).optional(),
  })
  .refine(
    ({ exactly, firstAvailable }) => (exactly === undefined) !== (firstAvailable === undefined),
    'must have either exactly or firstAvailable',
  );
const names = z.array(z.string()).optional();
const config = z
  .array(z.looseObject({ requests: names, opaque: z.looseObject({ driver: name }).optional() }))
  .optional();
const claimSpec = z.looseObject({
  devices: z
    .looseObject({
      requests: z.array(request).optional(),
      constraints: z
        .array(
          z.looseObject({
            requests: names,
            matchAttribute: z.string().optional(),
            distinctAttribute: z.string().optional(),
          }),
        )
        .optional(),
      config,
    })
    .optional(),
});
const results = z
  .array(
    z.looseObject({
      request: name,
      driver: name,
      pool: name,
      device: name,
      adminAccess: z.boolean().optional(),
      consumedCapacity: amounts,
    }),
  )
  .optional();
const claimStatus = z.looseObject({
  allocation: z.looseObject({ devices: z.looseObject({ results }).optional(), nodeSelector }).optional(),
  reservedFor: z.array(z.looseObject({ resource: z.string(), name, uid: z.string().optional() })).optional(),
});

/** `named`: metadata with a name, as all objects have it. */
export function deviceSchemas<Named extends z.ZodObject>(named: Named) {
  const metadata = named.extend({ ownerReferences });
  return {
    ResourceSlice: z.looseObject({
      metadata,
      spec: z.looseObject({
        driver: name,
        pool: z.looseObject({ name, generation: z.int().optional(), resourceSliceCount: z.int() }),
        nodeName: z.string().optional(),
        nodeSelector,
        devices: z.array(z.looseObject({ name })).optional(),
      }),
    }),
    DeviceClass: z.looseObject({
      metadata,
      spec: z.looseObject({ selectors, config, extendedResourceName: z.string().optional() }),
    }),
    ResourceClaim: z.looseObject({ metadata, spec: claimSpec, status: claimStatus.optional() }),
    ResourceClaimTemplate: z.looseObject({
      metadata,
      spec: z.looseObject({ metadata: z.looseObject({}).optional(), spec: claimSpec }),
    }),
    DeviceTaintRule: z.looseObject({
      metadata,
      spec: z.looseObject({
        deviceSelector: z
          .looseObject({
            driver: z.string().optional(),
            pool: z.string().optional(),
            device: z.string().optional(),
          })
          .optional(),
        taint: z.looseObject({ key: name, effect: name }),
      }),
    }),
  };
}

function isQuantity(text: string | number): boolean {
  try {
    parseQuantity(text);
    return true;
  } catch (error) {
    if (error instanceof QuantityError) return false;
    throw error;
  }
}
