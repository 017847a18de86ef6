import { createHash } from 'node:crypto'

/** The digest of each migration of a release, by its file. */
type Recorded = Readonly<Record<string, string>>
/** The migrations of each release, by its version: `schema/releases.json`. */
export type Releases = Readonly<Record<string, Recorded>>
/** The text of each migration, by its file. */
export type Migrations = Readonly<Record<string, string>>

/** Changes of which the statements of the previous release know nothing. The first group names the table. */
const BREAKING: readonly (readonly [pattern: RegExp, reason: string])[] = [
  [/^drop (?:table|view|materialized view)\b(?: if exists)? (\w+)/, 'removes a table'],
  [/^drop (?:function|procedure|type|sequence|schema)\b()/, 'removes a part that statements call'],
  [/^alter table (\w+)\b.*\brename\b/, 'renames'],
  [/^alter (?:type|function|view|sequence|index) ()\w+ rename\b/, 'renames'],
  [/^alter table (\w+)\b.*\bdrop column\b/, 'removes a column'],
  [/^alter table (\w+)\b.*\balter column \w+ (?:set data )?type\b/, 'changes the type of a column'],
  [/^alter table (\w+)\b.*\bset not null\b/, 'refuses rows without a value'],
  [/^alter table (\w+)\b.*\bdrop default\b/, 'refuses rows without a value'],
  [
    /^alter table (\w+)\b.*\badd column (?:(?!, (?:add|alter|drop) |\bdefault\b|\bgenerated\b).)*\bnot null\b(?!(?:(?!, (?:add|alter|drop) ).)*\b(?:default|generated)\b)/,
    'adds a column that every row needs, without a default',
  ],
  [/^alter table (\w+)\b.*\badd constraint\b/, 'may refuse rows that the previous release writes'],
  [/^create unique index\b.* on (\w+)/, 'may refuse rows that the previous release writes'],
]

/** The comment of a statement on a part that no release uses since the one that it names. */
const UNUSED = /^-- Unused since (\S+?)\.?$/m

/** Lists released migrations that are missing or have another text. */
export function changedMigrations(releases: Releases, migrations: Migrations): string[] {
  return Object.entries(releases).flatMap(([version, recorded]) =>
    Object.entries(recorded).flatMap(([name, digest]) => {
      const text = migrations[name]
      if (text === undefined) return [`${name} is missing; ${version} has it`]
      const found = createHash('sha256').update(text).digest('hex')
      return found === digest ? [] : [`${name} is not as it is in ${version}`]
    }),
  )
}

/**
 * Lists the statements of unreleased migrations with which the previous release does not run. Before the first release
 * there are none. A statement may remove a part with the comment `-- Unused since VERSION.` of an earlier release.
 */
export function breakingStatements(releases: Releases, migrations: Migrations): string[] {
  const released = new Set(Object.values(releases).flatMap((recorded) => Object.keys(recorded)))
  if (released.size === 0) return []
  const added = Object.entries(migrations).filter(([name]) => !released.has(name))
  const made = new Set(
    added.flatMap(([, text]) =>
      [...plain(text).matchAll(/\bcreate table (?:if not exists )?(\w+)/g)].map(([, name]) => name),
    ),
  )
  return added.flatMap(([name, text]) =>
    statementsOf(text)
      .filter((statement) => !((UNUSED.exec(statement)?.[1] ?? '') in releases))
      .map(plain)
      .flatMap((statement) =>
        BREAKING.flatMap(([pattern, reason]) => {
          const match = pattern.exec(statement)
          return match === null || made.has(match[1] ?? '')
            ? []
            : [`${name}: ${statement}: ${reason}`]
        }),
      ),
  )
}

/** Returns the statements with their comments. The body of a function is left out. */
function statementsOf(text: string): string[] {
  return text.replace(/\$(\w*)\$[\s\S]*?\$\1\$/g, "''").split(';')
}

/** Returns a statement on one line, without comments. */
function plain(statement: string): string {
  return statement
    .replace(/--.*$/gm, '')
    .replace(/\s+/g, ' ')
    .replace(/\b(?:if exists|only) /g, '')
    .trim()
    .toLowerCase()
}
