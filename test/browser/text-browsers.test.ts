import { execFile } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { expectedOf } from '../images/image-fixtures.ts'
import { hasProgram } from '../support/has-program.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { type PageSamples, SAMPLE_SETTINGS, seedPages } from './page-samples.ts'

const run = promisify(execFile)
const BROWSERS: Readonly<Record<string, readonly string[]>> = {
  lynx: ['-dump', '-nolist', '-width=200'],
  w3m: ['-dump', '-cols', '200'],
}
const MILLISECONDS_MAX = 20_000

describe.each(Object.keys(BROWSERS))('%s', (browser) => {
  describe.skipIf(!hasProgram(browser))('shows', () => {
    let registry: TestRegistry
    let samples: PageSamples
    const home = mkdtempSync(join(tmpdir(), 'text-browser-'))

    beforeAll(async () => {
      registry = await startRegistry(SAMPLE_SETTINGS)
      samples = await seedPages(registry)
    })

    afterAll(async () => {
      await samples?.receiver.close()
      await registry?.close()
    })

    const textOf = async (path: string) => {
      const url = `${registry.url}${path}`
      const options = { timeout: MILLISECONDS_MAX, env: { ...process.env, HOME: home } }
      const { stdout } = await run(browser, [...(BROWSERS[browser] ?? []), url], options)
      return stdout.replace(/\s+/g, ' ')
    }

    it('the facts of each page', async () => {
      const { repository, tag, kernel, present } = samples
      const { input_id: inputs } = expectedOf('hello-key-1')
      const digest = present.slice(0, 'sha256:'.length + 12)
      for (const [path, facts] of [
        ['/', ['Latest images', repository, digest]],
        ['/repositories', [repository]],
        [`/r/${repository}`, ['Where it runs', '✓ healthy', digest, 'Pull it']],
        [`/r/${repository}/-/tags`, [tag, digest]],
        [`/r/${repository}/-/tags/${tag}`, ['History', digest, 'now', 'set ']],
        ['/packages', ['Ecosystem', 'A constraint is a relation and a version']],
        ['/packages/opam/bigstringaf', ['0.10.0', repository, 'list of installed']],
        [`/kernels/${kernel}`, [kernel, repository, digest]],
        [`/inputs/${inputs}`, [inputs, 'one kernel is said to be made', 'succeeded']],
        ['/search?q=nothing-is-called-so', ['Nothing that you may see', 'What can be searched']],
      ] as const) {
        const text = await textOf(path)
        for (const fact of facts) expect(text, path).toContain(fact)
      }
    })
  })
})
