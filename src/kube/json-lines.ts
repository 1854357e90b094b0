const newline = 0x0a;

/**
 * Cuts a byte stream into JSON values, one per line. Bytes become text only when a line is whole, so a character or
 * an object split over chunks costs nothing and cannot break.
 */
export class JsonLines<T> {
  #parts: Uint8Array[] = [];

  /** The values completed by this chunk, of unchecked type. Throws SyntaxError at a line that is not JSON. */
  *push(chunk: Uint8Array): Generator<T, void, undefined> {
    let start = 0;
    for (let end = chunk.indexOf(newline); end !== -1; end = chunk.indexOf(newline, start)) {
      const line = this.#complete(chunk.subarray(start, end));
      start = end + 1;
      if (line.trim() === '') continue;
      const value: T = JSON.parse(line);
      yield value;
    }
    if (start < chunk.length) this.#parts.push(chunk.subarray(start));
  }

  /** True when the stream stopped in the middle of a line. */
  get unfinished(): boolean {
    return this.#parts.length > 0;
  }

  #complete(tail: Uint8Array): string {
    if (this.#parts.length === 0) return text(tail);
    const line = Buffer.concat([...this.#parts, tail]);
    this.#parts = [];
    return line.toString('utf8');
  }
}

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
}
