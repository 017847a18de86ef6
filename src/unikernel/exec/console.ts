import { Buffer } from 'node:buffer'
import { DerReader, TAGS } from './der.ts'

/** Lines after which other requests have their turn. */
const LINES_A_TURN = 16 * 1024
const CHUNK_BYTES = 64 * 1024
const FIRST_LINES = 256
const NANOSECONDS_A_SECOND = 1e9

/** The console of a run: lines of DER, newest first. */
export class ConsoleLines {
  readonly #lines: Buffer
  /** The position of each line. */
  readonly #starts: Uint32Array

  private constructor(lines: Buffer, starts: Uint32Array) {
    this.#lines = lines
    this.#starts = starts
  }

  /** Reads each line, in turns with other requests. Throws REQUEST_INVALID for a malformed one. */
  static async read(lines: Buffer): Promise<ConsoleLines> {
    const reader = new DerReader(lines)
    let starts = new Uint32Array(FIRST_LINES)
    let count = 0
    while (!reader.isDone) {
      if (count === starts.length) {
        const longer = new Uint32Array(count * 2)
        longer.set(starts)
        starts = longer
      }
      starts[count] = reader.position
      readLine(reader)
      count += 1
      if (count % LINES_A_TURN === 0) await new Promise(setImmediate)
    }
    return new ConsoleLines(lines, starts.subarray(0, count))
  }

  /** Formats the lines as text, oldest first: `0.120s:+ set -ex`. The bytes of a line are those that the build wrote. */
  async *text(): AsyncGenerator<Uint8Array> {
    let parts: Uint8Array[] = []
    let size = 0
    for (let index = this.#starts.length - 1; index >= 0; index -= 1) {
      const { nanoseconds, text } = readLine(new DerReader(this.#lines, this.#starts[index]))
      const time = Buffer.from(`${(nanoseconds / NANOSECONDS_A_SECOND).toFixed(3)}s:`)
      parts.push(time, text, NEW_LINE)
      size += time.length + text.length + 1
      if (size < CHUNK_BYTES) continue
      yield Buffer.concat(parts)
      await new Promise(setImmediate)
      parts = []
      size = 0
    }
    if (size > 0) yield Buffer.concat(parts)
  }
}

const NEW_LINE = Buffer.from('\n')

function readLine(reader: DerReader): { nanoseconds: number; text: Buffer } {
  const line = reader.inside(TAGS.sequence, 'a line of the console')
  const nanoseconds = line.unsigned('the time of a line of the console')
  const text = line.content(TAGS.utf8String, 'a line of the console')
  line.assertDone('a line of the console')
  return { nanoseconds, text }
}
