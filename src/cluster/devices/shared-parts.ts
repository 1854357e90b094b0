/**
 * Parts of devices that are written the same again and again, kept once: a fleet has thousands of devices with the same
 * product name, capacity and counters, and a slice that changes comes whole, with nearly all of its devices as before.
 * What is kept must be immutable. Bounded, and no more than a memory saver: nothing depends on two parts being one.
 */
export class SharedParts<Part> {
  readonly #byText = new Map<string, Part>();
  readonly #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get(text: string, make: () => Part): Part {
    const known = this.#byText.get(text);
    if (known !== undefined) return known;
    const made = make();
    if (this.#byText.size >= this.#limit) this.#byText.clear();
    this.#byText.set(text, made);
    return made;
  }
}
