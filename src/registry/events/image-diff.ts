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

// Of each manifest. An index has some six, and no event has room for so many.
const MEMBERS_MAX = 100
// One push replaces a handful of positions of tags.
const COMPARED_MAX = 16
const DIFFERENCES_MAX = 300

/**
 * What is known of the unikernels of one manifest, and what changed against each of the others; the
 * key is the digest of what it is compared with, undefined for nothing.
 */
export async function unikernelFacts(
  tx: Transaction,
  repositoryId: number,
  digest: Digest,
  previous: readonly Digest[],
): Promise<(against: Digest | undefined) => readonly UnikernelSummary[]> {
  const asked = [...new Set([digest, ...previous])]
  const rows = await listUnikernels(tx, repositoryId, asked, MEMBERS_MAX)
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
      devices: member.devices.map(deviceOf),
      inputId: member.inputId,
      changes: (against && changes.get(keyOf(member, against))) ?? null,
    }))
}

const keyOf = ({ digest }: UnikernelRow, against: Digest) => `${digest} ${against}`

/** Each unikernel and the one of the same kind in a manifest that it replaces. */
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
    devices: { added: without(to, from), removed: without(from, to) },
    packages: {
      ...paired(found.slice(0, DIFFERENCES_MAX)),
      truncated: found.length > DIFFERENCES_MAX,
    },
  }
}

function without({ devices }: UnikernelRow, other: UnikernelRow): Device[] {
  return devices.filter((device) => !other.devices.includes(device)).map(deviceOf)
}

function deviceOf(text: string): Device {
  const at = text.indexOf(':')
  return { kind: text.slice(0, at), name: text.slice(at + 1) }
}

/** One version that went and one that came are one change. */
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
    const [went, ...moreWent] = group.filter(({ side }) => side === 'removed')
    const [came, ...moreCame] = group.filter(({ side }) => side === 'added')
    if (went && came && moreWent.length + moreCame.length === 0) {
      const { ecosystem, name } = came
      changed.push({ ecosystem, name, from: went.version, to: came.version })
      continue
    }
    for (const { side, ...listed } of group) (side === 'added' ? added : removed).push(listed)
  }
  return { added, removed, changed }
}
