import type { Command } from './command.ts'

/** A command before its module is loaded. */
export type CommandEntry = {
  /** The last of its words. */
  readonly word: string
  /** One line without a full stop. */
  readonly summary: string
  load(): Promise<Command>
}

/** A first word with more words behind it, such as `webhook`. */
export type ParentCommand = {
  readonly word: string
  readonly summary: string
  readonly commands: readonly CommandEntry[]
}

export type CommandGroup = {
  readonly title: string
  readonly members: readonly (CommandEntry | ParentCommand)[]
}

/** A command with its full name, such as `webhook create`. */
export type NamedEntry = CommandEntry & { readonly name: string }

/** Lists the commands of groups with their full names. */
export function listEntries(groups: readonly CommandGroup[]): NamedEntry[] {
  return groups
    .flatMap(({ members }) => members)
    .flatMap((member) =>
      'load' in member
        ? [{ ...member, name: member.word }]
        : member.commands.map((one) => ({ ...one, name: `${member.word} ${one.word}` })),
    )
}
