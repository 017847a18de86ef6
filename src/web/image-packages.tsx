import type { Digest } from '../oci/digest.ts'
import type { Repository } from '../oci/reference.ts'
import type { ImageOutline } from '../unikernel/documents/outline.ts'
import { DataTable, Empty, Section } from './elements.tsx'
import { apiPath, packagePath } from './paths.ts'

const UNKNOWN = 'unknown'

/** The packages of opam in an image. */
export function PackageSection({
  repository,
  digest,
  packages,
}: {
  repository: Repository
  digest: Digest
  packages: ImageOutline['opam']
}) {
  if (packages === null) {
    return (
      <Section id="packages" title="Packages">
        <Empty>
          No file of this image says its packages. A push with the switch export of opam does.
        </Empty>
      </Section>
    )
  }
  const { count, shown } = packages
  // Mostly all are installed: one sentence says so, in place of a column.
  const isAllInstalled = shown.every(({ basis }) => basis === 'installed')
  return (
    <Section
      id="packages"
      title={`Packages of opam: ${count}`}
      note={isAllInstalled ? 'All are installed in the switch of the build.' : undefined}
    >
      <DataTable
        caption="Packages of opam"
        filter
        columns={['Package', 'Version', ...(isAllInstalled ? [] : ['Known by'])]}
        rows={shown.map(({ name, version, basis }) => ({
          key: `${name} ${version}`,
          cells: [
            <a href={packagePath('opam', name)}>{name}</a>,
            version ?? UNKNOWN,
            ...(isAllInstalled ? [] : [basis]),
          ],
        }))}
      />
      <Rest {...{ repository, digest, count, shown: shown.length }} />
    </Section>
  )
}

/** The packages of the host that built an image. */
export function HostPackageSection({
  repository,
  digest,
  packages,
}: {
  repository: Repository
  digest: Digest
  packages: ImageOutline['hostPackages']
}) {
  if (packages === null) return null
  const { ecosystem, count, shown } = packages
  return (
    <Section
      id="host-packages"
      title={`Packages of the host that built it: ${count} of ${ecosystem}`}
    >
      <DataTable
        caption="Packages of the host"
        filter
        columns={['Package', 'Version']}
        rows={shown.map(({ name, version }) => ({
          key: `${name} ${version}`,
          cells: [<a href={packagePath(ecosystem, name)}>{name}</a>, version],
        }))}
      />
      <Rest {...{ repository, digest, count, shown: shown.length }} />
    </Section>
  )
}

function Rest({
  repository,
  digest,
  count,
  shown,
}: {
  repository: Repository
  digest: Digest
  count: number
  shown: number
}) {
  if (count <= shown) return null
  return (
    <p>
      The first {shown}. <a href={apiPath(repository, `images/${digest}`)}>All as JSON</a>
    </p>
  )
}
