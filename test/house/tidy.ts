import { type Source, withoutComments } from './architecture.ts'

/** Files that are one table, and may be as long as it. */
/** The list of all commands. */
const TABLES: readonly string[] = ['cli/command-index.ts']
const LINES_MAX = 400

export function badNames(sources: readonly Source[]): string[] {
  const vague = new Set([
    'utils',
    'util',
    'helpers',
    'helper',
    'manager',
    'service',
    'common',
    'misc',
  ])
  return sources.flatMap(({ path }) => {
    const base =
      path
        .split('/')
        .at(-1)
        ?.replace(/(\.[a-z]+)+$/, '') ?? ''
    if (vague.has(base)) return [`${path}: say what is in it`]
    return /^[a-z0-9]+(-[a-z0-9]+)*$/.test(base) ? [] : [`${path}: names are kebab-case`]
  })
}

export function tooLong(sources: readonly Source[]): string[] {
  return sources
    .filter(({ path }) => !TABLES.includes(path))
    .map(({ path, text }) => ({ path, lines: text.split('\n').length - 1 }))
    .filter(({ lines }) => lines > LINES_MAX)
    .map(({ path, lines }) => `${path} has ${lines} lines; ${LINES_MAX} is the limit`)
}

function linesWith(sources: readonly Source[], pattern: RegExp, message: string): string[] {
  return sources.flatMap(({ path, text }) =>
    text
      .split('\n')
      .flatMap((line, index) => (pattern.test(line) ? [`${path}:${index + 1} ${message}`] : [])),
  )
}

export function openEnds(sources: readonly Source[]): string[] {
  return [
    ...linesWith(sources, /\b(TODO|FIXME|XXX)\b(?!\(#\d+\))/, 'needs an issue: TODO(#12)'),
    ...linesWith(
      sources,
      /\b(for now|simplified|not implemented|placeholder)\b/i,
      'reads unfinished',
    ),
  ]
}

export function sleepingTests(sources: readonly Source[]): string[] {
  const pattern = /\b(it|test|describe)\.(only|skip|todo)\b/
  return linesWith(sources, pattern, 'does not run with the others')
}

/** Lists calls of `vi.waitFor` without a limit, which is a second then: `eventually` waits as long as a busy machine takes. */
export function hastyWaits(sources: readonly Source[]): string[] {
  return sources.flatMap(({ path, text }) =>
    [...text.matchAll(/vi\.waitFor\(/g)]
      .filter(({ index, 0: call }) => !hasSecondArgument(text, index + call.length))
      .map(({ index }) => `${path}:${text.slice(0, index).split('\n').length} names no limit`),
  )
}

/** `start`: behind the opening parenthesis of a call, whose strings have no single brackets. */
function hasSecondArgument(text: string, start: number): boolean {
  let depth = 0
  for (let at = start; at < text.length && depth >= 0; at += 1) {
    const character = text.charAt(at)
    if ('([{'.includes(character)) depth += 1
    else if (')]}'.includes(character)) depth -= 1
    else if (character === ',' && depth === 0) return !/^\s*\)/.test(text.slice(at + 1))
  }
  return false
}

/** Lists exported functions and classes without a doc comment. */
export function undocumented(sources: readonly Source[]): string[] {
  return sources.flatMap(({ path, text }) => {
    const lines = text.split('\n')
    return lines.flatMap((line, index) => {
      const name = /^export (?:async )?(?:function\*?|class|abstract class) (\w+)/.exec(line)?.[1]
      if (name === undefined || lines[index - 1]?.trim().endsWith('*/')) return []
      return [`${path}:${index + 1} ${name} needs a docstring`]
    })
  })
}

export function vagueVerbs(sources: readonly Source[]): string[] {
  const pattern = /^(?:export )?(?:async )?function (get|process|manage|do)[A-Z]\w*/gm
  return sources.flatMap(({ path, text }) =>
    [...withoutComments(text).matchAll(pattern)].map(
      (match) => `${path}: ${match[0].split(' ').at(-1)}: say find, list, parse, read or stat`,
    ),
  )
}

/** Lists relative links of a document to missing files. */
export function brokenLinks(
  documents: readonly Source[],
  exists: (path: string) => boolean,
): string[] {
  return documents.flatMap(({ path, text }) =>
    [...text.matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)]
      .map((match) => match[1] ?? '')
      .filter((target) => !/^[a-z]+:/.test(target))
      .filter((target) => {
        const folder = path.split('/').slice(0, -1).join('/')
        return !exists(folder === '' ? target : `${folder}/${target}`)
      })
      .map((target) => `${path} links to ${target}, which is not there`),
  )
}

/** The folders below which a path in a document may begin. */
const BASES = ['', 'src/', 'test/', 'docs/']

/** Lists paths in backticks of a document that name no file or folder. */
export function brokenPaths(
  documents: readonly Source[],
  exists: (path: string) => boolean,
): string[] {
  return documents.flatMap(({ path, text }) =>
    [
      ...text
        .replace(/^```[\s\S]*?^```/gm, '')
        .matchAll(/`([\w@.-]+\/[\w@./-]*|[\w-]+\.(?:ts|md|sql))`/g),
    ]
      .map((match) => (match[1] ?? '').replace(/\/$/, ''))
      .filter((named) => !named.startsWith('@'))
      .filter((named) => !BASES.some((base) => exists(`${base}${named}`)))
      .map((named) => `${path} names ${named}, which does not exist`),
  )
}

/** Lists names of code in backticks of a document, such as `moveTags` or `Uploads.start`, that no source has. */
export function unknownNames(documents: readonly Source[], sources: readonly Source[]): string[] {
  const names = new Set(sources.flatMap(({ text }) => text.match(/\w+/g) ?? []))
  return documents.flatMap(({ path, text }) =>
    [...text.matchAll(/`([a-z]+[A-Z]\w*|[A-Z][a-z]\w*(?:\.\w+)+)`/g)]
      .flatMap(([, name = '']) => name.split('.'))
      .filter((name) => !/^(?:parse|find|list|assert)X$/.test(name) && !names.has(name))
      .map((name) => `${path} names ${name}, which no source has`),
  )
}
