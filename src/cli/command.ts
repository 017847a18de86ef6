import { UsageError } from './errors.ts'

/** An option of a command. `read` turns the texts that were given for it into its value, or throws UsageError. */
export type Option<T> = {
  /** The name of its value in help, such as FILE; undefined for a flag. */
  readonly label: string | undefined
  readonly description: string
  /** More about it in help, in parentheses: choices, units, default. */
  readonly details: readonly string[]
  /** Values that it takes; undefined when any text may be one. */
  readonly choices?: readonly string[]
  readonly isRequired?: boolean
  readonly repeatable?: true
  /** The value of the option when it is given alone. Another value is behind `=`, and not the next word. */
  readonly bare?: string
  /** The heading in help below which it is listed; undefined for `Options:`. */
  readonly group?: string
  read(texts: readonly string[], flag: string): T
}

/** An argument of a command: a word without an option. */
export type Argument<T> = {
  readonly label: string
  readonly description: string
  readonly isRequired: boolean
  /** Values that it takes; undefined when any text may be one. */
  readonly choices?: readonly string[]
  /** How many words it takes at most. */
  readonly wordsMax: number
  read(texts: readonly string[]): T
}

type Options = Readonly<Record<string, Option<unknown>>>
type Arguments = Readonly<Record<string, Argument<unknown>>>

/** The values of declared options or arguments, by name. */
export type Values<Declared> = {
  readonly [Name in keyof Declared]: Declared[Name] extends { read(...given: never): infer T }
    ? T
    : never
}

type Declaration<A extends Arguments, O extends Options> = {
  readonly arguments?: A
  readonly options?: O
  /** More sentences for help, behind the summary of the command index. */
  readonly notes?: string
  /** Command lines, each with what it does. */
  readonly examples: readonly Example[]
  /** Returns the exit status. */
  run(values: Values<A> & Values<O>, environment: NodeJS.ProcessEnv): Promise<number>
}

export type Example = readonly [line: string, effect: string]

/** A command of the command line. The command index has its words and its summary. */
export type Command = {
  /** In their order on the command line. */
  readonly arguments: Arguments
  /** By name in camel case: `dryRun` is `--dry-run`. */
  readonly options: Options
  readonly notes: string | undefined
  readonly examples: readonly Example[]
  /** Returns the exit status. `values` has a value for each argument and option. */
  run(values: Readonly<Record<string, unknown>>, environment: NodeJS.ProcessEnv): Promise<number>
}

// biome-ignore lint/complexity/noBannedTypes: no arguments, no options
type None = {}

/** Declares a command. Parsing, types, help and completion follow from its arguments and options. */
export function command<const A extends Arguments = None, const O extends Options = None>(
  declared: Declaration<A, O>,
): Command {
  return {
    arguments: declared.arguments ?? {},
    options: declared.options ?? {},
    notes: declared.notes,
    examples: declared.examples,
    run: (values, environment) => declared.run(values as Values<A> & Values<O>, environment),
  }
}

/** An option without a value. */
export function flag(description: string): Option<boolean> {
  return { label: undefined, description, details: [], read: (texts) => texts.length > 0 }
}

/** An option with any text as its value; given twice, the last one counts. */
export function value(label: string, description: string): Option<string | undefined> {
  return { label, description, details: [], read: (texts) => texts.at(-1) }
}

/** An option whose text is parsed. `parse` throws UsageError. */
export function parsed<T>(
  label: string,
  description: string,
  parse: (flag: string, text: string) => T,
): Option<T | undefined> {
  return {
    label,
    description,
    details: [],
    read(texts, flag) {
      const text = texts.at(-1)
      return text === undefined ? undefined : parse(flag, text)
    },
  }
}

/** An option with one of a few values. */
export function choice<const C extends string>(
  label: string,
  choices: readonly C[],
  description: string,
): Option<C | undefined> {
  const option = parsed(label, description, (flag, text) => oneOf(choices, flag, text))
  return { ...option, choices, details: [alternatives(choices)] }
}

/** The same option, which may be given without a value. */
export function withBareValue<T>(option: Option<T>, text: string): Option<T> {
  return { ...option, bare: text, details: [...option.details, `alone: ${text}`] }
}

/** An option that may be given several times. */
export function repeated(
  label: string,
  description: string,
): Option<readonly string[] | undefined> {
  return {
    label,
    description,
    details: ['repeatable'],
    repeatable: true,
    read: (texts) => (texts.length === 0 ? undefined : texts),
  }
}

/** An option that may be given several times, or once with commas. */
export function list(
  label: string,
  description: string,
  choices?: readonly string[],
): Option<readonly string[] | undefined> {
  return {
    label,
    description,
    details: [...(choices === undefined ? [] : [alternatives(choices)]), 'repeatable, or A,B'],
    repeatable: true,
    ...(choices === undefined ? {} : { choices }),
    read(texts, flag) {
      if (texts.length === 0) return undefined
      const values = texts.flatMap((text) => text.split(','))
      if (choices !== undefined) for (const text of values) oneOf(choices, flag, text)
      return values
    },
  }
}

/** The same option, which must be given. */
export function required<T>(option: Option<T | undefined>): Option<T> {
  return {
    ...option,
    isRequired: true,
    details: [...option.details, 'required'],
    read(texts, flag) {
      const found = option.read(texts, flag)
      if (found !== undefined) return found
      throw new UsageError(`${flag} <${option.label}> is required`)
    },
  }
}

/** The same option with the value that it has when it is not given. */
export function withDefault<T>(option: Option<T | undefined>, text: string): Option<T> {
  const found = required(option)
  return {
    ...found,
    isRequired: false,
    details: [...option.details, `default: ${text}`],
    read: (texts, flag) => found.read(texts.length === 0 ? [text] : texts, flag),
  }
}

/** The same option; help says what happens when it is not given. */
export function describeDefault<T>(option: Option<T>, text: string): Option<T> {
  return { ...option, details: [...option.details, `default: ${text}`] }
}

/** The flag of commands that can print JSON. */
export const JSON_OPTION = { json: flag('print JSON') }

/** An argument that must be given. */
export function argument(label: string, description: string): Argument<string> {
  return {
    label,
    description,
    isRequired: true,
    wordsMax: 1,
    read: ([text]) => text ?? missingArgument(label),
  }
}

/** An argument with one of a few values. */
export function choiceArgument<const C extends string>(
  label: string,
  choices: readonly C[],
  description: string,
): Argument<C> {
  return {
    label,
    description,
    choices,
    isRequired: true,
    wordsMax: 1,
    read: ([text]) => oneOf(choices, label, text ?? missingArgument(label)),
  }
}

/** An argument that may be given. */
export function optionalArgument(label: string, description: string): Argument<string | undefined> {
  return { label, description, isRequired: false, wordsMax: 1, read: ([text]) => text }
}

/** Any number of words behind the other arguments, up to `wordsMax`. */
export function moreArguments(
  label: string,
  description: string,
  wordsMax: number,
): Argument<readonly string[]> {
  return { label, description, isRequired: false, wordsMax, read: (texts) => texts }
}

function oneOf<C extends string>(choices: readonly C[], name: string, text: string): C {
  const found = choices.find((one) => one === text)
  if (found !== undefined) return found
  throw new UsageError(`${name} must be ${alternatives(choices)}, not "${text}"`)
}

function alternatives(words: readonly string[]): string {
  if (words.length < 3) return words.join(' or ')
  return `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`
}

function missingArgument(label: string): never {
  throw new UsageError(`missing required argument "${label}"`)
}
