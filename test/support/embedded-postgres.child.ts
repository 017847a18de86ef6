// Owns an embedded Postgres in a process of its own: prints one JSON line when it runs or was
// refused, and stops when its standard input ends.
import { startEmbeddedPostgres } from '../../src/embedded-postgres/supervisor.ts'

const folder = process.argv[2] ?? ''
const quiet = (): void => {}

try {
  const postgres = await startEmbeddedPostgres({
    folder,
    log: { info: quiet, warn: quiet, error: quiet },
    onLost: quiet,
  })
  say({ connection: postgres.connection })
  process.stdin.resume().once('end', () => void postgres.stop())
} catch (error) {
  const { name, message } = error as Error
  say({ refused: { name, message } })
}

function say(answer: object): void {
  process.stdout.write(`${JSON.stringify(answer)}\n`)
}
