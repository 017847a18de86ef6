#!/usr/bin/env node
// Makes the folder from which deploy/Containerfile builds the image: the package of Rookery, the packages that its lock file pins,
// and their bill of materials. Docker, podman and buildah build it alone, without the network:
//   node scripts/image-context.mjs FOLDER [PACKAGE.tgz]
// Without a package it makes that of this clone. SOURCE_DATE_EPOCH is the time of the image, or else the time is that of the commit.
import fs from 'node:fs'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { BuildError, installProgram, ROOT, runMain, sourceDate } from './building.mjs'
import { sbomOf } from './image-sbom.mjs'

/** The bill of materials, in the folder of the package. */
export const SBOM = 'sbom.cdx.json'

export const isoTime = (seconds) => new Date(seconds * 1000).toISOString()

/** Makes the folder, which must not exist. `tarball` is the package; `base` is what is known of the base, as of `sbomOf`. */
export function makeContext(folder, tarball, base) {
  if (fs.existsSync(folder)) throw new BuildError(`${folder} exists; remove it first`)
  const app = join(folder, 'rookery')
  installProgram(app, tarball)
  fs.mkdirSync(join(folder, 'data'))
  fs.writeFileSync(join(app, SBOM), sbomOf(app, isoTime(sourceDate()), base))
  fs.copyFileSync(join(ROOT, 'deploy/Containerfile'), join(folder, 'Containerfile'))
  setModes(folder)
}

/** Gives files the same rights under any umask: everybody may read them, and run those that somebody may run. */
function setModes(path) {
  const found = fs.lstatSync(path)
  if (found.isSymbolicLink()) return
  fs.chmodSync(path, found.isDirectory() || (found.mode & 0o111) !== 0 ? 0o755 : 0o644)
  if (found.isDirectory()) for (const name of fs.readdirSync(path)) setModes(join(path, name))
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  runMain('image-context', () => {
    const [folder, tarball] = process.argv.slice(2)
    if (folder === undefined) throw new BuildError('name the folder to make')
    makeContext(resolve(folder), tarball)
  })
}
