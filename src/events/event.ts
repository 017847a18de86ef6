import type { Digest } from '../oci/digest.ts'
import type { Repository, Tag } from '../oci/reference.ts'

/** Every type of event: spec/events.md. */
export const EVENT_TYPES = [
  'image.pushed',
  'image.tag.updated',
  'image.tag.deleted',
  'image.deleted',
  'image.referrer.added',
  'image.unwrapped',
  'repository.deleted',
  'build.reproduced',
  'build.diverged',
  'build.failed',
  'deployment.created',
  'deployment.updated',
  'deployment.finished',
  'deployment.target.changed',
  'host.enrolled',
  'host.lost',
  'host.returned',
  'host.conflict',
  'webhook.ping',
  'webhook.disabled',
] as const
export type EventType = (typeof EVENT_TYPES)[number]

/** The types that a filter may name. A ping is addressed to one webhook, so no filter matches it. */
export const FILTERABLE_TYPES = EVENT_TYPES.filter((type) => type !== 'webhook.ping')

/** The types of a filter that names none: a deployment changes targets several times for each host. */
export const DEFAULT_TYPES = FILTERABLE_TYPES.filter((type) => !namesHosts(type))

/** True for an event that is about no repository. */
export function isAboutRegistry(type: EventType): boolean {
  return type.startsWith('webhook.') || type.startsWith('host.')
}

/** True for an event of a repository that names hosts: only those who may push there see it. */
export function namesHosts(type: EventType): boolean {
  return type === 'deployment.target.changed'
}

/** True for an event of a repository whose reason names hosts: others see it without the reason. */
export function hasReasonOfHosts(type: EventType): boolean {
  return type === 'deployment.updated' || type === 'deployment.finished'
}

/** The types of tag events: a later event of the same tag supersedes an earlier one. */
export const TAG_TYPES: readonly EventType[] = ['image.tag.updated', 'image.tag.deleted']

/** A package in a package list of an image. */
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

/** The differences from the unikernel that the tag pointed to before. */
export type UnikernelChanges = {
  /** The digest of the previous manifest. */
  readonly from: Digest
  readonly kernel: boolean
  /** Null when one of both is no Solo5 kernel. */
  readonly devices: {
    readonly added: readonly Device[]
    readonly removed: readonly Device[]
  } | null
  readonly packages: {
    readonly added: readonly ListedPackage[]
    readonly removed: readonly ListedPackage[]
    readonly changed: readonly ChangedPackage[]
    /** True when the lists are not complete. */
    readonly truncated: boolean
  }
}

/** One unikernel of a manifest; an index has several. */
export type UnikernelSummary = {
  /** The digest of the manifest. */
  readonly digest: Digest
  readonly kernelDigest: Digest
  readonly target: string
  /** Null, as are the devices, for a kernel that is none of Solo5's. */
  readonly abiVersion: number | null
  readonly architecture: string | null
  readonly devices: readonly Device[] | null
  readonly inputId: string | null
  /** Null when the tag pointed to no comparable unikernel before. */
  readonly changes: UnikernelChanges | null
}

/** The fields of all image events. */
type ImageData = {
  readonly repository: Repository
  readonly tag: Tag | null
  readonly digest: Digest | null
  readonly previousDigest: Digest | null
  /** The name of the credential or identity that made the change. */
  readonly actor: string
}

