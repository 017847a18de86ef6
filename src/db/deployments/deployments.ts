import type { Rollout } from '../../deployments/rollout.ts'
import type { DeploymentKind } from '../../deployments/states.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Tag } from '../../oci/reference.ts'
import { newTimeOrderedUuid } from '../../oci/uuid.ts'
import type { Transaction } from '../database.ts'
import { DEPLOYMENTS_CHANNEL } from './notifications.ts'

/** A deployment of a transaction that is not committed yet. */
export type CreatedDeployment = {
  readonly id: string
  readonly tag: Tag
  /** Counts the deployments of the tag. */
  readonly number: number
}

/** The deployment of one tag. */
export type NewDeployment = {
  readonly tag: Tag
  /** The digest that the tag had before; null: it is new. */
  readonly previous: Digest | null
  readonly rollout: Rollout
}

/**
 * Inserts deployments of one digest, and notifies every process when the transaction commits. The caller holds the locks of
 * the tags' rows, so that the deployments of a tag are numbered one after the other.
 */
export async function insertDeployments(
  tx: Transaction,
  cause: {
    readonly repositoryId: number
    readonly digest: Digest
    readonly kind: DeploymentKind
    readonly actor: { readonly name: string; readonly origin: string | null }
  },
  deployments: readonly NewDeployment[],
): Promise<CreatedDeployment[]> {
  const { repositoryId, digest, kind, actor } = cause
  const { rows } = await tx.query<CreatedDeployment>(
    `with inserted as (
       insert into deployments
              (id, repository_id, tag, number, digest, previous, kind, rollout, actor, origin)
       select n.id, $1, n.tag,
              coalesce((
                select max(d.number)
                  from deployments d
                 where d.repository_id = $1
                   and d.tag = n.tag
              ), 0) + 1,
              $2, n.previous, $3, n.rollout, $4, $5
         from json_to_recordset($6::json) as n (id uuid, tag text, previous text, rollout jsonb)
       returning id, tag, number
     )
     select id, tag, number, pg_notify('${DEPLOYMENTS_CHANNEL}', 'deployment:' || id)
       from inserted`,
    [
      repositoryId,
      digest,
      kind,
      actor.name,
      actor.origin,
      JSON.stringify(deployments.map((one) => ({ ...one, id: newTimeOrderedUuid() }))),
    ],
  )
  return rows.map(({ id, tag, number }) => ({ id, tag, number }))
}
