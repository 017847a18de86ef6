/** What commands show of the API's answers: spec/openapi.yaml has all of it. */
export type ListedImage = {
  readonly repository: string
  readonly digest: string
  readonly tags: readonly string[]
  readonly kernel: { readonly digest: string; readonly title?: string | null }
  readonly target: string
  readonly devices: readonly { readonly kind: string; readonly name: string }[]
  readonly builder: string
  readonly pushedAt: string
}

export type ListedHit = Pick<
  ListedImage,
  'repository' | 'digest' | 'tags' | 'target' | 'pushedAt'
> & {
  readonly version: string | null
}

export type ListedPosition = {
  readonly digest: string | null
  readonly previousDigest: string | null
  readonly reason: string
  readonly movedAt: string
  readonly present: boolean
  readonly actor?: string
}
