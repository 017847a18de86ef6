/** An image in an answer of the API, as far as commands show it: spec/openapi.yaml has all fields. */
export type ListedImage = {
  readonly repository: string
  readonly digest: string
  readonly tags: readonly string[]
  readonly kernel: { readonly digest: string; readonly title?: string | null }
  readonly target: string
  /** Null for a kernel that is none of Solo5's. */
  readonly devices: readonly { readonly kind: string; readonly name: string }[] | null
  /** Null for a reader that has no right to the repository. */
  readonly builder: string | null
  readonly pushedAt: string
}

/** A build in an answer of the API. */
export type ListedBuild = {
  readonly repository: string
  readonly id: string
  readonly result: string
  readonly exitCode: number | null
  readonly signal: number | null
  readonly message: string | null
  /** Null for a reader that has no right to the repository. */
  readonly builder: string | null
  readonly platform: string | null
  readonly inputId: string | null
  readonly digest: string | null
  readonly kernel: { readonly digest: string } | null
  readonly startedAt: string | null
  readonly finishedAt: string | null
  readonly recordedAt: string
}

/** An image that contains a package. */
export type PackageHit = Pick<
  ListedImage,
  'repository' | 'digest' | 'tags' | 'target' | 'pushedAt'
> & {
  readonly version: string | null
  readonly basis: string
}

/** An image that was built from a source. */
export type SourceHit = Pick<
  ListedImage,
  'repository' | 'digest' | 'tags' | 'target' | 'pushedAt'
> & {
  readonly source: {
    readonly url: string
    readonly directory: string | null
    readonly packages: readonly { readonly name: string; readonly version: string | null }[]
  }
}

/** An image that a tag pointed to. */
export type TagPosition = {
  readonly digest: string | null
  readonly previousDigest: string | null
  readonly reason: string
  readonly movedAt: string
  readonly present: boolean
  readonly actor?: string
}
