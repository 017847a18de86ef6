import { describeHost, type Host } from '../host/build-environment.ts'
import { abiVersionOf, aboutOf, devicesOf, type ImageLayer, type UnikernelImage } from '../image.ts'
import type { ImagePackage } from '../image-packages.ts'
import type { Device } from '../kernel/solo5-notes.ts'
import type { Basis } from '../package-lists.ts'
import { albatrossLine, runLine } from '../run-line.ts'
import { listMissingInputs } from '../validation.ts'
import { ecosystemOf } from '../versions/orders.ts'

/** Packages of each kind that an outline has. */
const OPAM_SHOWN_MAX = 50
const HOST_SHOWN_MAX = 12
const LAYERS_SHOWN_MAX = 20
/** Characters of a text that an outline has. */
const TEXT_SHOWN_MAX = 400

/** The first packages of a list. */
type PackageOutline<P> = { readonly count: number; readonly shown: readonly P[] }

/** The contents of an image as its page shows them: the first packages and files. */
export type ImageOutline = {
  readonly kernel: {
    readonly digest: ImageLayer['digest']
    readonly title: string | null
    /** In bytes. */
    readonly size: number
  }
  readonly target: string
  /** Null, as are the devices, for a kernel that is none of Solo5's. */
  readonly abiVersion: number | null
  readonly architecture: string | null
  readonly devices: readonly Device[] | null
  /** In MiB. Null when the image does not say it. */
  readonly memory: number | null
  /** Null without all inputs. */
  readonly inputId: string | null
  readonly missingInputs: readonly string[]
  readonly synopsis: string | null
  readonly layers: readonly {
    readonly role: string | null
    readonly title: string | null
    readonly digest: ImageLayer['digest']
    /** In bytes. */
    readonly size: number
    readonly problem: string | null
  }[]
  readonly layerCount: number
  /** Null: no layer says them. */
  readonly opam: PackageOutline<{
    readonly name: string
    readonly version: string | null
    readonly basis: Basis
  }> | null
  readonly host: Host | null
  readonly hostPackages:
    | (PackageOutline<{ readonly name: string; readonly version: string }> & {
        readonly ecosystem: string
      })
    | null
  /** Command lines that run it; null where no tender is known. */
  readonly run: { readonly solo5: string; readonly albatross: string } | null
}

/** Outlines an image. `name`: of its repository. `packages`: those that are known, of all ecosystems. */
export function outlineImage(
  image: UnikernelImage,
  packages: readonly ImagePackage[],
  name: string,
): ImageOutline {
  const { kernel, config, layers, systemPackages, buildEnvironment } = image
  const opam = packages.filter(({ ecosystem }) => ecosystem === 'opam')
  const [solo5, albatross] = [runLine(image), albatrossLine(image, name)]
  return {
    kernel: { digest: kernel.digest, title: shortened(kernel.title), size: kernel.size },
    target: kernel.target,
    abiVersion: abiVersionOf(kernel) ?? null,
    architecture: kernel.architecture ?? null,
    devices: devicesOf(kernel)?.map((device) => ({ kind: device.kind, name: device.name })) ?? null,
    memory: config?.memory ?? null,
    inputId: image.inputId ?? null,
    missingInputs: listMissingInputs(image).map((input) => shortened(input) ?? ''),
    synopsis: shortened(aboutOf(image)?.synopsis),
    layers: layers.slice(0, LAYERS_SHOWN_MAX).map((layer) => ({
      role: layer.role ?? null,
      title: shortened(layer.title),
      digest: layer.digest,
      size: layer.size,
      problem: shortened(layer.problem),
    })),
    layerCount: layers.length,
    opam:
      opam.length === 0
        ? null
        : {
            count: opam.length,
            shown: opam
              .slice(0, OPAM_SHOWN_MAX)
              .map(({ name: one, version, basis }) => ({ name: one, version, basis })),
          },
    host: buildEnvironment === undefined ? null : describeHost(buildEnvironment),
    hostPackages:
      systemPackages?.manager === undefined
        ? null
        : {
            ecosystem: ecosystemOf(systemPackages.manager),
            count: systemPackages.packages.length,
            shown: systemPackages.packages
              .slice(0, HOST_SHOWN_MAX)
              .map(({ name: one, version }) => ({ name: one, version })),
          },
    run: solo5 === undefined || albatross === undefined ? null : { solo5, albatross },
  }
}

function shortened(text: string | undefined): string | null {
  if (text === undefined) return null
  return text.length <= TEXT_SHOWN_MAX ? text : `${text.slice(0, TEXT_SHOWN_MAX)}…`
}
