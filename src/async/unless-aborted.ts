import { once } from 'node:events'

/** Resolves as the work does, or rejects with the reason of the signal as soon as that is aborted. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted()
  const unneeded = new AbortController()
  const aborted = once(signal, 'abort', { signal: unneeded.signal }).then(() => {
    throw signal.reason
  })
  try {
    return await Promise.race([work, aborted])
  } finally {
    aborted.catch(() => {})
    unneeded.abort()
  }
}
