import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { builder, builderOutput, errorLine, printedJson } from '../cli/builder.ts'
import { putManifest } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { pushBuild } from './image-fixtures.ts'

let registry: TestRegistry
let host: string
let login: Record<string, string>
const digests: string[] = []

beforeAll(async () => {
  registry = await startRegistry()
  host = registry.url.replace('http://', '')
  for (const [tag, name] of [
    ['v1', 'hello-key-1'],
    ['v2', 'hello-key-2'],
  ] as const) {
    await pushBuild(registry, 'hello/key', tag, name)
    await pushBuild(registry, 'hello/key', 'live', name)
    const answer = await registry.request(`/v2/hello/key/manifests/${tag}`)
    digests.push(answer.headers.get('docker-content-digest') ?? '')
  }
  const scope = encodeURIComponent('repository:hello/key:pull,push')
  const answer = await registry.request(`/token?scope=${scope}`)
  login = { ROOKERY_TOKEN: ((await answer.json()) as { token: string }).token }
})
afterAll(() => registry.close())

const cut = (digest: string | undefined, digits = 12) => (digest ?? '').slice(0, 7 + digits)
const images = '/api/v1/repositories/hello/key/images'

async function read(path: string, ask = registry.request) {
  const answer = await ask(path)
  const body = (await answer.json()) as {
    digest?: string
    verdict?: string
    errors?: [{ code: string; message: string }]
  }
  return { status: answer.status, body, code: body.errors?.[0].code }
}

describe('a shortened digest', () => {
  it('finds an image by as many digits as a table prints, and by seven', async () => {
    for (const digits of [7, 12, 40, 63, 64]) {
      const { body } = await read(`${images}/${cut(digests[0], digits)}`)
      expect(body.digest, String(digits)).toBe(digests[0])
    }
    const [one, two] = digests.map((digest) => cut(digest))
    expect((await read(`${images}/${one}/compare/${two}`)).body.verdict).toBe('different')
    expect((await read(`${images}/${one}/documents/spdx`)).status).toBe(200)
    const kernel = await registry.request(`${images}/${one}/kernel`)
    expect(kernel.headers.get('oci-image-digest')).toBe(digests[0])
  })

  it('is refused when it is too short, or no digits', async () => {
    for (const wrong of [cut(digests[0], 6), 'sha256:', 'sha256:zzzzzzzz', 'md5:1234567890']) {
      expect(await read(`${images}/${wrong}`)).toMatchObject({
        status: 400,
        code: 'DIGEST_INVALID',
      })
    }
    expect(await read(`${images}/sha256:${'0'.repeat(12)}`)).toMatchObject({
      status: 404,
      code: 'MANIFEST_UNKNOWN',
    })
  })

  it('is refused with the number of candidates when there are several', async () => {
    const prefix = cut(digests[0], 9)
    const { default: pg } = await import('pg')
    const client = new pg.Client(registry.databaseUrl)
    await client.connect()
    const row = `update manifests set digest = $1 || right(digest, -length($1)) where digest = $2`
    const pushed = await putManifest(registry, 'hello/key', 'other', {
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.index.v1+json',
      manifests: [],
    })
    const other = pushed.headers.get('docker-content-digest')
    await client.query(`delete from tags where name = 'other'`)
    await client.query(row, [prefix, other])
    await client.end()
    const found = await read(`${images}/${prefix}`)
    expect(found).toMatchObject({ status: 400, code: 'DIGEST_INVALID' })
    expect(found.body.errors?.[0].message).toMatch(/beginning of 2 digests or more: write more/)
    expect((await read(`${images}/${cut(digests[0], 20)}`)).body.digest).toBe(digests[0])
  })

  it('finds nothing in another repository, and is no oracle for a private one', async () => {
    expect(await read(`/api/v1/repositories/hello/kez/images/${cut(digests[0])}`)).toMatchObject({
      status: 404,
      code: 'NAME_UNKNOWN',
    })
    const set = (visibility: string) =>
      registry.request('/api/v1/repositories/hello/key/settings', {
        method: 'PUT',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ visibility }),
      })
    await set('private')
    const hidden = await read(`${images}/${cut(digests[0])}`, registry.anonymous)
    const none = await read(`${images}/sha256:${'0'.repeat(12)}`, registry.anonymous)
    await set('public')
    expect(hidden).toEqual(none)
    expect(hidden.status).toBe(401)
  })

  it('is none for the OCI routes', async () => {
    const answer = await registry.request(`/v2/hello/key/manifests/${cut(digests[0])}`)
    expect(answer.status).toBe(400)
  })
})

describe('the commands accept what tables print', () => {
  it('compare, inspect and rollback', async () => {
    const [one, two] = digests.map((digest) => cut(digest))
    const compared = await printedJson(['compare', `${host}/hello/key@${one}`, two ?? ''])
    expect(compared).toMatchObject({ from: { digest: digests[0] }, to: { digest: digests[1] } })
    const inspected = await printedJson(['inspect', `${host}/hello/key@${one}`])
    expect(inspected).toMatchObject({ digest: digests[0] })
    const live = `${host}/hello/key:live`
    expect(await errorLine(['tag', 'rollback', live, '--if', one ?? ''], login)).toMatch(
      /tag live is at sha256:.*, and not at sha256:/,
    )
    const back = ['tag', 'rollback', live, '--if', two ?? '', '--to', one ?? '']
    expect(await builderOutput(back, login)).toContain(`live is at ${digests[0]}; it was at`)
    expect(await errorLine(['push', 'x', `${host}/hello/key:v1@${one}`])).toMatch(
      /without a digest/,
    )
    expect((await builder(['inspect', `${host}/hello/key@sha256:12`])).status).toBe(2)
    expect(await errorLine(['image', 'delete', `${host}/hello/key@${one}`], login)).toMatch(
      /by its whole digest/,
    )
    expect(await errorLine(['tag', 'delete', live, '--if', two ?? ''], login)).toMatch(
      /tag live is at sha256:.*, and not at sha256:/,
    )
  })
})
