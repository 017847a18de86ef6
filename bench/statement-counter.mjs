// Loaded into the server before its code: counts the statements that it sends to Postgres. On SIGUSR2 it writes the number to
// the file BENCH_STATEMENTS.
import { writeFileSync } from 'node:fs'
import pg from 'pg'

const { query } = pg.Client.prototype
let count = 0
pg.Client.prototype.query = function (...args) {
  count += 1
  return Reflect.apply(query, this, args)
}
process.on('SIGUSR2', () => writeFileSync(process.env.BENCH_STATEMENTS, `${count}\n`))
