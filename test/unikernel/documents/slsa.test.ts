import { Ajv2020 } from 'ajv/dist/2020.js'
import formats from 'ajv-formats'
import { describe, expect, it } from 'vitest'
import { BUILD_TYPE, slsaProvenance } from '../../../src/unikernel/documents/slsa.ts'
import { fixtureImage } from '../fixture-image.ts'
import { allImages, CONTEXT, unsayable } from './images.ts'

// Made from in-toto's Statement and ResourceDescriptor v1 and from SLSA's Provenance v1.
const text = { type: 'string', minLength: 1 }
const uri = { type: 'string', format: 'uri' }

function object(required: Record<string, unknown>, optional: Record<string, unknown> = {}) {
  return {
    type: 'object',
    properties: { ...required, ...optional },
    required: Object.keys(required),
    additionalProperties: false,
  }
}

// in-toto, "DigestSet": at least one, each of a known algorithm.
const digest = {
  type: 'object',
  minProperties: 1,
  properties: {
    md5: { pattern: '^[0-9a-f]{32}$' },
    sha256: { pattern: '^[0-9a-f]{64}$' },
    sha512: { pattern: '^[0-9a-f]{128}$' },
    gitCommit: { pattern: '^([0-9a-f]{40}|[0-9a-f]{64})$' },
  },
  additionalProperties: false,
}
const descriptor = {
  ...object(
    {},
    {
      name: text,
      uri,
      digest,
      downloadLocation: uri,
      mediaType: text,
      annotations: { type: 'object' },
    },
  ),
  anyOf: [{ required: ['uri'] }, { required: ['digest'] }],
}
const descriptors = { type: 'array', items: descriptor }
const STATEMENT = object({
  _type: { const: 'https://in-toto.io/Statement/v1' },
  subject: { type: 'array', minItems: 1, items: object({ name: text, digest }) },
  predicateType: { const: 'https://slsa.dev/provenance/v1' },
  predicate: object({
    buildDefinition: object(
      { buildType: uri, externalParameters: { type: 'object', minProperties: 1 } },
      { internalParameters: { type: 'object' }, resolvedDependencies: descriptors },
    ),
    runDetails: object({ builder: object({ id: uri }) }, { byproducts: descriptors }),
  }),
})

const ajv = new Ajv2020({ strict: true, strictTypes: false, strictRequired: false })
formats.default(ajv)
const validate = ajv.compile(STATEMENT)
const found = (statement: unknown) => {
  validate(JSON.parse(JSON.stringify(statement)))
  return validate.errors ?? []
}

type Descriptor = {
  name: string
  uri: string
  digest?: Record<string, string>
  downloadLocation?: string
}
type Statement = {
  subject: Descriptor[]
  predicate: {
    buildDefinition: {
      buildType: string
      externalParameters: Record<string, unknown>
      internalParameters: { host: object; environment: Record<string, string> }
      resolvedDependencies: Descriptor[]
    }
    runDetails: { builder: { id: string }; byproducts: Descriptor[] }
  }
}

async function statementOf(build: string, replaced = {}): Promise<Statement> {
  const image = await fixtureImage(build, replaced)
  return JSON.parse(JSON.stringify(slsaProvenance(image, CONTEXT)))
}

const listed = ({ predicate }: Statement, name: string) =>
  predicate.buildDefinition.resolvedDependencies.filter((one) => one.name === name)

