import type { Queryable } from '../database.ts'
import { COUNTED_PACKAGES } from './image-packages.ts'

/** The contents of an image, for documents about it. The texts are JSON, which may have megabytes. */
export type ImageContentsRow = {
  readonly id: number
  readonly mediaType: string
  /** The manifest. */
  readonly bytes: Buffer
  /** The analyses of its blobs: StoredAnalysis[] of `unikernel`. */
  readonly analyses: string
  /** Its packages of opam, each name and version once, by name and version: ImagePackage[] of `unikernel`. */
  readonly packages: string
}

/** Packages of opam that an answer about one image has; a unikernel has some hundreds. */
const PACKAGES_MAX = 20_000

/** Finds the contents of images, in any order. An image that was removed meanwhile is left out. */
export async function listImageContents(
  db: Queryable,
  ids: readonly number[],
): Promise<ImageContentsRow[]> {
  const { rows } = await db.query<ImageContentsRow>(
    `with ${COUNTED_PACKAGES}
     select m.id, m.media_type as "mediaType", m.bytes,
            coalesce((
              select json_agg(json_build_object(
                       'digest', b.digest, 'role', f.role, 'sha256', f.sha256,
                       'problem', f.problem, 'facts', f.facts))
                from manifest_blobs mb
                join blobs b on b.id = mb.blob_id
                join layer_analyses f on f.blob_id = b.id
               where mb.manifest_id = m.id
            ), '[]')::text as analyses,
            coalesce((
              select json_agg(p)
                from (
                  select c.ecosystem, c.name, nullif(c.version, '') as version, c.basis,
                         (
                           select json_build_object('directory', ls.directory, 'url', s.url, 'checksums', s.checksums)
                             from layer_sources ls
                             join sources s on s.id = ls.source_id
                            where ls.blob_id = c.blob_id
                              and ls.ordinal = c.source
                         ) as source
                    from counted c
                   where c.manifest_id = m.id
                     and c.ecosystem = 'opam'
                   order by c.name, c.version
                   limit ${PACKAGES_MAX}
                ) p
            ), '[]')::text as packages
       from manifests m
      where m.id = any($1::bigint[])`,
    [ids],
  )
  return rows
}
