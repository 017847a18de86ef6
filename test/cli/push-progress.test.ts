import { describe, expect, it } from 'vitest'
import { ProgressBar } from '../../src/cli/registry/progress-bar.ts'
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
