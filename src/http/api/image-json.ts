import type { ImageDetails, ImageRow } from '../../registry/images/images.ts'
import type { PackageHit } from '../../registry/images/package-search.ts'
import { describeHost } from '../../unikernel/host/build-environment.ts'
import type { ImageLayer } from '../../unikernel/image.ts'

/** Formats an image in a list: spec/openapi.yaml, ImageSummary. */
export function imageSummary(row: ImageRow) {
  return {
    repository: row.repository,
    digest: row.digest,
    tags: row.tags,
    kernel: { digest: row.kernelDigest, title: row.kernelTitle },
    target: row.target,
    abiVersion: row.abiVersion,
    architecture: row.architecture,
    devices: row.devices.map(deviceOf),
    inputId: row.inputId,
    builder: row.pushedBy,
    pushedAt: row.pushedAt,
  }
}

/** Formats the details of an image: spec/openapi.yaml, Image. */
export function imageDetails(repository: string, details: ImageDetails) {
  const { digest, mediaType, tags, pushedAt, pushedBy, image } = details
  const { kernel, config, opamSwitch, systemPackages, buildEnvironment, buildHashes } = image
  const { abi, architecture, manifest, bits, endianness } = kernel.solo5
  return {
    repository,
    digest,
    mediaType,
    tags,
    kernel: { digest: kernel.digest, title: kernel.title ?? null, size: kernel.size },
    target: abi.target,
    abiVersion: abi.version,
    architecture: architecture ?? null,
    bits,
    endianness,
    devices: manifest.devices.map(({ kind, name }) => ({ kind, name })),
    inputId: image.inputId ?? null,
    builder: pushedBy,
    pushedAt,
    config: config ?? null,
    layers: image.layers.map(layerOf),
    opam: opamSwitch ?? null,
    systemPackages: systemPackages ?? null,
    buildEnvironment:
      buildEnvironment === undefined
        ? null
        : { ...buildEnvironment, host: describeHost(buildEnvironment) },
    buildHashes: buildHashes ?? null,
  }
}

/** Formats an image with a package: spec/openapi.yaml, PackageHit. */
export function packageHit(hit: PackageHit) {
  const { repository, digest, tags, version, kernelDigest, target, pushedAt } = hit
  return {
    repository,
    digest,
    tags,
    // The version of vendored sources without a release is unknown.
    version: version === '' ? null : version,
    kernel: { digest: kernelDigest },
    target,
    pushedAt,
  }
}

function layerOf({ role, title, mediaType, digest, size, problem }: ImageLayer) {
  return {
    role: role ?? null,
    title: title ?? null,
    mediaType,
    digest,
    size,
    problem: problem ?? null,
  }
}

/** `net:service` */
function deviceOf(device: string): { kind: string; name: string } {
  const colon = device.indexOf(':')
  return { kind: device.slice(0, colon), name: device.slice(colon + 1) }
}
