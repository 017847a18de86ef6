import { expect } from 'vitest'
import { newTimeOrderedUuid } from '../../src/oci/uuid.ts'
import { fixture } from '../images/image-fixtures.ts'
import { digestOf } from '../support/digest.ts'
import type { TestHost } from '../support/hosts.ts'
import type { TestRegistry } from '../support/registry.ts'
import { ROLLOUT } from './deployment-rows.ts'
import { rowsOf } from './rows.ts'

/** The digests of the kernels of the builds `hello-key-1` and `hello-key-4-same-input-different-output`. */
export const KERNEL = digestOf(fixture('builds/hello-key-1/bin/hello-key.hvt'))
export const OTHER_KERNEL = digestOf(
  fixture('builds/hello-key-4-same-input-different-output/bin/hello-key.hvt'),
)
/** The build whose kernel is OTHER_KERNEL. */
export const OTHER = 'hello-key-4-same-input-different-output'

const JSON_TYPE = { 'content-type': 'application/json' }

export type DesiredLine = {
  name: string
  repository: string
  tag: string
  digest: string | null
  kernel: { digest: string; size: number; url: string } | null
  deployment: string | null
  watchSeconds: number | null
  hold?: string
  reason?: string
  message?: string
  seen: { kernel: string | null; state: string; sequence: number }
}

let sequences = 0

/** Sends a report of unit `www`, and returns the answer. */
export function sendReport(
  host: TestHost,
  fields: Record<string, unknown>,
  unit = 'www',
): Promise<Response> {
  sequences += 1
  const body = { bootId: 'boot-1', sequence: sequences, state: 'absent', ...fields }
  return host.request(`/api/v1/hosts/${host.name}/units/${unit}`, {
    method: 'PUT',
    headers: JSON_TYPE,
    body: JSON.stringify(body),
  })
}

/** Sends a report of unit `www` that the registry accepts. */
export async function report(
  host: TestHost,
  fields: Record<string, unknown>,
  unit = 'www',
): Promise<{ stale: boolean; desired: DesiredLine }> {
  const answer = await sendReport(host, fields, unit)
  const text = await answer.text()
  expect({ status: answer.status, text }).toMatchObject({ status: 200 })
  return JSON.parse(text)
}

/** Asks what the host should run. */
export function ask(
  host: TestHost,
  query = '',
  headers: Record<string, string> = {},
): Promise<Response> {
  return host.request(`/api/v1/hosts/${host.name}/desired${query}`, { headers })
}

/** The units of what the host should run. */
export async function desiredUnits(host: TestHost): Promise<DesiredLine[]> {
  const answer = await ask(host)
  expect(answer.status).toBe(200)
  return ((await answer.json()) as { units: DesiredLine[] }).units
}

/** Makes a deployment of a digest in the database, in this state. Returns its id. */
export async function insertDeployment(
  registry: TestRegistry,
  repository: string,
  digest: string,
  state = 'rolling',
  rollout: Record<string, unknown> = {},
): Promise<string> {
  const id = newTimeOrderedUuid()
  const isOpen = state === 'rolling' || state === 'paused'
  if (isOpen) {
    // The controller ends the deployment of a digest that its tag does not have.
    await rowsOf(
      registry,
      `update tags set digest = $2
        where name = 'live' and repository_id = (select id from repositories where name = $1)`,
      [repository, digest],
    )
  }
  await rowsOf(
    registry,
    `insert into deployments (id, repository_id, tag, number, digest, kind, state, rollout, actor,
                              targets_made, wake_at, finished_at)
     select $1, r.id, 'live',
            (select count(*) + 1000 from deployments d where d.repository_id = r.id), $3, 'push', $4,
            $5, 'admin', true, 'infinity', case when $6 then null else now() end
       from repositories r
      where r.name = $2`,
    [id, repository, digest, state, { ...ROLLOUT, ...rollout }, isOpen],
  )
  return id
}

/** Grants the digest of a deployment to unit `www` of a host, as the controller does. */
export async function grant(
  registry: TestRegistry,
  host: TestHost,
  deployment: string,
  kernel: string,
  channel = 'rookery_deployments',
): Promise<void> {
  await rowsOf(
    registry,
    `with target as (
       insert into targets (deployment_id, host_id, unit, place, state, kernel, granted_at)
       values ($1, $2, 'www', 1, 'granted', $3, now())
           on conflict (deployment_id, host_id, unit) do update set state = 'granted'
     ), unit as (
       update units
          set granted_digest = d.digest,
              granted_by = d.id,
              granted_at = now(),
              failed_digest = null
         from deployments d
        where d.id = $1
          and units.host_id = $2
          and units.name = 'www'
     )
     select pg_notify($4, 'granted:' || $1)`,
    [deployment, host.id, kernel, channel],
  )
}

/** The state of the target of unit `www` of a host in a deployment. */
export async function targetOf(
  registry: TestRegistry,
  deployment: string,
): Promise<Record<string, unknown> | undefined> {
  const [row] = await rowsOf<Record<string, unknown>>(
    registry,
    `select state, kernel, exit_code as "exitCode", reason, message, healthy_at as "healthyAt",
            ended_at as "endedAt"
       from targets
      where deployment_id = $1
        and unit = 'www'`,
    [deployment],
  )
  return row
}
