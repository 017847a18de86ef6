export type Manifest = {
  readonly bytes: Buffer
  readonly mediaType: string
}

/** The manifests and tags of a repository. */
export type Position = {
  readonly manifests: ReadonlyMap<string, Manifest>
  readonly tags: ReadonlyMap<string, string>
}

/** One request that changes a repository: the change happens whole, or not at all. */
export type Change =
  | {
      readonly kind: 'put'
      readonly digest: string
      readonly manifest: Manifest
      readonly tags: readonly string[]
    }
  | { readonly kind: 'remove tag'; readonly tag: string }
  | { readonly kind: 'remove manifest'; readonly digest: string }

/** An upload session that was started and not yet acknowledged as finished. */
export type OpenUpload = {
  readonly location: string
  readonly content: Buffer
  /** Bytes that were acknowledged. */
  acknowledged: number
  /** Bytes that it may have when the last chunk was stored and only its answer was lost. */
  possible: number
  /** True when the closing PUT was sent. */
  closing: boolean
}

/**
 * The acknowledgements that one client, the only one that changes this repository, has received.
 */
export class Ledger {
  readonly repository: string
  /** Acknowledged blobs, by digest. */
  readonly blobs = new Map<string, Buffer>()
  /** Blobs that were acknowledged since the last verification. */
  readonly freshBlobs = new Set<string>()
  readonly removed = new Set<string>()
  position: Position = { manifests: new Map(), tags: new Map() }
  /** The change that was sent and not answered. */
  change: Change | undefined
  upload: OpenUpload | undefined

  constructor(repository: string) {
    this.repository = repository
  }

  acknowledgeBlob(digest: string, content: Buffer): void {
    this.blobs.set(digest, content)
    this.freshBlobs.add(digest)
  }

  /** Records that the change happened. */
  acknowledgeChange(): void {
    if (this.change === undefined) return
    this.position = positionAfter(this.position, this.change)
    if (this.change.kind === 'remove manifest') this.removed.add(this.change.digest)
    if (this.change.kind === 'put') this.removed.delete(this.change.digest)
    this.change = undefined
  }
}

/** Returns the digests that the indexes of tags contain, also through other indexes: they cannot be deleted. */
export function keptByTags({ manifests, tags }: Position): ReadonlySet<string> {
  const kept = new Set<string>()
  const follow = (digest: string): void => {
    const bytes = manifests.get(digest)?.bytes.toString()
    const children: { digest: string }[] =
      bytes === undefined ? [] : (JSON.parse(bytes).manifests ?? [])
    for (const child of children) {
      if (kept.has(child.digest)) continue
      kept.add(child.digest)
      follow(child.digest)
    }
  }
  for (const digest of tags.values()) follow(digest)
  return kept
}

export function positionAfter({ manifests, tags }: Position, change: Change): Position {
  if (change.kind === 'put') {
    return {
      manifests: new Map([...manifests, [change.digest, change.manifest]]),
      tags: new Map([...tags, ...change.tags.map((tag) => [tag, change.digest] as const)]),
    }
  }
  if (change.kind === 'remove tag') {
    return { manifests, tags: new Map([...tags].filter(([tag]) => tag !== change.tag)) }
  }
  return {
    manifests: new Map([...manifests].filter(([digest]) => digest !== change.digest)),
    tags: new Map([...tags].filter(([, digest]) => digest !== change.digest)),
  }
}

/** Returns numbers from 0 to below 1, the same ones for the same seed. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
