import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import {
  cycles,
  defaultExports,
  forbiddenImports,
  importsOf,
  lateImports,
  misplacedPackages,
  misplacedSql,
  parseImportTable,
  type Source,
} from './architecture.ts'
import { codeBelow, ROOT } from './tree.ts'

const sources = codeBelow('src')
const mayImport = parseImportTable(readFileSync(join(ROOT, 'ARCHITECTURE.md'), 'utf8'))
const forbidden = (files: readonly Source[]) => forbiddenImports(files, mayImport)

const file = (path: string, text: string): Source[] => [{ path, text }]

describe('the house', () => {
  it('has files, and imports in them', () => {
    expect(sources.length).toBeGreaterThan(40)
    expect(sources.flatMap(importsOf).length).toBeGreaterThan(150)
  })

  it('has a table of imports, whose rooms and files exist', () => {
    expect(Object.keys(mayImport).length).toBeGreaterThan(10)
    expect(mayImport.oci).toEqual([])
    const rooms = new Set(sources.flatMap(({ path }) => [path, path.split('/')[0] ?? path]))
    const named = [...Object.keys(mayImport), ...Object.values(mayImport).flat()]
    expect(named.filter((name) => !rooms.has(name))).toEqual([])
  })

  it.each([
    ['has rooms with the imports of the table in ARCHITECTURE.md', forbidden],
    ['keeps packages in their places', misplacedPackages],
    ['has no circles', cycles],
    ['has no default exports', defaultExports],
    ['loads no module while a server runs', lateImports],
    ['has SQL in db alone, and no values in it', misplacedSql],
  ])('%s', (_what, check) => {
    expect(check(sources)).toEqual([])
  })
})

describe('a breach is caught:', () => {
  it.each([
    "import { a } from '../db/blobs.ts'",
    "import type { A } from '../db/blobs.ts'",
    "import {\n  a,\n  type B,\n} from '../db/blobs.ts'",
    "import * as a from '../db/blobs.ts'",
    "import '../db/blobs.ts'",
    "export { a } from '../db/blobs.ts'",
    "export * from '../db/blobs.ts'",
    "export type { A } from '../db/blobs.ts'",
    "const a = await import('../db/blobs.ts')",
  ])('http with %s', (text) => {
    expect(forbidden(file('http/x.ts', text))).toHaveLength(1)
  })

  it('an import through a deeper folder, and one file of a part instead of another', () => {
    expect(forbidden(file('http/v2/x.ts', "import { a } from '../../db/x.ts'"))).toHaveLength(1)
    const store = "import { a } from '../storage/filesystem/files.ts'"
    expect(forbidden(file('registry/x.ts', store))).toHaveLength(1)
    const seam = "import { a } from '../storage/blob-store.ts'"
    expect(forbidden(file('registry/x.ts', seam))).toEqual([])
  })

  it('a module that a running server loads', () => {
    const late = "const { a } = await import('undici')"
    expect(lateImports(file('outgoing/x.ts', late))).toHaveLength(1)
    expect(lateImports(file('cli/x.ts', late))).toEqual([])
    expect(lateImports(file('outgoing/x.ts', "import { a } from 'undici'"))).toEqual([])
  })

  it('a part that is not in the table', () => {
    expect(forbidden(file('cellar/x.ts', ''))[0]).toContain('to the table of imports')
  })

  it('not in a comment or a string', () => {
    const text = "// import { a } from '../db/x.ts'\n/* import '../db/x.ts' */\nconst a = 1"
    expect(forbidden(file('http/x.ts', text))).toEqual([])
  })

  it('not SQL with constants of the file or of another, or with an escaped identifier', () => {
    const text = [
      "import {\n  BLOB_COLUMNS,\n  LIMIT_MAX,\n} from './columns.ts'",
      "export const TAG_COLUMNS = 'name, digest'",
      "const TABLE = 'tags'",
      `const a = \`select \${TAG_COLUMNS}, \${BLOB_COLUMNS} from tags limit \${LIMIT_MAX}\``,
      `const b = (name: string) => \`select 1 from \${pg.escapeIdentifier(name)}\``,
    ].join('\n')
    expect(misplacedSql(file('db/x.ts', text))).toEqual([])
  })

  it('a package outside its part', () => {
    for (const [path, name] of [
      ['registry/x.ts', 'koa'],
      ['registry/x.ts', 'pg'],
      ['http/x.ts', 'jose'],
      ['registry/x.ts', '@aws-sdk/client-s3'],
      ['db/x.ts', 'pino'],
      ['oci/x.ts', 'node:fs'],
      ['oci/x.ts', 'lru-cache'],
    ] as const) {
      expect(misplacedPackages(file(path, `import x from '${name}'`))).toHaveLength(1)
    }
  })

  it('a circle of three', () => {
    const circle = [
      { path: 'oci/a.ts', text: "import './b.ts'" },
      { path: 'oci/b.ts', text: "import './c.ts'" },
      { path: 'oci/c.ts', text: "import './a.ts'" },
    ]
    expect(cycles(circle)).toEqual(['oci/a.ts → oci/b.ts → oci/c.ts → oci/a.ts'])
  })

  it('a default export', () => {
    expect(defaultExports(file('oci/a.ts', 'export default 1'))).toHaveLength(1)
  })

  it('SQL in an operation, and a value written into SQL', () => {
    const operation = "await db.query('select name from tags')"
    expect(misplacedSql(file('registry/x.ts', operation))).toHaveLength(1)
    const typed = 'await db.query<Row>(`delete from tags`)'
    expect(misplacedSql(file('registry/x.ts', typed))).toHaveLength(1)
  })

  it.each([
    ['a lower-case name', 'name'],
    ['a call', 'NAMES()'],
    ['an expression', 'NAME + OTHER'],
    ['a property', 'NAMES.name'],
    ['an element', 'NAMES[0]'],
    ['a constant that the file neither declares nor imports', 'UNKNOWN'],
    ['a constant inside a function', 'LOCAL'],
    ['an escape of another kind', 'escapeIdentifier(name)'],
    ['a call beside an escape', 'pg.escapeIdentifier(name) + name()'],
  ])('SQL with %s in it', (_what, value) => {
    const text = [
      "import { NAMES, type OTHERS } from './names.ts'",
      "const NAME = 'name'\nconst OTHER = 'other'",
      'async function f(name: string) {\n  const LOCAL = name',
      `  await db.query(\`select name from tags where name = $\{${value}}\`)\n}`,
    ].join('\n')
    expect(misplacedSql(file('db/x.ts', text))).toHaveLength(1)
  })
})
