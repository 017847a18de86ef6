import { afterAll, beforeAll, expect, it } from 'vitest'
import { REPOSITORY } from '../opam-index/fixture-repository.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { errorLine, printed, printedJson } from './operator.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

it('rookery opam imports a repository, and shows what it has', async () => {
  expect(await printed(registry, 'opam', 'show')).toMatch(/Nothing was imported/)
  expect(await printed(registry, 'opam', 'import', REPOSITORY)).toMatch(
    /^71 packages, of which 71 are new or changed, and 0 could not be read\.\n/,
  )
  expect(await printedJson(registry, 'opam', 'import', REPOSITORY)).toEqual({
    unchanged: false,
    files: 71,
    read: 0,
    sources: 0,
    problems: 0,
    lists: 0,
  })
  const { imports, ...counts } = await printedJson(registry, 'opam', 'show')
  expect(counts).toEqual({ packages: 50, versions: 71, outdated: 0 })
  expect(imports).toMatchObject([{ origin: REPOSITORY, files: 71, problems: 0 }])
  expect(await printed(registry, 'opam', 'show')).toMatch(/^packages +50\nversions +71\n/)
})

it('rookery opam import says why it cannot', async () => {
  expect(await errorLine(registry, 'opam', 'import', '/missing')).toMatch(
    /there is no file or folder \/missing/,
  )
  expect(await errorLine(registry, 'opam', 'import', `${REPOSITORY}/repo`)).toMatch(
    /the archive cannot be read|is no opam repository/,
  )
  expect(await errorLine(registry, 'opam', 'import', 'http://127.0.0.1:9/x.tar')).toMatch(
    /outgoing requests|ROOKERY_OPAM_ALLOW_NETWORKS|port/,
  )
})
