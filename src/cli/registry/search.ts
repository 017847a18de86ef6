import { parseDigest } from '../../oci/digest.ts'
import { argument, command, JSON_OPTION, optionalArgument, value } from '../command.ts'
import { CommandError, reasonOf, STATUS } from '../errors.ts'
import { LIMIT_OPTION, MORE_LINE } from '../numbers.ts'
import { printJson, printLines, visible } from '../printing.ts'
import { queryOf, withHostApi } from './api-client.ts'
import type { ListedImage, PackageHit } from './api-types.ts'
import { hashFile } from './hash-file.ts'
import { HIT_OPTIONS, hitQuery, TAG_OPTIONS } from './hit-options.ts'
import { IMAGE_FILTERS, imageQuery } from './image-filters.ts'
import { printImages, printPackageHits } from './image-table.ts'
import { LOGIN_OPTIONS } from './login-options.ts'
import { PLATFORM_OPTIONS } from './platform-options.ts'

const HOST = argument('HOST', 'registry, such as registry.example.org')
const TRUNCATED =
  'The package has more versions than the registry compares, so images may be missing.'
// Such a text is never a file.
const DIGEST = /^sha(?:256|512):/

/** `rookery search kernel`: the images that contain a kernel. */
export const kernelCommand = command({
  arguments: { host: HOST, kernel: argument('FILE|DIGEST', 'kernel, or its digest') },
  options: { ...HIT_OPTIONS, ...LIMIT_OPTION, ...JSON_OPTION, ...LOGIN_OPTIONS },
  notes: 'The exit status is 1 when no image contains it.',
  examples: [
    [
      'rookery search kernel registry.example.org /var/lib/www.hvt',
      'find the images of a kernel that runs here',
    ],
  ],
  run(values, environment) {
    const { host, kernel, limit, json } = values
    return withHostApi(host, values, environment, async (api) => {
      const digest = DIGEST.test(kernel) ? parseDigest(kernel) : await digestOfFile(kernel)
      const path = `/api/v1/kernels/${digest}${queryOf(hitQuery(values))}`
      const { items: images, more } = await api.listUpTo(path, 'images', 'the kernel', limit)
      if (json) printJson({ kernel: digest, images, more })
      else printImages(images as ListedImage[])
      if (!json && more) printLines([MORE_LINE])
      return images.length > 0 ? STATUS.ok : STATUS.found
    })
  },
})

/** `rookery search images`: the unikernels of all repositories. */
export const imagesCommand = command({
  arguments: { host: HOST },
  options: {
    ...PLATFORM_OPTIONS,
    ...IMAGE_FILTERS,
    repository: value('PATTERN', 'repositories, such as builds/**'),
    ...LIMIT_OPTION,
    ...JSON_OPTION,
    ...LOGIN_OPTIONS,
  },
  examples: [
    [
      'rookery search images registry.example.org --target hvt --abi 1 --abi 2 --tagged',
      'find the unikernels that a host can run',
    ],
  ],
  run(values, environment) {
    const { host, repository, limit, json } = values
    return withHostApi(host, values, environment, async (api) => {
      const path = `/api/v1/images${imageQuery(values, { repository })}`
      const { items, more } = await api.listUpTo(path, 'images', 'the list of images', limit)
      if (json) printJson({ images: items, more })
      else printImages(items as ListedImage[])
      if (!json && more) printLines([MORE_LINE])
      return STATUS.ok
    })
  },
})

type Reproductions = {
  readonly reproducible: boolean | null
  readonly outputs: readonly {
    readonly kernel: string
    readonly own: boolean
    readonly images: ListedImage[]
  }[]
  readonly otherInputs: readonly ListedImage[]
  readonly more: boolean
}

