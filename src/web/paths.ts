import type { Digest } from '../oci/digest.ts'
import type { Repository, Tag } from '../oci/reference.ts'

/** Returns the path of the page of a repository. Components of a name begin with a letter or a digit, so that `-` is none. */
export function repositoryPath(repository: Repository): string {
  return `/r/${repository}`
}

export function tagsPath(repository: Repository): string {
  return `${repositoryPath(repository)}/-/tags`
}

export function tagPath(repository: Repository, tag: Tag): string {
  return `${tagsPath(repository)}/${tag}`
}

export function imagesPath(repository: Repository): string {
  return `${repositoryPath(repository)}/-/images`
}

export function imagePath(repository: Repository, digest: Digest): string {
  return `${imagesPath(repository)}/${digest}`
}

export function comparisonPath(repository: Repository, from: string, to: string): string {
  return `${repositoryPath(repository)}/-/compare/${from}...${to}`
}

export function buildsPath(repository: Repository): string {
  return `${repositoryPath(repository)}/-/builds`
}

export function buildPath(repository: Repository, id: string): string {
  return `${buildsPath(repository)}/${id}`
}

/** `ecosystem`: `opam`, or that of the host's packages, such as `debian`. */
export function packagePath(ecosystem: string, name: string): string {
  return `/packages/${encodeURIComponent(ecosystem)}/${encodeURIComponent(name)}`
}

export function kernelPath(digest: Digest): string {
  return `/kernels/${digest}`
}

export function inputsPath(inputId: string): string {
  return `/inputs/${encodeURIComponent(inputId)}`
}

export function hostPath(name: string): string {
  return `/hosts/${encodeURIComponent(name)}`
}

export function deploymentPath(id: string): string {
  return `/deployments/${id}`
}

/** Returns the path of what the API answers about a repository. */
export function apiPath(repository: Repository, rest: string): string {
  return `/api/v1/repositories/${repository}/${rest}`
}
