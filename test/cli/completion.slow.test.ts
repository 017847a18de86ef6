import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { listEntries } from '../../src/cli/command-entry.ts'
import { COMMAND_GROUPS } from '../../src/cli/command-index.ts'
import { FIRST_WORDS } from '../../src/cli/command-lookup.ts'
import { flagOf } from '../../src/cli/parser.ts'
import { hasProgram } from '../support/has-program.ts'
import { runMain } from './rookery.ts'

const runFile = promisify(execFile)

let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-completion-'))
})

afterAll(() => rm(folder, { recursive: true }))

/** The file of a shell's completion script. */
async function scriptOf(shell: string): Promise<string> {
  const { status, stdout, stderr } = await runMain(['completion', shell], { env: process.env })
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  const file = join(folder, `rookery.${shell}`)
  await writeFile(file, stdout)
  return file
}

describe('rookery completion bash', () => {
  let script: string

  beforeAll(async () => {
    script = await scriptOf('bash')
  })

  /** The words that bash offers for the last word of a line. */
  async function offered(...words: string[]): Promise<string[]> {
    const line = ['rookery', ...words].map((word) => `'${word}'`).join(' ')
    const code = `source '${script}'; COMP_WORDS=(${line}); COMP_CWORD=${words.length}; _rookery; printf '%s\\n' "\${COMPREPLY[@]}"`
    const { stdout } = await runFile('bash', ['--norc', '-uc', code])
    return stdout.split('\n').filter((word) => word !== '')
  }

  it('completes commands and subcommands', async () => {
    expect(await offered('pu')).toEqual(['push'])
    expect(await offered('')).toEqual([...FIRST_WORDS, 'help', '--help', '--version'])
    expect(await offered('webhook', 're')).toEqual(['redeliver'])
    expect(await offered('key', '')).toEqual(['list', 'rotate'])
  })

  it('completes the options of every command', async () => {
    const wrong: string[] = []
    for (const { name, load } of listEntries(COMMAND_GROUPS)) {
      const { options } = await load()
      const expected = [...Object.keys(options).map(flagOf), '--help']
      const found = await offered(...name.split(' '), '--')
      if (found.join(' ') !== expected.join(' ')) wrong.push(`${name}: ${found.join(' ')}`)
    }
    expect(wrong).toEqual([])
  })

  it('completes the values of options and arguments, and leaves paths to bash', async () => {
    expect(await offered('sbom', 'h/r:t', '--format', '')).toEqual(['cyclonedx', 'spdx'])
    expect(await offered('completion', 'z')).toEqual(['zsh'])
    expect(await offered('push', '')).toEqual([])
    expect(await offered('push', '.', '--kernel', 'x')).toEqual([])
  })
})

describe.skipIf(!hasProgram('zsh'))('rookery completion zsh', () => {
  it('is a script that zsh loads', async () => {
    const script = await scriptOf('zsh')
    await runFile('zsh', ['-fn', script])
    const code = `autoload -U compinit; compinit -u -d '${folder}/dump'; source '${script}'; print $_comps[rookery]`
    const { stdout, stderr } = await runFile('zsh', ['-fc', code])
    expect({ stdout, stderr }).toEqual({ stdout: '_rookery\n', stderr: '' })
  })
})

describe.skipIf(!hasProgram('fish'))('rookery completion fish', () => {
  it('completes commands, subcommands, options and values', async () => {
    const script = await scriptOf('fish')
    const offered = async (line: string) => {
      const code = `source '${script}'; complete -C '${line}'`
      const { stdout, stderr } = await runFile('fish', ['-N', '-c', code], {
        env: { ...process.env, HOME: folder },
      })
      expect(stderr).toBe('')
      return stdout.split('\n').flatMap((one) => (one === '' ? [] : [one.split('\t')[0]]))
    }
    expect(await offered('rookery pu')).toEqual(['push'])
    expect(await offered('rookery key ')).toEqual(['list', 'rotate'])
    expect(await offered('rookery push --dry')).toEqual(['--dry-run'])
    expect(await offered('rookery sbom x --format ')).toEqual(['cyclonedx', 'spdx'])
    expect(await offered('rookery completion ')).toEqual(['bash', 'fish', 'zsh'])
  })
})
