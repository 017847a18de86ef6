import type { CommandEntry, ParentCommand } from './command-entry.ts'
import { COMMAND_GROUPS } from './command-index.ts'

const MEMBERS = COMMAND_GROUPS.flatMap(({ members }) => members)

/** All first words. */
export const FIRST_WORDS: readonly string[] = MEMBERS.map(({ word }) => word)

/** The command or the parent of commands with this first word. */
export function findMember(word: string | undefined): CommandEntry | ParentCommand | undefined {
  return MEMBERS.find((one) => one.word === word)
}
