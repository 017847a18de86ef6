import { Batcher } from '../../async/batcher.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import type { Actor } from '../auth/audit.ts'
import type { Database, Queryable, Transaction } from '../database.ts'
import {
  columnsOfLayerFacts,
  type NewLayerFacts,
  PUT_LAYER_FACTS,
} from '../images/layer-analyses.ts'
import { RememberedLookups } from '../remembered-lookups.ts'
import { JOIN_VISIBLE_REPOSITORY, type View, viewKey } from './repositories.ts'

export type ManifestRow = {
  readonly digest: Digest
  readonly mediaType: string
  /** Bytes. */
  readonly size: number
  /** Null when the caller has them or does not need them, and for a large manifest. */
  readonly bytes: Buffer | null
}

/** `repositoryId` is null when the view has no such repository. */
export type ManifestLookup = {
  readonly repositoryId: number | null
  readonly manifest: ManifestRow | undefined
}

export type ManifestQuestion = {
  readonly view: View
  readonly reference: Tag | Digest
  /** The digest whose bytes the caller has: they are left out. `all` leaves out the bytes of every digest. */
  readonly cached: Digest | 'all' | undefined
}

const LOOKUPS_A_QUERY_MAX = 64
/** Without their bytes, a few hundred bytes each. */
const ANSWERS_MAX = 10_000

export type ManifestLookups = { load(question: ManifestQuestion): Promise<ManifestLookup> }

/**
 * Lookups that share round trips (see `Batcher`), or are answered from memory (see `ContentLease`). The bytes of larger
 * manifests than `bytesMax` are left out.
 */
export function manifestLookups(db: Database, bytesMax: number): ManifestLookups {
  const batcher = new Batcher<ManifestQuestion, ManifestLookup>(
    (questions) => findManifests(db, questions, bytesMax),
    LOOKUPS_A_QUERY_MAX,
  )
  return new RememberedLookups<ManifestQuestion, ManifestLookup>(db.content, {
    answersMax: ANSWERS_MAX,
    load: (question) => batcher.load(question),
    keyOf: ({ view, reference }) => `${viewKey(view)} ${reference}`,
    isFound: ({ manifest }) => manifest !== undefined,
    recall(answer, { cached }) {
      const { repositoryId, manifest } = answer
      if (manifest === undefined) return undefined
      const isEnough = cached === 'all' || cached === manifest.digest || manifest.size > bytesMax
      return isEnough ? { repositoryId, manifest: { ...manifest, bytes: null } } : undefined
    },
  })
}

/** Returns undefined when the repository has no such manifest. */
export async function findManifestBytes(
  db: Queryable,
  repositoryId: number,
  digest: Digest,
): Promise<Buffer | undefined> {
  const { rows } = await db.query<{ bytes: Buffer }>(
    `select bytes
       from manifests
      where repository_id = $1 and digest = $2`,
    [repositoryId, digest],
  )
  return rows[0]?.bytes
}

type ManifestLookupRow = { repositoryId: number | null } & (
  | { digest: Digest; mediaType: string; size: number; bytes: Buffer | null }
  | { digest: null; mediaType: null; size: null; bytes: null }
)

async function findManifests(
  db: Queryable,
  questions: readonly ManifestQuestion[],
  bytesMax: number,
): Promise<ManifestLookup[]> {
  // A digest has a colon and a tag never does, so one column serves both. `limit 1` keeps each
  // lookup an index probe, regardless of the planner's estimates.
  const { rows } = await db.query<ManifestLookupRow>(
    `select r.id as "repositoryId", m.digest, m.media_type as "mediaType",
            octet_length(m.bytes) as size,
            case
              when k.cached = 'all' or k.cached = m.digest then null
              when octet_length(m.bytes) > $5 then null
              else m.bytes
            end as bytes
       from unnest($1::text[], $2::bool[], $3::text[], $4::text[])
            with ordinality as k (name, public_only, reference, cached, position)
       ${JOIN_VISIBLE_REPOSITORY}
       left join lateral (
         select digest
           from tags
          where repository_id = r.id
            and name = k.reference
          limit 1
       ) t on true
       left join lateral (
         select digest, media_type, bytes
           from manifests
          where repository_id = r.id
            and digest = coalesce(t.digest, k.reference)
          limit 1
       ) m on true
      order by k.position`,
    [
      questions.map(({ view }) => view.repository),
      questions.map(({ view }) => view.publicOnly),
      questions.map(({ reference }) => reference),
      questions.map(({ cached }) => cached ?? ''),
      bytesMax,
    ],
  )
  return rows.map((row) => ({
    repositoryId: row.repositoryId,
    manifest: row.digest === null ? undefined : row,
  }))
}

