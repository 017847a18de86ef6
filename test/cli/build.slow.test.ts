import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { expectedOf } from '../images/image-fixtures.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { build, builder, builderOutput, errorLine, printedJson } from './builder.ts'
import { printed } from './operator.ts'

const FAILED = 'hello-key-5-failed'
const FAILED_INPUTS = JSON.stringify(expectedOf(FAILED as never).input_id).slice(1, -1)

let registry: TestRegistry
let host: string
let folder: string
let first: Record<string, string>
let second: Record<string, string>

beforeAll(async () => {
  registry = await startRegistry()
  host = registry.url.replace('http://', '')
  folder = await mkdtemp(join(tmpdir(), 'rookery-build-'))
  const words = ['token', 'mint', '--repository', '**', '--action', 'pull', '--action', 'push']
  const token = async (name: string) => ({
    ROOKERY_TOKEN: (await printed(registry, ...words, '--subject', name)).trim(),
  })
  first = await token('orb-1')
  second = await token('orb-2')
})
afterAll(async () => {
  await registry?.close()
  await rm(folder, { recursive: true, force: true })
})

describe('rookery build', () => {
  it('lists who built what, and shows one build', async () => {
    const repository = `${host}/builds/twice`
    const made = await printedJson(['push', build('hello-key-1'), `${repository}:v1`], first)
    // A builder that looked at the image first has built it all the same.
    await builderOutput(['inspect', `${repository}:v1`], second)
    const again = await printedJson(['push', build('hello-key-1'), `${repository}:v1`], second)
    expect(again.digest).toBe(made.digest)
    expect(again.build).not.toBe(made.build)
    const table = await builderOutput(['build', 'list', repository], first)
    expect(table).toMatch(/^RECORDED +BUILD +RESULT +PLATFORM +BUILDER +KERNEL +INPUTS$/m)
    expect(table).toMatch(
      new RegExp(
        `${again.build} +succeeded +debian-12 +orb-2 +sha256:3e8948195482 +d9f3ed4f3b71$`,
        'm',
      ),
    )
    expect(table).toMatch(new RegExp(`${made.build} +succeeded +debian-12 +orb-1 `, 'm'))
    expect(table).not.toContain('hidden')
    for (const words of [
      ['build', 'list', repository],
      ['build', 'show', repository, made.build],
      ['image', 'list', repository],
      ['tag', 'history', `${repository}:v1`],
    ]) {
      const { stdout } = await builder(words)
      expect([words, stdout]).toEqual([words, expect.stringMatching(/ hidden\b/)])
      expect(stdout).toMatch(/\nhidden: only a login with rights to the repository sees who pushed/)
      expect(stdout).not.toMatch(/orb-[12]/)
    }
    const shown = await builderOutput(['build', 'show', repository, made.build], first)
    expect(shown).toContain(`image       ${made.digest}`)
    expect(await errorLine(['build', 'log', repository, made.build], first)).toMatch(
      /was pushed without its console/,
    )
    const found = await printedJson(
      ['search', 'inputs', host, made.inputId, '--repository', 'builds/twice'],
      first,
    )
    expect(found).toMatchObject({
      reproducible: true,
      builds: [{ id: again.build }, { id: made.build }],
    })
  })

  it('reports a failed build, and prints its console without control characters', async () => {
    const repository = `${host}/builds/failed`
    const console = join(folder, 'build.log')
    await writeFile(console, 'building\n\u001b[31merror\u001b[0m\n')
    const words = ['build', 'report', repository, build(FAILED), '--console', console]
    const more = [
      '--exit-code',
      '20',
      '--started',
      '2026-11-29T10:00:00Z',
      '--platform',
      'debian-12',
    ]
    const { build: id } = await printedJson([...words, ...more], first)
    const list = await printedJson(['build', 'list', repository, '--result', 'failed'], first)
    expect(list.builds).toMatchObject([
      {
        id,
        result: 'failed',
        exitCode: 20,
        builder: 'orb-1',
        inputId: FAILED_INPUTS,
        platform: 'debian-12',
      },
    ])
    const log = await builderOutput(['build', 'log', repository, id], first)
    expect(log).toContain('building\n')
    expect(log).toContain('error')
    expect(log).not.toContain('\u001b')
    expect(await errorLine(['build', 'report', repository], first)).toMatch(/nothing to report/)
    expect(await errorLine(['build', 'report', `${repository}:v1`, build(FAILED)], first)).toMatch(
      /has no tag/,
    )
    expect(await errorLine([...words, '--signal', '9'], first)).toMatch(
      /does not belong to this result/,
    )
    expect(await errorLine(['build', 'show', repository, '7'], first)).toMatch(/must be a UUID/)
  })

  it('is reported by rookery push when orb left no kernel', async () => {
    const repository = `${host}/builds/none`
    const ran = await builder(['push', build(FAILED), `${repository}:v1`, '--json'], first)
    expect(ran.status).toBe(1)
    expect(ran.stderr).toMatch(/has no kernel: its build failed, and is reported as a failed build/)
    const list = await printedJson(['build', 'list', repository], first)
    expect(list.builds).toMatchObject([
      { id: JSON.parse(ran.stdout).build, result: 'failed', inputId: FAILED_INPUTS },
    ])
    expect((await registry.anonymous('/v2/builds/none/manifests/v1')).status).toBe(404)
  })
})
