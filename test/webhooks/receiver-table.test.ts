import { expect, it } from 'vitest'
import { importsOf } from '../house/architecture.ts'
import { filesBelow } from '../house/tree.ts'
import { receiverRows } from './webhooks-page.ts'

const { devDependencies } = (await import('../../package.json', { with: { type: 'json' } }))
  .default as { devDependencies: Record<string, string> }

const rows = receiverRows()
const rowsOf = (tested: string) => rows.filter((row) => row.tested === tested)

it('the page names the programs that tests start, and no others', () => {
  const files = filesBelow('test/clients', '.ts').filter(({ path }) => path.startsWith('receivers'))
  const started = files.flatMap(({ text }) =>
    [...text.matchAll(/\bhasClient\('([^']+)'\)/g)].map(([, program]) => program),
  )
  expect(started).not.toEqual([])
  expect(new Set(rowsOf('the program').map(({ receiver }) => receiver))).toEqual(new Set(started))
})

it('the page names the libraries with which tests receive deliveries, and their versions', () => {
  const OTHERS = ['vitest', 'jose', 'pg', 'yaml']
  const imported = filesBelow('test/webhooks', '.ts')
    .filter(({ path }) => path.startsWith('receiver'))
    .flatMap(importsOf)
    .filter((name) => !/^(?:\.|node:)/.test(name) && !OTHERS.includes(name))
  const named = rowsOf('the library').map(({ receiver, version }) => [receiver, version])
  expect(Object.fromEntries(named)).toEqual(
    Object.fromEntries(imported.map((name) => [name, devDependencies[name]])),
  )
})

it('the page says of each receiver what the tests run', () => {
  const kinds = ['the program', 'the library', 'its documented rules']
  expect(rows.length).toBeGreaterThan(10)
  for (const { receiver, tested } of rows) expect(kinds, receiver).toContain(tested)
})
