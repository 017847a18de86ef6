#!/usr/bin/env node
// An older Node must be able to read this file, so it has no import of its own and no recent syntax.
const NODE_MIN = '20.19'
// EMFILE, ENFILE: the modules themselves are too many open files.
const TOO_MANY_FILES = /^E[MN]FILE$/
const NO_PACKAGE = /^Cannot find package \S+/

const oldest = NODE_MIN.split('.').map(Number)
const found = process.versions.node.split('.').map(Number)
const isOld =
  found[0] === oldest[0]
    ? Number(found[1]) < Number(oldest[1])
    : Number(found[0]) < Number(oldest[0])

if (isOld) {
  say(
    `this is Node ${process.versions.node}, and Rookery needs Node ${NODE_MIN} or newer: https://nodejs.org/en/download`,
  )
} else {
  import('./cli/run.ts')
    .then(({ runCommand }) => runCommand(process.argv.slice(2), process.env))
    .then((status) => {
      process.exitCode = status
    })
    .catch((error) => {
      const missing = NO_PACKAGE.exec(error.message)
      if (missing !== null) say(`${missing[0]}; install the packages of rookery: npm ci`)
      else if (TOO_MANY_FILES.test(error.code)) {
        say(`${error.message}; raise the limit of open files (ulimit -n)`)
      } else throw error
    })
}

function say(message: string): void {
  process.stderr.write(`rookery: ${message}\n`)
  process.exitCode = 2
}
