import { randomBytes } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Login } from '../../src/client/login.ts'
import { RemoteRepository } from '../../src/client/remote-repository.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { IMAGE_MANIFEST } from '../../src/oci/media-type.ts'
import { parseRepository } from '../../src/oci/reference.ts'
import { FakeRegistry, failure, first } from './fake-registry.ts'

const NAME = parseRepository('builds/www')
const CONTENT = randomBytes(300_000)
const DIGEST = digestOf(CONTENT)

let registry: FakeRegistry
let elsewhere: FakeRegistry
const opened: RemoteRepository[] = []
const waits: string[] = []

beforeEach(async () => {
  registry = await FakeRegistry.open()
  elsewhere = await FakeRegistry.open()
  waits.length = 0
})

afterEach(async () => {
  for (const repository of opened.splice(0)) await repository.close()
  await registry.close()
  await elsewhere.close()
})

function repository(login?: Login): RemoteRepository {
  const one = new RemoteRepository(registry.place, NAME, {
    login,
    actions: 'pull,push',
    idleMilliseconds: 5_000,
    onWait: (_milliseconds, reason) => waits.push(reason),
  })
  opened.push(one)
  return one
}

const body = { size: CONTENT.length, open: () => CONTENT }
const push = (credential?: Login) => repository(credential).putBlob(DIGEST, 'www.hvt', body)

const end = ([status, headers, bytes]: ReturnType<typeof failure>) => {
  return (response: ServerResponse) => void response.writeHead(status, headers).end(bytes)
}
const isPut = ({ method, path }: { method: string; path: string }) =>
  method === 'PUT' && path.startsWith('/upload/')

