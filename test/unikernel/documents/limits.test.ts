import { describe, expect, it } from 'vitest'
import {
  COMPONENTS_MAX,
  componentsOf,
  DEPENDENCIES_MAX,
} from '../../../src/unikernel/documents/components.ts'
import { cycloneDx } from '../../../src/unikernel/documents/cyclonedx.ts'
import { slsaProvenance } from '../../../src/unikernel/documents/slsa.ts'
import { spdx } from '../../../src/unikernel/documents/spdx.ts'
import { fixtureImage } from '../fixture-image.ts'
import { CONTEXT } from './images.ts'
import { spdxErrors } from './spdx-rules.ts'

const numbers = (count: number) => [...new Array(count).keys()]

describe('documents of a very large image', () => {
  it('list packages up to the limit, and the number of the others', async () => {
    const packages = numbers(1.5 * COMPONENTS_MAX).map((at) => `p${at}=1`)
    const image = await fixtureImage('hello-key-1', { 'system-packages': packages.join('\n') })
    const { list, omitted } = componentsOf(image)
    expect(list).toHaveLength(COMPONENTS_MAX)
    expect(list.length + omitted).toBeGreaterThan(1.5 * COMPONENTS_MAX)
    // Components that are closer to the kernel come first.
    expect(list.some(({ ref }) => ref === 'vendored/lwt')).toBe(true)
    const bom = cycloneDx(image, CONTEXT)
    expect(bom.compositions).toEqual([{ aggregate: 'incomplete', assemblies: ['image'] }])
    const document = spdx(image, CONTEXT)
    expect(document.comment).toBe(`${omitted} more packages or dependencies are not listed`)
    expect(spdxErrors(JSON.parse(JSON.stringify(document)))).toEqual([])
    expect(JSON.stringify(slsaProvenance(image, CONTEXT)).length).toBeLessThan(4_000_000)
  })

  it('list dependencies up to the limit, and none to unlisted packages', async () => {
    const names = numbers(300).map((at) => `p${at}`)
    const all = names.map((name) => `"${name}"`).join(' ')
    const image = await fixtureImage('hello-key-1', {
      'opam-switch': `
        installed: [${names.map((name) => `"${name}.1"`).join(' ')}]
        package "p0" { x-orb-dependencies: [${names.map((one) => `["${one}" [${all}]]`).join('\n')}] }`,
    })
    const { dependencies, list, omitted } = componentsOf(image)
    expect([...dependencies.values()].flat()).toHaveLength(DEPENDENCIES_MAX)
    expect(omitted).toBe(300 * 299 - DEPENDENCIES_MAX)
    const refs = new Set(list.map(({ ref }) => ref))
    for (const ref of [...dependencies.keys(), ...[...dependencies.values()].flat()]) {
      if (!refs.has(ref)) expect.fail(`${ref} is not listed`)
    }
  })
})
