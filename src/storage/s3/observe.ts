import type { S3Client } from '@aws-sdk/client-s3'
import { isMissingObject } from './client.ts'

/** A call of the store that ended, with all of its attempts. */
export type StoreCall = {
  /** S3's name of the operation, such as `GetObject`. */
  readonly operation: string
  /** Until the headers of the answer. */
  readonly seconds: number
  /** False for a missing object, which is an answer. */
  readonly hasFailed: boolean
}

const COMMAND = /Command$/

/** Calls `onCall` after each call of the client. */
export function observeCalls(client: S3Client, onCall: (call: StoreCall) => void): void {
  client.middlewareStack.add(
    (next, { commandName = '' }) =>
      async (args) => {
        const startedAt = performance.now()
        const ended = (hasFailed: boolean) => {
          const seconds = (performance.now() - startedAt) / 1000
          onCall({ operation: commandName.replace(COMMAND, ''), seconds, hasFailed })
        }
        try {
          const result = await next(args)
          ended(false)
          return result
        } catch (error) {
          ended(!isMissingObject(error))
          throw error
        }
      },
    { step: 'initialize', name: 'rookeryObserveCalls' },
  )
}
