import { describeHost } from '../host/build-environment.ts'
import type { ImageLayer, UnikernelImage } from '../image.ts'

/** Describes the contents of an image: the fields of Image in spec/openapi.yaml that depend on nothing else. */
export function describeImage(image: UnikernelImage) {
  const { kernel, config, opamSwitch, systemPackages, buildEnvironment, buildHashes } = image
  const { abi, architecture, manifest, bits, endianness } = kernel.solo5
  const { about, ...opam } = opamSwitch ?? {}
  return {
    kernel: { digest: kernel.digest, title: kernel.title ?? null, size: kernel.size },
    target: abi.target,
    abiVersion: abi.version,
    architecture: architecture ?? null,
    bits,
    endianness,
    devices: manifest.devices.map(({ kind, name }) => ({ kind, name })),
    inputId: image.inputId ?? null,
    synopsis: about?.synopsis ?? null,
    description: about?.description ?? null,
    config: config ?? null,
    layers: image.layers.map(layerOf),
    opam: opamSwitch === undefined ? null : opam,
    systemPackages: systemPackages ?? null,
    buildEnvironment:
      buildEnvironment === undefined
        ? null
        : { ...buildEnvironment, host: describeHost(buildEnvironment) },
    buildHashes: buildHashes ?? null,
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
