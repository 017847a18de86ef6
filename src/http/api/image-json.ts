import { Buffer } from 'node:buffer'
import { type Caller, maySeeActors } from '../../auth/access.ts'
import { visibleJson } from '../../oci/hidden-characters.ts'
import type { Repository } from '../../oci/reference.ts'
import type { ImageDetails, ImageRow } from '../../registry/images/images.ts'
import type { PackageHit } from '../../registry/images/package-search.ts'
import type { SourceHit } from '../../registry/images/source-search.ts'

/** Formats an image in a list for a caller: spec/openapi.yaml, ImageSummary. */
export function imageSummary(row: ImageRow, caller: Caller) {
  return {
    repository: row.repository,
    digest: row.digest,
    container: row.container,
    tags: row.tags,
    kernel: { digest: row.kernelDigest, title: row.kernelTitle },
    target: row.target,
    abiVersion: row.abiVersion,
    architecture: row.architecture,
    devices: row.devices?.map(deviceOf) ?? null,
    inputId: row.inputId,
    synopsis: row.synopsis,
    builder: maySeeActors(caller, row.repository) ? row.pushedBy : null,
    pushedAt: row.pushedAt,
  }
}

/** Formats the details of an image for a caller, whose contents are JSON already: spec/openapi.yaml, Image. */
export function imageDetails(
  caller: Caller,
  repository: Repository,
  details: ImageDetails,
  contents: Uint8Array,
): Buffer {
  const { digest, container, containerProblem, mediaType, tags, pushedAt, pushedBy } = details
  const builder = maySeeActors(caller, repository) ? pushedBy : null
  const about = { repository, digest, container, containerProblem, mediaType, tags }
  return withFields({ ...about, builder, pushedAt }, contents)
}

/** Puts fields before those of an object that is JSON already, and may be large. */
export function withFields(fields: object, json: Uint8Array): Buffer {
  const before = visibleJson(fields).slice(0, -1)
  return Buffer.concat([Buffer.from(`${before},`), json.subarray(1)])
}

/** Formats an image with a package: spec/openapi.yaml, PackageHit. */
export function packageHit(hit: PackageHit) {
  const { repository, digest, tags, version, basis, kernelDigest, target, pushedAt } = hit
  return {
    repository,
    digest,
    tags,
    // The version of vendored sources without a release is unknown.
    version: version === '' ? null : version,
    basis,
    kernel: { digest: kernelDigest },
    target,
    pushedAt,
  }
}

/** Formats an image with a source: spec/openapi.yaml, SourceHit. */
export function sourceHit(hit: SourceHit) {
  const { repository, digest, tags, url, directory, checksums, packages, target, pushedAt } = hit
  return {
    repository,
    digest,
    tags,
    // opam installed packages from sources without a folder in the image.
    source: { url, directory: directory === '' ? null : directory, checksums, packages },
    kernel: { digest: hit.kernelDigest },
    target,
    pushedAt,
  }
}

/** `net:service` */
function deviceOf(device: string): { kind: string; name: string } {
  const colon = device.indexOf(':')
  return { kind: device.slice(0, colon), name: device.slice(colon + 1) }
}