/** The fields of events about a stored manifest. */
type ManifestData = {
  readonly mediaType: string
  readonly artifactType: string | null
  /** Bytes of the manifest. */
  readonly size: number
  /** Empty for a manifest that is no unikernel. */
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

/** A new manifest with a `subject`, such as a signature. */
export type ReferrerAdded = ImageData & {
  readonly type: 'image.referrer.added'
  readonly digest: Digest
  readonly mediaType: string
  readonly artifactType: string | null
  readonly size: number
  /** The digest of the subject, which may be missing. */
  readonly subject: Digest
}

/** The kernels that were found in a container image after its push, for one of its tags or those of its index. */
export type ImageUnwrapped = ImageData &
  ManifestData & {
    readonly type: 'image.unwrapped'
    readonly tag: Tag
    readonly digest: Digest
    readonly previousDigest: null
  }

/** A repository with all of its tags and manifests, which have no events of their own then. */
export type RepositoryDeleted = ImageData & {
  readonly type: 'repository.deleted'
  readonly tag: null
  readonly digest: null
  readonly previousDigest: null
}

/** An earlier build of the same inputs. */
export type EarlierBuild = {
  readonly id: string
  /** The digest of its manifest. */
  readonly digest: Digest
  readonly builder: string
}

/** The fields of all events about a build. `digest` is that of its image, or of the report of its failure. */
type BuildData = ImageData & {
  readonly tag: null
  readonly digest: Digest
  readonly previousDigest: null
  /** The id of the build. */
  readonly build: string
  readonly platform: string | null
  readonly inputId: string | null
  /** RFC 3339; null when the builder does not say it. */
  readonly startedAt: string | null
  readonly finishedAt: string | null
}

/**
 * A build from inputs that were built before in this repository. `build.reproduced`: an earlier build has the same
 * kernel. `build.diverged`: none has.
 */
export type BuildCompared = BuildData & {
  readonly type: 'build.reproduced' | 'build.diverged'
  readonly kernelDigest: Digest
  /** The newest earlier builds with the same kernel, and those with another. */
  readonly same: readonly EarlierBuild[]
  readonly other: readonly EarlierBuild[]
}

/** A build that gave no kernel. */
export type BuildFailed = BuildData & {
  readonly type: 'build.failed'
  readonly result: 'failed' | 'signalled' | 'error'
  readonly exitCode: number | null
  readonly signal: number | null
  readonly message: string | null
}
export type BuildEvent = BuildCompared | BuildFailed

/** The number of targets of a deployment in each state; `of`: all of them. spec/http-api.md, "Deployments". */
export type TargetCounts = {
  readonly waiting: number
  /** Granted, and neither healthy nor failed. */
  readonly inFlight: number
  /** Also those that are settled. */
  readonly healthy: number
  readonly settled: number
  /** Failed, rolled back or overdue. */
  readonly failed: number
  readonly refused: number
  readonly offline: number
  readonly skipped: number
  readonly of: number
}

/** The fields of all events about a deployment. `digest` is what the tag names, `previousDigest` what it named before. */
type DeploymentData = ImageData & {
  readonly tag: Tag
  readonly digest: Digest
  /** The id of the deployment. */
  readonly deployment: string
  /** Counts the deployments of the tag. */
  readonly number: number
  readonly kind: 'push' | 'rollback' | 'retry'
}

/** A tag that units follow was moved. Its targets are found after the event. */
export type DeploymentCreated = DeploymentData & {
  readonly type: 'deployment.created'
  readonly state: 'rolling'
  /** The name of its rollout; null: all units at once. */
  readonly rollout: string | null
}

/** A deployment has its targets, was paused or resumed, or ended. */
export type DeploymentChanged = DeploymentData & {
  readonly type: 'deployment.updated' | 'deployment.finished'
  readonly state:
    | 'rolling'
    | 'paused'
    | 'succeeded'
    | 'failed'
    | 'halted'
    | 'superseded'
    | 'cancelled'
  /** A sentence; null where the state says everything. */
  readonly reason: string | null
  readonly counts: TargetCounts
}

/** One unit of a deployment is in another state. */
export type TargetChanged = DeploymentData & {
  readonly type: 'deployment.target.changed'
  /** The names of the host and of its unit. */
  readonly host: string
  readonly unit: string
  readonly state:
    | 'waiting'
    | 'granted'
    | 'fetching'
    | 'starting'
    | 'checking'
    | 'healthy'
    | 'failed'
    | 'rolled-back'
    | 'refused'
    | 'skipped'
    | 'offline'
    | 'overdue'
  /** True when it stayed healthy for the time of the rollout. */
  readonly settled: boolean
  /** The digest of the kernel for the host; null: the image has none for it. */
  readonly kernel: Digest | null
  readonly exitCode: number | null
  /** The exit code in words, as the host says it. */
  readonly exitMeaning: string | null
  /** A word. */
  readonly reason: string | null
  readonly message: string | null
}
export type DeploymentEvent = DeploymentCreated | DeploymentChanged | TargetChanged

/** The fields of all events about a host. */
type HostData = {
  /** Its name. */
  readonly host: string
  readonly labels: Readonly<Record<string, string>>
}

/** A host is new, or waits until somebody approves its key. */
export type HostEnrolled = HostData & {
  readonly type: 'host.enrolled'
  readonly state: 'pending' | 'active'
  /** The thumbprint of its key; null: it has the secret of a credential. */
  readonly fingerprint: string | null
  readonly repositories: readonly string[]
  /** The maker or approver of the host; null: it waits for one. */
  readonly actor: string | null
}

/** A host sent no request for some minutes, or sends requests again. */
export type HostPresence = HostData & {
  readonly type: 'host.lost' | 'host.returned'
  /** RFC 3339: the time of its last request before it was lost. */
  readonly seenAt: string | null
}

/** Two machines report with the key of one host. */
export type HostConflict = HostData & {
  readonly type: 'host.conflict'
  /** The ids of both boots. */
  readonly boots: readonly [string, string]
}
export type HostEvent = HostEnrolled | HostPresence | HostConflict

/** A test of one webhook. */
export type Ping = { readonly type: 'webhook.ping'; readonly webhook: string }

/** `gone`: the receiver answered 410. `failing`: no success for days. `owner`: its owner lost the right. */
export type DisabledReason = 'gone' | 'failing' | 'owner'

export type WebhookDisabled = {
  readonly type: 'webhook.disabled'
  readonly webhook: string
  readonly reason: DisabledReason
  /** The last answer, in words. */
  readonly detail: string
}

/** An event of a repository. */
export type RepositoryEvent =
  | Pushed
  | TagUpdated
  | TagDeleted
  | Deleted
  | ReferrerAdded
  | ImageUnwrapped
  | RepositoryDeleted
  | BuildEvent
  | DeploymentEvent
export type RegistryEvent = RepositoryEvent | HostEvent | Ping | WebhookDisabled

/** The fields of an event that filters compare. */
export type EventSubject = {
  readonly type: EventType
  /** Null for an event of the registry. */
  readonly repository: Repository | null
  readonly tag: Tag | null
}

/** An event that may be addressed to one webhook, as a ping is. */
export type AddressedEvent = EventSubject & {
  /** The only recipient; null: every webhook whose filter matches. */
  readonly webhookId: number | null
}
