import { pushBuild } from '../images/image-fixtures.ts'
import { enrolHost, type TestHost } from '../support/hosts.ts'
import { newRepository } from '../support/push.ts'
import type { TestRegistry } from '../support/registry.ts'
import { grant, insertDeployment, KERNEL, OTHER, OTHER_KERNEL, report } from './reporting.ts'
import { rowsOf } from './rows.ts'

/** A host whose unit `www` is healthy with the kernel KERNEL of its tag `live`. */
export type RunningUnit = {
  readonly repository: string
  readonly host: TestHost
  readonly follows: { readonly repository: string; readonly tag: string }
  /** The digest of the image of KERNEL. */
  readonly good: string
  /** The digest of the image of OTHER_KERNEL, which has the tag `next`. */
  readonly next: string
  /** Grants the other image, and returns the deployment. */
  granted(rollout?: Record<string, unknown>): Promise<string>
  /** The row of the unit. */
  row(): Promise<Record<string, unknown>>
}

/** Enrols a host whose unit runs the first of two images. */
export async function runningUnit(registry: TestRegistry): Promise<RunningUnit> {
  const repository = newRepository()
  const next = await pushBuild(registry, repository, 'next', OTHER)
  const good = await pushBuild(registry, repository, 'live')
  const host = await enrolHost(registry)
  const follows = { repository, tag: 'live' }
  await report(host, { follows })
  await report(host, { follows, state: 'healthy', kernel: KERNEL })
  return {
    ...{ repository, host, follows, good, next },
    async granted(rollout = {}) {
      const deployment = await insertDeployment(registry, repository, next, 'rolling', rollout)
      await grant(registry, host, deployment, OTHER_KERNEL)
      return deployment
    },
    async row() {
      const text = "select * from units where host_id = $1 and name = 'www'"
      const [row] = await rowsOf<Record<string, unknown>>(registry, text, [host.id])
      return row ?? {}
    },
  }
}
