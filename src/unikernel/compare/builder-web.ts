import type { Comparison } from './images.ts'
import type { ChangedSource, OpamComparison } from './opam.ts'
import type { ChangedPackage } from './packages.ts'

type Named = { readonly name: string; readonly version: string }
type Changed = {
  readonly name: string
  readonly version_left: string
  readonly version_right: string
}

/** The comparison of two builds in the JSON of builder-web: `compare_to_json` of its opamdiff and utils. */
export type BuilderWebComparison = {
  readonly env_diff: PartDiff
  readonly package_diff: PartDiff
  readonly opam_diff: {
    readonly opam_diff: readonly PackageDiff[]
    readonly version_diff: readonly Changed[]
    readonly only_in_left: readonly Named[]
    readonly only_in_right: readonly Named[]
    readonly duniverse_diff: {
      readonly left: readonly Source[]
      readonly right: readonly Source[]
      readonly detailed_diff: readonly { readonly name: string }[]
    }
  }
}

/**
 * The differences of two lists. The names of the first two fields are swapped at builder-web, and here as well:
 * `left_packages` are those that only the right build has.
 */
type PartDiff = {
  readonly left_packages: readonly Named[]
  readonly right_packages: readonly Named[]
  readonly different_versions: readonly Changed[]
}

/** A package whose definition differs although its version is the same. */
type PackageDiff = {
  readonly package_version: string
  readonly effectively_equal: boolean
  /** In the unified format. */
  readonly diff: string
}

type Source = { readonly name: string; readonly value: string }

/**
 * Formats a comparison for programs of builder-web. Undefined when one of the two builds has no opam switch, build environment
 * or list of system packages.
 */
export function builderWebComparison({
  opam,
  systemPackages,
  buildEnvironment,
}: Comparison): BuilderWebComparison | undefined {
  if (opam === undefined || systemPackages === undefined || buildEnvironment === undefined) {
    return undefined
  }
  const { vendored } = opam
  const { left, right, both } = installedPackages(opam)
  const versions = both.filter(({ version }) => version.from !== version.to)
  const definitions = both.filter(({ version }) => version.from === version.to)
  return {
    env_diff: {
      left_packages: buildEnvironment.added.map(variable),
      right_packages: buildEnvironment.removed.map(variable),
      different_versions: buildEnvironment.changed.map(({ name, value }) =>
        changed(name, value.from, value.to),
      ),
    },
    package_diff: {
      left_packages: systemPackages.added.map(hostPackage),
      right_packages: systemPackages.removed.map(hostPackage),
      different_versions: systemPackages.changed.map((one) =>
        changed(nameOf(one), one.versions.from.join(', '), one.versions.to.join(', ')),
      ),
    },
    opam_diff: {
      opam_diff: definitions.map(packageDiff),
      version_diff: versions.map(({ name, version }) =>
        changed(name, version.from ?? '', version.to ?? ''),
      ),
      only_in_left: left,
      only_in_right: right,
      duniverse_diff: {
        left: vendored.removed.map(source),
        right: vendored.added.map(source),
        detailed_diff: vendored.changed
          .filter(isOtherSource)
          .map(({ directory }) => ({ name: directory })),
      },
    },
  }
}

/** builder-web compares the installed packages of a switch; vendored ones are in its lists of sources. */
function installedPackages({ packages }: OpamComparison) {
  const isInstalled = (basis: string) => basis === 'installed'
  const named = (name: string, version: string | null) => ({ name, version: version ?? '' })
  const moved = packages.changed.filter(
    ({ basis }) => isInstalled(basis.from) !== isInstalled(basis.to),
  )
  return {
    both: packages.changed.filter(({ basis }) => isInstalled(basis.from) && isInstalled(basis.to)),
    left: [
      ...packages.removed
        .filter(({ basis }) => isInstalled(basis))
        .map(({ name, version }) => named(name, version)),
      ...moved
        .filter(({ basis }) => isInstalled(basis.from))
        .map(({ name, version }) => named(name, version.from)),
    ],
    right: [
      ...packages.added
        .filter(({ basis }) => isInstalled(basis))
        .map(({ name, version }) => named(name, version)),
      ...moved
        .filter(({ basis }) => isInstalled(basis.to))
        .map(({ name, version }) => named(name, version.to)),
    ],
  }
}

const variable = ({ name, value }: { name: string; value: string }) => ({ name, version: value })

const changed = (name: string, left: string, right: string): Changed => ({
  name,
  version_left: left,
  version_right: right,
})

const nameOf = ({ name, architecture }: { name: string; architecture?: string }) =>
  architecture === undefined ? name : `${name}:${architecture}`

function hostPackage(one: { name: string; architecture?: string; versions: readonly string[] }) {
  return { name: nameOf(one), version: one.versions.join(', ') }
}

const source = ({ directory, url }: { directory: string; url: string }) => ({
  name: directory,
  value: url,
})

/** More checksums of the same archive are no difference. */
function isOtherSource({ url, checksums }: ChangedSource): boolean {
  const kindOf = (checksum: string) => checksum.slice(0, checksum.indexOf('='))
  const before = new Map(checksums.from.map((checksum) => [kindOf(checksum), checksum]))
  const common = checksums.to.filter((checksum) => before.has(kindOf(checksum)))
  if (common.length === 0)
    return url.from !== url.to || checksums.from.length !== checksums.to.length
  return common.some((checksum) => before.get(kindOf(checksum)) !== checksum)
}

/** The registry keeps the sources of a package, and not its whole definition. */
function packageDiff({ name, version, aspects, source: sides }: ChangedPackage): PackageDiff {
  const lines = (side: { url: string; checksums: readonly string[] } | undefined) =>
    side === undefined
      ? []
      : [`src: "${side.url}"`, ...side.checksums.map((sum) => `checksum: "${sum}"`)]
  const before = lines(sides?.from)
  const after = lines(sides?.to)
  const diff = [
    `--- left/${name}/opam`,
    `+++ right/${name}/opam`,
    `@@ -1,${before.length} +1,${after.length} @@ ${aspects.join(', ')}`,
    ...before.filter((line) => after.includes(line)).map((line) => ` ${line}`),
    ...before.filter((line) => !after.includes(line)).map((line) => `-${line}`),
    ...after.filter((line) => !before.includes(line)).map((line) => `+${line}`),
  ]
  return {
    package_version: `${name}.${version.to}`,
    effectively_equal: false,
    diff: `${diff.join('\n')}\n`,
  }
}
