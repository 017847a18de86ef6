import { describe, expect, it } from 'vitest'
import { ProgressBar, withProgress } from '../../src/cli/registry/progress-bar.ts'
import type { LocalBlob } from '../../src/client/push.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'

const MIB = 1024 * 1024
const DIGEST: Digest = digestOf(Buffer.from('x'))
const blob = (size: number): LocalBlob => ({
  digest: DIGEST,
  size,
  title: 'www.hvt',
  from: { bytes: new Uint8Array(0) },
})

/** A terminal that keeps its text, and a clock that the test moves. */
function watched(isTTY: boolean, columns = 80) {
  let written = ''
  let now = 1_000_000
  const write = (text: string) => {
    written += text
  }
  const terminal = { isTTY, columns, write }
  const bar = new ProgressBar(terminal, 10 * MIB, () => now)
  return {
    bar,
    later: (milliseconds: number) => {
      now += milliseconds
    },
    written: () => written,
    last: () => written.split('\r\u001b[K').at(-1),
  }
}

describe('the progress of a push', () => {
  it('shows bytes and rate on a terminal', () => {
    const { bar, later, last } = watched(true)
    later(2000)
    bar.sent(5 * MIB)
    expect(last()).toBe('[============            ] 50 %  5.0 MiB of 10.0 MiB  2.5 MiB/s')
    later(1000)
    bar.done(blob(5 * MIB), false)
    expect(last()).toMatch(/100 % {2}5\.0 MiB of 5\.0 MiB/)
    bar.clear()
    expect(last()).toBe('')
  })

  it('goes back when an attempt starts again, and stays within its bar', () => {
    const { bar, later, last } = watched(true)
    for (const [bytes, right] of [
      [10 * MIB, '100 %'],
      [-10 * MIB, '0 %'],
      [-MIB, '0 %'],
      [30 * MIB, '100 %'],
    ] as const) {
      later(200)
      bar.sent(bytes)
      expect(last()).toContain(right)
    }
  })

  it('is drawn at most ten times a second, and never wider than the terminal', () => {
    const { bar, later, written } = watched(true, 20)
    for (let step = 0; step < 1000; step += 1) {
      later(1)
      bar.sent(1)
    }
    const drawn = written().split('\r\u001b[K').slice(1)
    expect(drawn.length).toBeLessThanOrEqual(11)
    for (const line of drawn) expect(line.length).toBeLessThan(20)
  })

  it('prints only the reason of a wait where there is no terminal', () => {
    const { bar, later, written } = watched(false)
    later(1000)
    bar.sent(MIB)
    bar.done(blob(MIB), true)
    bar.clear()
    expect(written()).toBe('')
    bar.note('it asks to wait')
    expect(written()).toBe('it asks to wait\n')
  })
})

describe('the progress of reading a file', () => {
  async function readWith(isTTY: boolean, millisecondsAChunk: number): Promise<string> {
    let written = ''
    let now = 1_000_000
    const terminal = {
      ...{ isTTY, columns: 100 },
      write(text: string) {
        written += text
      },
    }
    async function* chunks() {
      for (let count = 0; count < 10; count += 1) {
        now += millisecondsAChunk
        yield new Uint8Array(MIB)
      }
    }
    let size = 0
    const read = withProgress(chunks(), 10 * MIB, 'reading www.hvt', terminal, () => now)
    for await (const chunk of read) size += chunk.length
    expect(size).toBe(10 * MIB)
    return written
  }

  it('is shown on a terminal when it takes longer than a second, and is removed at the end', async () => {
    const lines = (await readWith(true, 500)).split('\r\u001b[K')
    expect(lines[1]).toMatch(/^reading www\.hvt {2}\[=+ +\] 20 % {2}2\.0 MiB of 10\.0 MiB/)
    expect(lines.at(-2)).toContain('100 %')
    expect(lines.at(-1)).toBe('')
  })

  it('is not shown for a small file, nor where there is no terminal', async () => {
    expect(await readWith(true, 10)).toBe('')
    expect(await readWith(false, 500)).toBe('')
  })
})
