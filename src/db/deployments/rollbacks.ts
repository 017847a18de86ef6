import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import type { Queryable } from '../database.ts'

/** A failed deployment whose tag has to be moved back. */
export type DueRollback = {
  readonly id: string
  readonly repository: Repository
  readonly tag: Tag
  readonly digest: Digest
  readonly number: number
  /** The name of its rollout. */
  readonly rollout: string | null
  /** The digest of the newest deployment that succeeded, or else what the tag had before. Null: neither exists. */
  readonly target: Digest | null
}

/** Finds a deployment whose tag has to be moved back. Undefined: it has not, or not any more. */
export async function findDueRollback(db: Queryable, id: string): Promise<DueRollback | undefined> {
  const { rows } = await db.query<DueRollback>(
    `select d.id, r.name as repository, d.tag, d.digest, d.number, d.rollout ->> 'name' as rollout,
            coalesce((
              select s.digest
                from deployments s
               where s.repository_id = d.repository_id
                 and s.tag = d.tag
                 and s.number < d.number
                 and s.state = 'succeeded'
                 and s.digest <> d.digest
               order by s.number desc
               limit 1
            ), d.previous) as target
       from deployments d
       join repositories r on r.id = d.repository_id
      where d.id = $1
        and d.rollback_due`,
    [id],
  )
  return rows[0]
}

/** Records that the tag of a deployment was moved back, or with `problem` why it was not. */
export async function endRollback(db: Queryable, id: string, problem?: string): Promise<void> {
  await db.query(
    `update deployments
        set rollback_due = false,
            reason = concat_ws('; ', reason, $2::text)
      where id = $1
        and rollback_due`,
    [id, problem === undefined ? null : `the tag was not moved back: ${problem}`],
  )
}
