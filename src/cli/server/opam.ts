import { resolve } from 'node:path'
import type { Database } from '../../db/database.ts'
import { countOpamIndex, listOpamImports } from '../../db/opam-index/opam-index.ts'
import { argument, command, JSON_OPTION } from '../command.ts'
import { CommandError, STATUS } from '../errors.ts'
import { printJson, printLines, printResult, printTable, utcText, visible } from '../printing.ts'
import { withRegistry } from './operator.ts'

const IMPORTS_SHOWN_MAX = 100

/** `rookery opam import`: adds the packages of an opam repository to the index. */
export const importCommand = command({
  arguments: {
    source: argument('DIR|FILE|URL', 'checkout of opam-repository, or its .tar or .tar.gz'),
  },
  options: { ...JSON_OPTION },
  notes:
    'The index knows the packages in vendored sources by checksum, commit or URL. It only grows, and files that it has read cost little. Images that were pushed before are searched with the new index, too. With ROOKERY_OPAM_URL the server imports by itself.',
  examples: [
    ['rookery opam import ~/.opam/repo/default', 'import a checkout'],
    ['rookery opam import https://opam.ocaml.org/index.tar.gz', 'import an archive'],
  ],
  run({ source, json }, environment) {
    return withRegistry(environment, async ({ db }, config) => {
      const { createArchiveClient } = await import('../../server/opam-index.ts')
      const { resolveLists } = await import('../../registry/opam-index/background.ts')
      const client = createArchiveClient(config)
      try {
        const report = await importFrom(db, source, client.download)
        const lists = await resolveLists(db)
        if (report === undefined) {
          printResult(json, { unchanged: true, lists }, [
            'The archive has not changed since its last import.',
          ])
          return STATUS.ok
        }
        const { shown, ...counts } = report
        for (const problem of shown) process.stderr.write(`rookery: warning: ${visible(problem)}\n`)
        printResult(json, { unchanged: false, ...counts, lists }, [
          `${counts.files} packages, of which ${counts.read} are new or changed, and ${counts.problems} could not be read.`,
          `New checksums, commits and URLs: ${counts.sources}. Lists of packages resolved again: ${lists}.`,
        ])
        return STATUS.ok
      } finally {
        client.close()
      }
    })
  },
})

async function importFrom(
  db: Database,
  source: string,
  download: import('../../registry/opam-index/import.ts').DownloadArchive,
) {
  const { importPackages, importUrl } = await import('../../registry/opam-index/import.ts')
  const { NoOpamRepositoryError, packageFilesOf } = await import(
    '../../registry/opam-index/package-files.ts'
  )
  const { DownloadFailedError } = await import('../../server/opam-index.ts')
  const { OutgoingFailedError } = await import('../../outgoing/client.ts')
  const { OutgoingRefusedError } = await import('../../outgoing/guard.ts')
  const { AlreadyRunningError } = await import('../../db/maintenance/jobs.ts')
  const kinds = [
    NoOpamRepositoryError,
    DownloadFailedError,
    OutgoingFailedError,
    OutgoingRefusedError,
    AlreadyRunningError,
  ]
  try {
    if (/^https?:\/\//.test(source)) return await importUrl(db, new URL(source).href, download)
    const path = resolve(source)
    return await importPackages(db, path, packageFilesOf(path))
  } catch (error) {
    const kind = kinds.find((one) => error instanceof one)
    if (kind === undefined || !(error instanceof Error)) throw error
    throw new CommandError(visible(error.message), { cause: error })
  }
}

/** `rookery opam show`: the state of the index. */
export const showCommand = command({
  options: { ...JSON_OPTION },
  examples: [['rookery opam show', 'see what was imported, and when']],
  run({ json }, environment) {
    return withRegistry(environment, async ({ db }) => {
      const counts = await countOpamIndex(db)
      const imports = await listOpamImports(db, IMPORTS_SHOWN_MAX)
      const shown = imports.map(({ etag: _etag, checkedAgo: _ago, ...one }) => one)
      if (json) {
        printJson({ ...counts, imports: shown })
        return STATUS.ok
      }
      printLines([
        `packages   ${counts.packages}`,
        `versions   ${counts.versions}`,
        `to resolve ${counts.outdated}`,
      ])
      if (imports.length === 0) {
        printLines(['Nothing was imported: rookery opam import, or set ROOKERY_OPAM_URL.'])
        return STATUS.ok
      }
      const rows = shown.map(({ origin, files, problems, importedAt, checkedAt }) => [
        visible(origin),
        String(files),
        String(problems),
        utcText(importedAt),
        utcText(checkedAt),
      ])
      printTable(['FROM', 'PACKAGES', 'PROBLEMS', 'IMPORTED', 'CHECKED'], rows)
      return STATUS.ok
    })
  },
})
