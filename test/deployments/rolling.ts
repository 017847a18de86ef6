import { randomBytes } from 'node:crypto'
import { expect } from 'vitest'
import { kernel, net, pushLayers, UNIKERNEL } from '../images/image-fixtures.ts'
import { digestOf } from '../support/digest.ts'
import { newRepository } from '../support/push.ts'
import type { TestRegistry } from '../support/registry.ts'
import { followTag, rowsOf } from './rows.ts'

type Registry = Pick<TestRegistry, 'databaseUrl'>

export type StoredDeployment = {
  id: string
  number: number
  digest: string
  kind: string
  state: string
  reason: string | null
  wakeAt: Date | null
}

/** Pushes an image with a kernel of its own. */
export async function pushKernel(
  registry: TestRegistry,
  repository: string,
  tag = 'live',
): Promise<{ digest: string; kernel: string }> {
  const bytes = Buffer.concat([net, randomBytes(8)])
  const answer = await pushLayers(registry, repository, tag, [kernel(bytes)], UNIKERNEL)
  expect({ status: answer.status, text: await answer.clone().text() }).toMatchObject({
    status: 201,
  })
  return { digest: answer.headers.get('docker-content-digest') ?? '', kernel: digestOf(bytes) }
}

/** Makes a rollout for one repository. */
export async function putRollout(
  registry: Registry,
  repository: string,
  policy: Record<string, unknown>,
): Promise<void> {
  const whole = {
    ...{ canary: 1, batch: 2, order: 'name', settleSeconds: 0, deadlineSeconds: 60 },
    ...{ pauseAfter: null, maxFailures: 0, onFailure: 'halt', require: {}, ...policy },
  }
  await rowsOf(
    registry,
    `insert into rollouts (name, repositories, tags, policy, created_by)
     values ($1, array[$1], '{**}', $2, 'admin')`,
    [repository, whole],
  )
}

/** Lists the deployments of a repository, the first one first. */
export function deploymentsOf(registry: Registry, repository: string): Promise<StoredDeployment[]> {
  return rowsOf(
    registry,
    `select d.id, d.number, d.digest, d.kind, d.state, d.reason, d.wake_at as "wakeAt"
       from deployments d
       join repositories r on r.id = d.repository_id
      where coalesce(r.deleted_name, r.name) = $1
      order by d.number`,
    [repository],
  )
}

/** The newest deployment of a repository with the states of its targets, in the order of the rollout. */
export async function newest(
  registry: Registry,
  repository: string,
): Promise<StoredDeployment & { targets: string[] }> {
  const found = (await deploymentsOf(registry, repository)).at(-1)
  if (found === undefined) throw new Error(`${repository} has no deployment`)
  return { ...found, targets: await targetsOf(registry, found.id) }
}

/** The targets of a deployment, as `host state`, in the order of the rollout. */
export async function targetsOf(registry: Registry, deployment: string): Promise<string[]> {
  const rows = await rowsOf<{ line: string }>(
    registry,
    `select split_part(h.name, '.', 1) || ' ' || t.state as line
       from targets t
       join hosts h on h.id = t.host_id
      where t.deployment_id = $1
      order by t.place`,
    [deployment],
  )
  return rows.map(({ line }) => line)
}

/** The digest that the unit of a host should run. */
export async function desiredOf(registry: Registry, host: string): Promise<string | null> {
  const [row] = await rowsOf<{ digest: string | null }>(
    registry,
    `select u.granted_digest as digest
       from units u
       join hosts h on h.id = u.host_id
      where h.name = $1`,
    [host],
  )
  return row?.digest ?? null
}

/** Changes unit and target of a host as a report of it does. */
export async function hostReports(registry: Registry, host: string, state: string): Promise<void> {
  await rowsOf(
    registry,
    `with target as (
       update targets t
          set state = $2,
              changed_at = clock_timestamp(),
              healthy_at = case when $2 = 'healthy' then clock_timestamp() else t.healthy_at end,
              ended_at = case when $2 in ('failed', 'rolled-back') then clock_timestamp() end
         from units u
         join hosts h on h.id = u.host_id
        where h.name = $1
          and t.deployment_id = u.granted_by
          and t.host_id = u.host_id
          and t.unit = u.name
          and t.settled_at is null
          and t.state in ('granted', 'fetching', 'starting', 'checking', 'healthy', 'overdue', 'offline')
       returning t.deployment_id, t.host_id, t.unit, t.kernel
     ), unit as (
       update units u
          set state = $2,
              kernel = case when $2 = 'healthy' then t.kernel else u.kernel end,
              good_digest = case when $2 = 'healthy' then u.granted_digest else u.good_digest end,
              failed_digest = case when $2 in ('failed', 'rolled-back') then u.granted_digest else u.failed_digest end,
              granted_by = case when $2 in ('failed', 'rolled-back') then null else u.granted_by end,
              granted_digest = case when $2 in ('failed', 'rolled-back') then u.good_digest else u.granted_digest end
         from target t
        where u.host_id = t.host_id
          and u.name = t.unit
     )
     select pg_notify('rookery_deployments', 'deployment:' || deployment_id)
       from target`,
    [host, state],
  )
}

/** Marks a host as lost, or as returned. */
export async function setLost(registry: Registry, host: string, isLost: boolean): Promise<void> {
  await rowsOf(
    registry,
    `update hosts
        set lost_at = case when $2 then now() end
      where name = $1`,
    [host, isLost],
  )
  await rowsOf(
    registry,
    `select pg_notify('rookery_deployments', 'deployment:' || t.deployment_id)
       from targets t
       join hosts h on h.id = t.host_id
      where h.name = $1`,
    [host],
  )
}

export const SOON = { timeout: 10_000, interval: 30 }

/** A repository whose tag `live` some hosts follow: a, b, c, … */
export async function followed(
  registry: TestRegistry,
  count: number,
  labels: (at: number) => Record<string, string> = () => ({}),
) {
  const repository = newRepository()
  const hosts = Array.from(
    { length: count },
    (_, at) => `${String.fromCharCode(97 + at)}.${repository.replaceAll('/', '-')}`,
  )
  await followTag(
    registry,
    repository,
    'live',
    hosts.map((name, at) => ({ name, labels: labels(at) })),
  )
  const becomes = (state: string, ...targets: string[]) =>
    expect.poll(() => newest(registry, repository), SOON).toMatchObject({ state, targets })
  const say = (host: string, state: string) =>
    hostReports(registry, `${host}.${hosts[0]?.slice(2)}`, state)
  const runs = (host: string) => desiredOf(registry, `${host}.${hosts[0]?.slice(2)}`)
  const lost = (host: string, isLost: boolean) =>
    setLost(registry, `${host}.${hosts[0]?.slice(2)}`, isLost)
  return { repository, hosts, becomes, say, runs, lost }
}
