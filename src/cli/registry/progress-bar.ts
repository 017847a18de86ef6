import type { LocalBlob, PushProgress } from '../../client/push.ts'
import { sizeText, visible } from '../printing.ts'

/** The stream that shows the bar: standard error, when that is a terminal. */
export type Terminal = {
  readonly isTTY?: boolean
  readonly columns?: number
  write(text: string): unknown
}

const REDRAW_MILLISECONDS = 100
/** Reading that is done before this time shows nothing. */
const QUIET_MILLISECONDS = 1000
const BAR_CHARACTERS = 24
const START_OF_LINE = '\r\u001b[K'

/** The progress of a push: bytes and rate on a terminal, and nothing elsewhere. */
export class ProgressBar implements PushProgress {
  readonly #terminal: Terminal
  readonly #now: () => number
  readonly #startedAt: number
  readonly #label: string
  readonly #shownAt: number
  #left: number
  #sent = 0
  #drawnAt = 0

  /** `total`: bytes of all blobs. With a label, a bar of what the label says, which is not shown at once. */
  constructor(terminal: Terminal, total: number, now: () => number = Date.now, label = '') {
    this.#terminal = terminal
    this.#now = now
    this.#startedAt = now()
    this.#left = total
    this.#label = label === '' ? '' : `${label}  `
    this.#shownAt = label === '' ? 0 : this.#startedAt + QUIET_MILLISECONDS
  }

  sent(bytes: number): void {
    this.#sent += bytes
    this.#draw()
  }

  done({ size }: LocalBlob, sent: boolean): void {
    // The registry had this blob already.
    if (!sent) this.#left -= size
    this.#draw()
  }

  /** Writes a line that stays, such as the reason of a retry. */
  note(text: string): void {
    this.clear()
    this.#terminal.write(`${text}\n`)
  }

  /** Removes the bar. */
  clear(): void {
    if (this.#terminal.isTTY && this.#drawnAt > 0) this.#terminal.write(START_OF_LINE)
    this.#drawnAt = 0
  }

  #draw(): void {
    const now = this.#now()
    if (!this.#terminal.isTTY || now < this.#shownAt) return
    if (now - this.#drawnAt < REDRAW_MILLISECONDS) return
    this.#drawnAt = now
    const part = this.#left <= 0 ? 1 : Math.min(1, Math.max(0, this.#sent / this.#left))
    const full = Math.round(part * BAR_CHARACTERS)
    const bar = `${'='.repeat(full)}${' '.repeat(BAR_CHARACTERS - full)}`
    const seconds = Math.max(0.001, (now - this.#startedAt) / 1000)
    const rate = sizeText(Math.max(0, Math.round(this.#sent / seconds)))
    const line = `${this.#label}[${bar}] ${Math.round(part * 100)} %  ${sizeText(this.#sent)} of ${sizeText(this.#left)}  ${rate}/s`
    const columns = this.#terminal.columns ?? 80
    this.#terminal.write(`${START_OF_LINE}${visible(line).slice(0, columns - 1)}`)
  }
}

/** Yields the bytes that are read of `total`, and shows on a terminal how far that is. Throws what the source throws. */
export async function* withProgress(
  bytes: AsyncIterable<Uint8Array>,
  total: number,
  label: string,
  terminal: Terminal = process.stderr,
  now: () => number = Date.now,
): AsyncGenerator<Uint8Array> {
  const bar = new ProgressBar(terminal, total, now, label)
  try {
    for await (const chunk of bytes) {
      bar.sent(chunk.length)
      yield chunk
    }
  } finally {
    bar.clear()
  }
}
