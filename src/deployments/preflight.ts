import type { Digest } from '../oci/digest.ts'

/** A kernel of an image, with the facts that decide where it can run. */
export type KernelFacts = {
  readonly kernel: Digest
  /** Bytes. */
  readonly size: number
  readonly target: string
  /** The version of Solo5's interface, null for a kernel that is none of Solo5's. */
  readonly abi: number | null
  readonly architecture: string | null
  /** The devices that it needs, as `net:service`. Null: they are not known. */
  readonly devices: readonly string[] | null
}

/** The kernels of an image, an index or a container image. */
export type ImageKernels = {
  readonly kernels: readonly KernelFacts[]
  /** True while the layers of the container image are still read. */
  readonly isPending: boolean
  /** Why the container image has no kernel, if it has none. */
  readonly problem: string | null
}

/** A program of a host that starts kernels. A field that is null is not known, and excludes nothing. */
export type Tender = {
  readonly target: string
  readonly abi: number | null
  readonly architecture: string | null
}

/** The properties that a host needs of a kernel. */
export type KernelNeeds = {
  /** The target that the unit file names. Null: any that the host has a tender for. */
  readonly target: string | null
  /** The devices that the unit file gives, as `net:service`. Null: it does not say. */
  readonly devices: readonly string[] | null
  /** In the order in which the host prefers them. Empty: it does not say. */
  readonly tenders: readonly Tender[]
}

/** Why an image cannot run on a host, in one word. */
export type RefusalReason =
  | 'pending'
  | 'no-kernel'
  | 'target'
  | 'architecture'
  | 'abi'
  | 'devices'
  | 'ambiguous'

/** A kernel for the host, or why there is none. */
export type Preflight =
  | { readonly kernel: KernelFacts; readonly reason?: undefined }
  | { readonly kernel: null; readonly reason: RefusalReason; readonly message: string }

/**
 * Selects the kernel of an image that a host can run, before anything is fetched. Solo5's tenders start only kernels of
 * their own target and of exactly their version of the ABI, and refuse one whose devices are not given.
 */
export function preflight(image: ImageKernels, needs: KernelNeeds): Preflight {
  const { kernels } = image
  if (kernels.length === 0) return noKernel(image)
  const { target, tenders } = needs
  const wanted = target === null ? kernels : kernels.filter((one) => one.target === target)
  if (wanted.length === 0) {
    return refused('target', `the unit needs a kernel for ${target}, and has ${namesOf(kernels)}`)
  }
  const runnable = tenders.length === 0 ? wanted : ofTenders(wanted, tenders)
  if (runnable.length === 0) return noTender(wanted, tenders)
  const equipped = runnable.filter((one) => missingDevices(one, needs.devices).length === 0)
  if (equipped.length === 0) return devicesMissing(runnable, needs.devices)
  return first(equipped, tenders.length > 0)
}

function refused(reason: RefusalReason, message: string): Preflight {
  return { kernel: null, reason, message }
}

function noKernel({ isPending, problem }: ImageKernels): Preflight {
  if (isPending) {
    return refused('pending', 'the layers of the container image are still read for a kernel')
  }
  return refused('no-kernel', `the image has no kernel${problem === null ? '' : `: ${problem}`}`)
}

/** Returns the kernels that a tender runs, in the order of the tenders. */
function ofTenders(kernels: readonly KernelFacts[], tenders: readonly Tender[]): KernelFacts[] {
  return tenders.flatMap((tender) =>
    kernels.filter(
      (kernel) =>
        kernel.target === tender.target &&
        mayMatch(kernel.architecture, tender.architecture) &&
        mayMatch(kernel.abi, tender.abi),
    ),
  )
}

function mayMatch<T>(a: T | null, b: T | null): boolean {
  return a === null || b === null || a === b
}

/** Says which property no tender of the host has. */
function noTender(kernels: readonly KernelFacts[], tenders: readonly Tender[]): Preflight {
  const sameTarget = tenders.filter((one) => kernels.some(({ target }) => target === one.target))
  if (sameTarget.length === 0) {
    const theirs = distinct(tenders.map(({ target }) => target)).join(', ')
    return refused('target', `the host runs ${theirs}, and the image has ${namesOf(kernels)}`)
  }
  const sameArchitecture = sameTarget.filter((tender) =>
    kernels.some(
      (kernel) =>
        kernel.target === tender.target && mayMatch(kernel.architecture, tender.architecture),
    ),
  )
  if (sameArchitecture.length === 0) {
    const theirs = distinct(sameTarget.map(({ architecture }) => architecture)).join(', ')
    return refused('architecture', `the host is ${theirs}, and the image has ${namesOf(kernels)}`)
  }
  const theirs = distinct(sameArchitecture.map(({ target, abi }) => `${target} ABI ${abi}`))
  const has = distinct(kernels.map(({ target, abi }) => `${target} ABI ${abi}`)).join(', ')
  return refused('abi', `the host runs ${theirs.join(', ')}, and the image has ${has}`)
}

function missingDevices({ devices }: KernelFacts, given: readonly string[] | null): string[] {
  if (given === null) return []
  return (devices ?? []).filter((device) => !given.includes(device))
}

function devicesMissing(
  kernels: readonly KernelFacts[],
  given: readonly string[] | null,
): Preflight {
  const missing = kernels.map((kernel) => missingDevices(kernel, given))
  const fewest = missing.reduce((one, other) => (other.length < one.length ? other : one))
  return refused('devices', `the unit does not give ${fewest.join(', ')}, which the kernel needs`)
}

/** Returns the first kernel. Without an order of tenders, only when there is no other. */
function first(kernels: readonly KernelFacts[], isOrdered: boolean): Preflight {
  const [kernel] = kernels
  if (kernel === undefined) throw new Error('a list that is not empty has a first kernel')
  const others = kernels.filter((one) => one.kernel !== kernel.kernel)
  if (others.length > 0 && !isOrdered) {
    const found = namesOf(kernels)
    return refused('ambiguous', `the image has ${found}: name a target in the unit file`)
  }
  return { kernel }
}

function namesOf(kernels: readonly KernelFacts[]): string {
  return distinct(
    kernels.map(({ target, architecture }) =>
      architecture === null ? target : `${target} (${architecture})`,
    ),
  ).join(', ')
}

function distinct<T>(values: readonly T[]): T[] {
  return [...new Set(values)]
}
