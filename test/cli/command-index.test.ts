import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import type { Command } from '../../src/cli/command.ts'
import { listEntries } from '../../src/cli/command-entry.ts'
import { COMMAND_GROUPS } from '../../src/cli/command-index.ts'
import { findMember } from '../../src/cli/command-lookup.ts'
import { commandHelp, flagOf, parseArguments, unknownCommand } from '../../src/cli/parser.ts'

const loaded = await Promise.all(
  listEntries(COMMAND_GROUPS).map(async (entry) => ({ ...entry, command: await entry.load() })),
)

/** A value that every declared option or argument accepts; some have a format of their own. */
const VALUES: Readonly<Record<string, string>> = {
  '--abi': '2',
  '--after': '42',
  '--batch': '25%',
  '--canary': '1',
  '--created': '2026-05-20T12:00:00Z',
  '--deadline': '5m',
  '--deployment': '0197a2c4-5b1e-7c3d-8a4f-0123456789ab',
  '--expires': '30d',
  '--header': 'X-Team: web',
  '--hold': '1',
  '--keep': '3',
  '--keep-daily': '14',
  '--limit': '10',
  '--max-age': '1h',
  '--max-failures': '10%',
  '--older-than': '60',
  '--overlap': '1h',
  '--rate': '50',
  '--require-hosts': 'all',
  '--settle': '30s',
  '--finished': '2026-05-20T12:00:00Z',
  '--since': '12h',
  '--started': '2026-05-20T12:00:00Z',
  '--target': 'unix',
  '--ttl': '15m',
  '--until': '1h',
  '--wait': '60',
  '--wait-timeout': '10m',
}

function wordsOf(command: Command): string[] {
  return Object.values(command.arguments).flatMap(({ isRequired, choices }) =>
    isRequired ? [choices?.[0] ?? 'x'] : [],
  )
}

function optionWords(key: string, { label, choices, bare }: Command['options'][string]): string[] {
  const flag = flagOf(key)
  if (bare !== undefined) return [flag]
  return label === undefined ? [flag] : [flag, choices?.[0] ?? VALUES[flag] ?? 'x']
}

function requiredWords(command: Command, except?: string): string[] {
  return Object.entries(command.options)
    .filter(([key, { isRequired }]) => isRequired && key !== except)
    .flatMap(([key, option]) => optionWords(key, option))
}

describe('the command index', () => {
  it('has every command of every module once', async () => {
    const names = loaded.map(({ name }) => name)
    expect(new Set(names).size).toBe(names.length)
    const indexed = loaded.map(({ command }) => command)
    expect(new Set(indexed).size).toBe(indexed.length)
    for (const folder of ['.', 'server', 'registry', 'webhook']) {
      const directory = new URL(`../../src/cli/${folder}/`, import.meta.url)
      for (const file of readdirSync(directory).filter((name) => name.endsWith('.ts'))) {
        const module: Record<string, unknown> = await import(new URL(file, directory).href)
        for (const [name, exported] of Object.entries(module)) {
          if (name.endsWith('Command') && typeof exported === 'object') {
            expect(indexed, `${folder}/${file}: ${name}`).toContain(exported)
          }
        }
      }
    }
  })

  it('finds each by its words, and none twice', () => {
    const words = COMMAND_GROUPS.flatMap(({ members }) => members.map(({ word }) => word))
    expect(new Set(words).size).toBe(words.length)
    for (const { name } of loaded) {
      const [first = '', second] = name.split(' ')
      const member = findMember(first)
      if (second === undefined) expect(member).toHaveProperty('load')
      else expect(member).toMatchObject({ commands: expect.any(Array) })
    }
  })

  it('has --json for every command that prints data', () => {
    const without = loaded.filter(({ command }) => !('json' in command.options))
    // The documents of sbom and provenance are JSON always; the result of healthcheck is its exit status.
    expect(without.map(({ name }) => name)).toEqual([
      ...['serve', 'healthcheck', 'sbom', 'provenance', 'completion'],
    ])
  })

  it('suggests the nearest command', () => {
    expect(unknownCommand('pussh', ['push', 'gc'])).toBe(
      'unknown command "pussh", did you mean "push"?',
    )
    expect(unknownCommand('lst', ['list', 'show'], 'webhook')).toBe(
      'unknown command "webhook lst", did you mean "webhook list"?',
    )
    expect(unknownCommand('zzzzzz', ['push', 'gc'])).toBe('unknown command "zzzzzz"')
  })
})

