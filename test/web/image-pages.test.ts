import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { kernel as kernelLayer, pushBuild, pushLayers } from '../images/image-fixtures.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry
let first: string
let second: string
const REPOSITORY = 'hello/key'
const IMAGES = `/r/${REPOSITORY}/-/images`

beforeAll(async () => {
  registry = await startRegistry()
  first = await pushBuild(registry, REPOSITORY, 'old', 'hello-key-1')
  second = await pushBuild(registry, REPOSITORY, 'live', 'hello-key-2')
})

afterAll(() => registry.close())

const text = async (path: string) => {
  const answer = await registry.anonymous(path)
  expect([path, answer.status]).toEqual([path, 200])
  return answer.text()
}

describe('the page of an image', () => {
  it('shows what is in it, and how to run it and to pull it', async () => {
    const page = await text(`${IMAGES}/live`)
    expect(page).toContain(second)
    expect(page).toContain('hvt, ABI 2')
    expect(page).toContain('x86_64')
    expect(page).toContain('solo5-hvt -- hello-key.hvt')
    expect(page).toContain('albatross-client create key hello-key.hvt')
    expect(page).toContain(`oras pull ${new URL(registry.url).host}/${REPOSITORY}@${second}`)
    expect(page).toContain(`${registry.url}/api/v1/repositories/${REPOSITORY}/images/${second}`)
    expect(page).toContain('<a href="/packages/opam/mirage-runtime">mirage-runtime</a>')
    expect(page).toContain('Packages of the host that built it: 110 of deb')
    expect(page).toMatch(/href="\/kernels\/sha256:[0-9a-f]{64}"/)
    expect(page).toMatch(/href="\/inputs\/[0-9a-f]{64}"/)
    expect(page).toContain(`/r/${REPOSITORY}/-/compare/${first}...${second}`)
    expect(page).toContain('<article class="readme">')
    expect(page.length).toBeLessThan(20_000)
  })

  it('is found by tag, digest and shortened digest', async () => {
    for (const reference of ['old', first, first.slice(0, 19)]) {
      expect(await text(`${IMAGES}/${reference}`)).toContain(first)
    }
    expect(await text(`${IMAGES}/old`)).not.toContain('/-/compare/')
  })

  it('says who pushed and built only to members', async () => {
    const member = await (await registry.request(`${IMAGES}/live`)).text()
    expect(member).toMatch(/Pushed<\/dt><dd><time[^>]*>[^<]*<\/time> by admin/)
    expect(await text(`${IMAGES}/live`)).not.toContain('by admin')
  })

  it('lists what refers to it, and says what it does not know', async () => {
    expect((await pushLayers(registry, 'mini/net', 'v1', [kernelLayer()])).status).toBe(201)
    const page = await text('/r/mini/net/-/images/v1')
    expect(page).toContain('net service')
    expect(page).toContain('solo5-hvt --net:service=TAP -- mini-net.hvt')
    expect(page).toContain('albatross-client create --net=service:BRIDGE net mini-net.hvt')
    expect(page).toContain('No file of this image says its packages.')
    expect(page).toContain('Nothing refers to this image')
    const [, digest = ''] = /Digest<\/dt><dd><code>([^<]+)/.exec(page) ?? []
    const manifest = await registry.request(`/v2/mini/net/manifests/${digest}`)
    const size = Number(manifest.headers.get('content-length'))
    const mediaType = 'application/vnd.oci.image.manifest.v1+json'
    const subject = { mediaType, digest, size }
    const artifactType = 'application/vnd.example.signature<b>'
    await pushLayers(registry, 'mini/net', 'signature', [], { artifactType, subject })
    expect(await text('/r/mini/net/-/images/v1')).toContain(
      'application/vnd.example.signature&lt;b>',
    )
  })

  it('is 404 for what is no image', async () => {
    for (const reference of ['never', `sha256:${'0'.repeat(64)}`, 'sha256:0000000']) {
      expect((await registry.anonymous(`${IMAGES}/${reference}`)).status).toBe(404)
    }
  })
})

describe('a comparison', () => {
  const compare = (pair: string) => `/r/${REPOSITORY}/-/compare/${pair}`

  it('says what is other, and what could be why it broke', async () => {
    const page = await text(compare('old...live'))
    expect(page).toContain('Could that be why it broke?')
    expect(page).toContain('Other inputs made another kernel.')
    expect(page).toContain(compare(`${second}...${first}`))
    expect(page).toContain('packages of the host differ')
    expect(page).toContain('Sizes of the files that differ')
    expect(page.length).toBeLessThan(20_000)
    expect(await text(compare(`${first}...${second.slice(0, 19)}`))).toContain(second)
  })

  it('says that nothing differs', async () => {
    const page = await text(compare('live...live'))
    expect(page).toContain('Both are one image.')
    expect(page).toContain('Nothing differs.')
  })

  it('says that the kernel is the same', async () => {
    await pushBuild(registry, REPOSITORY, 'freebsd', 'hello-key-3-freebsd-same-output')
    const page = await text(compare('live...freebsd'))
    expect(page).toContain('No: both have the same kernel, byte for byte.')
  })

  it('reads tags with dots, and refuses pairs that can be read in several ways', async () => {
    await pushBuild(registry, REPOSITORY, 'v1.', 'hello-key-1')
    expect(await text(compare('v1....live'))).toContain(second)
    for (const pair of ['a...b...c', 'a', 'a...', '...b', 'a..b']) {
      expect([pair, (await registry.anonymous(compare(pair))).status]).toEqual([pair, 400])
    }
    expect((await registry.anonymous(compare('live...never'))).status).toBe(404)
  })
})

describe('the list of images', () => {
  it('is newest first, with links to kinds of images', async () => {
    const page = await text(IMAGES)
    expect(page.indexOf(second)).toBeLessThan(page.indexOf(first))
    expect(page).toContain(`href="${IMAGES}?target=hvt"`)
    expect(page).toContain(`href="${IMAGES}?tagged=false"`)
  })

  it('shows the images of a kind', async () => {
    expect(await text(`${IMAGES}?tagged=false`)).toContain('No image on this page is of this kind.')
    expect(await text(`${IMAGES}?target=hvt&tagged=true`)).toContain(second)
    expect(await text(`${IMAGES}?target=xen`)).not.toContain(second)
  })
})
