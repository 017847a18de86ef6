import type { Digest } from '../oci/digest.ts'
import type { Repository, Tag } from '../oci/reference.ts'

/** Everything that can happen: spec/events.md. */
export const EVENT_TYPES = [
  'image.pushed',
  'image.tag.updated',
  'image.tag.deleted',
  'image.deleted',
  'image.referrer.added',
  'webhook.ping',
  'webhook.disabled',
] as const
export type EventType = (typeof EVENT_TYPES)[number]

/** Those that somebody can subscribe to: a ping is for one endpoint alone. */
export const SUBSCRIBABLE_TYPES = EVENT_TYPES.filter((type) => type !== 'webhook.ping')

/** Those that are about a tag: a later one of the same tag makes an earlier one useless. */
export const TAG_TYPES: readonly EventType[] = ['image.tag.updated', 'image.tag.deleted']

/** A package as a list of an image has it. */
export type ListedPackage = {
  readonly ecosystem: string
  readonly name: string
  /** Empty for vendored sources without a release. */
  readonly version: string
}

export type ChangedPackage = {
  readonly ecosystem: string
  readonly name: string
  readonly from: string
  readonly to: string
}

export type Device = { readonly kind: string; readonly name: string }

/** How a unikernel differs from the one that the tag stood for before. */
export type UnikernelChanges = {
  /** Of the manifest it is compared with. */
  readonly from: Digest
  readonly kernel: boolean
  readonly devices: { readonly added: readonly Device[]; readonly removed: readonly Device[] }
  readonly packages: {
    readonly added: readonly ListedPackage[]
    readonly removed: readonly ListedPackage[]
    readonly changed: readonly ChangedPackage[]
    /** True when there are more than these. */
    readonly truncated: boolean
  }
}

/** What is known of one unikernel; an index has several. */
export type UnikernelSummary = {
  /** Of the manifest. */
  readonly digest: Digest
  readonly kernelDigest: Digest
  readonly target: string
  readonly abiVersion: number
  readonly architecture: string | null
  readonly devices: readonly Device[]
  readonly inputId: string | null
  /** Null when the tag stood for nothing comparable before. */
  readonly changes: UnikernelChanges | null
}

/** What all events about images say. */
type ImageData = {
  readonly repository: Repository
  readonly tag: Tag | null
  readonly digest: Digest | null
  readonly previousDigest: Digest | null
  /** Who did it. */
  readonly actor: string
}

/** A manifest that is there, and what it is. */
type ManifestData = {
  readonly mediaType: string
  readonly artifactType: string | null
  /** Bytes of the manifest. */
  readonly size: number
  /** Empty for what is no unikernel. */
  readonly unikernels: readonly UnikernelSummary[]
}

export type Pushed = ImageData &
  ManifestData & { readonly type: 'image.pushed'; readonly digest: Digest }

export type TagUpdated = ImageData &
  ManifestData & {
    readonly type: 'image.tag.updated'
    readonly tag: Tag
    readonly digest: Digest
    readonly reason: 'push' | 'api' | 'rollback' | 'promotion'
  }

export type TagDeleted = ImageData & {
  readonly type: 'image.tag.deleted'
  readonly tag: Tag
  readonly previousDigest: Digest
}

export type Deleted = ImageData & { readonly type: 'image.deleted'; readonly digest: Digest }

/** A manifest that speaks of another, such as a signature. */
export type ReferrerAdded = ImageData & {
  readonly type: 'image.referrer.added'
  readonly digest: Digest
  readonly mediaType: string
  readonly artifactType: string | null
  readonly size: number
  /** Of the manifest that it speaks of, which may not be there. */
  readonly subject: Digest
}

/** Only for the endpoint that is tried. */
export type Ping = { readonly type: 'webhook.ping'; readonly webhook: string }

/** `gone`: it answered 410. `failing`: no success for days. `owner`: who made it may no longer. */
export type DisabledReason = 'gone' | 'failing' | 'owner'

export type WebhookDisabled = {
  readonly type: 'webhook.disabled'
  readonly webhook: string
  readonly reason: DisabledReason
  /** In words: what it answered last. */
  readonly detail: string
}

export type ImageEvent = Pushed | TagUpdated | TagDeleted | Deleted | ReferrerAdded
export type RegistryEvent = ImageEvent | Ping | WebhookDisabled

/** What an event is about, as those who filter see it. */
export type EventSubject = {
  readonly type: EventType
  /** Null when it is about the registry. */
  readonly repository: Repository | null
  readonly tag: Tag | null
}

/** An event that may be addressed to one webhook, as a ping is. */
export type AddressedEvent = EventSubject & {
  /** The only recipient; null: every webhook whose filter matches. */
  readonly webhookId: number | null
}
