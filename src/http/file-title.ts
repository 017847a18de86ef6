import { badRequest } from '../oci/errors.ts'
import { findHiddenProblem } from '../oci/hidden-characters.ts'

// The limit of most file systems.
const NAME_BYTES_MAX = 255
// Clients save the file under this name.
const UNSAFE = /^\.{0,2}$|[/\\\p{Cc}]/u

/** Checks that a file can be saved under the name. Throws REQUEST_INVALID. */
export function parseFileTitle(name: string): string {
  if (UNSAFE.test(name) || Buffer.byteLength(name) > NAME_BYTES_MAX) {
    throw badRequest(
      `a file name must have no slash, backslash or control character, and at most ${NAME_BYTES_MAX} bytes`,
    )
  }
  const problem = findHiddenProblem(name)
  if (problem !== undefined) throw badRequest(`a file name ${problem}`)
  return name
}
