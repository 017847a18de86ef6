import { describe, expect, it } from 'vitest'
import { readableFiles } from './readable.ts'
import { adviceOfNpx, silentCurls } from './shell-lines.ts'
import { listPages, readPage } from './tree.ts'

const documents = [
  ...listPages().map((path) => ({ path, text: readPage(path) })),
  ...readableFiles().filter(({ path }) => /^(?:docs|spec|src)\//.test(path)),
]

describe('shell lines for users', () => {
  it('show each refusal of curl, and its reason', () => {
    expect(silentCurls(documents)).toEqual([])
  })

  it('never call npx', () => {
    expect(adviceOfNpx(documents)).toEqual([])
  })
})

describe('a breach is found:', () => {
  const found = (text: string) => silentCurls([{ path: 'docs/a.md', text }])

  it.each([
    'curl -T www.hvt "$URL"',
    'curl -f "$HOST/api/v1/events"',
    'curl -fsS -X POST "$HOST/a" -d b',
    'curl -u a:b -X PUT "$URL" \\\n  -F kernel=@a.hvt',
    'where=$(curl -s -o answer "$HOST")',
    '`curl https://registry.example.org`',
  ])('%s', (line) => {
    expect(found(line)).toHaveLength(1)
  })

  it.each([
    'curl --fail-with-body -T www.hvt "$URL"',
    'curl -sS "$URL" \\\n  --fail-with-body',
    'curl -fLo a.hvt "$URL"',
    'curl -fLJO "$URL"',
    'The name that `curl -T` appends.',
  ])('and not: %s', (line) => {
    expect(found(line)).toEqual([])
  })

  it('npx rookery', () => {
    expect(adviceOfNpx([{ path: 'a', text: 'Run `npx rookery push`.' }])).toEqual(['a'])
    expect(adviceOfNpx([{ path: 'a', text: 'npx --yes rookery' }])).toEqual(['a'])
  })
})
