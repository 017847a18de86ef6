import type { Database, Queryable, Transaction } from '../database.ts'

/** The file of a package that the index has read. */
export type OpamFileRow = {
  readonly name: string
  readonly version: string
  /** The hash of its bytes, in hexadecimal. */
  readonly sha256: string
}

/** Something that identifies a source, and a package that such a source holds. */
export type OpamSourceRow = {
  readonly key: string
  readonly name: string
  readonly version: string
}

/** Lists up to `limit` files that the index has read. */
export async function listOpamFiles(db: Queryable, limit: number): Promise<OpamFileRow[]> {
  const { rows } = await db.query<OpamFileRow>(
    `select name, version, sha256
       from opam_files
      limit $1`,
    [limit],
  )
  return rows
}

/** An import into the index. */
export type OpamImport = {
  /** The folder, file or URL. */
  readonly origin: string
  readonly etag: string | undefined
  /** The number of packages there, with each version. */
  readonly files: number
  /** The number of files that could not be read. */
  readonly problems: number
}

// Some hundred bytes each.
const ROWS_A_STATEMENT = 5_000

/** Adds files and sources to the index, all or nothing. Returns the number of new sources. */
export async function putOpamImport(
  db: Database,
  done: OpamImport,
  files: readonly OpamFileRow[],
  sources: readonly OpamSourceRow[],
): Promise<number> {
  return db.transaction(async (tx) => {
    for (const rows of slicesOf(files)) await putFiles(tx, rows)
    let added = 0
    for (const rows of slicesOf(sources)) added += await putSources(tx, rows)
    await putImport(tx, done, added > 0)
    return added
  })
}

function* slicesOf<T>(rows: readonly T[]): Generator<readonly T[]> {
  for (let at = 0; at < rows.length; at += ROWS_A_STATEMENT) {
    yield rows.slice(at, at + ROWS_A_STATEMENT)
  }
}

async function putFiles(tx: Transaction, rows: readonly OpamFileRow[]): Promise<void> {
  await tx.query(
    `insert into opam_files (name, version, sha256)
     select name, version, sha256
       from json_to_recordset($1::json) as f (name text, version text, sha256 text)
         on conflict do nothing`,
    [JSON.stringify(rows)],
  )
}

async function putSources(tx: Transaction, rows: readonly OpamSourceRow[]): Promise<number> {
  const { rows: counted } = await tx.query<{ added: number }>(
    `with added as (
       insert into opam_sources (key, name, version)
       select key, name, version
         from json_to_recordset($1::json) as s (key text, name text, version text)
           on conflict do nothing
       returning key
     )
     select count(*) as added
       from added`,
    [JSON.stringify(rows)],
  )
  return counted[0]?.added ?? 0
}

/** Records the import. The version of the index increases when it has changed. */
async function putImport(
  tx: Transaction,
  { origin, etag, files, problems }: OpamImport,
  isChanged: boolean,
): Promise<void> {
  await tx.query(
    `insert into opam_imports (origin, version, etag, files, problems)
     select $1, coalesce(max(version), 0) + case when $2 then 1 else 0 end, $3, $4, $5
       from opam_imports
         on conflict (origin) do update
        set version = case when $2 then excluded.version else opam_imports.version end,
            etag = excluded.etag,
            files = excluded.files,
            problems = excluded.problems,
            imported_at = now(),
            checked_at = now()`,
    [origin, isChanged, etag ?? null, files, problems],
  )
}

/** Records that a place has not changed since its last import. */
export async function touchOpamImport(db: Queryable, origin: string): Promise<void> {
  await db.query(
    `update opam_imports
        set checked_at = now()
      where origin = $1`,
    [origin],
  )
}

/** The last import from a place. */
export type OpamImportRow = {
  readonly origin: string
  readonly etag: string | null
  readonly files: number
  readonly problems: number
  readonly importedAt: Date
  readonly checkedAt: Date
  /** In seconds. */
  readonly checkedAgo: number
}

/** Lists up to `limit` places that the index was imported from, by name. */
export async function listOpamImports(db: Queryable, limit: number): Promise<OpamImportRow[]> {
  const { rows } = await db.query<OpamImportRow>(
    `select origin, etag, files, problems, imported_at as "importedAt", checked_at as "checkedAt",
            extract(epoch from now() - checked_at)::float8 as "checkedAgo"
       from opam_imports
      order by origin
      limit $1`,
    [limit],
  )
  return rows
}

/** Finds the last import from a place. */
export async function findOpamImport(
  db: Queryable,
  origin: string,
): Promise<OpamImportRow | undefined> {
  const { rows } = await db.query<OpamImportRow>(
    `select origin, etag, files, problems, imported_at as "importedAt", checked_at as "checkedAt",
            extract(epoch from now() - checked_at)::float8 as "checkedAgo"
       from opam_imports
      where origin = $1`,
    [origin],
  )
  return rows[0]
}

/** The size of the index. */
export type OpamIndexCounts = {
  readonly packages: number
  /** Packages, each version once. */
  readonly versions: number
  /** Lists that were resolved with an older version of the index. */
  readonly outdated: number
}

/** Counts the packages of the index, and the lists to resolve again. */
export async function countOpamIndex(db: Queryable): Promise<OpamIndexCounts> {
  const { rows } = await db.query<OpamIndexCounts>(
    `select (select count(distinct name) from opam_files) as packages,
            (select count(*) from (select distinct name, version from opam_files) known) as versions,
            (
              select count(*)
                from layer_analyses
               where lists is not null
                 and index_version < (select coalesce(max(version), 0) from opam_imports)
            ) as outdated`,
  )
  return rows[0] ?? { packages: 0, versions: 0, outdated: 0 }
}
