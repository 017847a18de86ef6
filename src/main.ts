#!/usr/bin/env node
// An older Node must be able to read this file, so it has no import of its own and no recent syntax.
const NODE_MIN = '20.19'
// EMFILE, ENFILE: the modules themselves are too many open files.
const TOO_MANY_FILES = /^E[MN]FILE$/

const oldest = NODE_MIN.split('.').map(Number)
const found = process.versions.node.split('.').map(Number)
const isOld =
  found[0] === oldest[0]
    ? Number(found[1]) < Number(oldest[1])
    : Number(found[0]) < Number(oldest[0])

if (isOld) {
  process.stderr.write(
    `rookery: this is Node ${process.versions.node}, and Rookery needs Node ${NODE_MIN} or newer: https://nodejs.org/en/download\n`,
  )
  process.exitCode = 2
} else {
  import('./cli/run.ts')
    .then(({ runCommand }) => runCommand(process.argv.slice(2), process.env))
    .then((status) => {
      process.exitCode = status
    })
    .catch((error) => {
      if (!TOO_MANY_FILES.test(error.code)) throw error
      process.stderr.write(`rookery: ${error.message}; raise the limit of open files (ulimit -n)\n`)
      process.exitCode = 2
    })
}
