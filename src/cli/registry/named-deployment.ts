import { type Deployment, findDeployment, findNewestDeployment } from '../../client/deployments.ts'
import type { RegistryApi } from '../../client/registry-api.ts'
import { isUuidInAnyCase } from '../../oci/uuid.ts'
import { parsed, value } from '../command.ts'
import { CommandError, UsageError } from '../errors.ts'
import { visible } from '../printing.ts'
import { parseDigestOption, requiredTag } from './api-client.ts'
import type { NamedImage } from './login-options.ts'

/** The option for the image of a deployment. */
export const DIGEST_OPTION = {
  digest: value('DIGEST', 'only deployments of this image'),
}

/** The option for one of the deployments of a tag. */
export const DEPLOYMENT_OPTION = {
  deployment: parsed('ID', 'this deployment instead of the newest', parseId),
}

type Named = {
  readonly deployment?: string | undefined
  readonly digest?: string | undefined
}

function parseId(flag: string, text: string): string {
  if (isUuidInAnyCase(text)) return text
  throw new UsageError(`${flag} must be a UUID, as rookery deploy list --json prints it`)
}

/** Finds the deployment of a command line: by its id, or the newest of the tag. Undefined when nobody followed the tag. */
export async function findNamed(
  api: RegistryApi,
  image: NamedImage,
  { deployment: id, digest }: Named,
): Promise<Deployment | undefined> {
  const { repository, ...reference } = image.reference
  const tag = requiredTag(image)
  const wanted = parseDigestOption(digest) ?? reference.digest ?? reference.digestPrefix
  if (id === undefined) return findNewestDeployment(api, { repository, tag, digest: wanted })
  const found = await findDeployment(api, id)
  if (found.repository === repository && found.tag === tag) return found
  throw new CommandError(
    `the deployment ${id} is of ${visible(`${found.repository}:${found.tag}`)}, and not of ${repository}:${tag}`,
  )
}

/** The same. Throws CommandError when there is none. */
export async function requireNamed(
  api: RegistryApi,
  image: NamedImage,
  named: Named,
): Promise<Deployment> {
  const found = await findNamed(api, image, named)
  if (found !== undefined) return found
  const { repository } = image.reference
  throw new CommandError(
    `${repository}:${requiredTag(image)} has no deployment: no host followed it when it moved`,
  )
}