describe('the provenance of an image', () => {
  it('is a valid in-toto statement of SLSA 1, for any image', async () => {
    for (const [name, image] of await allImages()) {
      const statement = slsaProvenance(image, CONTEXT)
      expect(unsayable(statement), name).toEqual([])
      expect(found(statement), name).toEqual([])
    }
  })

  it('would be invalid with an unknown field or digest', async () => {
    const statement = await statementOf('hello-key-1')
    const [subject] = statement.subject
    expect(found({ ...statement, other: 1 })).not.toEqual([])
    for (const digest of [{}, { sha256: 'AA' }, { sha1: 'a'.repeat(40) }]) {
      expect(found({ ...statement, subject: [{ ...subject, digest }] })).not.toEqual([])
    }
  })

  it('is the same for the same image', async () => {
    expect(await statementOf('hello-key-1')).toEqual(await statementOf('hello-key-1'))
  })

  it('distinguishes kernel and debug twin of the same name', async () => {
    for (const [name, image] of await allImages()) {
      const { subject }: Statement = JSON.parse(JSON.stringify(slsaProvenance(image, CONTEXT)))
      expect(new Set(subject.map((one) => one.name)).size, name).toBe(subject.length)
    }
    const image = await fixtureImage('hello-key-1')
    const layers = image.layers.map((layer) => ({ ...layer, title: 'hello-key.hvt' }))
    expect(slsaProvenance({ ...image, layers }, CONTEXT)).toMatchObject({
      subject: [{ name: 'hello-key.hvt' }, { name: 'hello-key.hvt.debug' }],
    })
  })

  it('has the kernel and its debug twin as subjects', async () => {
    const { subject } = await statementOf('hello-key-1')
    expect(subject).toEqual([
      {
        name: 'hello-key.hvt',
        digest: { sha256: '3e8948195482be647df14cfe5bd736a6d2ce7c46da68f3af47c9df18d209a887' },
      },
      { name: 'hello-key.hvt.debug', digest: { sha256: expect.stringMatching(/^[0-9a-f]{64}$/) } },
    ])
  })

  it('has the request, the build host and the byproducts', async () => {
    const { predicate } = await statementOf('hello-key-1')
    const { buildDefinition, runDetails } = predicate
    expect(buildDefinition.buildType).toBe(BUILD_TYPE)
    expect(buildDefinition.externalParameters).toEqual({
      target: 'hvt',
      packages: ['hello-key.1.0.0'],
      inputId: 'd9f3ed4f3b71237666fc6b1285d9fed7d7a2eead9df0e78262ab32ff1e4f0474',
    })
    const { host, environment } = buildDefinition.internalParameters
    expect(host).toMatchObject({ os: 'linux', distribution: 'debian', version: '12' })
    expect(environment).toMatchObject({ SOURCE_DATE_EPOCH: '1589138087', HOME: '/root' })
    expect(runDetails.builder.id).toBe('https://registry.example:5000/actors/token:ci%20builds')
    expect(runDetails.byproducts.map(({ name }) => name)).toEqual(['hello-key.build-hashes'])
  })

  it('has the digests of inputs and sources, and the commits', async () => {
    const statement = await statementOf('hello-key-2')
    expect(listed(statement, 'opam-switch')).toMatchObject([
      {
        uri: expect.stringMatching(
          /^https:\/\/registry\.example:5000\/v2\/hello\/key\/blobs\/sha256:/,
        ),
        digest: { sha256: expect.stringMatching(/^[0-9a-f]{64}$/) },
      },
    ])
    expect(listed(statement, 'lwt')).toMatchObject([
      {
        uri: 'pkg:opam/lwt@6.1.2',
        downloadLocation: 'https://github.com/ocsigen/lwt/archive/refs/tags/6.1.2.tar.gz',
        digest: { md5: '00bc7eb2772a28530f7365a7040f0c4f' },
      },
    ])
    expect(listed(statement, 'bash')).toMatchObject([
      { uri: 'pkg:deb/debian/bash@5.2.15-2%2Bb8?distro=debian-12' },
    ])
    const commit = '0123456789abcdef0123456789abcdef01234567'
    const pinned = await statementOf('hello-key-2', {
      'opam-switch': `installed: ["a.1"] pinned: ["a.1"] package "a" {
        version: "1" url { src: "git+https://example.org/a.git#${commit}" }
        extra-source "a.patch" { src: "https://example.org/a.patch" checksum: "md5=${'a'.repeat(32)}" } }`,
    })
    expect(listed(pinned, 'a')).toMatchObject([
      {
        digest: { gitCommit: commit },
        downloadLocation: `git+https://example.org/a.git@${commit}`,
      },
    ])
    expect(listed(pinned, 'a: a.patch')).toMatchObject([
      { uri: 'https://example.org/a.patch', digest: { md5: 'a'.repeat(32) } },
    ])
  })

  it('keeps every variable, also one named like a member of Object', async () => {
    const { predicate } = await statementOf('hello-key-1', {
      'build-environment': '__proto__=1\nconstructor=2\n',
    })
    const { environment } = predicate.buildDefinition.internalParameters
    expect(Object.entries(environment)).toEqual([
      ['__proto__', '1'],
      ['constructor', '2'],
    ])
  })
})
