import { isRecord } from './review.ts';

/** Checks of what was posted, put together from small ones: each says a sentence about the first fault, or undefined. */
export type Check = (value: unknown, path: string) => string | undefined;

export const text: Check = (value, path) =>
  typeof value === 'string' ? undefined : `${path} must be a string`;
export const number: Check = (value, path) =>
  typeof value === 'number' ? undefined : `${path} must be a number`;
export const anything: Check = () => undefined;

export function optional(check: Check): Check {
  return (value, path) => (value === undefined ? undefined : check(value, path));
}

export function list(check: Check): Check {
  return (value, path) => {
    if (!Array.isArray(value)) return `${path} must be a list`;
    for (const [index, item] of value.entries()) {
      const fault = check(item, `${path}[${index}]`);
      if (fault !== undefined) return fault;
    }
    return undefined;
  };
}

export function entries(check: Check): Check {
  return (value, path) => {
    if (!isRecord(value)) return `${path} must be an object`;
    for (const [key, item] of Object.entries(value)) {
      const fault = check(item, `${path}[${key}]`);
      if (fault !== undefined) return fault;
    }
    return undefined;
  };
}

export function fields(checks: Readonly<Record<string, Check>>): Check {
  const checked = Object.entries(checks);
  return (value, path) => {
    if (!isRecord(value)) return `${path} must be an object`;
    for (const [key, check] of checked) {
      const fault = check(value[key], `${path}.${key}`);
      if (fault !== undefined) return fault;
    }
    return undefined;
  };
}
