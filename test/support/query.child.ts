// Sends statements to Postgres as the user of this process: prints the first value of the last, or the error.
import pg from 'pg'

const { sql, ...connection } = JSON.parse(process.argv[2] ?? '{}')
const client = new pg.Client({ ...connection, ssl: false })
client.on('error', () => {})
try {
  await client.connect()
  const results = [await client.query({ text: sql, rowMode: 'array' })].flat()
  say({ value: results.at(-1)?.rows[0]?.[0] })
} catch (error) {
  say({ refused: (error as Error).message })
} finally {
  void client.end()
}

function say(answer: object): void {
  process.stdout.write(`${JSON.stringify(answer)}\n`)
}
