import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { ROOT } from './tree.ts'

const folder = mkdtempSync(join(tmpdir(), 'rookery-count-'))
afterAll(() => rmSync(folder, { recursive: true }))

function count(reports: unknown[], ...options: string[]): string {
  const paths = reports.map((report, index) => {
    const path = join(folder, `${index}.json`)
    writeFileSync(path, typeof report === 'string' ? report : JSON.stringify(report))
    return path
  })
  const script = join(ROOT, 'scripts/count-tests.mjs')
  return execFileSync(process.execPath, [script, ...options, ...paths], { encoding: 'utf8' }).trim()
}

describe('counting tests: passed, failed, skipped', () => {
  const good = { numPassedTests: 5, numFailedTests: 0, numPendingTests: 2, testResults: [] }

  it('adds up reports', () => {
    expect(count([good, { ...good, numFailedTests: 1 }])).toBe('10 1 4')
  })

  it('counts skips as failures where nothing may be skipped', () => {
    expect(count([good], '--no-skips')).toBe('5 2 0')
  })

  it('counts a file that could not be loaded', () => {
    const unloaded = { ...good, testResults: [{ status: 'failed', assertionResults: [] }] }
    expect(count([unloaded])).toBe('5 1 2')
  })

  it.each([
    ['no JSON', 'x'],
    ['no tests', {}],
    ['nothing', ''],
  ])('%s is a failure', (_what, report) => {
    expect(count([report])).toBe('0 1 0')
  })

  it('a report that is missing is a failure', () => {
    const script = join(ROOT, 'scripts/count-tests.mjs')
    const missing = join(folder, 'missing.json')
    const printed = execFileSync(process.execPath, [script, missing], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    expect(printed.trim()).toBe('0 1 0')
  })
})
