import { auditCommand } from './audit.ts'
import { backup } from './backup.ts'
import { type Command, STATUS, UsageError } from './command.ts'
import { credentialCommands } from './credential.ts'
import { dropCommand } from './drop.ts'
import { gc } from './gc.ts'
import { keysCommands } from './keys.ts'
import { loginUrlCommand } from './login-url.ts'
import { policyCommands } from './policy.ts'
import { compareCommand } from './remote/compare.ts'
import { documentCommands } from './remote/documents.ts'
import { eventsCommand } from './remote/events.ts'
import { askingCommands } from './remote/images.ts'
import { inspectCommand } from './remote/inspect.ts'
import { pushCommand } from './remote/push.ts'
import { tagCommands } from './remote/tags.ts'
import { repositoryCommands } from './repository.ts'
import { restore } from './restore.ts'
import { scrubCommand } from './scrub.ts'
import { serveCommand } from './serve.ts'
import { storageCopy } from './storage-copy.ts'
import { tokenCommands } from './token.ts'
import { webhookCommands } from './webhook.ts'

const COMMANDS: readonly Command[] = [
  serveCommand,
  pushCommand,
  inspectCommand,
  ...askingCommands,
  compareCommand,
  ...documentCommands,
  ...tagCommands,
  eventsCommand,
  ...credentialCommands,
  ...tokenCommands,
  dropCommand,
  loginUrlCommand,
  ...policyCommands,
  ...keysCommands,
  ...repositoryCommands,
  ...webhookCommands,
  auditCommand,
  gc,
  scrubCommand,
  backup,
  restore,
  storageCopy,
]
const HELP: ReadonlySet<string> = new Set(['help', '--help', '-h'])

/** Finds the command that the words name and runs it. Returns the exit status. */
export async function runCommand(
  words: readonly string[],
  environment: NodeJS.ProcessEnv,
): Promise<number> {
  const command = COMMANDS.find((one) => one.words.every((word, index) => words[index] === word))
  const rest = command === undefined ? words : words.slice(command.words.length)
  // `rookery token` alone asks for what begins so.
  const meant = command === undefined ? familyOf(words[0]) : [command]
  if (rest.some((word) => HELP.has(word))) {
    process.stdout.write(usage(meant))
    return STATUS.ok
  }
  try {
    if (command !== undefined) return await command.run(rest, environment)
    process.stderr.write(usage(meant))
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    const message = error.message.replaceAll('\n', ' ')
    process.stderr.write(`rookery: ${message}\n${usage(meant)}`)
  }
  return STATUS.failed
}

function familyOf(word: string | undefined): readonly Command[] {
  const family = COMMANDS.filter(({ words }) => words[0] === word)
  return family.length === 0 ? COMMANDS : family
}

function usage(commands: readonly Command[]): string {
  const lines = commands === COMMANDS ? overview() : commands.flatMap(detailed)
  return `usage:\n${lines.join('\n')}\n\n${commands === COMMANDS ? OPTIONS : ''}${CONFIGURED}`
}

const OPTIONS = 'rookery COMMAND --help shows the options of a command.\n'
const CONFIGURED =
  'All of them are configured by ROOKERY_* environment variables; the README lists them.\n'

function overview(): string[] {
  const names = COMMANDS.map(({ words }) => words.join(' '))
  const width = Math.max(...names.map(({ length }) => length))
  return COMMANDS.map(
    ({ summary }, index) => `  rookery ${(names[index] ?? '').padEnd(width)}  ${summary}`,
  )
}

function detailed({ words, usage: options, summary }: Command): string[] {
  return [`  rookery ${[...words, options].join(' ').trim()}`, `      ${summary}`]
}
