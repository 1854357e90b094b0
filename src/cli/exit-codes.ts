/** What the process ends with; told in `--help` and in the README. */
export const exitCodes = {
  /** Done; of `plan`: everything fits. */
  done: 0,
  failed: 1,
  /** The command line, the configuration or an input file is at fault. */
  misuse: 2,
  /** `plan`: at least one group or pod has got no place. */
  noPlace: 3,
} as const;