describe.each(loaded)('rookery $name', ({ name, summary, command }) => {
  const help = commandHelp(name, summary, command)
  const options = Object.entries(command.options)

  it('accepts each of its options', () => {
    for (const [key, option] of options) {
      const words = [
        ...wordsOf(command),
        ...requiredWords(command, key),
        ...optionWords(key, option),
      ]
      const values = parseArguments(name, command, words)
      expect(values[key], key).not.toBe(undefined)
      expect(values[key], key).not.toBe(false)
    }
  })

  it('describes each argument and option in help, on lines of 80 columns', () => {
    for (const [key, { description }] of options) {
      expect(help).toContain(`  ${flagOf(key)}`)
      expect(description).toMatch(/^[a-z].*[^.]$/)
    }
    for (const { label, description } of Object.values(command.arguments)) {
      expect(help).toContain(`  ${label}`)
      expect(description).not.toBe('')
    }
    const shown = [...help.matchAll(/^ {2}(--[a-z-]+)/gm)].map(([, flag]) => flag)
    expect(shown.sort()).toEqual(options.map(([key]) => flagOf(key)).sort())
    const [text = ''] = help.split('\nExamples:\n')
    for (const line of text.split('\n')) expect(line.length, line).toBeLessThanOrEqual(80)
  })

  it('has a summary of one line', () => {
    expect(summary).toMatch(/^[A-Z].*[^.]$/)
    expect(summary.length).toBeLessThanOrEqual(80)
  })

  it('has examples that it understands', () => {
    expect(command.examples.length).toBeGreaterThan(0)
    for (const [line] of command.examples) {
      const words = exampleWords(line)
      const own = name.split(' ')
      expect(words.slice(0, own.length)).toEqual(own)
      parseArguments(name, command, words.slice(own.length))
    }
  })

  it('names no argument as an option, and refuses an option that it does not have', () => {
    const both = Object.keys(command.arguments).filter((key) => key in command.options)
    expect(both).toEqual([])
    expect(() => parseArguments(name, command, [...wordsOf(command), '--nonsense=secret'])).toThrow(
      /^unknown option "--nonsense"$/,
    )
    const [flag] = options.map(([key]) => flagOf(key))
    if (flag === undefined) return
    expect(() => parseArguments(name, command, [...wordsOf(command), `${flag}x`])).toThrow(
      /^unknown option "--\S+", did you mean "--\S+"\?$/,
    )
  })
})

describe('the pages', () => {
  const pages = ['README.md', ...pagesIn('docs'), ...pagesIn('spec')]

  it('are read', () => {
    expect(pages.flatMap(commandLines).length).toBeGreaterThan(30)
  })

  it.each(pages)('%s has commands with their right names and options', (page) => {
    for (const line of commandLines(page)) {
      const words = exampleWords(line)
      const found = loaded.find(({ name }) => `${words.join(' ')} `.startsWith(`${name} `))
      expect(found, line).toBeDefined()
      if (found === undefined) continue
      const rest = words.slice(found.name.split(' ').length)
      expect(() => parseArguments(found.name, found.command, rest), line).not.toThrow()
    }
  })
})

/** The lines with a command in a page's blocks for a shell, without comments. */
function commandLines(page: string): string[] {
  const text = readFileSync(page, 'utf8').replaceAll(/\\\n/g, ' ')
  return [...text.matchAll(/^```sh\n(.*?)^```/gms)]
    .flatMap(([, block = '']) => block.split('\n'))
    .map((line) => line.replace(/(?:^|\s)#.*$/, ''))
    .filter((line) => /\brookery [a-z]/.test(line))
}

function pagesIn(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.md'))
    .map((name) => `${folder}/${name}`)
}

/** The words behind the last `rookery` of a line for a shell, up to a pipe or a redirection. */
function exampleWords(line: string): string[] {
  const command =
    line
      .replaceAll(/\\\n/g, ' ')
      .split(/\brookery (?=[a-z])/)
      .at(-1) ?? ''
  const words = command.match(/'[^']*'|"[^"]*"|[^\s'"]+/g) ?? []
  const end = words.findIndex((word) => /^[|<>]/.test(word))
  return words
    .slice(0, end < 0 ? undefined : end)
    .map((word) => word.replace(/^(['"])(.*)\1$/, '$2').replace(/\).*$/, ''))
}