describe('a blob', () => {
  it('is uploaded in one piece, and the query of its Location is kept', async () => {
    expect(await push()).toBe(true)
    expect(registry.blobs.get(DIGEST)?.equals(CONTENT)).toBe(true)
    expect(registry.seen.map(({ method }) => method)).toEqual(['HEAD', 'POST', 'PUT'])
    const [, , put] = registry.seen
    expect(put?.headers['content-length']).toBe(String(CONTENT.length))
    expect(put?.query.get('state')).toBe('a b')
  })

  it('that the repository has is not uploaded again', async () => {
    registry.put(CONTENT)
    expect(await push()).toBe(false)
    expect(registry.seen.map(({ method }) => method)).toEqual(['HEAD'])
  })

  it('is retried after a transient failure', async () => {
    for (const status of [500, 502, 503, 504]) {
      registry.blobs.clear()
      registry.interfere = first(1, isPut, (response) => response.writeHead(status).end())
      expect(await push(), String(status)).toBe(true)
      expect(registry.blobs.size).toBe(1)
    }
  })

  it('is retried after a broken connection', async () => {
    let cuts = 2
    registry.cut = (method) => method === 'PUT' && cuts-- > 0
    expect(await push()).toBe(true)
    expect(waits).toHaveLength(2)
    expect(registry.blobs.get(DIGEST)?.equals(CONTENT)).toBe(true)
  })

  it('whose response was lost is not uploaded twice', async () => {
    registry.interfere = first(1, isPut, (response, seen) => {
      registry.blobs.set(DIGEST, seen.body)
      response.destroy()
    })
    expect(await push()).toBe(true)
    expect(registry.seen.filter(isPut)).toHaveLength(1)
  })

  it('is uploaded anew when the registry lost the upload', async () => {
    registry.interfere = first(1, isPut, end(failure(404, 'BLOB_UPLOAD_UNKNOWN', 'gone')))
    expect(await push()).toBe(true)
  })

  it('waits for the seconds of Retry-After', async () => {
    registry.interfere = first(
      1,
      ({ method }) => method === 'POST',
      (response) => response.writeHead(429, { 'retry-after': '1' }).end(),
    )
    const before = Date.now()
    expect(await push()).toBe(true)
    expect(Date.now() - before).toBeGreaterThan(900)
    expect(waits).toEqual([expect.stringContaining('status 429')])
  })

  it.each(['1.5', '-5', 'soon', 'Sun, 1.5'])(
    'is retried with backoff when Retry-After is %s, which is neither whole seconds nor a date',
    async (header) => {
      registry.interfere = first(
        1,
        ({ method }) => method === 'POST',
        (response) => response.writeHead(429, { 'retry-after': header }).end(),
      )
      const before = Date.now()
      expect(await push()).toBe(true)
      expect(Date.now() - before).toBeGreaterThan(350)
    },
  )

  it('is given up when Retry-After is a date in an hour', async () => {
    const date = new Date(Date.now() + 3_600_000).toUTCString()
    registry.interfere = (_seen, response) => {
      response.writeHead(503, { 'retry-after': date }).end()
      return true
    }
    await expect(push()).rejects.toThrow('status 503')
    expect(registry.seen).toHaveLength(1)
  })

  it('is given up with an explanation when Retry-After is an hour', async () => {
    registry.interfere = (_seen, response) => {
      response.writeHead(429, { 'retry-after': '3600' }).end()
      return true
    }
    await expect(push()).rejects.toThrow(/status 429; it asks for a wait of 3600 s$/)
    expect(registry.seen).toHaveLength(1)
  })

  it('is given up after five attempts', async () => {
    registry.interfere = (_seen, response) => {
      response.writeHead(503, { 'retry-after': '0' }).end()
      return true
    }
    await expect(push()).rejects.toThrow('status 503')
    expect(registry.seen).toHaveLength(5)
  })

  it('that is refused fails with one line and without retries', async () => {
    const message = 'too\r\nlarge \u001b[31m'
    registry.interfere = first(9, isPut, end(failure(413, 'SIZE_INVALID', message)))
    await expect(push()).rejects.toThrow(
      /^127\.0\.0\.1:\d+ refused www\.hvt: too large \[31m \(SIZE_INVALID\); it is larger[^\n]+$/,
    )
    expect(registry.seen.filter(isPut)).toHaveLength(1)
  })
})

describe('the Location of an upload', () => {
  const located = (location: string | undefined) =>
    first(
      1,
      ({ method }) => method === 'POST',
      (response) => {
        response.writeHead(202, location === undefined ? {} : { location }).end()
      },
    )

  it('may be absolute, relative, and without a query', async () => {
    for (const location of [`http://${registry.host}/upload/x`, '/upload/x', '/upload/x?a=b&c']) {
      registry.blobs.clear()
      registry.interfere = located(location)
      expect(await push(), location).toBe(true)
    }
  })

  it('on another host is used without the login', async () => {
    registry.interfere = located(`http://${elsewhere.host}/upload/x`)
    await push({ kind: 'token', token: 'secret' })
    expect(registry.seen.every(({ headers }) => headers.authorization === 'Bearer secret')).toBe(
      true,
    )
    expect(elsewhere.blobs.has(DIGEST)).toBe(true)
    expect(elsewhere.seen.map(({ headers }) => headers.authorization)).toEqual([undefined])
  })

  it('that is missing or malformed is an error', async () => {
    for (const location of [undefined, 'http://', 'http://[', '']) {
      registry.interfere = located(location)
      const pushed = push()
      // An empty Location is the URL of the request, which is not an upload.
      await expect(pushed, String(location)).rejects.toThrow(/Location|refused/)
    }
  })

  it('may redirect the upload, which then starts over', async () => {
    for (const status of [307, 308]) {
      elsewhere.blobs.clear()
      registry.interfere = first(1, isPut, (response) => {
        response.writeHead(status, { location: `http://${elsewhere.host}/upload/y?${query()}` })
        response.end()
      })
      expect(await push({ kind: 'token', token: 'secret' })).toBe(true)
      expect(elsewhere.blobs.get(DIGEST)?.equals(CONTENT)).toBe(true)
      expect(elsewhere.seen.at(-1)?.headers.authorization).toBeUndefined()
    }
  })

  it('may not redirect endlessly, nor change the method of the upload', async () => {
    registry.interfere = ({ method }, response) => {
      if (method !== 'PUT') return false
      response.writeHead(307, { location: '/upload/again' }).end()
      return true
    }
    await expect(push()).rejects.toThrow(/more than 5 times/)
    registry.interfere = first(1, isPut, (response) => {
      response.writeHead(301, { location: 'https://other.example/' }).end()
    })
    await expect(push()).rejects.toThrow(/redirects www\.hvt to https:\/\/other\.example/)
  })

  const query = () => `digest=${DIGEST}`
})

describe('a manifest', () => {
  const bytes = Buffer.from('{"schemaVersion":2}')

  it('is found unchanged by tag and by digest', async () => {
    const one = repository()
    await one.putManifest('v1', IMAGE_MANIFEST, bytes, digestOf(bytes))
    for (const at of ['v1', digestOf(bytes)]) {
      const found = await one.findManifest(at)
      expect(found).toEqual({ bytes, mediaType: IMAGE_MANIFEST, digest: digestOf(bytes) })
    }
    expect(await one.findManifest('v2')).toBeUndefined()
  })

  it('for which the registry responds with another digest is an error', async () => {
    const other = digestOf(CONTENT)
    registry.interfere = (_seen, response) => {
      response.writeHead(201, { 'docker-content-digest': other }).end()
      return true
    }
    const put = repository().putManifest('v1', IMAGE_MANIFEST, bytes, digestOf(bytes))
    await expect(put).rejects.toThrow(/has other bytes: the manifest v1 must have/)
  })

  it('that is served with other bytes is an error', async () => {
    registry.manifests.set(DIGEST, { type: IMAGE_MANIFEST, bytes })
    await expect(repository().findManifest(DIGEST)).rejects.toThrow(/has other bytes/)
  })

  it('that is invalid fails with the message of the registry', async () => {
    registry.interfere = (_seen, response) => {
      end(failure(400, 'MANIFEST_INVALID', 'config.target says spt, but the image has hvt'))(
        response,
      )
      return true
    }
    const put = repository().putManifest('v1', IMAGE_MANIFEST, bytes, digestOf(bytes))
    await expect(put).rejects.toThrow('config.target says spt, but the image has hvt')
  })

  it('of eight megabytes and more is not read', async () => {
    registry.interfere = (_seen, response) => {
      response.writeHead(200).end(Buffer.alloc(9 * 1024 * 1024))
      return true
    }
    await expect(repository().findManifest('v1')).rejects.toThrow(/more than 8388608 bytes/)
  })
})

describe('a range', () => {
  it('is read, also from a registry without ranges', async () => {
    registry.put(CONTENT)
    const right = CONTENT.subarray(70_000, 70_011)
    expect((await repository().readRange(DIGEST, 70_000, 70_010)).equals(right)).toBe(true)
    registry.interfere = (_seen, response) => {
      response.writeHead(200).end(CONTENT)
      return true
    }
    expect((await repository().readRange(DIGEST, 70_000, 70_010)).equals(right)).toBe(true)
  })

  it('follows a redirect to the blob store, without the login', async () => {
    elsewhere.put(CONTENT)
    registry.interfere = (_seen, response) => {
      const location = `http://${elsewhere.host}/any/blobs/${DIGEST}?signature=x`
      response.writeHead(307, { location }).end()
      return true
    }
    const found = await repository({ kind: 'token', token: 'secret' }).readRange(DIGEST, 1, 3)
    expect(found.equals(CONTENT.subarray(1, 4))).toBe(true)
    expect(elsewhere.seen[0]?.headers).not.toHaveProperty('authorization')
    expect(elsewhere.seen[0]?.headers.range).toBe('bytes=1-3')
  })

  it('that is cut short is retried', async () => {
    registry.put(CONTENT)
    registry.interfere = first(
      1,
      () => true,
      (response) => {
        response.writeHead(206).end(CONTENT.subarray(0, 2))
      },
    )
    expect(await repository().readRange(DIGEST, 0, 9)).toHaveLength(10)
    expect(registry.seen).toHaveLength(2)
  })
})
