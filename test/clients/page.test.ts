import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { shellBlocksOf } from '../documents/pages.ts'
import { pastePage } from '../documents/pasting.ts'
import { freePorts } from '../support/free-ports.ts'
import { clientPath, hasClient } from './client-sandbox.ts'
import { prepareContainerTools } from './container-tools.ts'

const PAGE = 'docs/clients.md'
const SECTIONS = ['', 'crane', 'podman and buildah', 'cosign and notation']
const areHere = (['crane', 'podman', 'cosign', 'notation'] as const).map(hasClient).every(Boolean)

let home: string
const environment: Record<string, string> = {}

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'rookery-reader-'))
  if (areHere) await prepareContainerTools({ home, environment })
})

afterAll(() => rm(home, { recursive: true, force: true }))

it.runIf(areHere)('the page about clients can be pasted as it stands', async () => {
  const blocks = shellBlocksOf(PAGE).filter(({ section }) => SECTIONS.includes(section))
  expect(blocks).toHaveLength(SECTIONS.length)
  const [port = 0] = await freePorts(1)
  await pastePage('docs/clients.md', {
    port,
    blocks,
    programs: [dirname(clientPath('crane')), process.env.PATH ?? ''],
    environment: {
      ...environment,
      HOME: home,
      DOCKER_CONFIG: join(home, 'docker'),
      REGISTRY_AUTH_FILE: join(home, 'auth.json'),
      XDG_DATA_HOME: join(home, 'share'),
      _CONTAINERS_ROOTLESS_UID: '1',
      HTTPS_PROXY: 'http://127.0.0.1:9',
      NO_PROXY: '127.0.0.1',
    },
    async check({ printed }) {
      expect(printed[1]).toContain('live\nv1')
      expect(printed[2]).toContain('Login Succeeded!')
      expect(printed[3]).toMatch(/application\/vnd\.cncf\.notary\.signature/)
      const answer = await fetch(`http://127.0.0.1:${port}/v2/team/box/manifests/v1`)
      expect(answer.status).toBe(200)
    },
  })
})
