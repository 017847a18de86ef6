import type { Transaction } from '../../db/database.ts'
import {
  listPackageDifferences,
  listUnikernels,
  type PackageDifference,
  type UnikernelRow,
} from '../../db/events/image-diff.ts'
import type {
  ChangedPackage,
  Device,
  ListedPackage,
  UnikernelChanges,
  UnikernelSummary,
} from '../../events/event.ts'
import type { Digest } from '../../oci/digest.ts'

// For each manifest. An index has about six, and an event has no room for more than these.
const MEMBERS_MAX = 100
// One push moves a handful of tags.
const COMPARED_MAX = 16
const DIFFERENCES_MAX = 300

/**
 * Describes the unikernels of a manifest, and their changes against each of the `previous` manifests.
 * The result takes the digest of a previous manifest, or undefined for no changes.
 */
export async function unikernelFacts(
  tx: Transaction,
  repositoryId: number,
  digest: Digest,
  previous: readonly Digest[],
): Promise<(against: Digest | undefined) => readonly UnikernelSummary[]> {
  const wanted = [...new Set([digest, ...previous])]
  const rows = await listUnikernels(tx, repositoryId, wanted, MEMBERS_MAX)
  const membersOf = (of: Digest) => rows.filter((row) => row.of === of)
  const members = membersOf(digest)
  const changes = new Map<string, UnikernelChanges>()
  for (const { member, from } of pairsOf(members, previous, membersOf).slice(0, COMPARED_MAX)) {
    changes.set(keyOf(member, from.of), await compare(tx, from, member))
  }
  return (against) =>
    members.map((member) => ({
      digest: member.digest,
      kernelDigest: member.kernelDigest,
      target: member.target,
      abiVersion: member.abiVersion,
      architecture: member.architecture,
      devices: member.devices?.map(deviceOf) ?? null,
      inputId: member.inputId,
      changes: (against && changes.get(keyOf(member, against))) ?? null,
    }))
}

const keyOf = ({ digest }: UnikernelRow, against: Digest) => `${digest} ${against}`

/** Pairs each unikernel with its predecessor of the same kind in each previous manifest. */
function pairsOf(
  members: readonly UnikernelRow[],
  previous: readonly Digest[],
  membersOf: (of: Digest) => readonly UnikernelRow[],
): { member: UnikernelRow; from: UnikernelRow }[] {
  return [...new Set(previous)].flatMap((of) =>
    members.flatMap((member) => {
      const others = membersOf(of)
      const same = others.find((other) => isSameKind(other, member))
      // A tag that moves from hvt to spt is still the same unikernel.
      const from = same ?? (others.length === 1 && members.length === 1 ? others[0] : undefined)
      return from === undefined ? [] : [{ member, from }]
    }),
  )
}

function isSameKind(one: UnikernelRow, other: UnikernelRow): boolean {
  return one.target === other.target && one.architecture === other.architecture
}

async function compare(
  tx: Transaction,
  from: UnikernelRow,
  to: UnikernelRow,
): Promise<UnikernelChanges> {
  const found = await listPackageDifferences(
    tx,
    from.manifestId,
    to.manifestId,
    DIFFERENCES_MAX + 1,
  )
  return {
    from: from.digest,
    kernel: from.kernelDigest !== to.kernelDigest,
    devices:
      from.devices === null || to.devices === null
        ? null
        : { added: without(to.devices, from.devices), removed: without(from.devices, to.devices) },
    packages: {
      ...paired(found.slice(0, DIFFERENCES_MAX)),
      truncated: found.length > DIFFERENCES_MAX,
    },
  }
}

function without(devices: readonly string[], others: readonly string[]): Device[] {
  return devices.filter((device) => !others.includes(device)).map(deviceOf)
}

function deviceOf(text: string): Device {
  const at = text.indexOf(':')
  return { kind: text.slice(0, at), name: text.slice(at + 1) }
}

/** Joins one removed and one added version of a package to one change. */
function paired(differences: readonly PackageDifference[]) {
  const added: ListedPackage[] = []
  const removed: ListedPackage[] = []
  const changed: ChangedPackage[] = []
  const byName = new Map<string, PackageDifference[]>()
  for (const difference of differences) {
    const key = `${difference.ecosystem} ${difference.name}`
    const group = byName.get(key)
    if (group === undefined) byName.set(key, [difference])
    else group.push(difference)
  }
  for (const group of byName.values()) {
    const [old, ...moreOld] = group.filter(({ side }) => side === 'removed')
    const [next, ...moreNext] = group.filter(({ side }) => side === 'added')
    if (old && next && moreOld.length + moreNext.length === 0) {
      const { ecosystem, name } = next
      changed.push({ ecosystem, name, from: old.version, to: next.version })
      continue
    }
    for (const { side, ...listed } of group) (side === 'added' ? added : removed).push(listed)
  }
  return { added, removed, changed }
}
