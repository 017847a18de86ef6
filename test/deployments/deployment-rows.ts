import { randomUUID } from 'node:crypto'
import type { TestRegistry } from '../support/registry.ts'
import { rowsOf } from './rows.ts'

export const DIGEST = `sha256:${'d'.repeat(64)}`

/**
 * Adds an open deployment of a repository that exists, which the controller leaves alone: nothing is due for an hour, and the
 * notifications below name no deployment. Returns its id.
 */
export async function addDeployment(
  registry: TestRegistry,
  repository: string,
  { tag = 'live', digest = DIGEST }: { tag?: string; digest?: string } = {},
): Promise<string> {
  const [row] = await rowsOf<{ id: string }>(
    registry,
    `insert into deployments
            (id, repository_id, tag, number, digest, kind, rollout, actor, targets_made, wake_at, created_at)
     select $1, r.id, $3,
            coalesce((select max(number) from deployments d where d.repository_id = r.id and d.tag = $3), 0) + 1,
            $4, 'push', $5, 'admin', true, 'infinity', now()
       from repositories r
      where r.name = $2
     returning id`,
    [timeOrdered(), repository, tag, digest, JSON.stringify(ROLLOUT)],
  )
  if (row === undefined) throw new Error(`there is no repository ${repository}`)
  return row.id
}

export const ROLLOUT = {
  ...{ name: null, canary: 0, batch: null, order: 'name', settleSeconds: 30, deadlineSeconds: 300 },
  ...{ pauseAfter: null, maxFailures: 0, onFailure: 'halt', require: {} },
}

let made = 0

/** Later ids are greater. */
function timeOrdered(): string {
  made += 1
  return made.toString(16).padStart(8, '0') + randomUUID().slice(8)
}

/** Adds a target of a deployment, on a host of its own. */
export async function addTarget(
  registry: TestRegistry,
  id: string,
  host: string,
  state = 'waiting',
): Promise<void> {
  await rowsOf(
    registry,
    `with host as (
       insert into hosts (name, state, trust, repositories, created_by)
       values ($2, 'active', 'key', '{**}', 'admin')
       returning id
     )
     insert into targets (deployment_id, host_id, unit, place, state)
     select $1, id, 'www', (select count(*) from targets where deployment_id = $1), $3
       from host`,
    [id, host, state],
  )
}

/** Changes a target as the report of its host does. */
export async function changeTarget(
  registry: TestRegistry,
  id: string,
  host: string,
  state: string,
  { exitCode = null, log }: { exitCode?: number | null; log?: string } = {},
): Promise<void> {
  await rowsOf(
    registry,
    `with changed as (
       update targets
          set state = $3,
              exit_code = $4,
              changed_at = clock_timestamp()
        where deployment_id = $1
          and host_id = (select id from hosts where name = $2)
       returning host_id, unit
     ), printed as (
       insert into unit_logs (host_id, unit, deployment_id, text)
       select host_id, unit, $1, $5
         from changed
        where $5::text is not null
     )
     select pg_notify('rookery_deployments', 'anything')`,
    [id, host, state, exitCode, log ?? null],
  )
}

/** Ends a deployment as the controller does. */
export async function endDeployment(
  registry: TestRegistry,
  id: string,
  state: string,
): Promise<void> {
  await rowsOf(
    registry,
    `with ended as (
       update deployments
          set state = $2,
              finished_at = now(),
              wake_at = null
        where id = $1
     )
     select pg_notify('rookery_deployments', 'anything')`,
    [id, state],
  )
}
