import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { ROOT } from './tree.ts'

const folder = mkdtempSync(join(tmpdir(), 'rookery-count-'))
const SCRIPT = join(ROOT, 'scripts/count-tests.mjs')
afterAll(() => rmSync(folder, { recursive: true }))

function count(reports: unknown[], ...options: string[]): string {
  const paths = reports.map((report, index) => {
    const path = join(folder, `${index}.json`)
    writeFileSync(path, typeof report === 'string' ? report : JSON.stringify(report))
    return path
  })
  return execFileSync(process.execPath, [SCRIPT, ...options, ...paths], { encoding: 'utf8' }).trim()
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

  it('reports each failure with its reason', () => {
    const failures = {
      ...good,
      testResults: [
        {
          name: 'test/a.test.ts',
          status: 'failed',
          assertionResults: [
            { status: 'passed', fullName: 'a works' },
            { status: 'failed', fullName: 'a breaks', failureMessages: ['expected 1 to be 2'] },
          ],
        },
        { name: 'test/b.test.ts', status: 'failed', assertionResults: [], message: 'no such file' },
      ],
    }
    const path = join(folder, 'failures.json')
    writeFileSync(path, JSON.stringify(failures))
    const { stderr } = spawnSync(process.execPath, [SCRIPT, path], { encoding: 'utf8' })
    expect(stderr).toBe(
      'failed: test/a.test.ts: a breaks\n    expected 1 to be 2\n' +
        'failed: test/b.test.ts: could not be loaded\n    no such file\n',
    )
  })

  it.each([
    ['no JSON', 'x'],
    ['no tests', {}],
    ['nothing', ''],
  ])('%s is a failure', (_what, report) => {
    expect(count([report])).toBe('0 1 0')
  })

  it('a report that is missing is a failure', () => {
    const missing = join(folder, 'missing.json')
    const printed = execFileSync(process.execPath, [SCRIPT, missing], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    expect(printed.trim()).toBe('0 1 0')
  })
})
