import type { Block } from './pages.ts'

/** Blocks that the test of their page leaves out, because another test pastes them. */
export type PastedElsewhere = {
  readonly page: string
  /** The heading of the second level above the blocks. */
  readonly section: string
  /** The test that pastes them, and names the page. */
  readonly test: string
}

/** Pages that need clients. The others need bash, curl and rookery only. */
export const PAGES_WITH_CLIENTS: readonly string[] = [
  'docs/access.md',
  'docs/push.md',
  'spec/unikernel-image.md',
]

export const PASTED_ELSEWHERE: readonly PastedElsewhere[] = [
  ...['crane', 'podman and buildah', 'cosign and notation'].map((section) => ({
    page: 'docs/clients.md',
    section,
    test: 'test/clients/page.test.ts',
  })),
  { page: 'docs/clients.md', section: 'docker', test: 'test/clients/buildx.test.ts' },
  {
    page: 'docs/operations.md',
    section: 'Move from files to a bucket, or back',
    test: 'test/s3/documents.test.ts',
  },
  { page: 'docs/install.md', section: 'A clone', test: 'test/install/package.slow.test.ts' },
  { page: 'docs/install.md', section: 'A Debian host', test: 'test/install/debian.slow.test.ts' },
  { page: 'docs/install.md', section: 'A package', test: 'test/install/package.slow.test.ts' },
  { page: 'docs/install.md', section: 'A container', test: 'test/clients/image.test.ts' },
  { page: 'docs/install.md', section: 'Compose', test: 'test/clients/image.test.ts' },
  { page: 'docs/settings.md', section: 'Blobs on S3', test: 'test/s3/documents.test.ts' },
]

/** Returns the row of a block that another test pastes. */
export function findPastedElsewhere(block: Block): PastedElsewhere | undefined {
  return PASTED_ELSEWHERE.find(
    ({ page, section }) => page === block.page && section === block.section,
  )
}
