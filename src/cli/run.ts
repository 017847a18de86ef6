import { backup } from './backup.ts'
import { type Command, STATUS, UsageError } from './command.ts'
import { gc } from './gc.ts'
import { restore } from './restore.ts'
import { scrubCommand } from './scrub.ts'
import { serveCommand } from './serve.ts'
import { storageCopy } from './storage-copy.ts'

const COMMANDS: readonly Command[] = [serveCommand, gc, scrubCommand, backup, restore, storageCopy]
const HELP: ReadonlySet<string> = new Set(['help', '--help', '-h'])

/** Finds the command that the words name and runs it. Returns the exit status. */
export async function runCommand(
  words: readonly string[],
  environment: NodeJS.ProcessEnv,
): Promise<number> {
  const command = COMMANDS.find((one) => one.words.every((word, index) => words[index] === word))
  const rest = command === undefined ? words : words.slice(command.words.length)
  if (rest.some((word) => HELP.has(word))) {
    process.stdout.write(usage(command === undefined ? COMMANDS : [command]))
    return STATUS.ok
  }
  try {
    if (command !== undefined) return await command.run(rest, environment)
    process.stderr.write(usage(COMMANDS))
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    process.stderr.write(`rookery: ${error.message}\n${usage(command ? [command] : COMMANDS)}`)
  }
  return STATUS.failed
}

function usage(commands: readonly Command[]): string {
  const lines = commands.flatMap(({ words, usage: options, summary }) => [
    `  rookery ${[...words, options].join(' ').trim()}`,
    `      ${summary}`,
  ])
  return `usage:\n${lines.join('\n')}\n\nAll of them are configured by ROOKERY_* environment variables; the README lists them.\n`
}
