import { invalidQuery } from '../../oci/errors.ts'
import type { KernelSelector } from '../../registry/images/images.ts'
import { ARCHITECTURES } from '../../unikernel/kernel/solo5.ts'
import { TARGETS } from '../../unikernel/kernel/solo5-notes.ts'
import type { QueryParameters } from '../query.ts'
import { queryOnce, type RouteContext } from '../route.ts'

/** The parameters that select a kernel. */
export const SELECTOR = {
  target: 'once',
  abi: 'once',
  arch: 'once',
} as const satisfies QueryParameters

/** OCI names of processors, and the names of uname and Solo5. */
const OCI_ARCHITECTURES: Readonly<Record<string, string>> = { amd64: 'x86_64', arm64: 'aarch64' }
const ARCHITECTURE_NAMES = [...ARCHITECTURES, ...Object.keys(OCI_ARCHITECTURES)]

/** Parses the query that selects a kernel. Throws QUERY_INVALID. */
export function selectorOf(ctx: RouteContext): KernelSelector {
  const architecture = oneOf(ctx, 'arch', ARCHITECTURE_NAMES)
  const abi = queryOnce(ctx, 'abi') || undefined
  if (abi !== undefined && !/^\d{1,10}$/.test(abi)) {
    throw invalidQuery('abi must be a number', { abi: abi.slice(0, 40) })
  }
  return {
    target: oneOf(ctx, 'target', TARGETS),
    abiVersion: abi === undefined ? undefined : Number(abi),
    architecture: architecture && (OCI_ARCHITECTURES[architecture] ?? architecture),
  }
}

function oneOf(ctx: RouteContext, name: string, values: readonly string[]): string | undefined {
  const value = queryOnce(ctx, name) || undefined
  if (value === undefined || values.includes(value)) return value
  throw invalidQuery(`${name} must be one of ${values.join(', ')}`, { parameter: name })
}
