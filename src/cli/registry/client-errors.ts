import { UnreadableLoginsError } from '../../client/docker-logins.ts'
import {
  FileChangedError,
  RegistryResponseError,
  RegistryUnreachableError,
} from '../../client/errors.ts'
import { MalformedReferenceError } from '../../client/image-reference.ts'
import { DigestMismatchError } from '../../client/image-source.ts'
import { RegistryError } from '../../oci/errors.ts'
import { CommandError } from '../errors.ts'

const CLIENT_ERRORS = [
  MalformedReferenceError,
  RegistryResponseError,
  RegistryUnreachableError,
  FileChangedError,
  UnreadableLoginsError,
  DigestMismatchError,
  RegistryError,
]

/** Runs the work of a command that speaks to a registry. Throws CommandError for a failure that its user can mend. */
export async function withClientErrors(work: () => Promise<number>): Promise<number> {
  try {
    return await work()
  } catch (error) {
    if (!isClientError(error)) throw error
    throw new CommandError(error.message, { cause: error })
  }
}

function isClientError(error: unknown): error is Error {
  return CLIENT_ERRORS.some((kind) => error instanceof kind)
}
