import type { Queryable } from '../database.ts'

/** The channel on which every process is notified that hosts may have to do something else, or have said so. */
export const DEPLOYMENTS_CHANNEL = 'rookery_deployments'

/**
 * A change. `deployment`: of a deployment or its targets, after which a step may be due. `planned`: by a step, after which none
 * is. `granted`: by a step that changed what hosts should run. `host`: of the units of one host, or of its access.
 */
export type DeploymentNotice =
  | { readonly kind: 'deployment' | 'planned' | 'granted'; readonly id: string }
  | { readonly kind: 'host'; readonly id: number }

/** Notifies every process, when the transaction commits, of a change of the deployment or its targets. */
export async function notifyDeployment(tx: Queryable, id: string): Promise<void> {
  await tx.query(`select pg_notify('${DEPLOYMENTS_CHANNEL}', $1)`, [`deployment:${id}`])
}

/** Notifies every process, when the transaction commits, of a step of the deployment: those who wait, and not those who plan. */
export async function notifyStep(
  tx: Queryable,
  id: string,
  kind: 'planned' | 'granted',
): Promise<void> {
  await tx.query(`select pg_notify('${DEPLOYMENTS_CHANNEL}', $1)`, [`${kind}:${id}`])
}

/** Notifies every process, when the transaction commits, of a change in what the host should run, or in its access. */
export async function notifyHost(tx: Queryable, id: number): Promise<void> {
  await tx.query(`select pg_notify('${DEPLOYMENTS_CHANNEL}', $1)`, [`host:${id}`])
}

/** Parses the payload of a notification. Undefined: it is of another release. */
export function parseNotice(payload: string | undefined): DeploymentNotice | undefined {
  const [kind, id = ''] = payload?.split(':') ?? []
  if (kind === 'deployment' || kind === 'planned' || kind === 'granted') return { kind, id }
  return kind === 'host' ? { kind, id: Number(id) } : undefined
}
