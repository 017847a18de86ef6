import { isDigestPrefix } from '../../oci/digest.ts'
import { invalidQuery } from '../../oci/errors.ts'
import type { Reference } from '../../oci/reference.ts'
import type { Images, KernelSelector } from '../../registry/images/images.ts'
import type { QuestionQueryable } from '../../registry/questions.ts'
import type { View } from '../../registry/repositories.ts'
import { OCI_ARCHITECTURES } from '../../unikernel/declared-kernel.ts'
import { ARCHITECTURES } from '../../unikernel/kernel/solo5.ts'
import { findTarget, TARGET_NAMES } from '../../unikernel/targets.ts'
import type { QueryParameters } from '../query.ts'
import { param, queryAll, queryOnce, type RouteContext, viewOf } from '../route.ts'
import { parseLookupText } from '../v2/manifests.ts'

/** The parameters that select a kernel. */
export const SELECTOR = {
  target: 'once',
  abi: 'many',
  arch: 'once',
} as const satisfies QueryParameters

/**
 * Reads the tag or digest of an image from the path. A shortened digest costs a statement. Throws as
 * `parseLookupText` and `Images.findByPrefix`.
 */
export async function readImageReference(
  ctx: RouteContext,
  images: Images,
  db?: QuestionQueryable,
  name = 'reference',
): Promise<Reference> {
  return findImageReference(viewOf(ctx), images, param(ctx, name), db)
}

/** Does the same for a text. */
export async function findImageReference(
  view: View,
  images: Images,
  text: string,
  db?: QuestionQueryable,
): Promise<Reference> {
  return isDigestPrefix(text) ? images.findByPrefix(view, text, db) : parseLookupText(text)
}

/** Solo5 has had three versions of its ABI. */
const ABIS_MAX = 16
const ARCHITECTURE_NAMES = [...ARCHITECTURES, ...Object.keys(OCI_ARCHITECTURES)]

/** Parses the query that selects a kernel. Throws QUERY_INVALID. */
export function selectorOf(ctx: RouteContext): KernelSelector {
  const architecture = oneOf(ctx, 'arch', ARCHITECTURE_NAMES)
  const abis = queryAll(ctx, 'abi').filter((abi) => abi !== '')
  const wrong = abis.find((abi) => !/^\d{1,10}$/.test(abi))
  if (wrong !== undefined) {
    throw invalidQuery('abi must be a number', { abi: wrong.slice(0, 40) })
  }
  if (abis.length > ABIS_MAX) throw invalidQuery(`abi may be given at most ${ABIS_MAX} times`)
  const target = oneOf(ctx, 'target', TARGET_NAMES)
  return {
    target: target && findTarget(target),
    abiVersions: abis.length === 0 ? undefined : abis.map(Number),
    architecture: architecture && (OCI_ARCHITECTURES[architecture] ?? architecture),
  }
}

function oneOf(ctx: RouteContext, name: string, values: readonly string[]): string | undefined {
  const value = queryOnce(ctx, name) || undefined
  if (value === undefined || values.includes(value)) return value
  throw invalidQuery(`${name} must be one of ${values.join(', ')}`, { parameter: name })
}
