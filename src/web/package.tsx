import type { Digest } from '../oci/digest.ts'
import type { Repository, Tag } from '../oci/reference.ts'
import type { Ecosystem } from '../unikernel/versions/orders.ts'
import {
  DataTable,
  Empty,
  Heading,
  ImageLink,
  NextPage,
  Section,
  State,
  TagLinks,
  Time,
} from './elements.tsx'
import { ECOSYSTEM_NAMES, VersionField } from './packages.tsx'
import { packagePath, repositoryPath } from './paths.ts'
import { type RunList, RunSection } from './run-table.tsx'

/** An image that has one version of a package. */
export type PackageItem = {
  readonly repository: Repository
  readonly digest: Digest
  readonly tags: readonly Tag[]
  /** Null when it is unknown. */
  readonly version: string | null
  /** How the package is known. */
  readonly basis: string
  readonly kernel: { readonly digest: Digest }
  readonly target: string
  readonly pushedAt: Date
}

export type PackageView = {
  readonly ecosystem: Ecosystem
  readonly name: string
  /** The constraint; undefined for all versions. */
  readonly version: string | undefined
  /** Newest first. */
  readonly images: readonly PackageItem[]
  /** True when the package has more versions than a search compares. */
  readonly truncated: boolean
  /** True on the first page, which shows where the package runs. */
  readonly isNewest: boolean
  readonly next: string | undefined
  /** Undefined for a caller who may not see hosts. */
  readonly running: RunList | undefined
}

/** The bases of packages in words: spec/openapi.yaml, Basis. */
const BASES: Readonly<Record<string, string>> = {
  installed: 'list of installed packages',
  lock: 'lock file',
  index: 'source that an opam repository has',
  inferred: 'name of the archive',
  unknown: 'version not stated',
}

/** The page of a package: which images have which version, how that is known, and where it runs. */
export function PackagePage(view: PackageView) {
  const { ecosystem, name, version, images, truncated, isNewest, next, running } = view
  const runs = isNewest ? (
    <RunSection
      title="Where it runs"
      list={running}
      none="No host whose reports you may see runs an image with it."
    />
  ) : null
  return (
    <>
      <Heading trail={[{ href: '/packages', name: 'Packages' }]} note={ECOSYSTEM_NAMES[ecosystem]}>
        {name}
      </Heading>
      <form class="fields" action={packagePath(ecosystem, name)} method="get">
        <VersionField version={version} />
        <div>
          <button type="submit">Show these versions</button>
        </div>
      </form>
      {running === undefined ? null : runs}
      <Section
        id="images"
        title={version === undefined ? 'Images with it' : `Images with ${name} ${version}`}
      >
        {images.length === 0 ? (
          <Empty>
            No image that you may see has it{version === undefined ? '' : ' in such a version'}.
          </Empty>
        ) : (
          <PackageTable name={name} images={images} running={running} />
        )}
        {truncated ? (
          <p class="note">
            The package has more versions than are compared: images may be missing.
          </p>
        ) : null}
        <NextPage href={next} name="Earlier images" />
      </Section>
      {running === undefined ? runs : null}
    </>
  )
}

function PackageTable({ name, images, running }: Pick<PackageView, 'name' | 'images' | 'running'>) {
  const kernels = new Set(running?.runs.map(({ repository, kernel }) => `${repository} ${kernel}`))
  return (
    <DataTable
      caption={`Images with ${name}`}
      filter
      columns={['Version', 'Repository', 'Image', 'Tags', 'Target', 'Known by', 'Since']}
      rows={images.map(
        ({ repository, digest, tags, version, basis, kernel, target, pushedAt }) => ({
          key: `${repository} ${digest} ${version}`,
          cells: [
            version ?? 'unknown',
            <>
              <a href={repositoryPath(repository)}>{repository}</a>{' '}
              {kernels.has(`${repository} ${kernel.digest}`) ? (
                <State mood="good">runs</State>
              ) : null}
            </>,
            <ImageLink repository={repository} digest={digest} />,
            <TagLinks repository={repository} tags={tags} />,
            target,
            BASES[basis] ?? basis,
            <Time at={pushedAt} />,
          ],
        }),
      )}
    />
  )
}