/** `rookery search inputs`: the images built from the same inputs. */
export const inputsCommand = command({
  arguments: {
    host: HOST,
    inputId: argument('INPUT_ID', 'input id of a build, as inspect shows it'),
  },
  options: {
    ...TAG_OPTIONS,
    repository: value(
      'NAME|PATTERN',
      'compare the images of this repository; by default, of those that the login may push to',
    ),
    ...JSON_OPTION,
    ...LOGIN_OPTIONS,
  },
  notes:
    'The exit status is 1 when the same inputs made different kernels in your repositories. Images of others are listed, and do not change it.',
  examples: [
    [
      'rookery search inputs registry.example.org 42a97998ad0254e1a1c4a5b2e6f7d8c9b0a1f2e3d4c5b6a7f8e9d0c1b2a3f4e5 --repository builds/www',
      'check whether a build is reproducible',
    ],
  ],
  run(values, environment) {
    const { host, inputId, json } = values
    return withHostApi(host, values, environment, async (api) => {
      const path = `/api/v1/inputs/${encodeURIComponent(inputId)}${queryOf(hitQuery(values))}`
      const found = (await api.find(path, 'the input id')) as Reproductions
      if (json) printJson(found)
      else printReproductions(found, values.tagged || values.tag !== undefined)
      return found.reproducible === false ? STATUS.found : STATUS.ok
    })
  },
})

/** `rookery search packages`: the images that contain a package. */
export const packagesCommand = command({
  arguments: {
    host: HOST,
    package: argument('ECOSYSTEM/NAME', 'package; the ecosystem is opam, deb, apk or freebsd'),
    constraint: optionalArgument('CONSTRAINT', "versions, such as '>= 0.17 & < 1.0.2'"),
  },
  options: { ...HIT_OPTIONS, ...LIMIT_OPTION, ...JSON_OPTION, ...LOGIN_OPTIONS },
  examples: [
    [
      "rookery search packages registry.example.org opam/tls '>= 0.17 & < 1.0.2'",
      'find images with vulnerable versions',
    ],
    [
      "rookery search packages registry.example.org opam/tls --tagged --repository 'builds/**'",
      'only images that a tag names',
    ],
  ],
  run(values, environment) {
    const { host, package: text, constraint: version, limit, json } = values
    return withHostApi(host, values, environment, async (api) => {
      const slash = text.indexOf('/')
      if (slash <= 0) {
        throw new CommandError(`a package must be like opam/tls, not ${visible(text)}`)
      }
      const name = encodeURIComponent(text.slice(slash + 1))
      const ecosystem = encodeURIComponent(text.slice(0, slash))
      const path = `/api/v1/packages/${ecosystem}/${name}${queryOf({ version, ...hitQuery(values) })}`
      const subject = `the package ${visible(text)}`
      const { items, more, truncated } = await api.listUpTo(path, 'images', subject, limit)
      if (json) printJson({ images: items, more, truncated })
      else printPackageHits(items as PackageHit[])
      if (!json && more) printLines([MORE_LINE])
      if (!json && truncated) printLines([TRUNCATED])
      return STATUS.ok
    })
  },
})

async function digestOfFile(path: string): Promise<string> {
  try {
    return (await hashFile(path)).digest
  } catch (cause) {
    throw new CommandError(
      `${visible(path)} is not a digest, and cannot be read: ${reasonOf(cause)}`,
      { cause },
    )
  }
}

function printReproductions(
  { reproducible, outputs, otherInputs, more }: Reproductions,
  isFiltered: boolean,
): void {
  if (outputs.length === 0) {
    const which = isFiltered ? ' with such a tag' : ''
    printLines([`No image${which} was built from these inputs.`])
  }
  for (const { kernel, own, images } of outputs) {
    printLines([`kernel ${kernel}${own ? '' : ', claimed by others'}`])
    printImages(images)
  }
  if (reproducible === false)
    printLines(['The same inputs made different kernels: not reproducible.'])
  else if (outputs.length > 1) printLines(['Others claim different kernels for these inputs.'])
  if (otherInputs.length > 0) {
    printLines(['The same kernel from other inputs:'])
    printImages(otherInputs)
  }
  if (more) printLines(['There are more images than these.'])
}