export type NewManifest = {
  readonly repositoryId: number
  readonly digest: Digest
  readonly mediaType: string
  readonly artifactType: string | undefined
  readonly subject: Digest | undefined
  readonly annotations: Readonly<Record<string, string>> | undefined
  readonly bytes: Uint8Array
  /** For the audit log. */
  readonly repository: Repository
  readonly tags: readonly Tag[]
  readonly actor: Actor
  readonly blobIds: readonly number[]
  readonly children: readonly Digest[]
  /** The version of the analyzer that analyzed it. */
  readonly analyzerVersion: number
  readonly unwrapping: {
    /** True when layers are left to read in the background. */
    readonly isPending: boolean
    /** Why kernels may be missing. */
    readonly problem: string | undefined
    /** The facts about the layers that were read for the push. */
    readonly facts: readonly NewLayerFacts[]
  }
}

export type PutManifest = {
  /** False for a second push of the same bytes, which only updates columns such as the media type. */
  readonly isNew: boolean
  readonly changesMediaType: boolean
  /** Count of its blobs that the repository still has: a delete may have waited for the lock before the push. */
  readonly blobs: number
}

/**
 * Puts the manifest, its edges, the results of its unwrapping and its audit entry. Throws UNAUTHORIZED when the actor's
 * credential, policy or token was revoked.
 */
export async function putManifest(tx: Transaction, manifest: NewManifest): Promise<PutManifest> {
  const { rows } = await tx.query<PutManifest>(
    `with put as (
       insert into manifests
              (repository_id, digest, media_type, artifact_type, subject, annotations, bytes,
               pushed_by, analyzer_version)
       values ($1, $2, $3, $4, $5, $6, $7, $8, $17)
           on conflict (repository_id, digest) do update
          set media_type = excluded.media_type,
              artifact_type = excluded.artifact_type,
              subject = excluded.subject,
              annotations = excluded.annotations,
              analyzer_version = excluded.analyzer_version
       -- An updated row has the updating transaction in xmax; a new row has none.
       returning id, xmax = 0 as is_new,
              -- The statement began before this update, and reads the old media type.
              xmax <> 0 and $3 is distinct from (
                select old.media_type
                  from manifests old
                 where old.repository_id = $1
                   and old.digest = $2
              ) as changes_media_type
     ), blob_edges as (
       insert into manifest_blobs (manifest_id, blob_id, repository_id)
       select put.id, b.id, $1
         from put, unnest($9::bigint[]) as b (id)
           on conflict do nothing
     ), audited as (
       insert into audit
              (action, decision, actor, origin, token_id, address, request_id, repository, tags, digest)
       select 'push', 'allowed', $8, $11, $12, $13, $14, $15, $16::text[], $2
         from assert_unrevoked($11, $12, $18)
     ), child_edges as (
       insert into manifest_children (manifest_id, digest, repository_id)
       select put.id, c.digest, $1
         from put, unnest($10::text[]) as c (digest)
           on conflict do nothing
     ), state as (
       insert into unwraps (manifest_id, is_pending, problem, builder_origin)
       select id, $19::boolean, $20, $11
         from put
        where $19
           or $20::text is not null
           on conflict (manifest_id) do update
          set is_pending = excluded.is_pending,
              problem = excluded.problem,
              builder_origin = excluded.builder_origin,
              attempts = 0,
              due_at = now()
     ), no_state as (
       delete from unwraps
        where manifest_id = (select id from put where not is_new)
          and not $19
          and $20::text is null
     ), layer_facts as (
       insert into layer_analyses (blob_id, role, problem, facts, analyzer_version)
       select f.blob_id, f.role, f.problem, f.facts, f.version
         from put,
              unnest($21::bigint[], $22::text[], $23::text[], $24::text[], $25::integer[])
              as f (blob_id, role, problem, facts, version)
        where f.blob_id = any($9::bigint[])
        order by f.blob_id, f.role${PUT_LAYER_FACTS}
     )
     select is_new as "isNew", changes_media_type as "changesMediaType",
            (
              select count(*)
                from repository_blobs
               where repository_id = $1
                 and blob_id = any($9::bigint[])
            ) as blobs
       from put`,
    [
      manifest.repositoryId,
      manifest.digest,
      manifest.mediaType,
      manifest.artifactType ?? null,
      manifest.subject ?? null,
      manifest.annotations === undefined ? null : JSON.stringify(manifest.annotations),
      manifest.bytes,
      manifest.actor.name,
      manifest.blobIds,
      manifest.children,
      manifest.actor.origin,
      manifest.actor.tokenId,
      manifest.actor.address,
      manifest.actor.requestId,
      manifest.repository,
      manifest.tags,
      manifest.analyzerVersion,
      manifest.actor.keyId,
      manifest.unwrapping.isPending,
      manifest.unwrapping.problem ?? null,
      ...columnsOfLayerFacts(manifest.unwrapping.facts),
    ],
  )
  const row = rows[0]
  if (row === undefined) throw new Error('a put returned no row')
  return row
}

