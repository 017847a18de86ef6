import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { waitUntil } from '../support/wait-until.ts'
import { Wire } from './deployment-wire.ts'
import { deployment, target } from './deployments.ts'
import { MAIN } from './rookery.ts'

// biome-ignore lint/suspicious/noControlCharactersInRegex: the escape sequences of terminals
const ESCAPES = /\x1b\[\??[0-9;]*[A-Za-z]/g
const CTRL_C = '\u0003'
const HOST = `${'long-'.repeat(11)}web-1`

let wire: Wire

beforeEach(async () => {
  wire = new Wire()
  await wire.open()
})
afterEach(() => wire.close())

/** Runs `rookery deploy watch` on a terminal of its own, which `script` of util-linux makes. */
function watchOn({ columns = 80, rows = 24, ...environment }: Record<string, string | number>) {
  const words = ['deploy', 'watch', `${wire.host}/builds/www:live`]
  const line = `stty cols ${columns} rows ${rows}; exec '${process.execPath}' '${MAIN}' ${words.join(' ')}`
  const env = {
    ...{ PATH: process.env.PATH, HOME: '/nowhere', SHELL: '/bin/sh', TERM: 'xterm' },
    ...Object.fromEntries(Object.entries(environment).map(([name, value]) => [name, `${value}`])),
  }
  const child = spawn('script', ['-qefc', line, '/dev/null'], { env })
  const shown = { text: '' }
  child.stdout.on('data', (chunk) => {
    shown.text += chunk
  })
  child.stdin.on('error', () => {})
  const ended = once(child, 'close').then(([status]) => status as number)
  return { shown, ended, type: (keys: string) => child.stdin.write(keys) }
}

/** The lines that were drawn, without the sequences that draw them. */
const linesOf = (text: string) => text.replace(ESCAPES, '').split(/[\r\n]+/)

const hosts = (count: number, state: string) =>
  Array.from({ length: count }, (_, at) => target(`${at}-${HOST}`, state))

describe('rookery deploy watch on a terminal', () => {
  it('draws one line a host, within 40 columns and 10 rows, and ends with the whole table', async () => {
    wire.change(deployment('rolling', hosts(30, 'checking')))
    const { shown, ended } = watchOn({ columns: 40, rows: 10 })
    await waitUntil(() => shown.text.includes('and 24 others'))
    const live = linesOf(shown.text)
    expect(live.filter((line) => line.includes('checking'))).toHaveLength(6)
    expect(live.find((line) => line.startsWith('0-'))).toMatch(
      /^0-\S*… *\S*eb-1 +www +checking +02:30:00Z$/,
    )
    for (const line of live) expect(line.length).toBeLessThan(40)
    wire.change(deployment('succeeded', hosts(30, 'healthy')))
    expect(await ended).toBe(0)
    expect(linesOf(shown.text).filter((line) => line.includes(HOST))).toHaveLength(30)
    expect(shown.text.lastIndexOf('\u001b[?7h')).toBeGreaterThan(
      shown.text.lastIndexOf('\u001b[?7l'),
    )
  })

  it('leaves a usable terminal after Ctrl-C, and says what goes on', async () => {
    wire.change(deployment('rolling', hosts(2, 'checking')))
    const { shown, ended, type } = watchOn({})
    await waitUntil(() => shown.text.includes('checking'))
    type(CTRL_C)
    expect(await ended).toBe(130)
    expect(shown.text).not.toContain('\u001b[?25l')
    const end = shown.text.slice(shown.text.lastIndexOf('\u001b[?7l'))
    expect(end).toContain('\u001b[?7h')
    expect(end).toMatch(/stopped waiting; deployment 12 of builds\/www:live goes on: .*\r\n$/)
  })

  it('with TERM=dumb prints lines without escape sequences', async () => {
    wire.change(deployment('rolling', [target('web-1', 'checking')]))
    const { shown, ended } = watchOn({ TERM: 'dumb' })
    await waitUntil(() => shown.text.includes('checking'))
    wire.change(deployment('succeeded', [target('web-1', 'healthy')]))
    expect(await ended).toBe(0)
    expect(shown.text.match(ESCAPES)).toBeNull()
    expect(shown.text).toContain('web-1/www  healthy')
  })

  it('has no colours, with NO_COLOR and without', async () => {
    for (const environment of [{ NO_COLOR: '1' }, { FORCE_COLOR: '3' }]) {
      wire.change(deployment('rolling', [target('web-1', 'checking')]))
      const { shown, ended } = watchOn(environment)
      await waitUntil(() => shown.text.includes('checking'))
      wire.change(deployment('halted', [target('web-1', 'failed')], { reason: 'web-1 failed' }))
      expect(await ended).toBe(1)
      expect((shown.text.match(ESCAPES) ?? []).filter((one) => one.endsWith('m'))).toEqual([])
    }
  })
})
