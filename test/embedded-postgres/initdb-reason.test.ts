import { expect, it } from 'vitest'
import { initdbReason } from '../../src/embedded-postgres/cluster.ts'

const AFTERMATH = [
  'child process exited with exit code 1',
  'initdb: removing contents of data directory "/srv/postgres/cluster.7.new"',
  '',
]

const failed = (lines: readonly string[], more: object = {}) =>
  Object.assign(new Error('Command failed: initdb -D …'), { stderr: lines.join('\n'), ...more })

it.each([
  ['initdb: error: invalid locale name "xx"'],
  ['2026-01-01 00:00:00.000 UTC [7] FATAL:  could not write lock file: No space left on device'],
  ['2026-01-01 00:00:00.000 UTC [7] PANIC:  could not fsync file "pg_wal/1"'],
  ['initdb: could not access directory "/srv": Permission denied'],
  ['postgres: error while loading shared libraries: libicu.so.72: not found'],
])('the message of a failed initdb has the cause: %s', (cause) => {
  expect(initdbReason(failed([cause, ...AFTERMATH]))).toBe(cause)
  expect(initdbReason(failed(['creating directory … ok', cause, ...AFTERMATH]))).toBe(cause)
})

it('the message of an initdb that was ended has the signal, and not what it removed', () => {
  expect(initdbReason(failed(AFTERMATH, { signal: 'SIGTERM' }))).toBe('it was ended by SIGTERM')
  expect(initdbReason(failed(AFTERMATH))).toBe('Command failed: initdb -D …')
})
