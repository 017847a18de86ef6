import { deploymentPath, findNewestDeployment } from '../../client/deployments.ts'
import { RegistryResponseError } from '../../client/errors.ts'
import type { Login } from '../../client/login.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Tag } from '../../oci/reference.ts'
import { CommandError } from '../errors.ts'
import { endUnfollowed, waitOf } from './deploy-watch.ts'
import type { Goal } from './deployment-outcome.ts'
import { worstStatus } from './deployment-outcome.ts'
import { waitForDeployments } from './deployment-wait.ts'
import type { NamedImage } from './login-options.ts'

/** An image that was pushed. */
type Push = {
  readonly named: NamedImage & { readonly login: Login | undefined }
  readonly tags: readonly Tag[]
  readonly digest: Digest
  /** The paths of the deployments that the registry named. */
  readonly deployments: ReadonlyMap<Tag, string>
}

/** Waits for the deployments of a push. Returns the exit status. Throws as waitForDeployments. */
export async function waitForPush(
  { named, tags, digest, deployments }: Push,
  goal: Goal,
  values: Parameters<typeof waitOf>[0],
  environment: NodeJS.ProcessEnv,
): Promise<number> {
  const { RegistryApi } = await import('../../client/registry-api.ts')
  const { login, reference } = named
  const api = new RegistryApi(reference, { login, environment })
  // The image may have been there before, or the answer to the first attempt was lost: then nothing moved now.
  const pathOf = async (tag: Tag) => {
    const path = deployments.get(tag)
    if (path !== undefined) return path
    const { repository } = reference
    const found = await withRegistryNamed(reference.host, () =>
      findNewestDeployment(api, { repository, tag, digest }),
    )
    return found && deploymentPath(found.id)
  }
  try {
    const paths: string[] = []
    const statuses: number[] = []
    for (const tag of tags) {
      const path = await pathOf(tag)
      if (path !== undefined) paths.push(path)
      else statuses.push(endUnfollowed(named, values.json, values.requireHosts, tag))
    }
    const wait = { ...waitOf(values), goal }
    if (paths.length > 0) statuses.push(await waitForDeployments(api, paths, wait, environment))
    return worstStatus(statuses)
  } finally {
    await api.close()
  }
}

/** Throws CommandError for a registry that has no deployments. */
async function withRegistryNamed<T>(host: string, find: () => Promise<T>): Promise<T> {
  try {
    return await find()
  } catch (cause) {
    const isMissing = cause instanceof RegistryResponseError && [404, 405].includes(cause.status)
    if (!isMissing) throw cause
    throw new CommandError(
      `the image is pushed, but there is nothing to wait for: ${host} has no deployments, as other registries and older Rookeries`,
      { cause },
    )
  }
}
