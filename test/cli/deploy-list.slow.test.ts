import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { addDeployment, endDeployment } from '../deployments/deployment-rows.ts'
import { pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { builderOutput, errorLine, printedJson } from './builder.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

/** The URL of the registry with the administrator's login. */
const adminUrl = () => registry.url.replace('://', `://admin:${registry.password}@`)

describe('rookery deploy list', () => {
  it('lists the deployments of all repositories that the login may see', async () => {
    await pushImage(registry, 'a/one', 'live')
    await pushImage(registry, 'b/two', 'live')
    await addDeployment(registry, 'a/one')
    await endDeployment(registry, await addDeployment(registry, 'b/two'), 'halted')
    const text = await builderOutput(['deploy', 'list', '-'], { input: adminUrl() })
    expect(text).toMatch(/^CREATED +REPOSITORY +TAG /)
    expect(text).toMatch(/ a\/one +live /)
    expect(text).toMatch(/ b\/two +live /)
    const { deployments } = await printedJson(['deploy', 'list', '-', '--state', 'halted'], {
      input: adminUrl(),
    })
    expect(deployments).toMatchObject([{ repository: 'b/two', state: 'halted' }])
    const one = await builderOutput(['deploy', 'list', '-'], { input: `${adminUrl()}/a/one:live` })
    expect(one).toMatch(/^CREATED +TAG /)
    expect(one).not.toContain('b/two')
    const words = ['deploy', 'list', '-', '--state', 'halted']
    expect(await errorLine(words, { input: `${adminUrl()}/a/one:live` })).toContain(
      'without a repository',
    )
  })
})
