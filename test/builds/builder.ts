import { expect } from 'vitest'
import type { Digest } from '../../src/oci/digest.ts'
import { imageManifest, type Role } from '../../src/unikernel/format.ts'
import { basic, makeCredential } from '../auth/credentials-client.ts'
import { type Build, FILE_ROLES, FILES, fixtureOf } from '../images/image-fixtures.ts'
import { digestOf } from '../support/digest.ts'
import { IMAGE_MANIFEST } from '../support/media-types.ts'
import type { TestRegistry } from '../support/registry.ts'

type Server = Pick<TestRegistry, 'anonymous'>

/** A client with a credential of its own, which pushes as `oras` and `curl` do. */
export class Builder {
  readonly name: string
  readonly authorization: string

  private constructor(name: string, secret: string) {
    this.name = name
    this.authorization = basic(name, secret)
  }

  static async open(registry: TestRegistry): Promise<Builder> {
    const { name, secret } = await makeCredential(registry, {
      repositories: ['**'],
      actions: ['pull', 'push'],
    })
    return new Builder(name, secret)
  }

  request(server: Server, path: string, init: RequestInit = {}): Promise<Response> {
    const headers = { authorization: this.authorization, ...(init.headers as object) }
    return server.anonymous(path, { ...init, headers })
  }

  /** Pushes a fixture build blob by blob. The same build has the same manifest. */
  async push(
    server: Server,
    repository: string,
    tag: string,
    build: Build = 'hello-key-1',
    headers: Record<string, string> = {},
  ): Promise<Pushed> {
    const files = FILE_ROLES.map((role) => ({ role, bytes: fixtureOf(build, role) }))
    for (const bytes of [Buffer.from('{}'), ...files.map((file) => file.bytes)]) {
      const digest = digestOf(bytes)
      const blob = `/v2/${repository}/blobs/${digest}`
      if ((await this.request(server, blob, { method: 'HEAD' })).status === 200) continue
      const upload = `/v2/${repository}/blobs/uploads/?digest=${digest}`
      const stored = await this.request(server, upload, {
        method: 'POST',
        headers: { 'content-type': 'application/octet-stream' },
        body: new Uint8Array(bytes),
      })
      expect(stored.status).toBe(201)
    }
    const manifest = imageManifest({
      files: files.map(({ role, bytes }) => ({
        role: role as Role,
        title: FILES[role],
        digest: digestOf(bytes) as Digest,
        size: bytes.length,
      })),
      config: undefined,
      created: '2026-05-20T18:07:42Z',
    })
    return this.put(server, repository, tag, manifest, headers)
  }

  /** Puts a manifest. */
  async put(
    server: Server,
    repository: string,
    reference: string,
    manifest: Uint8Array | string,
    headers: Record<string, string> = {},
  ): Promise<Pushed> {
    const answer = await this.request(server, `/v2/${repository}/manifests/${reference}`, {
      method: 'PUT',
      headers: { 'content-type': IMAGE_MANIFEST, ...headers },
      body: typeof manifest === 'string' ? manifest : new Uint8Array(manifest),
    })
    const error = answer.status === 201 ? '' : await answer.text()
    return {
      status: answer.status,
      error,
      digest: answer.headers.get('docker-content-digest') ?? '',
      build: answer.headers.get('rookery-build'),
    }
  }
}

export type Pushed = {
  readonly status: number
  /** The body of a refusal. */
  readonly error: string
  readonly digest: string
  /** The id of its build; null when the push was none. */
  readonly build: string | null
}
