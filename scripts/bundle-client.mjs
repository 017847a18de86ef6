#!/usr/bin/env node
// Makes the client from dist: the commands that need no part of the server, as one file that runs without packages beside it.
// Writes dist/rookery-client.cjs, or the file that the first argument names. The same sources and packages make the same bytes.
// CommonJS also runs under a name without an ending, such as /usr/local/bin/rookery.
import fs from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..')
const DIST = join(ROOT, 'dist')
/** The rooms and packages that may be in the client, and the only file of the server: the version. */
const ROOMS =
  /^(?:async|cli|client|config|db|deployments|events|networks|oci|outgoing|unikernel|webhooks)$/
const PACKAGES = /^(?:commander|ipaddr\.js|lru-cache|undici)$/
const OF_THE_SERVER = /^cli\/server\//
const VERSION_FILE = 'server/version.js'
/** How a row of the command index names a command of the server. */
const SERVER_COMMAND = /import\('\.\/server\//
const IN_PACKAGE = /(?:^|\/)node_modules\/((?:@[^/]+\/)?[^/]+)\//
const LICENSE_FILE = /^LICENSE(?:\.md|\.txt)?$/i

/** The part of undici that the client uses: each request has a URL and a dispatcher. All of undici is four times as much. */
const UNDICI = `
  import api from 'undici/lib/api/index.js'
  import Agent from 'undici/lib/dispatcher/agent.js'
  import Dispatcher from 'undici/lib/dispatcher/dispatcher.js'
  import EnvHttpProxyAgent from 'undici/lib/dispatcher/env-http-proxy-agent.js'
  Object.assign(Dispatcher.prototype, api)
  export { Agent, EnvHttpProxyAgent }
  export const request = ({ origin, pathname, search }, { dispatcher, ...options }) =>
    api.request.call(dispatcher, { ...options, origin, path: pathname + search })`
/** Bodies of fetch, which requests of the client never have. */
const FETCH_BODY = `exports.extractBody = () => { throw new TypeError('a body is bytes or a stream') }`

class BundleError extends Error {}

const readJson = (path) => JSON.parse(fs.readFileSync(join(ROOT, path), 'utf8'))

async function loadBundler() {
  try {
    return await import('esbuild')
  } catch (error) {
    if (error.code !== 'ERR_MODULE_NOT_FOUND') throw error
    throw new BundleError('the packages for development are not installed; run: npm ci')
  }
}

/** Returns the module of the command index without the commands of the server. */
async function clientIndex() {
  const index = await import(pathToFileURL(join(DIST, 'cli/command-index.js')).href)
  const absent = []
  const isLeft = ({ word, load, commands }) => {
    const loads = load === undefined ? commands.map((one) => one.load) : [load]
    const onServer = loads.filter((one) => SERVER_COMMAND.test(String(one)))
    if (onServer.length === 0) return true
    if (onServer.length < loads.length) {
      throw new BundleError(`only some commands of "${word}" need the server`)
    }
    absent.push(word)
    return false
  }
  const groups = index.COMMAND_GROUPS.map(({ title, members }) => ({
    title,
    members: members.filter(isLeft),
  }))
  return [
    `export const COMMAND_GROUPS = ${sourceOf(groups.filter(({ members }) => members.length > 0))}`,
    `export const ABSENT_WORDS = ${JSON.stringify(absent)}`,
  ].join('\n')
}

/** Returns the source text of rows; a function is its own text. */
function sourceOf(value) {
  if (typeof value === 'function') return String(value)
  if (Array.isArray(value)) return `[${value.map(sourceOf).join(',')}]`
  if (typeof value !== 'object') return JSON.stringify(value)
  const fields = Object.entries(value).map(([key, one]) => `${key}:${sourceOf(one)}`)
  return `{${fields.join(',')}}`
}

/** Replaces the modules that lead to the server. */
function withoutServer(version, index) {
  const replaced = {
    [VERSION_FILE]: `export const VERSION = ${JSON.stringify(version)}`,
    'cli/command-index.js': index,
    'cli/webhook/local-webhook-admin.js': `
      import { UsageError } from '../errors.js'
      export async function withLocalWebhookAdmin() {
        throw new UsageError('this is the client, in one file: name the registry with --registry HOST')
      }`,
  }
  return {
    name: 'without-server',
    setup(build) {
      build.onLoad({ filter: /\/node_modules\/undici\/index\.js$/ }, () => ({
        contents: UNDICI,
        resolveDir: ROOT,
      }))
      build.onLoad({ filter: /\/node_modules\/undici\/lib\/web\/fetch\/body\.js$/ }, () => ({
        contents: FETCH_BODY,
      }))
      build.onLoad({ filter: /\.js$/ }, ({ path }) => {
        const contents = path.startsWith(`${DIST}/`)
          ? replaced[path.slice(DIST.length + 1)]
          : undefined
        return contents === undefined ? undefined : { contents, loader: 'js' }
      })
    },
  }
}

/** Returns the names of the packages in the client. Throws when it has a part of the server, or a package that it need not have. */
function assertParts(inputs) {
  const packages = new Set()
  for (const path of inputs) {
    const name = IN_PACKAGE.exec(path)?.[1]
    const own = path.replace(/^dist\//, '')
    const isRight =
      name === undefined
        ? own === 'main.js' ||
          own === VERSION_FILE ||
          (ROOMS.test(own.split('/')[0]) && !OF_THE_SERVER.test(own))
        : PACKAGES.test(name)
    if (!isRight) throw new BundleError(`the client must not contain ${path}`)
    if (name !== undefined) packages.add(name)
  }
  return [...packages].sort()
}

/** Returns the license of a package, with its text. Throws when the package is not that of the lock file. */
function noticeOf(name, locked) {
  const folder = `node_modules/${name}`
  const { version, license } = readJson(`${folder}/package.json`)
  if (locked[folder].version !== version) {
    throw new BundleError(
      `${name} ${version} is installed, and not that of package-lock.json; run: npm ci`,
    )
  }
  const file = fs.readdirSync(join(ROOT, folder)).find((one) => LICENSE_FILE.test(one))
  if (file === undefined) throw new BundleError(`${name} has no license file`)
  const text = fs.readFileSync(join(ROOT, folder, file), 'utf8').trim()
  return `${name} ${version} (${license})\n\n${text}`
}

async function bundle(target) {
  const { build } = await loadBundler()
  const { version } = readJson('package.json')
  const { packages: locked } = readJson('package-lock.json')
  const made = await build({
    absWorkingDir: ROOT,
    entryPoints: ['dist/main.js'],
    outfile: 'rookery-client.cjs',
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: `node${readJson('package.json').engines.node.replace('>=', '')}`,
    // Names stay: they are in stack traces, and errors are known by them.
    minifyWhitespace: true,
    minifySyntax: true,
    // Paths in the file are those below the project, wherever its packages are.
    preserveSymlinks: true,
    legalComments: 'none',
    metafile: true,
    write: false,
    logLevel: 'silent',
    plugins: [withoutServer(version, await clientIndex())],
  })
  if (made.warnings.length > 0)
    throw new BundleError(made.warnings.map(({ text }) => text).join('; '))
  const packages = assertParts(Object.keys(made.metafile.inputs))
  const own = `rookery ${version} (ISC)\n\n${fs.readFileSync(join(ROOT, 'LICENSE'), 'utf8').trim()}`
  const notices = [own, ...packages.map((name) => noticeOf(name, locked))]
  const text = notices.join(`\n\n${'-'.repeat(80)}\n\n`)
  if (text.includes('*/')) throw new BundleError('a license text ends a comment')
  write(target, `${made.outputFiles[0].text.trimEnd()}\n/*\n${text}\n*/\n`)
}

/** Puts the file into place as a whole. */
function write(target, text) {
  const aside = `${target}.${process.pid}`
  fs.mkdirSync(dirname(target), { recursive: true })
  fs.writeFileSync(aside, text, { mode: 0o755 })
  fs.renameSync(aside, target)
}

const [given = join(DIST, 'rookery-client.cjs')] = process.argv.slice(2)
bundle(resolve(given)).catch((error) => {
  process.stderr.write(`rookery: ${error instanceof BundleError ? error.message : error.stack}\n`)
  process.exitCode = 2
})
