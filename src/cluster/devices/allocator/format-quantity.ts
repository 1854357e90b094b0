import type { Quantity } from '../../quantity.ts';

/** Writes a quantity without a unit where it is whole, else in nano units: results are compared by their value. */
export function formatQuantity(quantity: Quantity): string {
  const unit = 1_000_000_000n;
  return quantity % unit === 0n ? String(quantity / unit) : `${quantity}n`;
}
