import type { CommandGroup, ParentCommand } from './command-entry.ts'
import { COMMAND_GROUPS } from './command-index.ts'

/** The overview of all commands, in groups. */
export function overview(): string {
  const words = COMMAND_GROUPS.flatMap(({ members }) => members.map(({ word }) => word))
  const width = Math.max(...words.map(({ length }) => length))
  return lines([
    'Usage: rookery <command> [options]',
    ...COMMAND_GROUPS.flatMap((group) => ['', ...groupLines(group, width)]),
    '',
    'Options:',
    '  -h, --help     show help: rookery <command> --help',
    '  -v, --version  print the version',
  ])
}

function groupLines({ title, members }: CommandGroup, width: number): string[] {
  return [`${title}:`, ...members.map((one) => entryLine(one, width))]
}

/** The commands that begin with one word. */
export function parentHelp({ word, summary, commands }: ParentCommand): string {
  const width = Math.max(...commands.map((one) => one.word.length))
  return lines([
    `Usage: rookery ${word} <command> [options]`,
    '',
    `${summary}.`,
    '',
    'Commands:',
    ...commands.map((one) => entryLine(one, width)),
    '',
    `rookery ${word} <command> --help shows the options of a command.`,
  ])
}

type Entry = { readonly word: string; readonly summary: string }

function entryLine({ word, summary }: Entry, width: number): string {
  return `  ${word.padEnd(width)}  ${summary}`
}

function lines(texts: readonly string[]): string {
  return `${texts.join('\n')}\n`
}
