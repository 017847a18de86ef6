import { describeHost } from '../host/build-environment.ts'
import { abiVersionOf, aboutOf, devicesOf, type ImageLayer, type UnikernelImage } from '../image.ts'
import { type ImagePackage, listKnownPackages } from '../image-packages.ts'

/** Describes the contents of an image: the fields of Image in spec/openapi.yaml that depend on nothing else. */
export function describeImage(
  image: UnikernelImage,
  packages: readonly ImagePackage[] = listKnownPackages(image),
) {
  const { kernel, config, opamSwitch, systemPackages, buildEnvironment, buildHashes } = image
  const { target, architecture, solo5 } = kernel
  const about = aboutOf(image)
  const { about: _, ...opam } = opamSwitch ?? {}
  return {
    kernel: { digest: kernel.digest, title: kernel.title ?? null, size: kernel.size },
    target,
    abiVersion: abiVersionOf(kernel) ?? null,
    architecture: architecture ?? null,
    bits: solo5?.bits ?? null,
    endianness: solo5?.endianness ?? null,
    devices: devicesOf(kernel)?.map(({ kind, name }) => ({ kind, name })) ?? null,
    inputId: image.inputId ?? null,
    synopsis: about?.synopsis ?? null,
    description: about?.description ?? null,
    config: config ?? null,
    layers: image.layers.map(layerOf),
    packages: packages.filter(({ ecosystem }) => ecosystem === 'opam').map(packageOf),
    opam: opamSwitch === undefined ? null : opam,
    systemPackages: systemPackages ?? null,
    buildEnvironment:
      buildEnvironment === undefined
        ? null
        : { ...buildEnvironment, host: describeHost(buildEnvironment) },
    buildHashes: buildHashes ?? null,
  }
}

function packageOf({ name, version, basis, source }: ImagePackage) {
  return { name, version, basis, source }
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
