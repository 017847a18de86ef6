import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import {
  LineDisplay,
  LiveDisplay,
  liveLines,
  statusLines,
} from '../../src/cli/registry/deployment-display.ts'
import { endLines } from '../../src/cli/registry/deployment-text.ts'
import { deployment, target } from './deployments.ts'

const ESCAPE = '\u001b'
/** Clears the screen, renames the window, turns the direction of writing, and begins a line. */
const HOSTILE = `a${ESCAPE}[2J${ESCAPE}]0;owned\u0007\u202egnorw\u009b31m\r\nb`
const CONTROLS = /[\p{Cc}\p{Cf}]/u

/** A terminal of a few rows that keeps its screen, and knows the few sequences of the display. */
class Screen {
  readonly isTTY = true
  columns = 60
  rows = 8
  lines: string[] = ['']
  row = 0
  drawn = 0
  highest = 0

  write(text: string): void {
    this.drawn += 1
    for (const [token] of text.matchAll(/\p{Cc}\[\??\d*[A-Za-z]|\n|\r|\P{Cc}+/gu)) this.#take(token)
    this.highest = Math.max(this.highest, this.lines.length)
  }

  #take(token: string): void {
    if (token === '\n') {
      this.row += 1
      this.lines[this.row] ??= ''
    } else if (token.endsWith('A') && token.startsWith(ESCAPE)) {
      this.row -= Number(/\d+/.exec(token)?.[0])
      expect(this.row).toBeGreaterThanOrEqual(0)
    } else if (token === `${ESCAPE}[J`) {
      this.lines = [...this.lines.slice(0, this.row), '']
    } else if (token === `${ESCAPE}[K` || token === '\r' || /^\p{Cc}\[\?7[hl]$/u.test(token)) {
      // The rest of a line is empty: each is written whole.
    } else {
      expect(token).not.toMatch(CONTROLS)
      expect(token.length).toBeLessThan(this.columns)
      this.lines[this.row] = token
    }
  }

  shown(): string[] {
    return this.lines.filter((line) => line !== '')
  }
}

describe('the table on a terminal', () => {
  let printed: string[] = []
  const print = (lines: readonly string[]) => printed.push(...lines)

  beforeEach(() => {
    printed = []
    vi.useFakeTimers()
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  it('has a line for each host, redrawn in place, and ends as text that stays', () => {
    const screen = new Screen()
    const display = new LiveDisplay(screen, print)
    const states = (one: string, other: string) =>
      deployment('rolling', [target('web-1', one), target('web-2', other)])
    display.show(states('granted', 'waiting'))
    vi.advanceTimersByTime(1000)
    display.show(states('healthy', 'checking'))
    vi.advanceTimersByTime(1000)
    expect(screen.shown()).toEqual(
      [
        'deployment 12 of builds/www:live  rolling  1 of 2 healthy, ',
        'HOST   UNIT  STATE     SINCE      REASON',
        'web-1  www   healthy   02:30:00Z',
        'web-2  www   checking  02:30:00Z',
      ].map((line) => line.slice(0, 59)),
    )
    display.end(states('healthy', 'healthy'), 'healthy')
    display.close()
    expect(screen.shown()).toEqual([])
    expect(printed.at(-1)).toBe('deployment 12 of builds/www:live is healthy: 2 of 2 healthy')
    expect(printed).toContain('web-2  www   healthy  2026-11-30T02:30:00Z')
  })

  it('is redrawn at most ten times a second', () => {
    const screen = new Screen()
    const display = new LiveDisplay(screen, print)
    for (let step = 0; step < 1000; step += 1) {
      display.show(deployment('rolling', [target(`web-${step}`, 'checking')]))
      vi.advanceTimersByTime(1)
    }
    expect(screen.drawn).toBeLessThanOrEqual(11)
    vi.advanceTimersByTime(1000)
    expect(screen.shown().at(-1)).toMatch(/^web-999/)
    display.close()
  })

  it('never has more rows than the terminal, and shows failures first', () => {
    const screen = new Screen()
    const display = new LiveDisplay(screen, print)
    const hosts = Array.from({ length: 1000 }, (_, index) => target(`web-${index}`, 'healthy'))
    display.show(deployment('rolling', [...hosts, target('last', 'rolled-back')]))
    vi.advanceTimersByTime(200)
    display.note('the registry does not answer')
    expect(screen.highest).toBeLessThanOrEqual(screen.rows + 1)
    expect(screen.shown()[0]).toBe('the registry does not answer')
    expect(screen.shown()[3]).toMatch(/^last {3}www {3}rolled-back/)
    expect(screen.shown().at(-1)).toBe('and 997 others')
    display.close()
  })

  it('fits into any terminal, with several deployments', () => {
    const many = deployment(
      'rolling',
      Array.from({ length: 50 }, (_, at) => target(`w${at}`, 'waiting')),
    )
    for (let rows = 1; rows < 60; rows += 1) {
      const one = liveLines([many], rows, 80)
      expect(one.length).toBeLessThanOrEqual(Math.max(1, rows))
      expect(one.length).toBeGreaterThan(0)
      expect(liveLines([many, many, many], rows, 80).length).toBeLessThanOrEqual(Math.max(3, rows))
    }
    expect(liveLines([many], 52, 80)).toHaveLength(52)
    expect(liveLines([many], 51, 80).at(-1)).toBe('and 2 others')
  })
})

describe('the table on a narrow terminal', () => {
  const long = 'a'.repeat(60)
  const lines = (
    columns: number,
    targets = [target(`${long}-1`, 'rolled-back'), target('b', 'healthy')],
  ) =>
    liveLines([deployment('rolling', targets)], 24, columns).map((line) =>
      line.slice(0, columns - 1),
    )

  it('shows the ends of long names, and state and time of each host', () => {
    expect(lines(40).slice(1)).toEqual([
      'HOST       UNIT  STATE        SINCE    ',
      'aaaa…aa-1  www   rolled-back  02:30:00Z',
      'b          www   healthy      02:30:00Z',
    ])
  })

  it.each([36, 40, 60, 69, 70, 80, 90])('of %i columns', (columns) => {
    for (const unit of ['www', long]) {
      const [line = ''] = lines(columns, [target(`${long}-1`, 'checking', { unit })]).slice(2)
      expect(line).toMatch(/…a*-1 .*checking {2}(2026-11-30T)?02:30:00Z$/)
    }
  })
})

describe('lines without a terminal', () => {
  it('show each change once', () => {
    const printed: string[] = []
    const display = new LineDisplay((lines) => printed.push(...lines))
    const first = deployment('rolling', [target('web-1', 'granted'), target('web-2', 'waiting')])
    display.show(first)
    display.show(first)
    display.show(deployment('rolling', [target('web-1', 'healthy'), target('web-2', 'waiting')]))
    expect(printed).toEqual([
      'deployment 12 of builds/www:live  rolling  0 of 2 healthy, 1 in flight, 1 waiting',
      '2026-11-30T02:30:00Z  web-1/www  granted',
      '2026-11-30T02:30:00Z  web-2/www  waiting',
      '2026-11-30T02:30:00Z  web-1/www  healthy',
    ])
  })

  it('show numbers where hosts are hidden', () => {
    const printed: string[] = []
    const display = new LineDisplay((lines) => printed.push(...lines))
    for (const state of ['checking', 'failed']) {
      const { targets: _hidden, ...counted } = deployment('rolling', [target('web-1', state)])
      display.show(counted)
      if (state === 'failed') display.end({ ...counted, state: 'halted' }, 'failed')
    }
    expect(printed).toEqual([
      'deployment 12 of builds/www:live  rolling  0 of 1 healthy, 1 in flight',
      'deployment 12 of builds/www:live  rolling  0 of 1 healthy, 1 failed',
      'Only a login that may push to the repository sees why.',
      'deployment 12 of builds/www:live is halted: 0 of 1 healthy, 1 failed',
    ])
  })
})

describe('the end of a deployment', () => {
  it('names the failed host with its exit code, reason and last lines, and the offline ones', () => {
    const log = `${Array.from({ length: 30 }, (_, line) => `line ${line}`).join('\n')}\n`
    const failed = target('web-1', 'rolled-back', {
      reason: 'exited',
      exit: { code: 2, meaning: 'OCaml exception' },
      message: 'Fatal error: exception Not_found',
      log,
    })
    const lines = endLines(
      deployment('halted', [failed, target('web-2', 'offline'), target('web-3', 'skipped')]),
      'failed',
    )
    expect(lines[0]).toBe(
      'web-1/www: rolled-back: exited: exit 2 (OCaml exception): Fatal error: exception Not_found',
    )
    expect(lines[1]).toBe('  | line 20')
    expect(lines[10]).toBe('  | line 29')
    expect(lines[11]).toBe('offline: web-2; updated when they return')
    expect(lines[12]).toBe(
      'deployment 12 of builds/www:live is halted: 0 of 3 healthy, 1 failed, 1 offline, 1 skipped',
    )
  })

  it('is bounded for any number of hosts', () => {
    const many = (state: string) =>
      Array.from({ length: 5000 }, (_, at) => target(`${state}-${at}`, state))
    const lines = endLines(deployment('halted', [...many('failed'), ...many('offline')]), 'failed')
    expect(lines.length).toBeLessThan(30)
    expect(lines).toContain('and 4980 others failed')
    expect(lines).toContain('and 4980 others offline')
  })

  it('never passes control characters of a host to the terminal', () => {
    const evil = target(HOSTILE, 'failed', {
      unit: HOSTILE,
      reason: HOSTILE,
      message: HOSTILE,
      exit: { code: 1, meaning: HOSTILE },
      log: [HOSTILE, HOSTILE],
    })
    const offline = target(`${HOSTILE}2`, 'offline')
    const hostile = deployment('halted', [evil, offline], {
      reason: HOSTILE,
      repository: HOSTILE,
      tag: HOSTILE,
    })
    const printed: string[] = []
    const display = new LineDisplay((lines) => printed.push(...lines))
    display.show(hostile)
    display.end(hostile, 'failed')
    const lines = [
      ...printed,
      ...endLines(hostile, 'timed-out'),
      ...liveLines([hostile], 20, 80),
      ...statusLines(hostile),
    ]
    expect(lines.length).toBeGreaterThan(20)
    for (const line of lines) expect(line).not.toMatch(CONTROLS)
  })
})
