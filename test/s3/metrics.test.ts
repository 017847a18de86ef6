import { expect, it } from 'vitest'
import { sampleOf, scrape } from '../metrics/scrape.ts'
import { newRepository, pushBlob } from '../support/push.ts'
import { startRegistry } from '../support/registry.ts'

it('calls of the object store are counted by operation, and a missing object is no error', async () => {
  const registry = await startRegistry()
  try {
    const { digest } = await pushBlob(registry, newRepository())
    expect(digest).toMatch(/^sha256:/)
    const text = await scrape(registry)
    const calls = (operation: string) =>
      sampleOf(text, `rookery_s3_request_duration_seconds_count{operation="${operation}"}`)
    expect(calls('PutObject')).toBeGreaterThan(0)
    // The server looked for the mark of an installation, which a new bucket does not have.
    expect(calls('GetObject')).toBeGreaterThan(0)
    const errors = [...text.matchAll(/^rookery_s3_request_errors_total\{.*\} (\d+)$/gm)]
    expect(errors.length).toBeGreaterThan(0)
    expect(errors.map(([, count]) => count)).toEqual(errors.map(() => '0'))
  } finally {
    await registry.close()
  }
})
