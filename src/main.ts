#!/usr/bin/env node
import { serve } from './cli/serve.ts'

const USAGE = `usage: rookery serve

Starts the registry. It is configured by ROOKERY_* environment variables; the README lists them.
`

const [command, ...rest] = process.argv.slice(2)
if (command === 'serve' && rest.length === 0) {
  process.exitCode = await serve(process.env)
} else {
  const asked = command === '--help' || command === 'help'
  process[asked ? 'stdout' : 'stderr'].write(USAGE)
  process.exitCode = asked ? 0 : 2
}
