import { CommanderError, Command as Parser, Option as ParserOption } from 'commander'
import type { Argument, Command, Option } from './command.ts'
import { UsageError } from './errors.ts'

const SILENT = { writeOut: () => {}, writeErr: () => {} }
const HELP_COLUMNS = 80
const REQUIRED_SHOWN_MAX = 2

/** Parses the words behind a command's name. Throws UsageError. */
export function parseArguments(
  name: string,
  command: Command,
  words: readonly string[],
): Readonly<Record<string, unknown>> {
  assertValuesGiven(command, words)
  const parser = parserOf(name, command).helpOption(false)
  parse(parser, withBareValues(command, words))
  return { ...argumentValues(command, parser.args), ...optionValues(command, parser.opts()) }
}

/** The help of a command: usage, arguments, options, notes and examples. */
export function commandHelp(name: string, summary: string, command: Command): string {
  const columns = process.stdout.isTTY ? process.stdout.columns : HELP_COLUMNS
  const text = parserOf(`rookery ${name}`, command)
    .description([`${summary}.`, command.notes].filter(Boolean).join(' '))
    .usage(usageOf(command))
    .helpOption('-h, --help', 'show this help')
    .configureHelp({
      helpWidth: columns,
      // Without the equals sign, the next word would look like the value.
      optionTerm: ({ flags }) => flags.replace(' [', '[='),
    })
    .helpInformation()
  const examples = command.examples.flatMap(([line, effect]) =>
    [`# ${effect}`, ...line.split('\n')].map((one) => `  ${one}`),
  )
  return `${text}\nExamples:\n${examples.join('\n')}\n`
}

/** The message about an unknown command, with the nearest one of the names. `parent`: the word before it. */
export function unknownCommand(word: string, names: readonly string[], parent = ''): string {
  const parser = new Parser().exitOverride().configureOutput(SILENT).helpCommand(false)
  for (const name of names) parser.command(name)
  try {
    parser.parse([word], { from: 'user' })
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    return parent === '' ? messageOf(error) : messageOf(error).replace(/"(.*?)"/g, `"${parent} $1"`)
  }
  throw new Error(`${word} is a command`)
}

/** The flag of an option: `dryRun` is `--dry-run`. */
export function flagOf(key: string): string {
  return `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
}

function parserOf(name: string, command: Command): Parser {
  const parser = new Parser(name).exitOverride().configureOutput(SILENT)
  for (const one of Object.values(command.arguments)) {
    parser.argument(argumentTerm(one), one.description)
  }
  for (const [key, option] of Object.entries(command.options)) {
    parser.addOption(parserOption(key, option))
  }
  return parser
}

function parserOption(key: string, option: Option<unknown>): ParserOption {
  const { label, description, details, group = 'Options:' } = option
  const flag = flagOf(key)
  const text = details.length === 0 ? description : `${description} (${details.join('; ')})`
  const valued = option.bare === undefined ? `${flag} <${label}>` : `${flag} [${label}]`
  const term = label === undefined ? flag : valued
  const found = new ParserOption(term, text).helpGroup(group)
  if (label === undefined) return found
  return found.argParser((one, before: readonly string[] = []) => [...before, one])
}

function argumentTerm({ label, isRequired, wordsMax }: Argument<unknown>): string {
  const name = wordsMax > 1 ? `${label}...` : label
  return isRequired ? `<${name}>` : `[${name}]`
}

function usageOf(command: Command): string {
  const options = Object.entries(command.options)
  const required = options
    .filter(([, { isRequired }]) => isRequired)
    .map(([key, { label }]) => `${flagOf(key)} <${label}>`)
  // More of them would not fit on a line. The list of options marks them as required.
  const shown = required.length > REQUIRED_SHOWN_MAX ? [] : required
  return [
    ...shown,
    ...(options.length > shown.length ? ['[options]'] : []),
    ...Object.values(command.arguments).map(argumentTerm),
  ].join(' ')
}

// The library takes the next word as the value of an option, even another option: `backup --to --json`
// would write into a folder `--json`.
function assertValuesGiven(command: Command, words: readonly string[]): void {
  const valued = new Map(
    Object.entries(command.options).map(([key, { label }]) => [flagOf(key), label !== undefined]),
  )
  const bare = bareValues(command)
  for (let index = 0; index < words.length && words[index] !== '--'; index += 1) {
    const word = words[index] ?? ''
    const [flag = ''] = word.split('=', 1)
    if (flag !== word && valued.get(flag) === false) throw new UsageError(`${flag} takes no value`)
    if (!valued.get(word) || bare.has(word)) continue
    index += 1
    const next = words[index]
    if (next !== undefined && /^-./.test(next)) {
      throw new UsageError(`${word} needs a value; write ${word}=VALUE if it begins with -`)
    }
  }
}

/** The values of options that are given alone, by flag. */
function bareValues({ options }: Command): Map<string, string> {
  return new Map(
    Object.entries(options).flatMap(([key, { bare }]) =>
      bare === undefined ? [] : [[flagOf(key), bare]],
    ),
  )
}

/** Writes the values of options that are given alone, so that the library does not take the next word as one. */
function withBareValues(command: Command, words: readonly string[]): string[] {
  const bare = bareValues(command)
  const end = words.indexOf('--')
  return words.map((word, index) => {
    const value = end < 0 || index < end ? bare.get(word) : undefined
    return value === undefined ? word : `${word}=${value}`
  })
}

function parse(parser: Parser, words: readonly string[]): void {
  try {
    parser.parse([...words], { from: 'user' })
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    throw new UsageError(messageOf(error), { cause: error })
  }
}

function argumentValues(command: Command, words: readonly string[]): Record<string, unknown> {
  const values: Record<string, unknown> = {}
  let used = 0
  for (const [key, one] of Object.entries(command.arguments)) {
    const texts = one.wordsMax > 1 ? words.slice(used) : words.slice(used, used + 1)
    if (texts.length > one.wordsMax) {
      throw new UsageError(`too many arguments: at most ${one.wordsMax} of ${one.label}`)
    }
    used += texts.length
    values[key] = one.read(texts)
  }
  return values
}

function optionValues(
  command: Command,
  given: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(command.options).map(([key, option]) => {
      const found = given[key]
      // Values were collected as texts; a flag is true.
      const texts = Array.isArray(found) ? found.map(String) : found === true ? [''] : []
      return [key, option.read(texts, flagOf(key))]
    }),
  )
}

const SUGGESTION = /\n\(Did you mean (?:one of )?(.*?)\?\)$/

/** The library's message on one line, without the value of an option, which may be a secret. */
function messageOf({ message }: CommanderError): string {
  return message
    .replace(/^error: /, '')
    .replace(/^(unknown option '[^=\n]*)=.*'/s, "$1'")
    .replace(
      SUGGESTION,
      (_, names: string) =>
        `, did you mean ${names
          .split(', ')
          .map((name) => `'${name}'`)
          .join(' or ')}?`,
    )
    .replaceAll("'", '"')
    .replaceAll('\n', ' ')
}
