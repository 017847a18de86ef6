import { spawnSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parseConfig } from '../../src/config/config.ts'
import { ROOT, readPage } from '../house/tree.ts'
import { hasProgram } from '../support/has-program.ts'

const UNIT = 'deploy/systemd/rookery.service'
/** From 0 to 10: less is better. */
const EXPOSURE_BELOW = 2
/** The server ends by itself so many seconds after its drain, or its workers do. */
const STOP_EXTRA_SECONDS = 30
const text = readPage(UNIT)

describe('the unit of the registry', () => {
  it('lets the server end by itself before systemd kills it', () => {
    const { drainSeconds, drainDelaySeconds } = parseConfig({})
    const [, seconds] = /^TimeoutStopSec=(\d+)$/m.exec(text) ?? []
    expect(Number(seconds)).toBeGreaterThan(drainDelaySeconds + drainSeconds + STOP_EXTRA_SECONDS)
  })

  it.runIf(hasProgram('systemd-analyze'))('has no mistake that systemd finds', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'rookery-unit-'))
    try {
      const unit = join(folder, 'rookery.service')
      await writeFile(unit, text.replace('/usr/bin/rookery', process.execPath))
      const words = ['verify', '--man=no', unit]
      const { status, stderr } = spawnSync('systemd-analyze', words, { encoding: 'utf8' })
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  it.runIf(hasProgram('systemd-analyze'))('may do little', () => {
    const words = ['security', '--offline=yes', '--no-pager', join(ROOT, UNIT)]
    const { stdout } = spawnSync('systemd-analyze', words, { encoding: 'utf8' })
    const level = /Overall exposure level for rookery\.service: ([\d.]+)/.exec(stdout)?.[1]
    expect(Number(level)).toBeGreaterThan(0)
    expect(Number(level)).toBeLessThan(EXPOSURE_BELOW)
  })
})
