import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { ROOT } from '../house/tree.ts'
import { freePorts } from '../support/free-ports.ts'
import { pastePage } from './pasting.ts'

const KERNEL = join(ROOT, 'test/fixtures/builds/hello-key-1/bin/hello-key.hvt')

const TEST_MILLISECONDS_MAX = 180_000
const TITLE = 'a reader pastes every block of the README, and then all of them again'

it(TITLE, { timeout: TEST_MILLISECONDS_MAX }, async () => {
  const [port = 0] = await freePorts(1)
  await pastePage('README.md', {
    port,
    times: 2,
    async check({ printed, folder }) {
      const [, , inspected, deployed, followed] = printed
      expect(inspected).toMatch(/^target +hvt/m)
      expect(await readFile(join(folder, 'hello-key.hvt'))).toEqual(await readFile(KERNEL))
      expect(deployed).toContain('no host follows')
      expect(followed).toMatch(/hello\/key:live +is at sha256:/)
      expect(followed).toContain('"snapshot":[{')
    },
  })
})
