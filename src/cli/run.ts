import { type Command, STATUS, UsageError } from './command.ts'
import { familyOf, loadAll } from './command-index.ts'

const HELP: ReadonlySet<string> = new Set(['help', '--help', '-h'])

/** Finds the command that the words name and runs it. Returns the exit status. */
export async function runCommand(
  words: readonly string[],
  environment: NodeJS.ProcessEnv,
): Promise<number> {
  const family = familyOf(words[0])
  const commands = await (family === undefined ? loadAll() : family.load())
  const command = commands.find((one) => one.words.every((word, index) => words[index] === word))
  const rest = command === undefined ? words : words.slice(command.words.length)
  // `rookery token` alone asks for what begins so.
  const meant = command === undefined ? commands : [command]
  const help = family === undefined ? overview(commands) : detailed(meant)
  if (rest.some((word) => HELP.has(word))) {
    process.stdout.write(help)
    return STATUS.ok
  }
  try {
    if (command !== undefined) return await command.run(rest, environment)
    process.stderr.write(help)
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    const message = error.message.replaceAll('\n', ' ')
    process.stderr.write(`rookery: ${message}\n${help}`)
  }
  return STATUS.failed
}

const OPTIONS = 'rookery COMMAND --help shows the options of a command.\n'
const CONFIGURED =
  'All of them are configured by ROOKERY_* environment variables; docs/settings.md lists them.\n'

function overview(commands: readonly Command[]): string {
  const names = commands.map(({ words }) => words.join(' '))
  const width = Math.max(...names.map(({ length }) => length))
  const lines = commands.map(
    ({ summary }, index) => `  rookery ${(names[index] ?? '').padEnd(width)}  ${summary}`,
  )
  return usage(lines, OPTIONS)
}

function detailed(commands: readonly Command[]): string {
  const lines = commands.flatMap(({ words, usage: options, summary }) => [
    `  rookery ${[...words, options].join(' ').trim()}`,
    `      ${summary}`,
  ])
  return usage(lines)
}

function usage(lines: readonly string[], more = ''): string {
  return `usage:\n${lines.join('\n')}\n\n${more}${CONFIGURED}`
}
