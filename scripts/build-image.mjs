#!/usr/bin/env node
// Builds the image with buildah, and writes it into a folder as an archive for docker, podman and skopeo, beside its bill of materials:
//   node scripts/build-image.mjs [--base IMAGE] [--package FILE.tgz] [--revision COMMIT] FOLDER
// The same package, base, buildah, Node and npm make the same bytes, in any folder and at any time. buildah takes its settings, such as
// BUILDAH_ISOLATION, from the environment.
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { BuildError, ROOT, run, runMain, sourceDate } from './building.mjs'
import { isoTime, makeContext, SBOM } from './image-context.mjs'

const OPTIONS = {
  base: { type: 'string' },
  package: { type: 'string' },
  revision: { type: 'string' },
}
const ARCHITECTURES = { x64: 'amd64', arm64: 'arm64' }
const BASE = /^ARG BASE=(\S+)$/m
const STATUS_FILE = '/var/lib/dpkg/status'
/** The annotations with the name that containerd and docker give to an image that they load. */
const NAME = 'io.containerd.image.name'
const REFERENCE = 'org.opencontainers.image.ref.name'

const { version } = readJson(join(ROOT, 'package.json'))

function readJson(path) {
  return JSON.parse(fs.readFileSync(path, 'utf8'))
}

/** Returns what the bill of materials says of the base: its Node, and the packages of Debian, if it has them. */
function readBase(base) {
  const container = run('buildah', ['from', base]).trim()
  try {
    const ask = (...words) => run('buildah', ['run', container, '--', ...words])
    const node = ask('node', '--version').trim().replace('v', '')
    return { node, packages: ask('sh', '-c', `cat ${STATUS_FILE} 2>/dev/null || true`) }
  } finally {
    run('buildah', ['rm', container])
  }
}

function build(context, base, revision) {
  const words = ['build', '--format', 'docker', '--layers=false', '--pull=false', '--quiet']
  const values = {
    BASE: base,
    VERSION: version,
    REVISION: revision,
    CREATED: isoTime(sourceDate()),
  }
  const given = Object.entries(values).flatMap(([name, value]) => [
    '--build-arg',
    `${name}=${value}`,
  ])
  const file = ['--file', join(context, 'Containerfile')]
  return run('buildah', [
    ...words,
    '--timestamp',
    `${sourceDate()}`,
    ...given,
    ...file,
    context,
  ]).trim()
}

/**
 * Completes the layout that buildah wrote. The format of OCI has no health check, and buildah leaves it out; docker reads it there all
 * the same, and its own builder writes it there. `manifest.json` is for a docker that reads only its own archives.
 */
function complete(layout, healthcheck) {
  const blob = (digest) => join(layout, 'blobs', digest.replace(':', '/'))
  const replace = ({ digest, ...descriptor }, value) => {
    fs.rmSync(blob(digest))
    const bytes = Buffer.from(JSON.stringify(value))
    const made = `sha256:${createHash('sha256').update(bytes).digest('hex')}`
    fs.writeFileSync(blob(made), bytes)
    return { ...descriptor, digest: made, size: bytes.length }
  }
  const index = readJson(join(layout, 'index.json'))
  const [entry] = index.manifests
  const manifest = readJson(blob(entry.digest))
  const config = readJson(blob(manifest.config.digest))
  config.config.Healthcheck = healthcheck
  manifest.config = replace(manifest.config, config)
  const annotations = { [REFERENCE]: version, [NAME]: `docker.io/library/rookery:${version}` }
  index.manifests = [{ ...replace(entry, manifest), annotations }]
  fs.writeFileSync(join(layout, 'index.json'), JSON.stringify(index))
  const path = ({ digest }) => `blobs/${digest.replace(':', '/')}`
  const image = { Config: path(manifest.config), RepoTags: [`rookery:${version}`] }
  const forDocker = [{ ...image, Layers: manifest.layers.map(path) }]
  fs.writeFileSync(join(layout, 'manifest.json'), JSON.stringify(forDocker))
  return index.manifests[0].digest
}

/** Writes an archive whose bytes follow from the files alone. */
function archive(layout, file) {
  const same = ['--format=ustar', '--sort=name', `--mtime=@${sourceDate()}`, '--mode=u=rwX,go=rX']
  const owner = ['--owner=0', '--group=0', '--numeric-owner']
  const members = ['oci-layout', 'index.json', 'manifest.json', 'blobs']
  run('tar', [...same, ...owner, '-cf', file, '-C', layout, ...members])
}

function buildImage(out, { base = defaultBase(), package: tarball, revision = commit() }) {
  const architecture = ARCHITECTURES[process.arch]
  if (process.platform !== 'linux' || architecture === undefined) {
    throw new BuildError(
      'buildah needs Linux on amd64 or arm64; elsewhere build with docker: docs/install.md',
    )
  }
  fs.mkdirSync(out, { recursive: true })
  const folder = fs.mkdtempSync(join(tmpdir(), 'rookery-image-'))
  try {
    const context = join(folder, 'context')
    makeContext(context, tarball, readBase(base))
    const id = build(context, base, revision)
    const layout = join(folder, 'layout')
    try {
      const { Docker } = JSON.parse(run('buildah', ['inspect', '--type', 'image', id]))
      run('buildah', ['push', '--quiet', '--format', 'oci', id, `oci:${layout}:${version}`])
      const digest = complete(layout, Docker.config.Healthcheck)
      const name = join(out, `rookery-image-${version}-${architecture}`)
      archive(layout, `${name}.tar`)
      fs.copyFileSync(join(context, 'rookery', SBOM), `${name}.cdx.json`)
      process.stdout.write(`${digest}  ${name}.tar\n`)
    } finally {
      run('buildah', ['rmi', '--force', id])
    }
  } finally {
    fs.rmSync(folder, { recursive: true, force: true })
  }
}

const defaultBase = () => BASE.exec(fs.readFileSync(join(ROOT, 'deploy/Containerfile'), 'utf8'))[1]
const commit = () => run('git', ['rev-parse', 'HEAD']).trim()

runMain('build-image', () => {
  const { values, positionals } = parseArgs({ options: OPTIONS, allowPositionals: true })
  if (positionals.length !== 1) throw new BuildError('name the folder for the image')
  buildImage(resolve(positionals[0]), values)
})