export type LockedContents = {
  /** Null when the repository does not exist yet. */
  readonly repositoryId: number | null
  /** The repository's provenance setting; null when the repository does not exist yet. */
  readonly provenance: 'optional' | 'required' | null
  readonly blobs: readonly { id: number; digest: Digest; size: number }[]
  readonly children: readonly { digest: Digest; size: number }[]
}

/**
 * Locks the repository, and the blobs and children of a manifest that it has, until the transaction ends: no delete
 * and no sweep can remove one during the push. Lost blobs are left out.
 */
export async function lockContents(
  tx: Transaction,
  repository: Repository,
  blobs: readonly Digest[],
  children: readonly Digest[],
): Promise<LockedContents> {
  const { rows } = await tx.query<LockedContents>(
    // Scalar subqueries make each digest an index probe. With joins the planner may scan everything
    // that the repository has.
    `with repository as (
       select id, provenance
         from repositories
        where name = $1
          for key share
     ), locked_blobs as (
       select b.id, b.digest, b.size
         from blobs b
        where b.digest = any($2::text[])
          and b.lost_at is null
          and (
            select true
              from repository_blobs rb
             where rb.repository_id = (select id from repository)
               and rb.blob_id = b.id
          )
        order by b.id
          for key share
     ), locked_children as (
       select m.digest, octet_length(m.bytes) as size
         from manifests m
        where m.repository_id = (select id from repository)
          and m.digest = any($3::text[])
        order by m.id
          for key share
     )
     select (select id from repository) as "repositoryId",
            (select provenance from repository) as provenance,
            (select coalesce(json_agg(locked_blobs), '[]') from locked_blobs) as blobs,
            (select coalesce(json_agg(locked_children), '[]') from locked_children) as children`,
    [repository, blobs, children],
  )
  const row = rows[0]
  if (row === undefined) throw new Error('a select of scalars returned no row')
  return row
}

/** Locks a manifest against every other change. Returns false when the repository does not have it. */
export async function lockManifest(
  tx: Transaction,
  repositoryId: number,
  digest: Digest,
): Promise<boolean> {
  const { rows } = await tx.query<{ id: number }>(
    `select id
       from manifests
      where repository_id = $1
        and digest = $2
        for update`,
    [repositoryId, digest],
  )
  return rows.length > 0
}

/** Removes a manifest whose tags are removed already. */
export async function removeManifest(
  tx: Transaction,
  repositoryId: number,
  digest: Digest,
): Promise<void> {
  await tx.query(
    `delete from manifests
      where repository_id = $1
        and digest = $2`,
    [repositoryId, digest],
  )
}

/** The media types and the size of a manifest. */
export type ManifestSummary = {
  readonly mediaType: string
  readonly artifactType: string | null
  /** Bytes. */
  readonly size: number
}

/** Returns undefined when the repository has no such manifest. */
export async function findManifestSummary(
  db: Queryable,
  repositoryId: number,
  digest: Digest,
): Promise<ManifestSummary | undefined> {
  const { rows } = await db.query<ManifestSummary>(
    `select media_type as "mediaType", artifact_type as "artifactType", octet_length(bytes) as size
       from manifests
      where repository_id = $1
        and digest = $2`,
    [repositoryId, digest],
  )
  return rows[0]
}
