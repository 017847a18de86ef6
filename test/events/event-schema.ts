import { readFileSync } from 'node:fs'
import { Ajv2020 } from 'ajv/dist/2020.js'

const SCHEMA = new URL('../../spec/events.schema.json', import.meta.url)

const validate = new Ajv2020({
  strict: true,
  allErrors: true,
  strictTypes: false,
  strictRequired: false,
}).compile(JSON.parse(readFileSync(SCHEMA, 'utf8')))

/** Throws when an event does not match spec/events.schema.json. */
export function validateEvent(body: string): void {
  const bytes = Buffer.byteLength(body)
  if (bytes > 20_000) throw new Error(`the event has ${bytes} bytes`)
  if (validate(JSON.parse(body))) return
  const faults = (validate.errors ?? []).map(
    ({ instancePath, message }) => `${instancePath} ${message}`,
  )
  throw new Error(`invalid event: ${faults.slice(0, 5).join('; ')}\n${body.slice(0, 500)}`)
}
