import type { Digest } from '../oci/digest.ts'
import type { Repository, Tag } from '../oci/reference.ts'

/** Returns the path of the page of a repository. Components of a name begin with a letter or a digit, so that `-` is none. */
export function repositoryPath(repository: Repository): string {
  return `/r/${repository}`
}

/** Returns the path of the list of tags. */
export function tagsPath(repository: Repository): string {
  return `${repositoryPath(repository)}/-/tags`
}

/** Returns the path of the page of a tag. */
export function tagPath(repository: Repository, tag: Tag): string {
  return `${tagsPath(repository)}/${tag}`
}

/** Returns the path of the list of images. */
export function imagesPath(repository: Repository): string {
  return `${repositoryPath(repository)}/-/images`
}

/** Returns the path of the page of an image. */
export function imagePath(repository: Repository, digest: Digest): string {
  return `${imagesPath(repository)}/${digest}`
}

/** Returns the path of the dependencies of an image. */
export function graphPath(repository: Repository, digest: Digest): string {
  return `${imagePath(repository, digest)}/graph`
}

/** Returns the path of the sizes of an image's parts. */
export function sizePath(repository: Repository, digest: Digest): string {
  return `${imagePath(repository, digest)}/size`
}

/** Returns the path of the comparison of two images, each a digest or a tag. */
export function comparisonPath(repository: Repository, from: string, to: string): string {
  return `${repositoryPath(repository)}/-/compare/${from}...${to}`
}

/** Returns the path of the list of builds. */
export function buildsPath(repository: Repository): string {
  return `${repositoryPath(repository)}/-/builds`
}

/** Returns the path of the page of a build. */
export function buildPath(repository: Repository, id: string): string {
  return `${buildsPath(repository)}/${id}`
}

/** `ecosystem`: `opam`, or that of the host's packages, such as `deb`. */
export function packagePath(ecosystem: string, name: string): string {
  return `/packages/${encodeURIComponent(ecosystem)}/${encodeURIComponent(name)}`
}

/** Returns the path of the page of a package whose versions satisfy a constraint; undefined and empty: all versions. */
export function packageVersionsPath(
  ecosystem: string,
  name: string,
  version: string | undefined,
): string {
  const query = version ? `?${new URLSearchParams({ version })}` : ''
  return `${packagePath(ecosystem, name)}${query}`
}

/** Returns the path of the images with a kernel. */
export function kernelPath(digest: Digest): string {
  return `/kernels/${digest}`
}

/** Returns the path of the builds of the same inputs. */
export function inputsPath(inputId: string): string {
  return `/inputs/${encodeURIComponent(inputId)}`
}

/** Returns the path of the page of a host. */
export function hostPath(name: string): string {
  return `/hosts/${encodeURIComponent(name)}`
}

/** Returns the path of the page of a deployment. */
export function deploymentPath(id: string): string {
  return `/deployments/${id}`
}

/** Returns the path of the page of a webhook. */
export function webhookPath(name: string): string {
  return `/webhooks/${encodeURIComponent(name)}`
}

/** Returns the path of the delivery of an event to a webhook. */
export function deliveryPath(webhook: string, event: string): string {
  return `${webhookPath(webhook)}/deliveries/${encodeURIComponent(event)}`
}

/** Returns the path of a credential, below which are the forms that change it. */
export function credentialPath(name: string): string {
  return `/credentials/${encodeURIComponent(name)}`
}

/** Returns the path of what the API answers about a repository. */
export function apiPath(repository: Repository, rest: string): string {
  return `/api/v1/repositories/${repository}/${rest}`
}
