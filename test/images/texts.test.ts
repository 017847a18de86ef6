import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import {
  ask,
  formOf,
  messageOf,
  net,
  newestBuild,
  PLAIN,
  postImage,
  pushBuild,
  pushLayers,
} from './image-fixtures.ts'

const TEXTS = {
  console: Buffer.from('+ make\n\u001b[31mdone\n'),
  script: Buffer.from('#!/bin/sh\nmake\n'),
  readme: Buffer.from('# Hello\n\n<script>alert(1)</script>\n'),
}
const SYNOPSIS = 'A key that says hello'
const DESCRIPTION = 'It prints a key.\n\nAnd then it ends.'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

/** A switch whose root describes itself. */
function switchWith(fields: string): Buffer {
  return Buffer.from(
    `opam-version: "2.0"\nroots: ["hello.1" "dune.3"]\ninstalled: ["hello.1" "dune.3"]\npackage "dune" {\n  opam-version: "2.0"\n  version: "3"\n  synopsis: "Build system"\n}\npackage "hello" {\n  opam-version: "2.0"\n  version: "1"\n${fields}\n}\n`,
  )
}
const ABOUT = switchWith(
  `  synopsis: "${SYNOPSIS}"\n  description: """\n${DESCRIPTION}"""\n  x-mirage-configure: ["mirage" "configure"]`,
)

describe('console, script and README', () => {
  it.each(Object.entries(TEXTS))('are read by one request: %s', async (name, text) => {
    const repository = newRepository()
    const form = formOf('hello-key-1', TEXTS)
    expect((await postImage(registry, repository, '?tag=live', form)).status).toBe(201)
    const build = await newestBuild(registry, repository)
    const { digest } = await ask(registry, `repositories/${repository}/images/live`)
    for (const path of [`images/live`, `images/${digest}`, `builds/${build}`]) {
      const answer = await registry.anonymous(`/api/v1/repositories/${repository}/${path}/${name}`)
      expect(answer.status, path).toBe(200)
      expect(Buffer.from(await answer.arrayBuffer()).equals(text)).toBe(true)
      expect(answer.headers.get('content-type')).toBe('text/plain; charset=utf-8')
      expect(answer.headers.get('x-content-type-options')).toBe('nosniff')
      expect(answer.headers.get('content-security-policy')).toContain('sandbox')
    }
  })

  it('that are not in the image are not found, and the message says so', async () => {
    const repository = newRepository()
    await pushBuild(registry, repository, 'v1')
    const answer = await registry.anonymous(`/api/v1/repositories/${repository}/images/v1/console`)
    expect(answer.status).toBe(404)
    expect(await messageOf(answer)).toMatch(/the image was pushed without its console/)
  })

  it('of oras are known by their titles', async () => {
    const repository = newRepository()
    const readme = { mediaType: PLAIN, bytes: TEXTS.readme, title: 'README.md' }
    const kernel = { mediaType: PLAIN, bytes: net, title: 'net.hvt' }
    expect((await pushLayers(registry, repository, 'v1', [kernel, readme])).status).toBe(201)
    const answer = await registry.anonymous(`/api/v1/repositories/${repository}/images/v1/readme`)
    expect(await answer.text()).toBe(TEXTS.readme.toString())
  })

  it('a README of more than a megabyte is stored with a problem', async () => {
    const repository = newRepository()
    const form = formOf('hello-key-1', { readme: Buffer.alloc(1024 * 1024 + 1, 'x') })
    const answer = await postImage(registry, repository, '?tag=v1', form)
    expect(await answer.json()).toMatchObject({
      warnings: [expect.stringMatching(/^readme: it has 1048577 bytes; a README has at most/)],
    })
  })
})

describe('synopsis and description', () => {
  it('are those of the package that mirage configured', async () => {
    const repository = newRepository()
    const push = async (tag: string, opam: Buffer) => {
      const form = formOf('hello-key-1', { 'opam-switch': opam })
      expect((await postImage(registry, repository, `?tag=${tag}`, form)).status).toBe(201)
    }
    await push('v1', ABOUT)
    // The same switch again: its analysis is not made anew.
    const again = formOf('hello-key-2', { 'opam-switch': ABOUT })
    expect((await postImage(registry, repository, '?tag=v2', again)).status).toBe(201)
    const image = await ask(registry, `repositories/${repository}/images/v1`)
    expect(image).toMatchObject({ synopsis: SYNOPSIS, description: DESCRIPTION })
    expect(image.opam).not.toHaveProperty('about')
    const { images } = await ask(registry, `repositories/${repository}/images`)
    expect(images.map(({ synopsis }: { synopsis: string }) => synopsis)).toEqual([
      SYNOPSIS,
      SYNOPSIS,
    ])
  })

  it.each([
    ['none', ''],
    ['an empty one', '  synopsis: ""'],
    ['one that is too long', `  synopsis: "${'x'.repeat(1001)}"`],
    ['one with NUL', '  synopsis: "a\\x00b"'],
    ['a list', '  synopsis: ["a"]'],
  ])('are null for %s', async (_what, fields) => {
    const repository = newRepository()
    const opam = switchWith(`${fields}\n  x-mirage-configure: ["mirage"]`)
    const form = formOf('hello-key-1', { 'opam-switch': opam })
    expect((await postImage(registry, repository, '?tag=v1', form)).status).toBe(201)
    const { images } = await ask(registry, `repositories/${repository}/images`)
    expect(images).toMatchObject([{ synopsis: null }])
    const image = await ask(registry, `repositories/${repository}/images/v1`)
    expect(image).toMatchObject({ synopsis: null, description: null })
  })
})
