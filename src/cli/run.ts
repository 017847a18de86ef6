import type { CommandEntry, ParentCommand } from './command-entry.ts'
import { ABSENT_WORDS } from './command-index.ts'
import { FIRST_WORDS, findMember } from './command-lookup.ts'
import { CommandError, STATUS, UsageError } from './errors.ts'
import { overview, parentHelp } from './help.ts'
import { visible, write } from './printing.ts'

const HELP: ReadonlySet<string | undefined> = new Set(['--help', '-h'])
const VERSION: ReadonlySet<string | undefined> = new Set(['--version', '-v'])

/** Runs the command that the words name. Returns the exit status. */
export async function runCommand(
  words: readonly string[],
  environment: NodeJS.ProcessEnv,
): Promise<number> {
  const [first, ...rest] = words
  if (first === undefined) return fail(overview())
  if (first === 'help') return runCommand([...rest, '--help'], environment)
  if (HELP.has(first)) return print(overview())
  if (VERSION.has(first)) return print(`${(await import('../server/version.ts')).VERSION}\n`)
  if (ABSENT_WORDS.includes(first)) {
    say(`this is the client, in one file; "${first}" is in the package of Rookery`)
    return STATUS.failed
  }
  const member = findMember(first)
  if (member === undefined) return refuse(await unknown(first, FIRST_WORDS), '')
  if ('load' in member) return runEntry(first, member, rest, environment)
  return runSubcommand(member, rest, environment)
}

async function runSubcommand(
  parent: ParentCommand,
  [second, ...rest]: readonly string[],
  environment: NodeJS.ProcessEnv,
): Promise<number> {
  const { word, commands } = parent
  if (second === undefined) return fail(parentHelp(parent))
  if (HELP.has(second)) return print(parentHelp(parent))
  const entry = commands.find((one) => one.word === second)
  if (entry !== undefined) return runEntry(`${word} ${second}`, entry, rest, environment)
  const names = commands.map((one) => one.word)
  return refuse(await unknown(second, names, word), word)
}

async function runEntry(
  name: string,
  { summary, load }: CommandEntry,
  words: readonly string[],
  environment: NodeJS.ProcessEnv,
): Promise<number> {
  const { commandHelp, parseArguments } = await import('./parser.ts')
  const { assertNoSecrets } = await import('./secret-arguments.ts')
  const command = await load()
  const end = words.indexOf('--')
  const wantsHelp = words.slice(0, end < 0 ? undefined : end).some((word) => HELP.has(word))
  if (wantsHelp) return print(commandHelp(name, summary, command))
  try {
    assertNoSecrets(words)
    return await command.run(parseArguments(name, command, words), environment)
  } catch (error) {
    if (error instanceof UsageError) return refuse(error.message, name)
    if (!(error instanceof CommandError)) throw error
    say(error.message)
    return error.status
  }
}

async function unknown(word: string, names: readonly string[], parent = ''): Promise<string> {
  const { unknownCommand } = await import('./parser.ts')
  return unknownCommand(word, names, parent)
}

/** A wrong command line: one line, and where its help is. */
function refuse(message: string, name: string): number {
  say(message)
  const command = ['rookery', ...(name === '' ? [] : [name]), '--help'].join(' ')
  process.stderr.write(`Run "${command}" for usage.\n`)
  return STATUS.failed
}

function say(message: string): void {
  process.stderr.write(`rookery: ${visible(message.replaceAll('\n', ' '))}\n`)
}

function print(text: string): number {
  write(text)
  return STATUS.ok
}

function fail(help: string): number {
  process.stderr.write(help)
  return STATUS.failed
}
