import { badRequest } from '../oci/errors.ts'

// As most file systems have it.
const NAME_BYTES_MAX = 255
// Clients save the file under this name.
const UNFIT = /^\.{0,2}$|[/\\\p{Cc}]/u

/** A file's name, fit to be saved under. Throws REQUEST_INVALID. */
export function parseFileTitle(name: string): string {
  if (UNFIT.test(name) || Buffer.byteLength(name) > NAME_BYTES_MAX) {
    throw badRequest(
      `a file name has no slash, backslash or control character, and at most ${NAME_BYTES_MAX} bytes`,
    )
  }
  return name
}
