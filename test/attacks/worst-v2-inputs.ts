import { randomBytes } from 'node:crypto'
import { digestOf } from '../support/digest.ts'
import { IMAGE_INDEX, IMAGE_MANIFEST } from '../support/media-types.ts'
import type { TestRegistry } from '../support/registry.ts'
import { largestManifest, numbers } from './worst-files.ts'
import {
  costlyRequests,
  input,
  MANY,
  nextName as next,
  octets,
  type WorstInputs,
} from './worst-inputs.ts'

/** The worst inputs of routes below /v2. */
export function worstV2Inputs(
  registry: TestRegistry,
  layer: { digest: string; size: number },
): WorstInputs {
  const { read, send } = costlyRequests(registry)
  const upload = async () => {
    const started = await registry.request(`/v2/${MANY}/blobs/uploads/`, { method: 'POST' })
    return started.headers.get('location') ?? ''
  }
  const manifest = (tag: string) => `/v2/${MANY}/manifests/${tag}`
  const push = (body: string, type: string) =>
    registry.request(manifest(next()), { method: 'PUT', headers: { 'content-type': type }, body })
  return {
    'GET /v2/': [read('/v2/')],
    'GET /v2': [read('/v2')],
    'GET /v2/_oci/ext/discover': [read('/v2/_oci/ext/discover')],
    'GET /v2/*repository/_oci/ext/discover': [read(`/v2/${MANY}/_oci/ext/discover`)],
    'POST /v2/*repository/blobs/uploads/': [
      send('POST', `/v2/${MANY}/blobs/uploads/`, 202),
      input(
        'a whole blob',
        () => {
          const bytes = randomBytes(16 * 1024 * 1024)
          return registry.request(`/v2/${MANY}/blobs/uploads/?digest=${digestOf(bytes)}`, {
            method: 'POST',
            ...octets(bytes),
          })
        },
        201,
      ),
    ],
    'PATCH /v2/*repository/blobs/uploads/:upload': [
      input(
        'a large chunk',
        async () =>
          registry.request(await upload(), {
            method: 'PATCH',
            ...octets(randomBytes(16 * 1024 * 1024)),
          }),
        202,
      ),
    ],
    'PUT /v2/*repository/blobs/uploads/:upload': [
      input(
        'a whole blob',
        async () => {
          const bytes = randomBytes(16 * 1024 * 1024)
          return registry.request(`${await upload()}?digest=${digestOf(bytes, 'sha512')}`, {
            method: 'PUT',
            ...octets(bytes),
          })
        },
        201,
      ),
    ],
    'GET /v2/*repository/blobs/uploads/:upload': [
      input('an open upload', async () => registry.request(await upload()), 204),
    ],
    'DELETE /v2/*repository/blobs/uploads/:upload': [
      input(
        'an open upload',
        async () => registry.request(await upload(), { method: 'DELETE' }),
        204,
      ),
    ],
    'HEAD /v2/*repository/blobs/:digest': [send('HEAD', `/v2/${MANY}/blobs/${layer.digest}`)],
    'GET /v2/*repository/blobs/:digest': [read(`/v2/${MANY}/blobs/${layer.digest}`)],
    'DELETE /v2/*repository/blobs/:digest': [
      send('DELETE', `/v2/${MANY}/blobs/${digestOf('missing')}`, 404),
    ],
    'HEAD /v2/*repository/manifests/:reference': [send('HEAD', manifest('largest'))],
    'GET /v2/*repository/manifests/:reference': [read(manifest('largest'))],
    'PUT /v2/*repository/manifests/:reference': [
      input('the largest manifest', () => push(largestManifest(layer), IMAGE_MANIFEST), 201),
      input(
        'the largest manifest of another type',
        () =>
          push(
            largestManifest(layer).replaceAll(IMAGE_MANIFEST, 'application/vnd.other+json'),
            'application/vnd.other+json',
          ),
        201,
      ),
      input(
        'thousands of kernels',
        () =>
          push(
            largestManifest(layer).replaceAll('unikernel.console', 'unikernel.kernel'),
            IMAGE_MANIFEST,
          ),
        400,
      ),
      input(
        'an index of 2000 entries',
        async () => {
          const child = await registry.request(manifest('live'))
          const descriptor = {
            mediaType: IMAGE_MANIFEST,
            digest: child.headers.get('docker-content-digest'),
            size: Number(child.headers.get('content-length')),
            platform: { os: 'linux', architecture: 'amd64' },
          }
          return push(
            JSON.stringify({
              schemaVersion: 2,
              mediaType: IMAGE_INDEX,
              manifests: numbers(2_000).map(() => descriptor),
              annotations: { unique: next() },
            }),
            IMAGE_INDEX,
          )
        },
        201,
      ),
      input('deep lists', () => push(`{"x":${'['.repeat(8_000_000)}`, IMAGE_MANIFEST), 400),
      input(
        'many members',
        () =>
          push(
            `{"x":{${numbers(600_000)
              .map((index) => `"${index}":0`)
              .join(',')}}}`,
            IMAGE_MANIFEST,
          ),
        400,
      ),
    ],
    'DELETE /v2/*repository/manifests/:reference': [
      input(
        'the largest manifest',
        async () => {
          const pushed = await push(largestManifest(layer), IMAGE_MANIFEST)
          return registry.request(manifest(pushed.headers.get('docker-content-digest') ?? ''), {
            method: 'DELETE',
          })
        },
        202,
      ),
    ],
    'GET /v2/*repository/tags/list': [read(`/v2/${MANY}/tags/list?n=1000`)],
    'GET /v2/*repository/referrers/:digest': [read(`/v2/${MANY}/referrers/${digestOf('subject')}`)],
    'GET /v2/_catalog': [read('/v2/_catalog?n=1000')],
    'GET /v2/*repository/_oci/tag-history/:tag': [read(`/v2/${MANY}/_oci/tag-history/live?n=1000`)],
  }
}
