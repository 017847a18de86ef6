import { describe, expect, it } from 'vitest'
import { oldWords, unusedExceptions } from './old-words.ts'
import { crookedSentences, passagesOf } from './prose.ts'
import { readableFiles } from './readable.ts'

const files = readableFiles()
/** Migrations keep the names of the release that wrote them. */
const named = files.filter(({ path }) => !path.startsWith('schema/'))

const sentence = (text: string, path = 'docs/a.md') => crookedSentences(passagesOf({ path, text }))
const words = (text: string, path = 'src/http/a.ts') => oldWords([{ path, text }])

describe('the house speaks plain English', () => {
  it('is read: comments, messages, titles and paragraphs', () => {
    const passages = files.flatMap(passagesOf)
    for (const kind of ['comment', 'doc comment', 'string', 'paragraph']) {
      expect(passages.filter((passage) => passage.kind === kind).length).toBeGreaterThan(500)
    }
  })

  it('in every sentence that a person reads', () => {
    expect(crookedSentences(files.flatMap(passagesOf))).toEqual([])
  })

  it('with the words of the field', () => {
    expect(oldWords(named)).toEqual([])
  })

  it('with no exception that nothing needs', () => {
    expect(unusedExceptions(named)).toEqual([])
  })
})

describe('a breach is caught:', () => {
  it.each([
    'What lacks for an input id is a warning.',
    'What nothing names is removed.',
    '# What always holds',
    '- **Whose** packages these are',
    'It is kept. Of two pushes, the later one wins.',
    'Blobs that lack are reported.',
    'A lacking blob is an error.',
    'It could not be seen which webhooks can be reached.',
    'The file lies below the data folder.',
    'Whoever knows the secret may upload.',
    'A receiver is told of every push.',
    '| setting | Who may listen |',
  ])('%s', (text) => {
    expect(sentence(text)).not.toEqual([])
  })

  it.each([
    ['a doc comment', '/** What was asked for. */\nexport const a = 1'],
    ['a doc comment of two lines', '/**\n * What was asked for.\n */'],
    ['a doc comment in lower case', '/** returns the blob. */'],
    ['a comment of two lines', '// A blob that is\n// lacking is an error.'],
    ['an error', "throw new Error('the blob lacks')"],
    ['a log line', "log.warn('it could not be seen which of them answer')"],
    ['help', "const help = 'Show whom a webhook is told of'"],
  ])('in %s', (_place, text) => {
    expect(sentence(text, 'src/cli/a.ts')).toHaveLength(1)
  })

  it('in the title of a test or of its row, and not in its data', () => {
    expect(sentence("it('says what lacks', f)", 'test/a.test.ts')).toHaveLength(1)
    expect(sentence("it.each([\n  ['says what lacks', f],\n])", 'test/a.test.ts')).toHaveLength(1)
    expect(sentence("const hostile = 'a word that lacks'", 'test/a.test.ts')).toEqual([])
  })

  it.each([
    ['summary: What there is', 'spec/openapi.yaml'],
    ['-- Who did what.', 'schema/0009-a.sql'],
    ['# So the server starts.', 'scripts/start.sh'],
  ])('in %s', (text, path) => {
    expect(sentence(text, path)).toHaveLength(1)
  })

  it.each([
    'class Dispatcher {}',
    "import { told } from './a.ts'",
    'const isTold = true',
    "const type = 'endpoint.disabled'",
    'const NUDGE_SECONDS = 1',
    '/** The subscription of a webhook. */',
    'await demandMovable(tag)',
    "const path = '/drop/a'",
    'const brakes = new Brakes()',
  ])('an old word: %s', (text) => {
    expect(words(text)).toHaveLength(1)
  })

  it('an exception that nothing needs', () => {
    expect(unusedExceptions([]).length).toBeGreaterThan(0)
  })
})

describe('plain English is not:', () => {
  it.each([
    'Returns the blob.',
    'The digest is that of the bytes that were pushed.',
    'Code such as `what lacks` is left alone.',
    '`told` is a name.',
    'How can a stranger push? What happens then?',
  ])('%s', (text) => {
    expect(sentence(text)).toEqual([])
  })

  it.each([
    ['the address of an object store', 'ROOKERY_S3_ENDPOINT', 'docs/settings.md'],
    ["a specification's endpoint", 'an API endpoint of the spec', 'spec/http-api.md'],
    ["undici's word", 'const dispatcher = agent', 'src/client/transport.ts'],
    ['an expression', 'const old = /subscription/', 'src/http/a.ts'],
    ['SQL', 'await client.query(`drop table if exists a`)', 'test/support/a.ts'],
  ])('%s', (_what, text, path) => {
    expect(words(text, path)).toEqual([])
  })
})
