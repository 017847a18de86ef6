import { describe, expect, it } from 'vitest'
import { shellBlocksOf } from '../documents/pages.ts'
import { findPastedElsewhere } from '../documents/pasted-elsewhere.ts'
import { type PasteOptions, pastePage } from '../documents/pasting.ts'
import { createTestDatabase } from '../support/database.ts'
import { freePorts } from '../support/free-ports.ts'
import { countObjects, createBucket, s3Server } from '../support/s3.ts'

const PATH_LINE = 'export PATH="$PWD/bin:$PATH"\n'
const PUSH = `export ROOKERY_TOKEN=$(rookery token mint --repository a/b --action pull --action push)
rookery push test/fixtures/builds/hello-key-1 "$ROOKERY_LISTEN/a/b:live"
`

/** Pastes the blocks of a page that need a bucket between these, pushes after them, and counts the objects. */
async function paste(
  page: string,
  before: string[],
  check: PasteOptions['check'],
): Promise<number> {
  const [port = 0] = await freePorts(1)
  const { endpoint, accessKeyId, secretAccessKey } = s3Server()
  const bucket = await createBucket()
  const database = await createTestDatabase('template1')
  const block = (text: string) => ({ page, line: 0, section: '', language: 'sh', text })
  try {
    await pastePage(page, {
      port,
      blocks: [
        ...[PATH_LINE, ...before].map(block),
        ...shellBlocksOf(page).filter((one) => findPastedElsewhere(one) !== undefined),
        block(PUSH),
        block('rookery scrub\n'),
      ],
      variables: {
        ROOKERY_S3_BUCKET: bucket,
        ROOKERY_S3_ENDPOINT: endpoint,
        AWS_ACCESS_KEY_ID: accessKeyId,
        AWS_SECRET_ACCESS_KEY: secretAccessKey,
      },
      environment: { ROOKERY_DATABASE_URL: database.url },
      ...(check === undefined ? {} : { check }),
    })
  } finally {
    await database.drop()
  }
  return countObjects(bucket)
}

describe('a reader pastes the blocks for a bucket of', () => {
  it('docs/operations.md, and the registry moves to it', async () => {
    const objects = await paste(
      'docs/operations.md',
      ['npm start\n', PUSH],
      async ({ printed }) => {
        expect(printed.at(-1)).toMatch(/^Missing: 0\. Corrupt: 0\. Orphaned: 0 /m)
      },
    )
    expect(objects).toBeGreaterThan(6)
  })

  it('docs/settings.md, and a registry starts on it', async () => {
    expect(await paste('docs/settings.md', [], undefined)).toBeGreaterThan(6)
  })
})
