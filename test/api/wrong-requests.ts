import { fixture } from '../images/image-fixtures.ts'
import { digestOf } from '../support/digest.ts'
import type { Operation } from './openapi-document.ts'

export const keyOf = ({ method, path }: Pick<Operation, 'method' | 'path'>) => `${method} ${path}`

/** Webhooks have their own test, because their refusals depend on their state. */
export const isWebhook = ({ path }: Pick<Operation, 'path'>) => path.startsWith('/api/v1/webhooks')

const UPLOAD_SECRET = `rku_${'a'.repeat(43)}`
/** The id of a build that nobody made. */
export const BUILD_ID = '00000000-0000-4000-8000-000000000001'
const TOKEN_ID = '00000000-0000-4000-8000-000000000000'
/** The checksum of `UPLOAD_SECRET`: a mistyped secret is not looked up. */
const CHECKSUM = '36b7c2e5'

/** True for the operations of a host, which have their own test: a host is no caller of the others. */
export const isOfHost = ({ path, place }: Operation) =>
  path === '/api/v1/hosts/enrol' || place.node['x-access'] === 'host'

/** True for the operations on one host, which have their own test, as webhooks have. */
export const isManagement = ({ path }: Pick<Operation, 'path'>) =>
  /^\/api\/v1\/hosts\/\{host\}(?:\/approve)?$/.test(path)

/** Returns the path of an operation, by default for resources that do not exist. */
export function pathOf(operation: Operation, repository = 'a/b'): string {
  return (
    operation.path
      .replace('{repository}', repository)
      .replace('{digest}', digestOf('what nobody pushed'))
      .replace('{inputId}', '0'.repeat(64))
      .replace('{ecosystem}', 'opam')
      .replace('{format}', 'spdx')
      .replace('{id}', TOKEN_ID)
      .replace('{build}', BUILD_ID)
      .replace('{deployment}', BUILD_ID)
      .replace('{session}', BUILD_ID)
      .replace('{secret}', `${UPLOAD_SECRET}_${CHECKSUM}`)
      .replace(/\{\w+\}/g, 'missing')
      .replace(/\/sources$/, '/sources?from=github.com/a/b')
      // Sessions of others: everybody may have those of his own.
      .replace(/\/sessions$/, '/sessions?actor=admin')
  )
}

/** Returns the form of an image with one small kernel. */
export function kernelForm(): FormData {
  const form = new FormData()
  form.append('kernel', new Blob([new Uint8Array(fixture('elf/mini-net.hvt'))]), 'mini-net.hvt')
  return form
}

/** Returns the form of a failed build. */
export function failureForm(): FormData {
  const form = new FormData()
  for (const file of ['console', 'script', 'readme'])
    form.append(file, new Blob([`the ${file}`]), file)
  return form
}

const CREDENTIAL = { name: 'taken', repositories: ['a/**'], actions: ['push'] }
const POLICY = {
  name: 'taken',
  issuer: 'https://ci.example',
  audience: 'https://registry.example',
  conditions: { repository: 'octo/kernel' },
  repositories: ['a/b'],
  actions: ['push'],
}

const ENROLMENT = { name: 'web-1', repositories: ['a/**'] }
const WEBHOOK = { name: 'taken', url: 'https://receiver.example/', repositories: ['a/b'] }

/** Returns a valid body for an operation; undefined if it takes none. */
export function rightBody(operation: Operation): unknown {
  const bodies: Record<string, unknown> = {
    'POST /api/v1/repositories/{repository}/images': kernelForm(),
    'POST /api/v1/repositories/{repository}/builds': failureForm(),
    'PUT /api/v1/repositories/{repository}/settings': { visibility: 'public' },
    'POST /api/v1/credentials': CREDENTIAL,
    'POST /api/v1/policies': POLICY,
    'PUT /api/v1/rollouts/{name}': { repositories: ['a/**'] },
    'POST /api/v1/enrolments': ENROLMENT,
    'POST /api/v1/hosts': { ...ENROLMENT, name: 'taken' },
    'PATCH /api/v1/hosts/{host}': { labels: { site: 'a' } },
    'POST /api/v1/hosts/{host}/approve': { fingerprint: 'a'.repeat(43), repositories: ['a/**'] },
    'POST /api/v1/policies/test': {
      token: `${encoded({ alg: 'RS256', kid: 'k' })}.${encoded(CLAIMS)}.c2lnbmF0dXJl`,
    },
    'POST /api/v1/webhooks': WEBHOOK,
    'PATCH /api/v1/webhooks/{name}': { paused: true },
    'POST /api/v1/webhooks/{name}/redeliver': { after: '2026-01-01T00:00:00Z' },
    'PUT /upload/{secret}': new Blob(['a file']),
    'PUT /upload/{secret}/{file}': new Blob(['a file']),
  }
  return bodies[keyOf(operation)]
}

