import { spawnSync } from 'node:child_process'
import { expect, it } from 'vitest'
import { hasProgram } from '../support/has-program.ts'
import { AGENT } from './agent-host.ts'

const TEST_MILLISECONDS_MAX = 300_000

it.runIf(hasProgram('shellcheck'))(
  'shellcheck finds no mistake in the agent',
  { timeout: TEST_MILLISECONDS_MAX },
  () => {
    const { stdout, status } = spawnSync('shellcheck', ['-s', 'sh', AGENT], { encoding: 'utf8' })
    expect({ stdout, status }).toEqual({ stdout: '', status: 0 })
  },
)