const encoded = (part: object) => Buffer.from(JSON.stringify(part)).toString('base64url')
const CLAIMS = { iss: 'https://ci.example', sub: 'a', aud: 'b', jti: 'c', iat: 1, exp: 2 }

/** An invalid request: another path or another body. */
export type Wrong = { readonly path?: string; readonly sent?: unknown }

/** Invalid requests, by operation. */
export const WRONG: Readonly<Record<string, readonly Wrong[]>> = {
  'GET /api/v1/repositories/{repository}/deployments': [
    { path: '/api/v1/repositories/a/b/deployments?n=all' },
    { path: '/api/v1/repositories/a/b/deployments?digest=sha256:1' },
    { path: '/api/v1/repositories/a/b/deployments?last=x' },
  ],
  'PUT /api/v1/rollouts/{name}': [
    { path: '/api/v1/rollouts/-', sent: { repositories: ['a/b'] } },
    { sent: { repositories: [] } },
    { sent: { repositories: ['a/b'], canary: '101%' } },
    { sent: { repositories: ['a/b'], batch: 0 } },
    { sent: { repositories: ['a/b'], settleSeconds: -1 } },
    { sent: { repositories: ['a/b'], onFailure: 'cry' } },
    { sent: { repositories: ['a/b'], require: { Site: 'a' } } },
    { sent: { repositories: ['a/b'], more: 1 } },
  ],
  'POST /api/v1/deployments/{deployment}/retry': [
    { path: '/api/v1/deployments/7/retry' },
    { path: `/api/v1/deployments/${BUILD_ID}/retry?host=a&host=b` },
  ],
  'GET /api/v1/deployments': [
    { path: '/api/v1/deployments?n=all' },
    { path: '/api/v1/deployments?state=open' },
    { path: '/api/v1/deployments?last=x' },
    { path: `/api/v1/deployments?last=${BUILD_ID}` },
  ],
  'GET /api/v1/deployments/{deployment}': [
    { path: '/api/v1/deployments/7' },
    { path: `/api/v1/deployments/${BUILD_ID}?wait=60` },
  ],
  'GET /api/v1/repositories/{repository}/builds': [
    { path: '/api/v1/repositories/a/b/builds?n=all' },
    { path: '/api/v1/repositories/a/b/builds?platform=Debian%2012' },
    { path: '/api/v1/repositories/a/b/builds?result=ok' },
    { path: '/api/v1/repositories/a/b/builds?input=1' },
    { path: '/api/v1/repositories/a/b/builds?kernel=sha256:1' },
    { path: '/api/v1/repositories/a/b/builds?last=x' },
  ],
  'POST /api/v1/repositories/{repository}/builds': [
    { sent: { console: 'json' } },
    { sent: new FormData() },
    { sent: kernelForm() },
    { sent: formOfText() },
  ],
  'GET /api/v1/repositories/{repository}/builds/{build}': [
    { path: '/api/v1/repositories/a/b/builds/7' },
  ],
  'GET /api/v1/repositories/{repository}/builds/{build}/console': [
    { path: '/api/v1/repositories/a/b/builds/7/console' },
  ],
  'GET /api/v1/repositories/{repository}/builds/{build}/script': [
    { path: '/api/v1/repositories/a/b/builds/latest/script' },
  ],
  'GET /api/v1/repositories/{repository}/builds/{build}/readme': [
    { path: '/api/v1/repositories/a/b/builds/7/readme' },
  ],
  'GET /api/v1/repositories/{repository}/images/{reference}/console': [
    { path: '/api/v1/repositories/a/b/images/sha256:1/console' },
  ],
  'GET /api/v1/repositories/{repository}/images/{reference}/script': [
    { path: '/api/v1/repositories/a/b/images/v1/script?target=x' },
  ],
  'GET /api/v1/repositories/{repository}/images/{reference}/readme': [
    { path: '/api/v1/repositories/a/b/images/v1/readme?abi=x' },
  ],
  'GET /api/v1/repositories/{repository}/images': [
    { path: '/api/v1/repositories/a/b/images?n=all' },
    { path: '/api/v1/repositories/a/b/images?abi=two' },
    { path: '/api/v1/repositories/a/b/images?last=x' },
    { path: '/api/v1/repositories/A/images' },
  ],
  'POST /api/v1/repositories/{repository}/images': [
    { sent: { kernel: 'json' } },
    { sent: new FormData() },
    { sent: kernelForm(), path: '/api/v1/repositories/a/b/images?tag=-' },
    { sent: formOfText() },
  ],
  'GET /api/v1/repositories/{repository}/images/{reference}': [
    { path: '/api/v1/repositories/a/b/images/sha256:1' },
  ],
  'HEAD /api/v1/repositories/{repository}/images/{reference}/kernel': [
    { path: '/api/v1/repositories/a/b/images/sha256:1/kernel' },
  ],
  'GET /api/v1/repositories/{repository}/images/{reference}/kernel': [
    { path: '/api/v1/repositories/a/b/images/sha256:1/kernel' },
    { path: '/api/v1/repositories/a/b/images/v1/kernel?abi=two' },
  ],
  'GET /api/v1/repositories/{repository}/images/{reference}/compare/{other}': [
    { path: '/api/v1/repositories/a/b/images/v1/compare/sha256:1' },
  ],
  'GET /api/v1/repositories/{repository}/images/{reference}/compare': [
    { path: '/api/v1/repositories/a/b/images/sha256:1/compare' },
    { path: '/api/v1/repositories/a/b/images/v1/compare?with=v2' },
  ],
  'GET /api/v1/repositories/{repository}/images/{reference}/documents/{format}': [
    { path: '/api/v1/repositories/a/b/images/v1/documents/pdf' },
    { path: '/api/v1/repositories/a/b/images/sha256:1/documents/spdx' },
  ],
  'GET /api/v1/repositories/{repository}/images/{reference}/dependencies': [
    { path: '/api/v1/repositories/a/b/images/v1/dependencies?package=a%20b' },
    { path: '/api/v1/repositories/a/b/images/sha256:1/dependencies' },
  ],
  'GET /api/v1/repositories/{repository}/images/{reference}/sizes': [
    { path: '/api/v1/repositories/a/b/images/v1/sizes?abi=two' },
  ],
  'GET /api/v1/images': [
    { path: '/api/v1/images?n=all' },
    { path: '/api/v1/images?abi=two' },
    { path: '/api/v1/images?device-count=many' },
    { path: '/api/v1/images?tagged=yes' },
    { path: '/api/v1/images?repository=*/a/*' },
    { path: '/api/v1/images?last=x' },
  ],
  'GET /api/v1/kernels/{digest}': [
    { path: '/api/v1/kernels/sha256:1' },
    { path: `/api/v1/kernels/${digestOf('kernel')}?tagged=yes` },
    { path: `/api/v1/kernels/${digestOf('kernel')}?tag=a/b` },
  ],
  'GET /api/v1/inputs/{inputId}': [
    { path: '/api/v1/inputs/1' },
    { path: `/api/v1/inputs/${'0'.repeat(64)}?tagged=no` },
    { path: `/api/v1/inputs/${'0'.repeat(64)}?repository=*/a/*` },
  ],
  'GET /api/v1/packages/{ecosystem}/{name}': [
    { path: '/api/v1/packages/npm/left-pad' },
    { path: '/api/v1/packages/opam/mirage?version=%3E%3E' },
    { path: '/api/v1/packages/opam/mirage?last=1' },
    { path: '/api/v1/packages/opam/mirage?tagged=yes' },
    { path: '/api/v1/packages/opam/mirage?tag=a/b' },
    { path: '/api/v1/packages/opam/mirage?repository=A' },
  ],
  'GET /api/v1/sources': [
    { path: '/api/v1/sources' },
    { path: '/api/v1/sources?from=github.com/a/b&checksum=0' },
    { path: '/api/v1/sources?from=mirage' },
    { path: '/api/v1/sources?from=https://example.org/archive.tbz' },
    { path: '/api/v1/sources?checksum=sha256%3D12' },
    { path: '/api/v1/sources?from=github.com/a/b&last=1' },
    { path: '/api/v1/sources?from=github.com/a/b&tagged=yes' },
  ],
  'POST /api/v1/repositories/{repository}/tags/{tag}/upload-urls': [
    { sent: { ttlSeconds: 0 } },
    { sent: { ttlSeconds: 'long' } },
    { path: '/api/v1/repositories/a/b/tags/-/upload-urls' },
  ],
  'GET /api/v1/repositories/{repository}/tags/{tag}/history': [
    { path: '/api/v1/repositories/a/b/tags/v1/history?last=x' },
    { path: '/api/v1/repositories/a/b/tags/-/history' },
  ],
  'POST /api/v1/repositories/{repository}/tags/{tag}/rollback': [
    { sent: { digest: 'v1' } },
    { path: '/api/v1/repositories/a/b/tags/v1/rollback', sent: { digest: digestOf('elsewhere') } },
    { path: '/api/v1/repositories/a/b/tags/-/rollback' },
  ],
  'GET /api/v1/repositories/{repository}/settings': [{ path: '/api/v1/repositories/A/settings' }],
  'DELETE /api/v1/repositories/{repository}': [{ path: '/api/v1/repositories/A' }],
  'PUT /api/v1/repositories/{repository}/settings': [
    { sent: { visibility: 'secret' } },
    { sent: { immutableTags: ['/'] } },
    { sent: { provenance: 'some' } },
    { sent: { surprise: 1 } },
  ],
  'GET /api/v1/credentials': [{ path: '/api/v1/credentials?n=all' }],
  'POST /api/v1/credentials': [{ sent: {} }, { sent: '[' }, { sent: { ...CREDENTIAL, name: 'A' } }],
  'POST /api/v1/credentials/{name}/rotate-secret': [
    { sent: { overlapSeconds: 'long' } },
    { sent: { overlapSeconds: 59 } },
  ],
  'GET /api/v1/hosts': [
    { path: '/api/v1/hosts?n=all' },
    { path: '/api/v1/hosts?state=lost' },
    { path: '/api/v1/hosts?label=site' },
    { path: '/api/v1/hosts?repository=A' },
    { path: '/api/v1/hosts?kernel=sha256:1' },
    { path: '/api/v1/hosts?last=a:b' },
  ],
  'POST /api/v1/hosts': [{ sent: {} }, { sent: { ...ENROLMENT, name: 'A' } }],
  'PATCH /api/v1/hosts/{host}': [
    { sent: { labels: 'a' } },
    { sent: { networks: 'here' } },
    { sent: { surprise: 1 } },
  ],
  'POST /api/v1/hosts/{host}/approve': [
    { sent: { fingerprint: 'a' } },
    { sent: { fingerprint: 'a', repositories: ['/'] } },
  ],
  'POST /api/v1/enrolments': [
    { sent: {} },
    { sent: { ...ENROLMENT, name: 'enrol' } },
    { sent: { ...ENROLMENT, repositories: [] } },
    { sent: { ...ENROLMENT, networks: ['10.0.0.0/33'] } },
    { sent: { ...ENROLMENT, labels: { Site: 'a' } } },
    { sent: { ...ENROLMENT, ttlSeconds: 604_801 } },
  ],
  'GET /api/v1/runs': [{ path: '/api/v1/runs?running=yes' }],
  'GET /api/v1/policies': [{ path: '/api/v1/policies?n=all' }],
  'POST /api/v1/policies': [{ sent: {} }, { sent: { ...POLICY, conditions: {} } }],
  'POST /api/v1/policies/test': [{ sent: {} }, { sent: { token: 'no token' } }],
  'GET /api/v1/events': [
    { path: '/api/v1/events?after=1' },
    { path: '/api/v1/events?type=image.burnt' },
    { path: '/api/v1/events?wait=61' },
    { path: '/api/v1/events?snapshot=yes' },
    { path: '/api/v1/events?repository=A' },
  ],
  'GET /api/v1/webhooks': [{ path: '/api/v1/webhooks?n=all' }],
  'POST /api/v1/webhooks': [{ sent: {} }, { sent: { ...WEBHOOK, url: 'http://10.0.0.1/' } }],
  'PATCH /api/v1/webhooks/{name}': [{ sent: { surprise: 1 } }, { sent: { paused: 'yes' } }],
  'POST /api/v1/webhooks/{name}/rotate-secret': [{ sent: { overlapSeconds: 'long' } }],
  'GET /api/v1/webhooks/{name}/deliveries': [
    { path: '/api/v1/webhooks/missing/deliveries?n=all' },
    { path: '/api/v1/webhooks/missing/deliveries?state=lost' },
    { path: '/api/v1/webhooks/missing/deliveries?last=x' },
  ],
  'POST /api/v1/webhooks/{name}/redeliver': [
    { sent: {} },
    { sent: { after: '2026-01-01T00:00:00Z', states: ['lost'] } },
  ],
  'DELETE /api/v1/tokens/{id}': [{ path: '/api/v1/tokens/x' }],
  'GET /api/v1/audit': [
    { path: '/api/v1/audit?n=all' },
    { path: '/api/v1/audit?since=then' },
    { path: '/api/v1/audit?before=x' },
    { path: '/api/v1/audit?after=x' },
  ],
}

/** Returns a form whose kernel is text instead of a file. */
function formOfText(): FormData {
  const form = new FormData()
  form.append('kernel', 'a kernel')
  return form
}
